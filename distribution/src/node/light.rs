//! Nodes that register as all do and run nothing: a thousand of them for the price of a thousand connections.
//!
//! For tests of what a master bears. They dial, prove, introduce themselves and wait between tries by the very functions
//! that a [`Node`](crate::Node) uses.

use std::{fmt, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{
    backoff::Backoff,
    register::{Failure, Registered, dial, register_as},
};
#[cfg(feature = "tls")]
use crate::security::TokenText;
use crate::{
    config::MAX_MESSAGE_SIZE,
    error::Error,
    security::SecurityConfig,
    wire::{Control, Load, authenticator::NodeAuthenticator, hello::Registration},
};

/// What light nodes have in common: where they register and with what.
#[derive(Clone)]
pub struct LightNodes {
    authenticator: Arc<NodeAuthenticator>,
    master: String,
}

impl fmt::Debug for LightNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LightNodes").field("master", &self.master).finish_non_exhaustive()
    }
}

/// One that is registered. It leaves when it is dropped.
#[derive(Debug)]
pub struct LightNode {
    /// How often it dialled.
    pub tries: u32,
    beats: tokio::task::JoinHandle<()>,
}

impl Drop for LightNode {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

impl LightNodes {
    /// For nodes that register at this master, with a token of its if one is given.
    ///
    /// # Errors
    ///
    /// As of a node's builder.
    pub fn new(master: impl fmt::Display, token: Option<&str>) -> Result<Self, Error> {
        #[cfg(feature = "tls")]
        let choices =
            SecurityConfig { token: token.map(|token| TokenText::new(token.to_owned())), ..SecurityConfig::default() };
        #[cfg(not(feature = "tls"))]
        let choices = {
            let _ = token;
            SecurityConfig::default()
        };
        Ok(Self { authenticator: Arc::new(NodeAuthenticator::new(&choices, "")?), master: master.to_string() })
    }

    /// Registers a node of this name, however often it has to try.
    ///
    /// # Errors
    ///
    /// Why the master refuses it for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    pub async fn register(&self, name: String) -> Result<LightNode, String> {
        let registration = Registration {
            instance: rand::random(),
            name,
            slots: 1,
            busy: 0,
            async_limit: 1,
            max_message_size: MAX_MESSAGE_SIZE as u64,
            labels: Vec::new(),
            methods: Vec::new(),
        };
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            tries += 1;
            let tried = match dial(&self.authenticator, &self.master).await {
                Ok(channel) => register_as(&registration, channel, &self.authenticator).await,
                Err(failure) => Err(failure),
            };
            match tried {
                Ok(registered) => return Ok(LightNode { tries, beats: tokio::spawn(beat(registered)) }),
                Err(failure @ Failure::Final { .. }) => return Err(failure.to_string()),
                Err(Failure::Busy(again)) => sleep(backoff.next(Some(again))).await,
                Err(Failure::Passing(_)) => sleep(backoff.next(None)).await,
            }
        }
    }
}

/// Says that the node lives, and reads what the master says, until the connection ends.
async fn beat(registered: Registered) {
    let Registered { mut channel, heartbeat, .. } = registered;
    let mut frame = BytesMut::new();
    // A plain frame, whose encoding cannot fail.
    let _ = Control::Heartbeat(Load::default()).encode(&mut frame);
    let mut beats = tokio::time::interval(heartbeat.max(Duration::from_millis(1)));
    let mut read = [0; 1024];
    loop {
        tokio::select! {
            _ = beats.tick() => {
                if channel.write_all(&frame).await.is_err() || channel.flush().await.is_err() {
                    return;
                }
            }
            count = channel.read(&mut read) => {
                if !matches!(count, Ok(1..)) {
                    return;
                }
            }
        }
    }
}
