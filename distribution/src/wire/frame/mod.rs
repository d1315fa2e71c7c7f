//! Frames: what travels on a connection after the handshake.
//!
//! A frame is a header of five bytes, then a body:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body, little endian |
//! | 1 | kind |
//! | n | body: a header in bincode, then, for requests and responses, the payload to the end of the frame |
//!
//! Requests and responses belong to tarpc. The other frames are control frames: they manage the connection, as PING and
//! GOAWAY do in HTTP/2. [`kind`] has the table of all kinds. Each request gets exactly one response, also if it was
//! cancelled, because the response frees its slot at the master.

pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod control;
pub(crate) mod kind;
pub(crate) mod layout;
