//! Values that cost more than they seem to.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::{MAX_DEPTH, ValueLimits, check_max_depth},
    error::CodecError,
    wire::codec::{Decoder, Encoder},
};

fn encode<T: Serialize + 'static>(value: &T) -> Result<Bytes, CodecError> {
    encode_within(value, MAX_DEPTH)
}

fn encode_within<T: Serialize + 'static>(value: &T, depth: u16) -> Result<Bytes, CodecError> {
    let mut encoder = Encoder::new(ValueLimits { bytes: usize::MAX, depth });
    encoder.put(value)?;
    Ok(encoder.finish().expect("it fits").into_bytes())
}

fn decode<T: DeserializeOwned + 'static>(bytes: impl Into<Bytes>) -> Result<T, CodecError> {
    Decoder::new(&bytes.into(), MAX_DEPTH).only()
}

/// As a length is written that needs eight bytes.
fn length(of: u64) -> Vec<u8> {
    [&[253][..], &of.to_le_bytes()].concat()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List(Option<Box<Self>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Named { name: String, below: Vec<Self> },
    Two(Box<Self>, Box<Self>),
    One(Box<Self>),
    Map(BTreeMap<u8, Self>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Large([[u8; 32]; 32]);

fn list(levels: usize) -> List {
    (1..levels).fold(List(None), |inner, _| List(Some(Box::new(inner))))
}

fn tree(levels: usize) -> Tree {
    (1..levels).fold(Tree::Leaf, |below, _| Tree::Named { name: String::new(), below: vec![below] })
}

#[test]
fn a_thread_has_the_stack_for_the_largest_depth() {
    assert!(check_max_depth(513).is_err() && check_max_depth(0).is_err());
    let depth = check_max_depth(512).expect("may be set");
    // As much as tokio's threads have. Built without optimisation, a level takes most.
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let run = thread.spawn(move || {
        let tree = tree(256);
        let bytes = encode_within(&tree, depth).expect("the sender lets it go");
        assert!(encode_within(&tree, depth - 2).is_err(), "it has 511 levels");
        assert_eq!(Decoder::new(&bytes, depth).only::<Tree>().expect("the receiver takes it"), tree);
        assert!(Decoder::new(&bytes, depth - 2).only::<Tree>().is_err());
    });
    run.expect("starts").join().expect("does not panic");
}

#[test]
fn a_value_may_be_nested_as_deeply_as_is_said_on_both_sides() {
    // Each `List` is two levels: itself, and the option in it.
    let most = usize::from(MAX_DEPTH) / 2;
    let bytes = encode(&list(most)).expect("the sender lets it go");
    assert_eq!(decode::<List>(bytes).expect("the receiver takes it"), list(most));
    let error = encode(&list(most + 1)).expect_err("the sender has the error").to_string();
    assert!(error.contains("nested more than 128 levels deep"), "{error}");
    let mut deeper = vec![1; most];
    deeper.push(0);
    let error = decode::<List>(deeper).expect_err("the receiver has it too").to_string();
    assert!(error.contains("nested more than 128 levels deep"), "{error}");
}

#[test]
fn what_the_sender_lets_go_the_receiver_takes() {
    let name = || "a".to_owned();
    let grown: [fn(Tree) -> Tree; 4] = [
        |tree| Tree::Two(Box::new(tree), Box::new(Tree::Leaf)),
        |tree| Tree::One(Box::new(tree)),
        |tree| Tree::Named { name: "b".to_owned(), below: vec![Tree::Leaf, tree] },
        |tree| Tree::Map([(1, Tree::Leaf), (2, tree)].into()),
    ];
    for grow in grown {
        let mut tree = Tree::Named { name: name(), below: Vec::new() };
        let mut taken = 0;
        loop {
            match (encode(&tree), taken) {
                (Ok(bytes), _) => assert_eq!(decode::<Tree>(bytes).expect("it is taken"), tree),
                (Err(error), 30..) if error.to_string().contains("levels deep") => break,
                (Err(error), _) => panic!("after {taken}: {error}"),
            }
            tree = grow(tree);
            taken += 1;
        }
    }
}

#[test]
fn fifteen_thousand_levels_are_an_error_and_no_end_of_the_process() {
    // The stack of a thread of tokio's.
    let usual = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let test = usual.spawn(|| {
        assert!(decode::<List>(vec![1; 15_000]).is_err());
        // `Tree::One` in `Tree::One`, and `Tree::Named` without a name in one without.
        assert!(decode::<Tree>(vec![3; 15_000]).is_err());
        assert!(decode::<Tree>([1, 0, 1].repeat(15_000)).is_err());
    });
    test.expect("a thread").join().expect("the stack was large enough");
}

#[test]
fn a_few_bytes_do_not_stand_for_memory_without_end() {
    let error = decode::<Vec<()>>(length(1 << 62)).expect_err("elements cost something").to_string();
    assert!(error.contains("16777360 bytes of memory, and was sent in 9"), "{error}");
    let zeros = |count: usize| [length(count as u64), vec![0; count]].concat();
    let too_much = |error: CodecError| assert!(error.to_string().contains("bytes of memory"), "{error}");
    too_much(decode::<Vec<Option<Large>>>(zeros(100_000)).expect_err("a kilobyte for each"));
    too_much(decode::<Vec<Box<Option<Large>>>>(zeros(100_000)).expect_err("as well, in a box"));
    // A map of which each entry has the same key keeps one, and costs what it costs to read.
    too_much(decode::<HashMap<(), [u64; 0]>>(length(1 << 62)).expect_err("entries cost something"));
}

#[test]
fn honest_values_are_taken_however_small_they_are_on_the_wire() {
    let zeros = vec![0_u128; 300_000];
    assert_eq!(decode::<Vec<u128>>(encode(&zeros).expect("encodes")).expect("16 bytes for each"), zeros);
    let empty = vec![String::new(); 100_000];
    assert_eq!(decode::<Vec<String>>(encode(&empty).expect("encodes")).expect("within what is free"), empty);
    let rows = vec![(0_u64, [0_u64; 8], Some(1_u64), (0_u32, 0_u32)); 30_000];
    type Row = (u64, [u64; 8], Option<u64>, (u32, u32));
    let decoded: Vec<Row> = decode(encode(&rows).expect("encodes")).expect("parts of an element are not counted twice");
    assert_eq!(decoded, rows);
    let boxes: Vec<Box<(u64, u64)>> = vec![Box::new((0, 0)); 50_000];
    assert_eq!(decode::<Vec<Box<(u64, u64)>>>(encode(&boxes).expect("encodes")).expect("a little more"), boxes);
    let map: HashMap<u32, Vec<u16>> = (0..20_000).map(|key| (key, vec![0; 3])).collect();
    assert_eq!(decode::<HashMap<u32, Vec<u16>>>(encode(&map).expect("encodes")).expect("decodes"), map);
}

#[test]
fn parts_of_a_message_share_what_it_may_take() {
    let part = [length(16_000), vec![0; 16_000]].concat();
    assert_eq!(decode::<Vec<Option<Large>>>(part.clone()).expect("alone it is within what is free").len(), 16_000);
    let message = Bytes::from(part.repeat(100));
    let mut decoder = Decoder::new(&message, MAX_DEPTH);
    for _ in 0..100 {
        let error =
            decoder.split_off(part.len()).expect("it is there").only::<Vec<Option<Large>>>().expect_err("16 MB");
        assert!(error.to_string().contains("bytes of memory"), "{error}");
    }
}
