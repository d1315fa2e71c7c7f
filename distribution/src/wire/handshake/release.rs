//! The release of this crate that a peer was built with, as it says in its preface.

use std::fmt;

/// A release: major, minor and patch. All are 0 if a peer does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Release([u16; 3]);

impl Release {
    /// How many bytes it has.
    pub(crate) const SIZE: usize = 6;

    /// That of this program.
    pub(crate) fn own() -> Self {
        let parts = [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
        Self(parts.map(|part| part.parse().unwrap_or_default()))
    }

    /// Three numbers, little endian.
    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let [[a, b], [c, d], [e, f]] = self.0.map(u16::to_le_bytes);
        [a, b, c, d, e, f]
    }

    pub(crate) fn from_bytes([a, b, c, d, e, f]: [u8; Self::SIZE]) -> Self {
        Self([[a, b], [c, d], [e, f]].map(u16::from_le_bytes))
    }

    /// Whether the peer has said it.
    pub(crate) fn is_known(self) -> bool {
        self != Self::default()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_as_it_was_written() {
        let release = Release([1, 300, 2]);
        assert_eq!(release.to_bytes(), [1, 0, 44, 1, 2, 0]);
        assert_eq!(Release::from_bytes(release.to_bytes()), release);
        assert_eq!((release.to_string(), release.is_known()), ("1.300.2".to_owned(), true));
        assert!(!Release::from_bytes([0; 6]).is_known());
        assert_eq!(Release::own().to_string(), env!("CARGO_PKG_VERSION"));
    }
}
