//! Messages of a handshake: four bytes of length, little endian, and a bincode body.

use std::{io, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{error::HandshakeError, limits::REGISTRATION_LIMIT};
use crate::wire::{
    codec::{EncodePayloadError, decode_payload, encode_payload},
    payload::Payload,
};

/// Fills `buffer`. `what` names in errors what is read.
pub(crate) async fn read_exact<Io: AsyncRead + Unpin>(
    io: &mut Io,
    buffer: &mut [u8],
    what: &'static str,
) -> Result<(), HandshakeError> {
    match io.read_exact(buffer).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(HandshakeError::Closed(what)),
        Err(error) => Err(HandshakeError::Io(error)),
    }
}

/// Reads a message. `decoding` is told its size before it is decoded.
pub(super) async fn read_message<Io, T>(
    io: &mut Io,
    what: &'static str,
    decoding: impl FnOnce(usize),
) -> Result<T, HandshakeError>
where
    Io: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let mut length = [0; 4];
    read_exact(io, &mut length, what).await?;
    let size = u32::from_le_bytes(length) as usize;
    if size > REGISTRATION_LIMIT {
        return Err(HandshakeError::TooLong { what, size });
    }
    let mut body = Vec::new();
    io.take(size as u64).read_to_end(&mut body).await.map_err(HandshakeError::Io)?;
    if body.len() < size {
        return Err(HandshakeError::Closed(what));
    }
    decoding(size);
    decode_payload(&body).map_err(|source| HandshakeError::Malformed { what, source })
}

pub(super) async fn write_message<Io, T>(io: &mut Io, what: &'static str, message: &T) -> Result<(), HandshakeError>
where
    Io: AsyncWrite + Unpin,
    T: Serialize + 'static,
{
    use EncodePayloadError::{Codec, TooLarge};
    let body = encode_payload(message, REGISTRATION_LIMIT).map(Payload::into_bytes).map_err(|error| match error {
        TooLarge(size) => HandshakeError::TooLong { what, size: usize::try_from(size).unwrap_or(usize::MAX) },
        Codec(source) => HandshakeError::Malformed { what, source },
    })?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    io.write_all(&bytes).await.map_err(HandshakeError::Io)?;
    io.flush().await.map_err(HandshakeError::Io)
}

/// Ends an exchange with an error if it takes too long.
pub(crate) async fn within<T>(
    time: Duration,
    what: &'static str,
    exchange: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(time, exchange).await.unwrap_or(Err(HandshakeError::Late { what, time }))
}
