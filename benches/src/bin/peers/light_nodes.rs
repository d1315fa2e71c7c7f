//! Many nodes in one process: it opens many connections to a master, speaks this crate's wire by hand, and answers each
//! request at once with the value that it carries.
//!
//! So the figures are those of the master, and not of many node processes that compete for the cores. The wire itself
//! is described in `distribution/src/wire/`.

use std::{io, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use distribution::fuzzing;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    failure::{During, Failure},
    ours::{EchoServer, Parrot},
    process::announce,
};

/// How often each node is heard: half of what a master asks for by default.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Connections that register at the same time; a master allows 32 from one address.
const REGISTERING: usize = 16;

/// Length and kind.
const FRAME_HEADER: usize = 5;

/// Read at once. Small, so that thousands of connections cost little.
const READ_CHUNK: usize = 4 * 1024;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const BEAT: u8 = 4;

const SERVICE: &str = "Echo";
const METHOD: &str = "asynchronous";

/// Registers this many nodes and plays them until the first of them is turned away.
pub(crate) async fn serve(master: &str, count: usize) -> Result<(), Failure> {
    let method = method()?;
    let streams: Vec<TcpStream> = stream::iter(0..count)
        .map(|number| register(master, number, &method))
        .buffer_unordered(REGISTERING)
        .try_collect()
        .await?;
    let mut nodes = tokio::task::JoinSet::new();
    for (number, stream) in (0..).zip(streams) {
        // Spread over the time between two, as those of nodes are that came one by one.
        nodes.spawn(play(stream, Instant::now() + HEARTBEAT * number / count.max(1) as u32));
    }
    announce(count)?;
    match nodes.join_next().await {
        Some(ended) => {
            ended.during("a light node's task broke")?.during("a light node lost its connection to the master")
        }
        None => Ok(()),
    }
}

/// An unsigned number as bincode 2 writes it.
fn put_number(buffer: &mut BytesMut, value: u64) {
    match value {
        0..=250 => buffer.put_u8(value as u8),
        251..=0xffff => {
            buffer.put_u8(251);
            buffer.put_u16_le(value as u16);
        }
        0x1_0000..=0xffff_ffff => {
            buffer.put_u8(252);
            buffer.put_u32_le(value as u32);
        }
        _ => {
            buffer.put_u8(253);
            buffer.put_u64_le(value);
        }
    }
}

/// Takes an unsigned number off the front; of one that is longer than 64 bits, the lower half.
fn take_number(bytes: &mut &[u8]) -> Result<u64, TryGetError> {
    Ok(match bytes.try_get_u8()? {
        251 => bytes.try_get_u16_le()?.into(),
        252 => bytes.try_get_u32_le()?.into(),
        253 => bytes.try_get_u64_le()?,
        254 => bytes.try_get_u128_le()? as u64,
        small => small.into(),
    })
}

fn put_text(buffer: &mut BytesMut, text: &str) {
    put_number(buffer, text.len() as u64);
    buffer.put_slice(text.as_bytes());
}

