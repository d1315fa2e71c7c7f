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
//! Items of streams travel in frames of the kind `Items`. The bytes of a stream are its items, each behind its length in four
//! bytes, little endian; frames cut them anywhere:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body, little endian |
//! | 1 | kind |
//! | 8 | number of the call, little endian |
//! | 4 | number of the attempt, little endian |
//! | n | the next bytes of the stream, at most 64 KiB |
//!
//! A producer sends no more than the consumer has granted, with `GrantItems`; without a grant, 64 KiB of what a method returns,
//! and nothing of an argument. What a method returns ends with its response, and an argument with `EndItems`, which follows
//! each stream that was granted anything.
//!
//! A caller's request comes without its arguments if they have more than 1 MiB. The caller says how many there are
//! ([`LargeCall`](caller::CallerRequestBody::LargeCall)). The master fetches them when a node takes the call: with `GrantItems` for a
//! stream of the call whose attempt is 2^31, or one more for each time that it has fetched them before. The bytes of that stream are
//! the arguments, without lengths between them.
//!
//! Requests and responses belong to tarpc. The other frames are control frames: they manage the connection, as PING and
//! GOAWAY do in HTTP/2. [`kind`] has the table of all kinds. Each request gets exactly one response, also if it was
//! cancelled, because the response frees its slot at the master.

pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod control;
pub(crate) mod kind;
pub(crate) mod layout;
pub(crate) mod log;
pub(crate) mod profile;
