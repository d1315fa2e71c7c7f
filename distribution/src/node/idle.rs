//! Idle nodes: they register and run nothing, so that thousands of them cost no more than their connections.
//!
//! For load tests of a master. They connect, register and wait between attempts with the functions that a
//! [`Node`](crate::Node) uses.

use std::{fmt, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{
    connect::{RegisterError, connect},
    register::{Registered, register},
};
#[cfg(feature = "tls")]
use crate::security::TokenText;
use crate::{
    config::MAX_MESSAGE_SIZE,
    error::Error,
    hash::method_id,
    security::{Access, SecurityConfig},
    service::method::MethodKind,
    wire::{
        Control, Load,
        authenticator::PeerAuthenticator,
        dial::Backoff,
        handshake::{MethodOffer, Registration, StreamShape},
    },
};

/// What idle nodes share: the master that they register at, and their credential.
#[derive(Clone)]
pub struct IdleNodes {
    authenticator: Arc<PeerAuthenticator>,
    master: String,
    methods: Arc<[MethodOffer]>,
}

impl fmt::Debug for IdleNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleNodes").field("master", &self.master).finish_non_exhaustive()
    }
}

/// An idle node that is registered. Dropping it closes its connection.
#[derive(Debug)]
pub struct IdleNode {
    /// How many attempts its registration took.
    pub tries: u32,
    beats: tokio::task::JoinHandle<()>,
}

impl Drop for IdleNode {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

impl IdleNodes {
    /// For nodes that register at this master, by this token if one is given.
    ///
    /// # Errors
    ///
    /// Those of [`NodeBuilder::spawn`](crate::NodeBuilder::spawn) about the token.
    pub fn new(master: impl fmt::Display, token: Option<&str>) -> Result<Self, Error> {
        #[cfg(feature = "tls")]
        let security =
            SecurityConfig { token: token.map(|token| TokenText::new(token.to_owned())), ..SecurityConfig::default() };
        #[cfg(not(feature = "tls"))]
        let security = {
            let _ = token;
            SecurityConfig::default()
        };
        Ok(Self {
            authenticator: Arc::new(PeerAuthenticator::new(&security, "", &[Access::Nodes])?),
            master: master.to_string(),
            methods: Arc::default(),
        })
    }

    /// The same nodes, which offer to run this many methods of a service of this name. They answer no call.
    pub fn offering(mut self, service: &str, methods: usize) -> Self {
        let offer = |method: usize| {
            let (name, signature) = (format!("method_{method}"), "fn(u64) -> u64".to_owned());
            MethodOffer {
                id: method_id(service, 0, &name, &signature, 0),
                service: service.to_owned(),
                version: 0,
                name,
                signature,
                types: 0,
                structure: Vec::new(),
                kind: MethodKind::Compute,
                idempotent: false,
                streams: StreamShape::default(),
            }
        };
        self.methods = (0..methods).map(offer).collect();
        self
    }

    /// Registers a node of this name, in as many attempts as it takes.
    ///
    /// # Errors
    ///
    /// The reason, if the master refuses the node for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt; no node is registered.
    pub async fn register(&self, name: String) -> Result<IdleNode, String> {
        let registration = Registration {
            instance: rand::random(),
            name,
            slots: 1,
            busy: 0,
            async_limit: 1,
            max_message_size: MAX_MESSAGE_SIZE as u64,
            labels: Vec::new(),
            methods: self.methods.to_vec(),
            session: None,
        };
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            tries += 1;
            let tried = match connect(&self.authenticator, &self.master).await {
                Ok(channel) => register(&registration, channel, &self.authenticator).await,
                Err(failure) => Err(failure),
            };
            match tried {
                Ok(registered) => return Ok(IdleNode { tries, beats: tokio::spawn(beat(registered)) }),
                Err(failure @ RegisterError::Permanent { .. }) => return Err(failure.to_string()),
                Err(RegisterError::Busy(again)) => sleep(backoff.next(Some(again))).await,
                Err(RegisterError::Passing(_) | RegisterError::NoAnswer(_)) => sleep(backoff.next(None)).await,
            }
        }
    }
}

/// Sends heartbeats and reads what the master sends, until the connection ends.
async fn beat(registered: Registered) {
    let Registered { mut channel, heartbeat, .. } = registered;
    let mut frame = BytesMut::new();
    // The encoding of a heartbeat cannot fail.
    let _ = Control::Heartbeat { load: Load::default() }.encode(&mut frame);
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
