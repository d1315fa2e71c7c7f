//! Bounds on what a value may cost: how deeply it is nested, and how much memory it takes once it is decoded.
//!
//! A recursive type needs stack for each level, and what overflows a stack ends the process. And few bytes can stand for
//! much: an empty string is one byte on the wire and 24 in memory, a missing `Option<[u8; 1024]>` one and 1,025, and a
//! million of `()` are none at all. So between serde and the codec lies a deserializer that counts. The sender counts
//! levels and stack as well, so that it has the error before anything is sent. It cannot count memory: `Serialize` is
//! given a reference to each element, often a reference to a reference, and never its type.
//!
//! What is counted is an estimate, of what serde shows: elements at the size of their type, what is in a box of a larger
//! type than the box, and for each text and each collection that is not empty what an allocation takes beside. It shows
//! neither a box around a number, nor the nodes of lists and sets, nor what collections reserve in order to grow. So the
//! memory of a hostile value may be a few times what was counted.
//!
//! | file | what it does |
//! |---|---|
//! | `decode.rs` | the deserializer around the codec's |
//! | `encode.rs` | the serializer around the codec's |
//! | `stack.rs` | how much stack they have taken |

mod decode;
mod encode;
mod stack;

use std::{cell::Cell, fmt};

use self::stack::Stack;
pub(super) use self::{decode::Bounds, encode::Leveled};

/// Memory that the values of any message may take once they are decoded.
const FREE: u64 = 4 * 1024 * 1024;

/// Beyond [`FREE`] they may take this many times the bytes that they were sent in, up to [`MANY_TIMES_UP_TO`]: an enum of
/// which one variant holds a text takes 32 bytes, and a row of columns that are mostly empty is sent in one byte for each.
const MANY_TIMES: u64 = 64;

/// Up to here a value may take [`MANY_TIMES`] its bytes.
const MANY_TIMES_UP_TO: u64 = 256 * 1024 * 1024;

/// However much it is, they may take this many times the bytes that they were sent in: as much as the widest number, if
/// each is a zero.
const TIMES: u64 = 16;

/// A part of a message may take at least this.
const LEAST_PART: u64 = 4 * 1024;

/// What an element without any bytes is taken for. Its time is not nothing.
const EMPTY_ELEMENT: usize = 16;

/// What an allocation takes beside what is put into it, if that is little: the allocator's smallest is 32 bytes.
const ALLOCATION: usize = 32;

/// The first entry of a map counts as this many. A B-tree begins with room for eleven, a hash table with room for four.
const FIRST_ENTRIES: u8 = 11;

/// Collections are told of at most this many elements in advance. Some reserve memory for as many as they are told of.
const HINT_MOST: usize = 4096;

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
        let many = (sent as u64).saturating_mul(MANY_TIMES).min(MANY_TIMES_UP_TO);
        let beyond = (sent as u64).saturating_mul(TIMES).max(many);
        Self::new(sent, beyond.saturating_add(FREE))
    }

    /// For the values in a part of the message: its share.
    pub(super) fn for_part(&self, sent: usize) -> Self {
        let share = self.most as f64 * (sent as f64 / self.sent.max(1) as f64);
        Self::new(sent, (share as u64).max(LEAST_PART))
    }

    fn new(sent: usize, most: u64) -> Self {
        Self { memory: Cell::new(most), most, sent }
    }

    /// What is put into an allocation of its own; nothing is put into none.
    #[inline]
    fn take_allocation<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        if bytes == 0 { Ok(()) } else { self.take(bytes.saturating_add(ALLOCATION)) }
    }

    /// How many elements a collection is told of that is said to have this many. Each takes a byte at least.
    #[inline]
    fn hint(&self, claimed: usize) -> usize {
        claimed.min(HINT_MOST).min(usize::try_from(self.memory.get()).unwrap_or(usize::MAX))
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

/// A value has too many levels.
struct TooDeep {
    most: u16,
}

/// The levels of a value take too much stack, however few they are.
struct TooMuchStack;

impl fmt::Display for TooMuchStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it is nested too deeply for the stack: what it has so far takes more than {} KiB of it; put what makes its \
             levels large into a box or a list, or send it flat",
            stack::MOST / 1024
        )
    }
}

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is nested more than {} levels deep; send it flat, say as a list of parts with indexes", self.most)
    }
}

#[cfg(test)]
mod tests;
