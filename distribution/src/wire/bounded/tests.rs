//! Values that take more memory or stack than their bytes suggest.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt,
    marker::PhantomData,
};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, SeqAccess, Visitor},
};

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

/// The encoding of a length in eight bytes.
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
    on_usual_stack(move || {
        let tree = tree(256);
        let bytes = encode_within(&tree, depth).expect("the sender lets it go");
        assert!(encode_within(&tree, depth - 2).is_err(), "it has 511 levels");
        // Without optimisation each level takes several times the stack, and the limit of the stack comes first.
        match Decoder::new(&bytes, depth).only::<Tree>() {
            Err(error) if cfg!(debug_assertions) => {
                assert!(error.to_string().contains("too deeply for the stack"), "{error}");
            }
            taken => assert_eq!(taken.expect("the receiver takes it"), tree),
        }
        assert!(Decoder::new(&bytes, depth - 2).only::<Tree>().is_err());
    });
}

#[test]
fn without_optimisation_there_is_stack_for_twice_the_usual_depth() {
    on_usual_stack(|| {
        let tree = tree(128);
        let bytes = encode_within(&tree, 2 * MAX_DEPTH).expect("the sender lets it go");
        assert_eq!(Decoder::new(&bytes, 2 * MAX_DEPTH).only::<Tree>().expect("the receiver takes it"), tree);
    });
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
    on_usual_stack(|| {
        assert!(decode::<List>(vec![1; 15_000]).is_err());
        // `Tree::One` in `Tree::One`, and `Tree::Named` without a name in one without.
        assert!(decode::<Tree>(vec![3; 15_000]).is_err());
        assert!(decode::<Tree>([1, 0, 1].repeat(15_000)).is_err());
    });
}

#[test]
fn a_few_bytes_do_not_stand_for_memory_without_end() {
    let error = decode::<Vec<()>>(length(1 << 62)).expect_err("elements cost something").to_string();
    assert!(error.contains("4194880 bytes of memory, and was sent in 9"), "{error}");
    let zeros = |count: usize| [length(count as u64), vec![0; count]].concat();
    let too_much = |error: CodecError| assert!(error.to_string().contains("bytes of memory"), "{error}");
    too_much(decode::<Vec<Option<Large>>>(zeros(100_000)).expect_err("a kilobyte for each"));
    too_much(decode::<Vec<Box<Option<Large>>>>(zeros(100_000)).expect_err("as well, in a box"));
    // Each entry has the same key, so the map keeps one; the time to read them all is what counts.
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
    let part = [length(4_000), vec![0; 4_000]].concat();
    assert_eq!(decode::<Vec<Option<Large>>>(part.clone()).expect("alone it is within what is free").len(), 4_000);
    let message = Bytes::from(part.repeat(100));
    let mut decoder = Decoder::new(&message, MAX_DEPTH);
    for _ in 0..100 {
        let error = decoder.split_off(part.len()).expect("it is there").only::<Vec<Option<Large>>>().expect_err("4 MB");
        assert!(error.to_string().contains("bytes of memory"), "{error}");
    }
    // In a message of 64 MB too, each part may take its share and no more.
    let zeros = |count: usize| [length(count as u64), vec![0; count]].concat();
    let part = zeros(4_000_000);
    decode::<Vec<Option<u128>>>(part.clone()).expect("alone it may take 64 times its bytes");
    let message = Bytes::from(part.repeat(16));
    let mut decoder = Decoder::new(&message, MAX_DEPTH);
    let part = decoder.split_off(part.len()).expect("it is there");
    assert!(part.only::<Vec<Option<u128>>>().is_err());
}

