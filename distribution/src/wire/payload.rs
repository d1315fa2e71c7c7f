//! The bytes of a value between codec and connection: a small one in place, a large one in the memory that it was made in.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// A payload of up to this many bytes is kept in place. They fit beside the tag into the space that [`Bytes`] takes anyway.
const SMALL: usize = 38;

/// Encoded values that are to be written to a connection, or were read from one. A clone copies at most [`SMALL`] bytes.
#[derive(Clone)]
pub(crate) struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Small {
        length: u8,
        bytes: [u8; SMALL],
    },
    Whole(Bytes),
    /// One behind the other.
    Parts {
        length: usize,
        parts: Arc<[Bytes]>,
    },
}

impl Payload {
    pub(crate) const EMPTY: Self = Self(Repr::Small { length: 0, bytes: [0; SMALL] });

    /// Takes the bytes of `buffer`, with those of `apart` inserted. Each is given with its place in the buffer, in order.
    pub(super) fn assemble(buffer: &mut Vec<u8>, apart: Vec<(usize, Bytes)>) -> Self {
        if apart.is_empty() {
            if let Some(small) = Self::small(buffer) {
                buffer.clear();
                return small;
            }
            return Self(Repr::Whole(Bytes::from(std::mem::take(buffer))));
        }
        let mut rest = Bytes::from(std::mem::take(buffer));
        let mut parts = Vec::with_capacity(2 * apart.len() + 1);
        let mut taken = 0;
        for (place, bytes) in apart {
            parts.push(rest.split_to(place - taken));
            parts.push(bytes);
            taken = place;
        }
        parts.push(rest);
        parts.retain(|part| !part.is_empty());
        Self(Repr::Parts { length: parts.iter().map(Bytes::len).sum(), parts: parts.into() })
    }

    fn small(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; SMALL];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self(Repr::Small { length: from.len() as u8, bytes }))
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Repr::Small { length, .. } => usize::from(*length),
            Repr::Whole(bytes) => bytes.len(),
            Repr::Parts { length, .. } => *length,
        }
    }

    /// Calls one of the two functions with each part in turn: `in_place` with bytes in place, `apart` with those in memory of
    /// their own.
    pub(crate) fn each_part<C>(self, context: &mut C, in_place: fn(&mut C, &[u8]), apart: fn(&mut C, Bytes)) {
        match self.0 {
            Repr::Small { length, bytes } => in_place(context, &bytes[..usize::from(length)]),
            Repr::Whole(bytes) => apart(context, bytes),
            Repr::Parts { parts, .. } => parts.iter().for_each(|part| apart(context, part.clone())),
        }
    }

    /// All bytes in one piece. Copies them if they are in several.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Small { length, bytes } => Bytes::copy_from_slice(&bytes[..usize::from(length)]),
            Repr::Whole(bytes) => bytes,
            Repr::Parts { parts, .. } => parts.concat().into(),
        }
    }

    /// Appends all bytes.
    pub(crate) fn append_to(&self, buffer: &mut Vec<u8>) {
        self.clone().each_part(
            buffer,
            |buffer, bytes| buffer.extend_from_slice(bytes),
            |buffer, bytes| {
                buffer.extend_from_slice(&bytes);
            },
        );
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Whole(bytes))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.clone().into_bytes() == other.clone().into_bytes()
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_their_places() {
        let large = Bytes::from_static(b"LARGE");
        for (places, expected) in
            [(vec![], "abcd"), (vec![0], "LARGEabcd"), (vec![2, 2], "abLARGELARGEcd"), (vec![1, 4], "aLARGEbcdLARGE")]
        {
            let apart: Vec<_> = places.into_iter().map(|place| (place, large.clone())).collect();
            let payload = Payload::assemble(&mut b"abcd".to_vec(), apart);
            assert_eq!(payload.len(), expected.len());
            let mut appended = Vec::new();
            payload.append_to(&mut appended);
            assert_eq!(appended, expected.as_bytes());
            assert_eq!(payload.into_bytes(), expected);
        }
    }

    #[test]
    fn a_small_payload_is_kept_in_place() {
        assert_eq!(size_of::<Payload>(), 40);
        for length in [0, 1, SMALL, SMALL + 1] {
            let bytes: Vec<u8> = (0..length as u8).collect();
            let payload = Payload::assemble(&mut bytes.clone(), Vec::new());
            assert_eq!(matches!(payload.0, Repr::Small { .. }), length <= SMALL);
            assert_eq!(payload.into_bytes(), bytes);
        }
    }
}
