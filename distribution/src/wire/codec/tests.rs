//! Values to bytes and back, and bytes that are not those of any value.

use super::*;
use crate::id::{CallId, NodeId};

#[test]
fn ids_travel_as_numbers() {
    let ids = (CallId::first(0x5f91_c2a7), NodeId::new(0x5f3a_91c2, 7));
    let mut encoder = Encoder::new(ValueLimits { bytes: 100, depth: 8 });
    encoder.put(&ids).expect("can be encoded");
    let bytes = encoder.finish().expect("fits").into_bytes();
    assert!(bytes.len() <= 18, "two numbers, in {} bytes", bytes.len());
    assert_eq!(Decoder::new(&bytes, 8).only::<(CallId, NodeId)>(), Ok(ids));
}

#[test]
fn what_is_encoded_is_decoded() {
    let value = (vec![1u64, 2, u64::MAX], "text".to_owned(), Some(-5i128), [1.5f64; 3]);
    let bytes = encode_payload(&value, 1000).expect("fits").into_bytes();
    let back: (Vec<u64>, String, Option<i128>, [f64; 3]) = decode_payload(&bytes).expect("decodes");
    assert_eq!(back, value);
}

#[test]
fn a_value_over_the_limit_is_counted_and_not_kept() {
    match encode_payload(&vec![0u8; 5000], 100) {
        Err(EncodePayloadError::TooLarge(size)) => assert_eq!(size, 5003),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_length_that_lies_is_refused_before_memory_is_reserved() {
    // A string that claims 2^62 bytes, and one that claims a mere 3 GiB.
    for claimed in [1u64 << 62, 3 << 30] {
        let mut bytes = vec![253];
        bytes.extend_from_slice(&claimed.to_le_bytes());
        assert!(decode_payload::<String>(&bytes).is_err());
        assert!(decode_payload::<Vec<u64>>(&bytes).is_err());
    }
}

#[test]
fn the_densest_honest_value_passes_each_limit() {
    for count in [65_000usize, 70_000, 4_200_000] {
        let value = vec![0u128; count];
        let bytes = encode_payload(&value, usize::MAX).expect("encodes").into_bytes();
        assert_eq!(decode_payload::<Vec<u128>>(&bytes).expect("decodes").len(), count);
    }
}

#[test]
fn a_value_keeps_a_frame_in_memory_only_where_it_is_most_of_it() {
    for (other, length, keeps) in [(64_000, 8_192, false), (64_000, 63_000, false), (20_000, 63_000, true)] {
        let mut encoder = Encoder::new(ValueLimits::of_bytes(usize::MAX));
        encoder.put(&vec![1u8; other]).expect("encodes");
        encoder.put(&Bytes::from(vec![2u8; length])).expect("encodes");
        let frame = encoder.finish().expect("fits").into_bytes();
        let mut decoder = Decoder::new(&frame, MAX_DEPTH);
        decoder.take::<Vec<u8>>().expect("decodes");
        let value = decoder.take::<Bytes>().expect("decodes");
        assert_eq!(value, vec![2u8; length]);
        assert_eq!(!frame.is_unique(), keeps, "{length} bytes behind {other}");
    }
}

#[test]
fn bytes_left_over_are_an_error() {
    assert!(decode_payload::<u8>(&[1, 2]).is_err());
}