#[test]
fn the_smallest_of_many_results_may_hold_a_little_each() {
    let one: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
    let part = encode(&one).expect("encodes");
    let message = Bytes::from(part.repeat(10_000));
    let mut decoder = Decoder::new(&message, MAX_DEPTH);
    for _ in 0..10_000 {
        let part = decoder.split_off(part.len()).expect("it is there");
        assert_eq!(part.only::<BTreeMap<String, String>>().expect("it is one of 10,000"), one);
    }
    // The size of the value itself is not counted.
    let message = Bytes::from(vec![0; 10_000]);
    let mut decoder = Decoder::new(&message, MAX_DEPTH);
    for _ in 0..10_000 {
        let part = decoder.split_off(1).expect("it is there");
        assert!(part.only::<Option<[Large; 8]>>().expect("nothing is held elsewhere").is_none());
    }
}

/// Reserves memory for as many elements as the size hint says, as types of some crates do.
#[derive(Debug)]
struct Trusting<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Trusting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reserving<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reserving<T> {
            type Value = Trusting<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Trusting<T>, A::Error> {
                let mut elements = Vec::with_capacity(access.size_hint().expect("it is known"));
                while let Some(element) = access.next_element()? {
                    elements.push(element);
                }
                Ok(Trusting(elements))
            }
        }
        deserializer.deserialize_seq(Reserving(PhantomData))
    }
}

#[test]
fn a_number_of_elements_that_is_claimed_reserves_little() {
    for claimed in [1 << 44, 1 << 62, u64::MAX] {
        decode::<Trusting<u64>>(length(claimed)).expect_err("there are none");
        decode::<Trusting<()>>(length(claimed)).expect_err("there are too many");
    }
    let honest = encode(&vec![7_u64; 10_000]).expect("encodes");
    assert_eq!(decode::<Trusting<u64>>(honest).expect("decodes").0.len(), 10_000);
}

/// Asks for owned bytes, and takes no borrowed ones.
#[derive(Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Own;
        impl Visitor<'_> for Own {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Own)
    }
}

#[test]
fn texts_and_bytes_are_decoded_by_whichever_way_their_types_take() {
    let value = (String::from("text"), Blob(vec![1, 2, 3]), Bytes::from_static(b"bytes"), Cow::Borrowed("lent"), 'c');
    let bytes = encode(&value).expect("encodes");
    assert_eq!(decode::<(String, Blob, Bytes, Cow<'static, str>, char)>(bytes).expect("decodes"), value);
    assert!(decode::<String>(vec![2, 0xff, 0xff]).is_err(), "no text");
}

#[test]
fn what_allocations_take_beside_is_counted() {
    fn too_much<T: DeserializeOwned + 'static>(one: &[u8], count: usize) {
        let bytes = [length(count as u64), one.repeat(count)].concat();
        match decode::<Vec<T>>(bytes) {
            Ok(_) => panic!("{count} of {one:?} are taken"),
            Err(error) => assert!(error.to_string().contains("bytes of memory"), "{error}"),
        }
    }
    too_much::<String>(b"\x01a", 8 << 20);
    too_much::<Vec<u8>>(b"\x01a", 8 << 20);
    too_much::<BTreeMap<u8, Option<[u64; 4]>>>(b"\x01\0\0", 4 << 20);
    too_much::<BTreeMap<u8, Option<[u64; 4]>>>(b"\x01\0\0", 100_000);
    // An audit found values like these: 60 MB became 1.4 GiB (a third of them is enough here), and 8 MB became 7.9 GiB.
    too_much::<String>(&[0], 20_000_000);
    too_much::<Option<Large>>(&[0], 8_000_000);
    // Sixteen KB: forty such messages at a time held 626 MB.
    too_much::<Option<Large>>(&[0], 16_000);
}

#[test]
fn values_that_are_mostly_empty_are_taken() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Cell {
        Empty,
        Number(f64),
        Text(String),
    }
    fn taken<T: Serialize + DeserializeOwned + Clone + 'static>(one: T, count: usize) {
        let bytes = encode(&vec![one; count]).expect("encodes");
        let size = bytes.len();
        let decoded = decode::<Vec<T>>(bytes);
        assert_eq!(decoded.map(|values| values.len()).map_err(|error| error.to_string()), Ok(count), "{size} bytes");
    }
    taken(Cell::Empty, 3_000_000);
    taken(None::<u128>, 3_000_000);
    taken("DE".to_owned(), 1_000_000);
    taken("word".to_owned(), 1_000_000);
    taken(vec![Cell::Number(0.5), Cell::Text("text".to_owned()), Cell::Empty], 100_000);
    let row: BTreeMap<String, f64> = [("temperature".to_owned(), 0.5)].into();
    taken(row, 300_000);
    // Short maps: a B-tree has room for eleven entries, and this one is five bytes on the wire.
    taken(BTreeMap::from([("a".to_owned(), "b".to_owned())]), 10_000);
}

