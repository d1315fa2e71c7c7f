//! How a connection opens: a preface from each end, then what the [`authenticator`](super::authenticator) requires, then the
//! node's registration and the master's reply.

mod caller;
pub(crate) mod codes;
mod error;
mod exchange;
pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod preface;
mod registration;
mod release;
mod session;

pub(crate) use self::{
    caller::{CallerHello, CallerWelcome, CallingNode, greet, read_hello, send_welcome},
    codes::{Purpose, Security},
    error::{ErrorSubject, HandshakeError, RetryPolicy},
    exchange::{busy, read_registration, register, send_reply},
    limits::STRUCTURES_LIMIT,
    preface::Arrival,
    registration::{Definition, MethodOffer, Registration, RegistrationReply, StreamShape},
    release::Release,
    session::{KnownSession, SessionDigest, SessionId, SessionOfNode, SessionOffer},
};
