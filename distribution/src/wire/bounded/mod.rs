//! Bounds on what a value may cost: how deeply it is nested, and how much memory it takes once it is decoded.
//!
//! A recursive type needs stack for each level, and what overflows a stack ends the process. And few bytes can stand for
//! much: an empty string is one byte on the wire and 24 in memory, a missing `Option<[u8; 1024]>` one and 1,025, and a
//! million of `()` are none at all. So between serde and the codec lies a deserializer that counts. The sender counts
//! levels as well, so that it has the error before anything is sent.
//!
//! | file | what it does |
//! |---|---|
//! | `decode.rs` | the deserializer around the codec's |
//! | `encode.rs` | the serializer around the codec's |

mod decode;
mod encode;

use std::{cell::Cell, fmt};

pub(super) use self::{decode::Bounded, encode::Leveled};

/// Memory that any value may take once it is decoded.
const FREE: u64 = 16 * 1024 * 1024;

/// Beyond [`FREE`] a value may take this many times the bytes that it was sent in: as much as the widest number, if each
/// is a zero.
const TIMES: u64 = 16;

/// Of [`FREE`], a part of a message has at least this.
const FREE_PART: u64 = 16 * 1024;

/// What an element without any bytes is taken for. Its time is not nothing.
const EMPTY_ELEMENT: usize = 16;

/// What is left for values to take.
#[derive(Debug)]
pub(super) struct Budget {
    memory: Cell<u64>,
    most: u64,
    sent: usize,
}

impl Budget {
    /// For all values of a message that was sent in this many bytes.
    pub(super) fn for_message(sent: usize) -> Self {
        Self::new(sent, FREE)
    }

    /// For the values in a part of the message: its share.
    pub(super) fn for_part(&self, sent: usize) -> Self {
        let free = FREE as f64 * (sent as f64 / self.sent.max(1) as f64);
        Self::new(sent, (free as u64).clamp(FREE_PART, FREE))
    }

    fn new(sent: usize, free: u64) -> Self {
        let most = (sent as u64).saturating_mul(TIMES).saturating_add(free);
        Self { memory: Cell::new(most), most, sent }
    }

    #[inline]
    fn take<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        match self.memory.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.memory.set(left);
                Ok(())
            }
            None => Err(E::custom(TooMuch { most: self.most, sent: self.sent })),
        }
    }
}

struct TooMuch {
    most: u64,
    sent: usize,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it would take more than {} bytes of memory, and was sent in {}; send it in parts, or in fewer, larger values",
            self.most, self.sent
        )
    }
}

struct TooDeep {
    most: u16,
}

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is nested more than {} levels deep; send it flat, say as a list of parts with indexes", self.most)
    }
}

#[cfg(test)]
mod tests;
