//! A caller that speaks the wire by hand, so that it can break its rules; and a master that does the same to callers.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    impostor::{Impostor, Shown, frame, number, preface, take_number, text},
    soon,
};

/// Kinds of frames, as the wire numbers them.
pub mod kind {
    #![allow(missing_docs, reason = "the names say it")]
    pub const REQUEST: u8 = 13;
    pub const RESPONSE: u8 = 14;
    pub const HEARTBEAT: u8 = 15;
    pub const DECLARE: u8 = 16;
    pub const CANCEL: u8 = 17;
    pub const DETACH: u8 = 18;
    pub const WATCH: u8 = 19;
    pub const CAPACITY: u8 = 21;
    pub const RECEIVED: u8 = 24;
    pub const ASKED_AGAIN: u8 = 25;
}

/// How a request ended, as the wire numbers it.
pub mod end {
    #![allow(missing_docs, reason = "the names say it")]
    pub const ANSWERED: u64 = 0;
    pub const FAILED: u64 = 1;
    pub const NODES: u64 = 2;
    pub const NOT_RECEIVED: u64 = 3;
}

/// A method of `Probe` by name and signature.
pub type Named = (&'static str, &'static str);

/// The role of a caller and of an administrator in a preface.
pub const CALLER: u8 = 3;
/// See [`CALLER`].
pub const ADMIN: u8 = 4;
const NODE: u8 = 2;

/// What the second connection of a node is for, in its preface.
const NESTED_CALLS: u8 = 1;

/// What a caller of this name sends behind its preface.
pub fn hello(name: &str) -> Vec<u8> {
    hello_of(name, None)
}

/// The same of the handlers of a node in the process with this number.
fn hello_of(name: &str, process: Option<u64>) -> Vec<u8> {
    let node = process.map_or_else(|| vec![0], |process| [vec![1], number(process)].concat());
    // It says that it accepts messages of any size.
    let hello = [text(name), number(u64::MAX), node, number(0)].concat();
    [&(hello.len() as u32).to_le_bytes()[..], &hello].concat()
}

/// A frame that declares a method.
pub fn declare(Shown { id, service, name, signature, types, streams }: &Shown) -> Vec<u8> {
    let names = [number(*id), text(service), number(1), text(name), text(signature)].concat();
    frame(kind::DECLARE, &[names, number(*types), number(0), number(0), vec![0], streams.to_vec()].concat())
}

/// A request for `count` calls of a method of `Probe` with these arguments and labels, from this number on.
pub fn call(request: u64, call: u64, count: u64, method: Named, labels: usize, arguments: &[u8]) -> Vec<u8> {
    call_of(request, call, count, method, labels, None, &[], arguments)
}

/// A request for a call whose arguments have this many bytes and stay at the caller until they are fetched. Its number must be
/// below 251.
pub fn large_call(request: u64, call: u64, method: Named, length: u64) -> Vec<u8> {
    let mut frame_of_small = call_of(request, call, 1, method, 0, None, &[], &number(length));
    // Behind the header of five bytes and the number.
    frame_of_small[6] = 3;
    frame_of_small
}

/// The same as [`call`] as a part of the call with this number.
pub fn nested_call(request: u64, call: u64, parent: u64, method: Named, arguments: &[u8]) -> Vec<u8> {
    call_of(request, call, 1, method, 0, Some(parent), &[], arguments)
}

/// The same of nobody, with this metadata.
pub fn call_with_metadata(call: u64, method: Named, metadata: &[(&str, &str)], arguments: &[u8]) -> Vec<u8> {
    call_of(1, call, 1, method, 0, None, metadata, arguments)
}

