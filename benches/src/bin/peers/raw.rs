//! The peer without a library: frames over a TCP connection, as one would write them by hand for this very work.
//!
//! A frame is a length, a kind, the number of the request, and the payload. Each end of a connection has a task that
//! reads and one that writes. The writer sends all that has gathered at once, and large payloads from where they are.
//!
//! Behind the answer to a request for blocks come the blocks, each behind its length; a length of 0 is the end.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

use crate::{
    failure::{During, Failure},
    load::Echoes,
    process::announce,
    streams::{self, Streams},
};

/// Length, kind and request.
const HEADER: usize = 4 + 1 + 8;

/// In front of a block.
const LENGTH: usize = 4;

/// What a read asks for, unless a larger frame has begun.
const READ_CHUNK: usize = 16 * 1024;

/// Frames that are written together at most.
const GATHERED: usize = 256;

const NUMBER: u8 = 1;
const BYTES: u8 = 2;
const FLOATS: u8 = 3;
const BLOCKS: u8 = 4;

/// A request or its response.
struct Frame {
    kind: u8,
    request: u64,
    payload: Payload,
}

/// Small payloads need no memory of their own.
enum Payload {
    Number(u64),
    Large(Bytes),
}

/// Reads frames off a connection.
struct FrameReader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    /// The next frame; `None` at the end of the connection.
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.split()? {
                return Ok(Some(frame));
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes a frame off the buffer, or makes room for the rest of it.
    fn split(&mut self) -> io::Result<Option<Frame>> {
        let Some(mut header) = self.buffer.first_chunk::<HEADER>().map(|header| &header[..]) else {
            self.buffer.reserve(READ_CHUNK);
            return Ok(None);
        };
        let (length, kind, request) = (header.get_u32_le() as usize, header.get_u8(), header.get_u64_le());
        let missing = (HEADER + length).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing.max(READ_CHUNK));
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let payload = match kind {
            NUMBER | BLOCKS if length == 8 => Payload::Number(self.buffer.get_u64_le()),
            BYTES | FLOATS => Payload::Large(self.buffer.split_to(length).freeze()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of this program")),
        };
        Ok(Some(Frame { kind, request, payload }))
    }
}

/// Writes frames until there are no more senders or the connection breaks.
async fn write_frames(mut half: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Frame>) -> io::Result<()> {
    let mut gathered = Vec::with_capacity(GATHERED);
    let mut buffer = BytesMut::new();
    while frames.recv_many(&mut gathered, GATHERED).await > 0 {
        for Frame { kind, request, payload } in gathered.drain(..) {
            let length = match &payload {
                Payload::Number(_) => 8,
                Payload::Large(bytes) => bytes.len(),
            };
            buffer.put_u32_le(u32::try_from(length).map_err(io::Error::other)?);
            buffer.put_u8(kind);
            buffer.put_u64_le(request);
            match payload {
                Payload::Number(count) if kind == BLOCKS => {
                    buffer.put_u64_le(count);
                    half.write_all_buf(&mut buffer).await?;
                    write_blocks(&mut half, count).await?;
                }
                Payload::Number(number) => buffer.put_u64_le(number),
                Payload::Large(bytes) => half.write_all_buf(&mut (&mut buffer).chain(bytes)).await?,
            }
        }
        half.write_all_buf(&mut buffer).await?;
    }
    Ok(())
}

/// Writes this many blocks, each behind its length, and the end.
async fn write_blocks(half: &mut OwnedWriteHalf, count: u64) -> io::Result<()> {
    for block in streams::blocks(count) {
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        half.write_all_buf(&mut Buf::chain(&length.to_le_bytes()[..], block)).await?;
    }
    half.write_u32_le(0).await
}

/// Reader, and where to leave frames for the writer.
fn start(stream: TcpStream) -> io::Result<(FrameReader, mpsc::UnboundedSender<Frame>)> {
    stream.set_nodelay(true)?;
    let (read_half, write_half) = stream.into_split();
    let (sender, frames) = mpsc::unbounded_channel();
    // Its end shows as a closed connection.
    tokio::spawn(write_frames(write_half, frames));
    Ok((FrameReader { half: read_half, buffer: BytesMut::new() }, sender))
}