#[test]
fn collections_without_elements_cost_nothing_but_their_place() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Row {
        id: u32,
        items: Vec<[u64; 27]>,
        names: BTreeMap<String, String>,
        counts: HashMap<String, String>,
    }
    fn taken<T: Serialize + DeserializeOwned + Clone + 'static>(one: T, count: usize) {
        let bytes = encode(&vec![one; count]).expect("encodes");
        let decoded = decode::<Vec<T>>(bytes);
        assert_eq!(decoded.map(|values| values.len()).map_err(|error| error.to_string()), Ok(count));
    }
    for count in [1000, 5000, 100_000] {
        taken(Row::default(), count);
        taken(BTreeMap::<String, u32>::new(), count);
        taken(Vec::<[u64; 27]>::new(), count);
    }
    // In a part of a batch too.
    let message = Bytes::from(vec![0; 2000]);
    let mut decoder = Decoder::new(&message, MAX_DEPTH);
    let part = decoder.split_off(1).expect("it is there");
    assert_eq!(part.only::<Vec<[[u64; 32]; 32]>>().expect("it is empty").len(), 0);
}

/// Each level takes as much stack as its numbers have bytes, and several times that without optimisation.
#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "this is what the test is about")]
enum Wide {
    Leaf,
    Deep([[u64; 32]; 8], Box<Self>),
}

/// Runs this on a thread with the default stack of Rust and tokio.
fn on_usual_stack(test: impl FnOnce() + Send + 'static) {
    let usual = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    usual.spawn(test).expect("a thread").join().expect("the stack was large enough");
}

#[test]
fn few_levels_that_take_much_stack_are_an_error_and_no_end_of_the_process() {
    on_usual_stack(|| {
        let level = [vec![1], vec![0; 256]].concat();
        let wide = |levels| [level.repeat(levels), vec![0]].concat();
        assert!(decode::<Wide>(wide(2)).is_ok());
        for (levels, depth) in [(120, MAX_DEPTH), (120, 512), (500, 512)] {
            let bytes = Bytes::from(wide(levels));
            // With optimisation a level takes little more than its numbers.
            match Decoder::new(&bytes, depth).only::<Wide>() {
                Ok(_) => assert!(!cfg!(debug_assertions) && levels < 200, "{levels} levels are taken"),
                Err(error) => assert!(error.to_string().contains("too deeply for the stack"), "{error}"),
            }
        }
    });
}

#[test]
fn the_sender_has_the_error_if_levels_take_much_stack() {
    /// Takes 64 KiB of stack on each of this many levels.
    struct Greedy(u32);
    impl Serialize for Greedy {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let held = std::hint::black_box([self.0; 16 * 1024]);
            match held[usize::try_from(self.0).expect("fits")] {
                0 => serializer.serialize_none(),
                more => serializer.serialize_some(&Self(more - 1)),
            }
        }
    }
    on_usual_stack(|| {
        encode(&Greedy(3)).expect("has four levels of 64 KiB");
        let error = encode(&Greedy(100)).expect_err("a hundred are too much").to_string();
        assert!(error.contains("too deeply for the stack"), "{error}");
    });
}
