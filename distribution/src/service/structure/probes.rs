//! The values that types are tried with: many refuse what does not look like theirs.
//!
//! Both ends try the same values in the same order, so a change here changes ids of methods whose types refuse most
//! values. It belongs into a release that raises the protocol's version.

/// How many elements a list or map is given, in the order they are tried. None is not among them, because nothing is
/// seen then: that is for when all else has failed.
pub(super) const LENGTHS: [usize; 7] = [1, 2, 3, 4, 6, 8, 16];

/// How many bytes, each of them the digit `1`, which is also text.
pub(super) const SIZES: [usize; 12] = [16, 4, 8, 32, 1, 0, 2, 6, 12, 20, 33, 64];

/// Numbers that fit into each type; one is what most types take.
pub(super) const NUMBERS: [u8; 8] = [1, 0, 2, 3, 4, 16, 100, 12];

pub(super) const FLOATS: [f32; 4] = [1.0, 0.0, 0.5, -1.0];

pub(super) const CHARACTERS: [char; 4] = ['a', 'A', '1', ' '];

pub(super) const TEXTS: [&str; 44] = [
    "a",
    "1",
    "2000-01-01T12:00:00Z",
    "2000-01-01T12:00:00",
    "2000-01-01",
    "12:00:00",
    "http://localhost/",
    "00000000-0000-4000-8000-000000000000",
    "127.0.0.1",
    "::1",
    "127.0.0.1:80",
    "[::1]:80",
    "0",
    "1.5",
    "",
    "true",
    "2000-01-01 12:00:00",
    "2000-01-01 12:00:00 UTC",
    "2000-01-01T12:00:00+00:00",
    "2000-01-01T12:00:00+00:00[UTC]",
    "Sat, 01 Jan 2000 12:00:00 +0000",
    "Sat",
    "Jan",
    "Saturday",
    "January",
    "+00:00",
    "UTC",
    "Europe/London",
    "PT1S",
    "1s",
    "1.0.0",
    "^1.0.0",
    "127.0.0.1/32",
    "::1/128",
    "02:00:00:00:00:01",
    "localhost",
    "a@b.example",
    "/",
    "text/plain",
    "en",
    "#000000",
    "00",
    "AAAA",
    "EUR",
];
