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
//! A request or response of more than 64 KiB is too large for one frame. It begins with the control frame `Begin`, and its body
//! comes in frames of the kind `Chunk`:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body, little endian |
//! | 1 | kind |
//! | 4 | number of the message, little endian |
//! | n | the next bytes of the message's body, at most 64 KiB |
//!
//! Between its chunks come other frames, and chunks of other messages. After the first chunk of a message of more than 1 MiB the
//! sender waits for `Accept`: then the receiver has memory for all of it. A message that is not to come to its end is
//! abandoned with `Abandon`.
//!
//! Requests and responses belong to tarpc. The other frames are control frames: they manage the connection, as PING and
//! GOAWAY do in HTTP/2. [`kind`] has the table of all kinds. Each request gets exactly one response, also if it was
//! cancelled, because the response frees its slot at the master.

pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod control;
pub(crate) mod kind;
pub(crate) mod layout;
