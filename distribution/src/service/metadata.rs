//! The metadata of a call: a few short texts that travel with it to its handler.

use std::sync::Arc;

use crate::text::{is_plain, is_short};

/// Keys and values, in the order of the keys; `None` if there are none.
pub(crate) type Metadata = Option<Arc<Vec<(String, String)>>>;

/// The most entries, the bytes of a key and of a value, and of all together. The header of a request has room for them.
pub(crate) const MOST_ENTRIES: usize = 16;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 1024;
const MOST_BYTES: usize = 4 * 1024;

/// Checks entries, which must be in the order of their keys, each once.
///
/// # Errors
///
/// The rule that they break.
pub(crate) fn check(entries: &[(String, String)]) -> Result<(), &'static str> {
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    if entries.len() > MOST_ENTRIES || bytes > MOST_BYTES {
        return Err("a call has at most 16 entries of metadata, with 4 KiB in all");
    }
    if entries.iter().any(|(key, _)| !is_short(key, LONGEST_KEY)) {
        return Err("a key has 1 to 64 bytes, no spaces at its ends, and no control or invisible characters");
    }
    if entries.iter().any(|(_, value)| value.len() > LONGEST_VALUE || !is_plain(value)) {
        return Err("a value has at most 1 KiB, and no line breaks, control or invisible characters");
    }
    match entries.is_sorted_by(|(one, _), (next, _)| one < next) {
        true => Ok(()),
        false => Err("keys are in order, and each is there once"),
    }
}

/// The same metadata with one more entry, or with another value of one.
///
/// # Errors
///
/// The rule that it would break. It is as it was then.
pub(crate) fn with(metadata: &Metadata, key: String, value: String) -> Result<Metadata, &'static str> {
    let mut entries = entries(metadata).to_vec();
    match entries.binary_search_by(|(other, _)| other.cmp(&key)) {
        Ok(at) => entries[at].1 = value,
        Err(at) => entries.insert(at, (key, value)),
    }
    check(&entries)?;
    Ok(Some(Arc::new(entries)))
}

/// The value of a key.
pub(crate) fn get<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    let entries = entries(metadata);
    let at = entries.binary_search_by(|(other, _)| other.as_str().cmp(key)).ok()?;
    Some(&entries[at].1)
}

/// All entries.
pub(crate) fn entries(metadata: &Metadata) -> &[(String, String)] {
    metadata.as_ref().map_or(&[], |entries| entries)
}

/// What a message had.
///
/// # Errors
///
/// The rule that a peer has broken.
pub(crate) fn from_wire(entries: &[(String, String)]) -> Result<Metadata, &'static str> {
    if entries.is_empty() {
        return Ok(None);
    }
    check(entries)?;
    Ok(Some(Arc::new(entries.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kept_in_order_and_the_last_value_counts() {
        let mut metadata = None;
        for (key, value) in [("tenant", "a"), ("request", "7"), ("tenant", "b"), ("zone", "")] {
            metadata = with(&metadata, key.to_owned(), value.to_owned()).expect("can be");
        }
        assert_eq!(
            ["request", "tenant", "zone", "user"].map(|key| get(&metadata, key)),
            [Some("7"), Some("b"), Some(""), None]
        );
        assert_eq!(from_wire(entries(&metadata)), Ok(metadata.clone()));
        assert_eq!((get(&None, "tenant"), from_wire(entries(&None))), (None, Ok(None)));
    }

    #[test]
    fn what_is_too_much_or_not_plain_is_refused() {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let numbered = |count: usize, length: usize| -> Vec<_> {
            (0..count).map(|number| entry(&format!("{number:02}"), &"v".repeat(length))).collect()
        };
        assert_eq!(check(&numbered(16, 254)), Ok(()));
        assert_eq!(check(&[entry(&"k".repeat(64), &"v".repeat(1024))]), Ok(()));
        for (entries, part) in [
            (numbered(17, 1), "16 entries"),
            (numbered(16, 255), "4 KiB in all"),
            (vec![entry("", "v")], "a key has 1 to 64 bytes"),
            (vec![entry(&"k".repeat(65), "v")], "a key has 1 to 64 bytes"),
            (vec![entry("a\u{202e}", "v")], "no control or invisible"),
            (vec![entry("k", &"v".repeat(1025))], "at most 1 KiB"),
            (vec![entry("k", "two\nlines")], "no line breaks"),
            (vec![entry("k", "\x1b[31m")], "no line breaks"),
            (vec![entry("k", "1"), entry("k", "2")], "each is there once"),
            (vec![entry("l", "1"), entry("k", "2")], "in order"),
        ] {
            let rule = check(&entries).expect_err(part);
            assert!(rule.contains(part), "{rule}");
        }
        let full = with(&from_wire(&numbered(16, 1)).expect("can be"), "00".to_owned(), "other".to_owned());
        assert_eq!(get(&full.expect("replaces one"), "00"), Some("other"));
    }
}