#[expect(clippy::too_many_arguments, reason = "the wire has as many")]
fn call_of(
    request: u64,
    call: u64,
    count: u64,
    method: Named,
    labels: usize,
    parent: Option<u64>,
    metadata: &[(&str, &str)],
    arguments: &[u8],
) -> Vec<u8> {
    let method = Shown::of_probe(method.0, method.1).id;
    let labels = [number(labels as u64), [text("k"), text("v")].concat().repeat(labels)].concat();
    let numbers = [number(request), number(0), number(method), number(call), number(count)].concat();
    let entries: Vec<u8> = metadata.iter().flat_map(|(key, value)| [text(key), text(value)].concat()).collect();
    let metadata = [number(metadata.len() as u64), entries].concat();
    let parent = parent.map_or_else(|| vec![0], |parent| [vec![1], number(parent)].concat());
    // May not be repeated; no timeout, node, attempts; labels; no affinity, panics, broadcast, hedge, earlier number; parent;
    // metadata; no trace.
    frame(
        kind::REQUEST,
        &[&numbers[..], &[0, 0, 0, 0], &labels, &[0, 0, 0, 0, 0], &parent, &metadata, &[0], arguments].concat(),
    )
}

/// A caller whose end of the connection is ours.
#[derive(Debug)]
pub struct RogueCaller {
    /// The connection.
    pub peer: Impostor,
    /// The number of its first call.
    pub first: u64,
}

impl RogueCaller {
    /// Connects to a master without security.
    ///
    /// # Panics
    ///
    /// If the master does not accept it.
    pub async fn connect(master: SocketAddr, name: &str) -> Self {
        Self::open(master, preface(CALLER, 0), hello(name)).await.expect("is accepted")
    }

    /// Connects for the nested calls of a node in the process with this number.
    ///
    /// # Errors
    ///
    /// The reason, where the master refuses.
    ///
    /// # Panics
    ///
    /// If the master does not answer.
    pub async fn connect_for_node(master: SocketAddr, process: u64) -> Result<Self, String> {
        let mut preface = preface(NODE, 0);
        preface[20] = NESTED_CALLS;
        Self::open(master, preface, hello_of("rogue", Some(process))).await
    }

    async fn open(master: SocketAddr, preface: Vec<u8>, hello: Vec<u8>) -> Result<Self, String> {
        let mut stream = TcpStream::connect(master).await.expect("connects");
        stream.write_all(&[preface, hello].concat()).await.expect("sends");
        let mut theirs = [0; 32];
        soon("the master's preface", stream.read_exact(&mut theirs)).await.expect("reads");
        let welcome = read_message(&mut stream).await;
        let mut rest = &welcome[..];
        match take_number(&mut rest) {
            0 => Ok(Self { first: take_number(&mut rest), peer: Impostor { stream } }),
            _ => Err(String::from_utf8_lossy(rest).into_owned()),
        }
    }

    /// The next response: the request, how it ended, and the rest.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn response(&mut self) -> (u64, u64, Vec<u8>) {
        let body = self.peer.receive(kind::RESPONSE).await;
        let mut rest = &body[..];
        (take_number(&mut rest), take_number(&mut rest), rest.to_vec())
    }

    /// Waits until the master has closed the connection.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn closed(mut self) {
        let _ = soon("the connection to be closed", self.peer.stream.read_to_end(&mut Vec::new())).await;
    }
}

async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    soon("a message", stream.read_exact(&mut length)).await.expect("reads");
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    soon("a message", stream.read_exact(&mut message)).await.expect("reads");
    message
}

/// Accepts the next caller that dials this port, as its master, with this limit of silence. Its first call has this number.
///
/// # Panics
///
/// If none comes.
pub async fn rogue_master(listener: &TcpListener, first_call: u64, silence: Duration) -> Impostor {
    let (mut stream, _) = soon("a caller to dial", listener.accept()).await.expect("accepts");
    let mut theirs = [0; 32];
    soon("its preface", stream.read_exact(&mut theirs)).await.expect("reads");
    // Behind the first bytes are those of its release.
    assert_eq!(theirs[..22], preface(CALLER, 0)[..22]);
    stream.write_all(&preface(1, 0)).await.expect("sends");
    read_message(&mut stream).await;
    let micros = |time: Duration| number(time.as_micros() as u64);
    let silent = [micros(silence / 3), micros(silence)].concat();
    let mut master = Impostor { stream };
    master.send_answer(&[&number(0)[..], &number(first_call), &silent, &number(1 << 20), &[128, 0, 0]].concat()).await;
    master
}
