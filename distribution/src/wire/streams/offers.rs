//! Arguments that stay at their caller until the master fetches them: what a connection keeps of them at the caller's end
//! ([`Offers`]), and at the master's end ([`Owed`]).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::peer::{Piece, StreamKey, StreamPeer};
use crate::wire::{
    incoming_memory::IncomingMemory,
    payload::Payload,
    send_permit::{ONLY_ATTEMPT, SendPermit},
};

/// What the master may fetch, by call.
#[derive(Debug, Default)]
pub(super) struct Offers(FxHashMap<u64, Offer>);

#[derive(Debug)]
struct Offer {
    arguments: Payload,
    /// Asked before the call is sent; `None` once it was.
    permit: Option<Arc<dyn SendPermit>>,
    /// The newest of the streams that bring them.
    newest: Option<u32>,
}

impl Offers {
    pub(super) fn add(&mut self, call: u64, arguments: Payload, permit: Option<Arc<dyn SendPermit>>) {
        self.0.insert(call, Offer { arguments, permit, newest: None });
    }

    pub(super) fn remove(&mut self, call: u64) {
        self.0.remove(&call);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The master fetches arguments under this key. Returns them, unless they are being sent under this key or a later one.
    pub(super) fn begin(&mut self, (call, number): StreamKey) -> Option<Payload> {
        let offer = self.0.get_mut(&call)?;
        if offer.newest.is_some_and(|newest| newest >= number) {
            return None;
        }
        offer.newest = Some(number);
        Some(offer.arguments.clone())
    }

    /// Whether these bytes of arguments may be sent: not if their call was given up, or they are fetched under a later key.
    pub(super) fn may_send(&mut self, piece: &mut Piece) -> bool {
        let (call, number) = piece.key;
        let Some(offer) = self.0.get_mut(&call).filter(|offer| offer.newest == Some(number)) else { return false };
        let Some(permit) = &offer.permit else { return true };
        if piece.end.is_none() {
            return permit.may_begin(ONLY_ATTEMPT);
        }
        let begins = permit.begin(ONLY_ATTEMPT);
        if begins {
            piece.permit = offer.permit.take();
        }
        begins
    }
}

/// What a transfer of arguments holds while others wait for it.
#[derive(Debug)]
pub(crate) enum Contended {
    /// A place among the large messages of the connection that they are passed on to.
    Connection(Arc<dyn StreamPeer>),
    /// Memory.
    Memory(Arc<IncomingMemory>),
}

impl Contended {
    fn since(&self) -> Option<Instant> {
        match self {
            Self::Connection(peer) => peer.contended_since(),
            Self::Memory(memory) => memory.contended_since(),
        }
    }
}

/// Arguments that are fetched from the peer, and what the peer owes of them.
#[derive(Debug)]
pub(crate) struct Owed {
    length: u64,
    /// How many bytes the peer may send, and how many it has sent.
    granted: u64,
    came: u64,
    /// Since when the peer has owed bytes and has not sent [`least`](Self::least), and how many had come then.
    slow: Option<(Instant, u64)>,
    contended: Contended,
    /// The bytes that must come in each read timeout while others wait.
    least: u64,
}

impl Owed {
    pub(crate) fn new(length: u64, contended: Contended, least: u64) -> Self {
        Self { length, granted: 0, came: 0, slow: None, contended, least }
    }

    pub(super) fn on_granted(&mut self, upto: u64) {
        self.granted = upto;
        self.slow.get_or_insert_with(|| (Instant::now(), self.came));
    }

    /// Bytes have come. What was not granted is refused elsewhere.
    pub(super) fn on_came(&mut self, bytes: usize) {
        self.came = (self.came + bytes as u64).min(self.granted);
        match self.slow {
            _ if self.bytes() == 0 => self.slow = None,
            Some((_, came)) if self.came - came >= self.least => self.slow = Some((Instant::now(), self.came)),
            _ => {}
        }
    }

    /// How many bytes the peer owes.
    pub(super) fn bytes(&self) -> u64 {
        self.granted - self.came
    }

    /// Since when the peer has been slow while others waited for what the transfer holds.
    pub(super) fn holds_others_up_since(&self) -> Option<Instant> {
        let (slow, _) = self.slow?;
        Some(slow.max(self.contended.since()?))
    }

    /// Whether this is the right end.
    pub(super) fn is_complete(&self, length: u64, is_whole: bool) -> bool {
        is_whole && length == self.length
    }
}
