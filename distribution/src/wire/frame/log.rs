//! A record of a node's log, as it travels to the master.

use serde::{Deserialize, Serialize};

use super::layout::CONTROL_LIMIT;
use crate::administration::LogLevel;

/// The most bytes of text in a record: what is longer is cut.
pub(crate) const LONGEST_RECORD: usize = 8 * 1024;

/// The most records in a frame.
pub(crate) const MOST_RECORDS: usize = 256;

/// What the numbers of a record take at most, and the lengths of its texts.
const NUMBERS: usize = 64;

/// A frame of records is filled up to this. A release that does not know such frames skips them only up to
/// [`CONTROL_LIMIT`].
const FRAME_TARGET: usize = CONTROL_LIMIT - 16;
const _: () = assert!(LONGEST_RECORD + 1024 < FRAME_TARGET);

/// A record of a node's log. What the master is told of it is not checked by anybody but the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentRecord {
    /// Microseconds since the beginning of 1970, by the node's clock.
    pub(crate) time: u64,
    pub(crate) level: LogLevel,
    /// How often the same record came again before it was sent.
    pub(crate) repeated: u32,
    /// The call whose handler has logged it, and the attempt.
    pub(crate) call: Option<(u64, u32)>,
    /// Empty if it is not known.
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: String,
    /// Of a panic; empty otherwise.
    pub(crate) backtrace: String,
}

impl SentRecord {
    /// No more bytes than this in a frame.
    pub(crate) fn size(&self) -> usize {
        let texts = [&self.method, &self.target, &self.message, &self.fields, &self.backtrace];
        texts.iter().map(|text| text.len()).sum::<usize>() + NUMBERS
    }

    /// Whether a frame that has this many records and bytes has room for it.
    pub(crate) fn fits_behind(&self, records: usize, bytes: usize) -> bool {
        records < MOST_RECORDS && bytes + self.size() <= FRAME_TARGET
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::Control;

    #[test]
    fn the_size_of_a_record_is_no_less_than_its_bytes() {
        let record = |text: String| SentRecord {
            time: u64::MAX,
            level: LogLevel::Error,
            repeated: u32::MAX,
            call: Some((u64::MAX, u32::MAX)),
            method: text.clone(),
            target: text.clone(),
            message: text.clone(),
            fields: text.clone(),
            backtrace: text,
        };
        for length in [0, 1, 300, 1_600] {
            let record = record("x".repeat(length));
            let size = record.size();
            let mut frame = BytesMut::new();
            Control::Logs { records: vec![record] }.encode(&mut frame).expect("encodes");
            assert!(frame.len() <= size, "{} of {size}", frame.len());
        }
    }
}