/// Serves echoes until the process ends.
pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.during("the raw server cannot listen")?;
    announce(listener.local_addr().during("the raw server has no address")?)?;
    loop {
        let (stream, _) = listener.accept().await.during("the raw server cannot accept")?;
        let (mut reader, sender) = start(stream).during("the raw server cannot set a connection up")?;
        tokio::spawn(async move {
            while let Ok(Some(Frame { kind, request, payload })) = reader.next().await {
                let payload = match payload {
                    Payload::Large(bytes) if kind == FLOATS => Payload::Large(from_floats(&to_floats(&bytes))),
                    same => same,
                };
                if sender.send(Frame { kind, request, payload }).is_err() {
                    return;
                }
            }
        });
    }
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Payload>>>;

/// One connection to the server, for any number of callers.
#[derive(Clone)]
pub(crate) struct Client {
    sender: mpsc::UnboundedSender<Frame>,
    waiting: Arc<Waiting>,
    requests: Arc<AtomicU64>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await.during("the raw server cannot be reached")?;
        let (mut reader, sender) = start(stream).during("the raw client cannot set its connection up")?;
        let waiting = Arc::new(Waiting::default());
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(Frame { request, payload, .. })) = reader.next().await {
                let caller = answered.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
                if let Some(caller) = caller {
                    // A caller that has gone away needs no answer.
                    let _ = caller.send(payload);
                }
            }
            answered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        Ok(Self { sender, waiting, requests: Arc::default() })
    }

    async fn call(&self, kind: u8, payload: Payload) -> Result<Payload, Failure> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let (caller, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(request, caller);
        self.sender.send(Frame { kind, request, payload }).during("the raw connection is closed")?;
        answer.await.during("the raw connection was closed before the answer")
    }

    async fn large(&self, kind: u8, bytes: Bytes) -> Result<Bytes, Failure> {
        match self.call(kind, Payload::Large(bytes)).await? {
            Payload::Large(bytes) => Ok(bytes),
            Payload::Number(_) => Err(Failure::new("the raw server answered bytes with a number")),
        }
    }
}

impl Echoes<u64> for Client {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        match self.call(NUMBER, Payload::Number(payload)).await? {
            Payload::Number(number) => Ok(number),
            Payload::Large(_) => Err(Failure::new("the raw server answered a number with bytes")),
        }
    }
}

impl Echoes<Bytes> for Client {
    async fn echo(&mut self, payload: Bytes) -> Result<Bytes, Failure> {
        self.large(BYTES, payload).await
    }
}

impl Echoes<Vec<f64>> for Client {
    async fn echo(&mut self, payload: Vec<f64>) -> Result<Vec<f64>, Failure> {
        Ok(to_floats(&self.large(FLOATS, from_floats(&payload)).await?))
    }
}

/// One connection to the server, for streams.
pub(crate) struct StreamClient(TcpStream);

impl StreamClient {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await.during("the raw server cannot be reached")?;
        stream.set_nodelay(true).during("the raw client cannot set its connection up")?;
        Ok(Self(stream))
    }

    /// The next bytes, in a buffer of their own.
    async fn read(&mut self, length: usize) -> io::Result<BytesMut> {
        let mut buffer = BytesMut::with_capacity(length);
        while buffer.len() < length {
            let missing = length - buffer.len();
            if self.0.read_buf(&mut (&mut buffer).limit(missing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(buffer)
    }
}

impl Streams<Bytes> for StreamClient {
    async fn stream(&mut self, count: u64, mut each: impl FnMut(Bytes) + Send) -> Result<(), Failure> {
        const BROKEN: &str = "a raw stream broke off";
        let mut request = BytesMut::with_capacity(HEADER + 8);
        request.put_u32_le(8);
        request.put_u8(BLOCKS);
        request.put_u64_le(0);
        request.put_u64_le(count);
        self.0.write_all_buf(&mut request).await.during(BROKEN)?;
        let answer = self.read(HEADER + 8 + LENGTH).await.during(BROKEN)?;
        let mut length = (&answer[HEADER + 8..]).get_u32_le() as usize;
        while length > 0 {
            // With the length of the next one, which saves a read.
            let mut block = self.read(length + LENGTH).await.during(BROKEN)?;
            let next = block.split_off(length).get_u32_le() as usize;
            each(block.freeze());
            length = next;
        }
        Ok(())
    }
}

fn from_floats(values: &[f64]) -> Bytes {
    values.iter().map(|value| value.to_le_bytes()).collect::<Vec<[u8; 8]>>().into_flattened().into()
}

fn to_floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value)).collect()
}
