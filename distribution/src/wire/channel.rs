//! The byte stream of a connection: TCP, alone or with TLS, or memory.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    net::TcpStream,
};

use super::handshake::Purpose;

/// A connection to a peer.
#[derive(Debug)]
pub(crate) enum Channel {
    Open(TcpStream),
    /// To a peer in this process.
    Memory(DuplexStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

/// Bytes that a channel in memory holds before its writer waits.
const MEMORY_BUFFER: usize = 64 * 1024;

impl Channel {
    /// The two ends of a channel in memory.
    pub(crate) fn in_memory() -> (Self, Self) {
        let (one, other) = duplex(MEMORY_BUFFER);
        (Self::Memory(one), Self::Memory(other))
    }
}

/// Opens channels in memory to a peer in this process.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Fn(Purpose) -> Channel + Send + Sync>);

impl Connector {
    pub(crate) fn new(connect: impl Fn(Purpose) -> Channel + Send + Sync + 'static) -> Self {
        Self(Arc::new(connect))
    }

    pub(crate) fn connect(&self, purpose: Purpose) -> Channel {
        (self.0)(purpose)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Does the same with any of the streams.
macro_rules! either {
    ($channel:expr, $stream:ident => $done:expr) => {
        match $channel {
            Channel::Open($stream) => $done,
            Channel::Memory($stream) => $done,
            #[cfg(feature = "tls")]
            Channel::Tls($stream) => $done,
        }
    };
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Open(stream) => Pin::new(stream).poll_read(cx, buffer),
            Channel::Memory(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(feature = "tls")]
            Channel::Tls(stream) => match Pin::new(stream).poll_read(cx, buffer) {
                // The peer has closed the connection without TLS's own end, as a process that is killed does. The end of a
                // connection never ends a message here, so an attacker who cuts it gains no more than by a reset.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => read,
            },
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