/// Puts a frame whose body `fill` writes.
fn put_frame(buffer: &mut BytesMut, kind: u8, fill: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    buffer.put_u32_le(0);
    buffer.put_u8(kind);
    fill(buffer);
    let length = (buffer.len() - start - FRAME_HEADER) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The method that light nodes have.
fn method() -> Result<fuzzing::MethodKey, Failure> {
    const MISSING: &str = "light nodes have no method";
    let methods = fuzzing::method_ids(EchoServer::new(Parrot::default())).during(MISSING)?;
    let found = methods.into_iter().find(|method| method.name == METHOD);
    found.ok_or_else(|| Failure::new(format!("{MISSING} `{METHOD}`")))
}

fn registration(number: usize, method: &fuzzing::MethodKey) -> BytesMut {
    let mut body = BytesMut::new();
    put_text(&mut body, &format!("light-{number}"));
    // Each plays a process of its own; the master asks only that their numbers differ.
    put_number(&mut body, 1 + number as u64);
    // Slots, busy slots, async calls at once, largest frame, labels, methods.
    for value in [1, 0, 1024, 64 << 20, 0, 1] {
        put_number(&mut body, value);
    }
    put_number(&mut body, method.id);
    put_text(&mut body, SERVICE);
    put_number(&mut body, 1);
    put_text(&mut body, METHOD);
    put_text(&mut body, &method.signature);
    put_number(&mut body, method.types);
    // No structure for people, an async method, and not idempotent; and no session.
    body.put_slice(&[0, 1, 0, 0]);
    body
}

/// Connects and registers.
async fn register(master: &str, number: usize, method: &fuzzing::MethodKey) -> Result<TcpStream, Failure> {
    const REACHED: &str = "a light node cannot register";
    let mut stream = TcpStream::connect(master).await.during(REACHED)?;
    stream.set_nodelay(true).during(REACHED)?;
    let mut handshake = BytesMut::new();
    // Magic, protocol version, role node, no security, the codec, and zeros.
    handshake.put_slice(b"\x89DISTRIB");
    handshake.put_u16_le(fuzzing::PROTOCOL_VERSION);
    handshake.put_slice(b"\x02\x00bincode2");
    handshake.put_bytes(0, 12);
    let registration = registration(number, method);
    handshake.put_u32_le(registration.len() as u32);
    handshake.put_slice(&registration);
    stream.write_all(&handshake).await.during(REACHED)?;
    let mut preface = [0; 32];
    stream.read_exact(&mut preface).await.during(REACHED)?;
    let length = stream.read_u32_le().await.during(REACHED)? as usize;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.during(REACHED)?;
    match answer.first() {
        Some(0) => Ok(stream),
        _ => Err(Failure::new(format!(
            "the master refused a light node: {}; bring light_nodes.rs up to date with distribution/src/wire/",
            answer.escape_ascii()
        ))),
    }
}

/// Answers requests and sends heartbeats, as long as the master keeps the connection.
async fn play(mut stream: TcpStream, first_beat: Instant) -> io::Result<()> {
    let mut incoming = BytesMut::new();
    let mut outgoing = BytesMut::new();
    let mut beats = interval_at(first_beat, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        incoming.reserve(READ_CHUNK);
        tokio::select! {
            read = stream.read_buf(&mut incoming) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                while let Some((kind, body)) = split_frame(&mut incoming) {
                    if kind == REQUEST {
                        answer(&body, &mut outgoing).map_err(io::Error::other)?;
                    }
                }
            }
            // Nothing runs, waits, is asynchronous, stale or blocked.
            _ = beats.tick() => put_frame(&mut outgoing, BEAT, |body| body.put_bytes(0, 5)),
        }
        stream.write_all_buf(&mut outgoing).await?;
    }
}

/// Takes a whole frame off the buffer.
fn split_frame(incoming: &mut BytesMut) -> Option<(u8, Bytes)> {
    let &[a, b, c, d, kind] = incoming.first_chunk::<FRAME_HEADER>()?;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if incoming.len() < FRAME_HEADER + length {
        incoming.reserve(length);
        return None;
    }
    incoming.advance(FRAME_HEADER);
    Some((kind, incoming.split_to(length).freeze()))
}

/// Puts the response to a request, whose value is the argument: both are encoded alike.
fn answer(mut body: &[u8], outgoing: &mut BytesMut) -> Result<(), TryGetError> {
    let request = take_number(&mut body)?;
    let (_method, _call, _attempt) = (take_number(&mut body)?, take_number(&mut body)?, take_number(&mut body)?);
    let (_count, _granted) = (take_number(&mut body)?, take_number(&mut body)?);
    if body.try_get_u8()? != 0 {
        let _timeout = take_number(&mut body)?;
    }
    if body.try_get_u8()? != 0 {
        let (_trace, _span, _sampled) = (take_number(&mut body)?, take_number(&mut body)?, body.try_get_u8()?);
    }
    put_frame(outgoing, RESPONSE, |response| {
        put_number(response, request);
        // It took no time, was one call, did not panic, and ended with a value.
        response.put_slice(&[0, 1, 0, 0]);
        response.put_slice(body);
    });
    Ok(())
}
