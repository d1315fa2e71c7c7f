//! Hashes that are the same on each machine and in each run.

use sha2::{Digest, Sha256};

/// A fast hash of bytes, for inputs where nobody gains by a collision.
pub(crate) const fn hash(bytes: &[u8]) -> u64 {
    hash_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// Continues a hash with more bytes: the 64-bit FNV-1a hash (Fowler, Noll, Vo; offset basis and prime as
/// published).
pub(crate) const fn hash_on(before: u64, bytes: &[u8]) -> u64 {
    let mut hash = before;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// Spreads the bits of a number (the finalizer of splitmix64: Steele, Lea and Flood, 2014).
pub(crate) const fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A key for [`keyed`], made of a secret.
pub(crate) fn key_of(secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"distribution: a key for hashes of names").chain_update(secret).finalize().into()
}

/// The hash of a random secret that is kept in the place of it: SHA-256.
pub(crate) fn hash_of_secret(secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"distribution: a secret").chain_update(secret).finalize().into()
}

/// A hash that cannot be predicted without the key: the first 64 bits of SHA-256 over key and text.
pub(crate) fn keyed(key: &[u8; 32], text: &str) -> u64 {
    first_64_bits(Sha256::new().chain_update(key).chain_update(text))
}

/// The first 64 bits of SHA-256 over texts that peers choose.
pub(crate) fn hash_of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    first_64_bits(digest_of(texts))
}

fn digest_of<'a>(texts: impl Iterator<Item = &'a str>) -> Sha256 {
    let mut digest = Sha256::new();
    for text in texts {
        // With a byte that no UTF-8 text contains, so that two texts cannot be split in another way.
        digest.update(text);
        digest.update([0xff]);
    }
    digest
}

fn first_64_bits(digest: Sha256) -> u64 {
    digest.finalize().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// The id of a method: the first 64 bits of SHA-256 over everything that caller and node must agree on. `types` is the
/// hash of the structure of its types.
///
/// A master checks the ids of a node's methods against their names. So a node must not be able to choose names, or the hash of
/// its types, that give the id of another service's method.
pub(crate) fn method_id(service: &str, version: u32, method: &str, signature: &str, types: u64) -> u64 {
    let mut digest = digest_of([service, method, signature].into_iter());
    digest.update(version.to_le_bytes());
    digest.update(types.to_le_bytes());
    first_64_bits(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_1a_gives_the_published_values() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn everything_that_both_ends_must_agree_on_changes_a_methods_id() {
        let ids = [
            method_id("A", 1, "f", "fn() -> ()", 1),
            method_id("B", 1, "f", "fn() -> ()", 1),
            method_id("A", 2, "f", "fn() -> ()", 1),
            method_id("A", 1, "g", "fn() -> ()", 1),
            method_id("A", 1, "f", "fn(u8) -> ()", 1),
            method_id("A", 1, "f", "fn() -> ()", 2),
            method_id("Af", 1, "", "fn() -> ()", 1),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{at}");
        }
    }
}
