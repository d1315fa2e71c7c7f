//! How a frame is laid out in bytes: its header, and where the payload begins.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::{error::CodecError, wire::codec::decode_prefix};

/// Length and kind.
pub(crate) const FRAME_HEADER: usize = 5;

/// The most that the header in a body may take. A payload may take the rest of the limit of a message.
///
/// The largest is that of a caller's request, with all the labels and metadata that a call can have: 4 KiB of each.
pub(crate) const BODY_HEADER_LIMIT: usize = 10 * 1024;

/// The most bytes in the body of a frame that carries a whole message: a call or a response. A larger message comes in chunks.
pub(crate) const LARGEST_CALL_FRAME: usize = 64 * 1024;

/// The largest payload of a message that is written in one frame, whatever its header takes.
pub(crate) const LARGEST_WHOLE_PAYLOAD: usize = LARGEST_CALL_FRAME - BODY_HEADER_LIMIT;

/// The most bytes of a message in one chunk.
pub(crate) const LARGEST_CHUNK: usize = 64 * 1024;

/// The number of the message in front of a chunk's bytes.
pub(crate) const CHUNK_HEADER: usize = 4;

/// The call and the attempt in front of a stream's bytes.
pub(crate) const ITEMS_HEADER: usize = 12;

/// The most bytes of a stream in one frame.
pub(crate) const LARGEST_PIECE: usize = 64 * 1024;

/// The most bytes in the body of a control frame.
pub(crate) const CONTROL_LIMIT: usize = 16 * 1024;

/// Appends a frame whose body `header` writes. The length in it counts `payload` more bytes, which the caller sends behind
/// it.
pub(crate) fn encode_frame(
    buffer: &mut BytesMut,
    kind: u8,
    payload: usize,
    header: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.put_u32_le(0);
    buffer.put_u8(kind);
    header(buffer)?;
    let body = buffer.len() - start - FRAME_HEADER + payload;
    let length = u32::try_from(body).map_err(|_| CodecError::new("the frame is over 4 GiB"))?;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Splits a body into its header and the payload behind it. The payload keeps the frame's memory.
pub(crate) fn split_body<T: DeserializeOwned>(mut body: Bytes) -> Result<(T, Bytes), CodecError> {
    // The decoder sees no more than a header may take. Otherwise a false length in the header would be allowed as much
    // memory as the payload has bytes.
    let (header, read) = decode_prefix(&body[..body.len().min(BODY_HEADER_LIMIT)])
        .map_err(|error| CodecError::new(format!("a frame's header cannot be decoded: {error}")))?;
    body.advance(read);
    Ok((header, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_states_the_length_of_header_and_payload() {
        let mut buffer = BytesMut::new();
        encode_frame(&mut buffer, 1, 1000, |body| {
            body.put_slice(b"abc");
            Ok(())
        })
        .expect("encodes");
        assert_eq!(&buffer[..], [0xeb, 0x03, 0, 0, 1, b'a', b'b', b'c']);
    }
}
