//! Bounds on what a value may cost: how deeply it is nested, and how much memory it takes once it is decoded.
//!
//! Each level of a recursive type takes stack, and a stack overflow ends the process. And a few bytes can become much
//! memory: an empty string is one byte on the wire and 24 in memory, a missing `Option<[u8; 1024]>` is one byte and 1,025,
//! and a million of `()` take none at all. So a deserializer between serde and the codec counts levels, stack and memory.
//! The sender counts levels and stack too, so that it gets the error before it sends anything. It cannot count memory:
//! `Serialize` gets a reference to each element, often a reference to a reference, and never its type.
//!
//! The memory is an estimate, made from what serde shows. It counts elements at the size of their type, a boxed value if its
//! type is larger than the box, and an overhead for each text and for each collection that is not empty. serde does not
//! show boxes around numbers, the nodes of lists and sets, or what collections reserve to grow. So a hostile value may take
//! a few times the memory that was counted.
//!
//! | file | what it does |
//! |---|---|
//! | `decode.rs` | the deserializer around the codec's |
//! | `encode.rs` | the serializer around the codec's |
//! | `stack.rs` | measures the stack that a value takes |

mod decode;
mod encode;
mod stack;

use std::{cell::Cell, fmt};

use self::stack::Stack;
pub(super) use self::{decode::Bounds, encode::Leveled};

/// The decoded values of any message may take this much memory, however short the message is.
const FREE: u64 = 4 * 1024 * 1024;

/// In addition to [`FREE`], they may take this many times the bytes of the message, up to [`MANY_TIMES_UP_TO`]. An enum with
/// a text in one variant takes 32 bytes in memory, and a row whose columns are mostly empty has one byte per column on the
/// wire.
const MANY_TIMES: u64 = 64;

/// The most that [`MANY_TIMES`] allows.
const MANY_TIMES_UP_TO: u64 = 256 * 1024 * 1024;

/// Without an upper limit, they may take this many times the bytes of the message: a zero of the widest number type is one
/// byte on the wire and 16 in memory.
const TIMES: u64 = 16;

/// A part of a message may take at least this.
const LEAST_PART: u64 = 4 * 1024;

/// An element of size zero counts as this many bytes, because decoding it takes time.
const EMPTY_ELEMENT: usize = 16;

/// The overhead of an allocation: the smallest that the allocator makes has 32 bytes.
const ALLOCATION: usize = 32;

/// The first entry of a map counts as this many entries. A B-tree begins with room for eleven, a hash table with room for
/// four.
const FIRST_ENTRIES: u8 = 11;

/// The largest size hint that a collection gets. Some collections reserve memory for as many elements as the hint says.
const HINT_MOST: usize = 4096;

/// The memory that values may still take.
#[derive(Debug)]
pub(super) struct Budget {
    memory: Cell<u64>,
    most: u64,
    sent: usize,
}

impl Budget {
    /// The budget of a message of this many bytes.
    pub(super) fn for_message(sent: usize) -> Self {
        let many = (sent as u64).saturating_mul(MANY_TIMES).min(MANY_TIMES_UP_TO);
        let beyond = (sent as u64).saturating_mul(TIMES).max(many);
        Self::new(sent, beyond.saturating_add(FREE))
    }

    /// The budget of a part of the message: its share by bytes.
    pub(super) fn for_part(&self, sent: usize) -> Self {
        let share = self.most as f64 * (sent as f64 / self.sent.max(1) as f64);
        Self::new(sent, (share as u64).max(LEAST_PART))
    }

    fn new(sent: usize, most: u64) -> Self {
        Self { memory: Cell::new(most), most, sent }
    }

    /// Takes the memory of an allocation with this many bytes in it. Without bytes nothing is allocated.
    #[inline]
    fn take_allocation<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        if bytes == 0 { Ok(()) } else { self.take(bytes.saturating_add(ALLOCATION)) }
    }

    /// The size hint for a collection that claims this many elements. Each element takes at least one byte of the budget.
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

/// The error of a value with too many levels.
struct TooDeep {
    most: u16,
}

/// The error of a value whose levels take too much stack, however few they are.
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
