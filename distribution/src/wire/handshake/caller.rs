//! What a caller says about itself when it connects, and the master's reply.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    error::HandshakeError,
    limits::{NODE_TIMEOUT, REPLY_TIMEOUT},
    message::{read_message, within, write_message},
    session::{SessionId, SessionOffer},
};
use crate::text::{check_node_name, in_one_line};

/// What a caller says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallerHello {
    /// The caller's name in lists and logs.
    pub(crate) name: String,
    /// The largest frame body that it accepts, in bytes.
    pub(crate) max_message_size: u64,
    /// The node whose handlers make the calls, on a connection for nested calls.
    pub(crate) node: Option<CallingNode>,
    /// The session that it wants to go on with, after its connection has broken.
    pub(crate) session: Option<SessionId>,
}

/// A node whose handlers make nested calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallingNode {
    /// The random number of its process, by which it registered.
    pub(crate) instance: u128,
}

impl CallerHello {
    /// Checks what the caller says.
    ///
    /// # Errors
    ///
    /// What a correct caller never sends, as a sentence for its log.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_node_name(&self.name)
            .map_err(|reason| format!("the caller's name `{}` {reason}", in_one_line(&self.name, 40)))?;
        if self.max_message_size < crate::config::SMALLEST_MESSAGE_LIMIT as u64 {
            return Err(format!("a frame limit of {} bytes is too small to work with", self.max_message_size));
        }
        Ok(())
    }
}

/// The master's reply to a caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CallerWelcome {
    Accepted {
        /// The number of the caller's first call. Those that follow are the caller's too.
        first_call: u64,
        /// The interval of the caller's heartbeats in microseconds.
        heartbeat: u64,
        /// How long either end may be silent before the other gives it up, in microseconds.
        silence: u64,
        /// The largest frame body that the master accepts, in bytes.
        max_message_size: u64,
        /// How deeply values may be nested.
        max_depth: u16,
        /// The timeout of calls without one of their own, in microseconds.
        default_timeout: Option<u64>,
        /// The session of this connection, if the master waits for callers whose connection breaks.
        session: Option<SessionOffer>,
    },
    /// The caller is not accepted: for now or for good, and why.
    Refused { reason: String, for_good: bool },
    /// Too many others connect at the moment. The caller should come again after this many microseconds.
    Busy { retry_after: u64 },
}

/// Says hello to a master and reads its reply. Responses may follow right behind it.
pub(crate) async fn greet<Io>(io: &mut Io, hello: &CallerHello) -> Result<CallerWelcome, HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    within(NODE_TIMEOUT, "reply to the caller", async {
        write_message(io, "caller's hello", hello).await?;
        read_message(io, "reply to the caller", |_| ()).await
    })
    .await
}

/// Reads the hello of a caller that has authenticated itself. `decoding` is told its size before it is decoded.
pub(crate) async fn read_hello<Io>(io: &mut Io, decoding: impl FnOnce(usize)) -> Result<CallerHello, HandshakeError>
where
    Io: AsyncRead + Unpin,
{
    read_message(io, "caller's hello", decoding).await
}

/// Sends the master's reply to a caller.
pub(crate) async fn send_welcome<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    welcome: &CallerWelcome,
) -> Result<(), HandshakeError> {
    within(REPLY_TIMEOUT, "reading of the reply", write_message(io, "reply to the caller", welcome)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::encode_payload;

    #[test]
    fn a_hello_and_its_replies_have_these_bytes() {
        fn hex<T: Serialize + 'static>(value: &T) -> String {
            let bytes = encode_payload(value, 1000).expect("encodes").into_bytes();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        assert_eq!(
            hex(&CallerHello { name: "c1".to_owned(), max_message_size: 65_536, node: None, session: None }),
            "026331fc000001000000"
        );
        let node = Some(CallingNode { instance: 7 });
        let hello = CallerHello { name: "n1".to_owned(), max_message_size: 65_536, node, session: None };
        assert_eq!(hex(&hello), "026e31fc00000100010700");
        let resuming = CallerHello { node: None, session: Some(SessionId::new(300)), ..hello };
        assert_eq!(hex(&resuming), "026e31fc000001000001fb2c01");
        let accepted = CallerWelcome::Accepted {
            first_call: 7,
            heartbeat: 250,
            silence: 20,
            max_message_size: 30,
            max_depth: 128,
            default_timeout: Some(9),
            session: Some(SessionOffer::new(SessionId::new(300), std::time::Duration::from_micros(200), true)),
        };
        assert_eq!(hex(&accepted), "0007fa141e80010901fb2c01c801");
        assert_eq!(hex(&CallerWelcome::Refused { reason: "no".to_owned(), for_good: true }), "01026e6f01");
        assert_eq!(hex(&CallerWelcome::Busy { retry_after: 9 }), "0209");
    }

    #[test]
    fn a_hello_that_no_caller_sends_is_refused() {
        let hello = |name: &str, max_message_size| CallerHello {
            name: name.to_owned(),
            max_message_size,
            node: None,
            session: None,
        };
        assert_eq!(hello("c1", 65_536).check(), Ok(()));
        assert!(hello("a\nb", 65_536).check().is_err());
        assert!(hello("c1", 1).check().is_err());
    }
}
