//! Which types a method's id covers whole: the table that the documentation's list comes from, and what is behind it.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque},
    ffi::CString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroI8, NonZeroU32, NonZeroU128, Saturating, Wrapping},
    ops::{Bound, Range, RangeInclusive},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use distribution::fuzzing::{Seen, structure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The text of a type of which everything is seen.
fn whole<T: DeserializeOwned>() -> String {
    let seen = structure::<T>();
    assert!(seen.whole, "{} is not seen whole: {seen:#?}", std::any::type_name::<T>());
    seen.text
}

/// What a named type of which everything is seen is.
fn definition<T: DeserializeOwned>() -> String {
    let name = whole::<T>();
    let seen = structure::<T>();
    find(&seen, &name)
}

fn find(seen: &Seen, name: &str) -> String {
    let found = seen.types.iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("no type {name} in {seen:#?}")).1.clone()
}

fn same<A: DeserializeOwned, B: DeserializeOwned>() -> bool {
    structure::<A>().hash == structure::<B>().hash
}

macro_rules! texts {
    ($($kind:ty => $text:expr),* $(,)?) => { $(
        assert_eq!(whole::<$kind>(), $text, "{}", stringify!($kind));
    )* };
}

macro_rules! definitions {
    ($($kind:ty => $text:expr),* $(,)?) => { $(
        assert_eq!(definition::<$kind>(), $text, "{}", stringify!($kind));
    )* };
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Params {
    rate: f64,
    l2: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Named(String),
    Both(u8, u16),
    Fields { x: f64, y: Option<f64> },
    Inner(Inner),
    Last,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Inner {
    A,
    B(Color),
    C { color: Color, pair: Pair },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Color {
    Red,
    Green,
    Blue(u8),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct W<T> {
    value: T,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Twice {
    number: W<u8>,
    text: W<String>,
    again: W<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
    size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
    value: u8,
}

#[derive(Debug, Serialize, Deserialize)]
enum Term {
    Add(Box<Term>, Box<Term>),
    Call { name: String, arguments: Vec<Term> },
    If(Box<Condition>, Box<Term>),
    Number(i64),
    Maybe(Option<Box<Term>>),
}

#[derive(Debug, Serialize, Deserialize)]
enum Condition {
    Not(Box<Condition>),
    Equal(Term, Term),
    Yes,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Nest(Vec<Nest>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Clear {
    inside: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Skips {
    first: u8,
    #[serde(skip)]
    #[allow(dead_code, reason = "serde leaves it out")]
    cache: Option<String>,
    #[serde(default)]
    last: u16,
    #[serde(rename = "kind")]
    class: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Renamed", rename_all = "camelCase")]
struct Original {
    some_field: u8,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "u8")]
#[allow(dead_code, reason = "only its structure is looked at")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        if number % 2 == 0 { Ok(Self(number)) } else { Err("odd".to_owned()) }
    }
}

#[test]
fn the_plain_types_are_covered_whole() {
    texts! {
        () => "()", bool => "bool", char => "char", String => "String",
        u8 => "u8", u16 => "u16", u32 => "u32", u64 => "u64", u128 => "u128", usize => "u64",
        i8 => "i8", i16 => "i16", i32 => "i32", i64 => "i64", i128 => "i128", isize => "i64",
        f32 => "f32", f64 => "f64",
        (u8, String) => "(u8, String)", (u8,) => "(u8)", (u8, (u16, u32)) => "(u8, (u16, u32))",
        [u8; 0] => "()", [u8; 3] => "[u8; 3]", [u16; 32] => "[u16; 32]", [[f64; 3]; 3] => "[[f64; 3]; 3]",
    }
}

#[test]
fn collections_and_pointers_are_covered_whole() {
    texts! {
        Vec<u8> => "[u8]", Vec<f64> => "[f64]", Vec<Vec<String>> => "[[String]]", VecDeque<u8> => "[u8]",
        HashSet<String> => "[String]", BTreeSet<u8> => "[u8]", BinaryHeap<u8> => "[u8]", LinkedList<u8> => "[u8]",
        HashMap<String, u64> => "map<String, u64>", BTreeMap<u8, Vec<bool>> => "map<u8, [bool]>",
        Option<u8> => "Option<u8>", Option<Option<String>> => "Option<Option<String>>",
        Box<u8> => "u8", Arc<str> => "String", Rc<u8> => "u8", Arc<[u8]> => "[u8]", Box<str> => "String",
        Cow<'static, str> => "String", Cow<'static, [u8]> => "[u8]", Cell<u8> => "u8", RefCell<u8> => "u8",
        Mutex<u8> => "u8", AtomicU64 => "u64",
    }
}

#[test]
fn types_of_the_standard_library_are_covered_whole() {
    texts! {
        PathBuf => "String", Wrapping<u8> => "u8", Saturating<u8> => "u8", NonZeroU32 => "u32", NonZeroI8 => "i8",
        NonZeroU128 => "u128", Ipv4Addr => "[u8; 4]", Ipv6Addr => "[u8; 16]", CString => "bytes",
    }
    definitions! {
        Duration => "{ secs: u64, nanos: u32 }",
        SystemTime => "{ secs_since_epoch: u64, nanos_since_epoch: u32 }",
        IpAddr => "enum { V4([u8; 4]), V6([u8; 16]) }",
        SocketAddr => "enum { V4(([u8; 4], u16)), V6(([u8; 16], u16)) }",
        Range<u8> => "{ start: u8, end: u8 }",
        RangeInclusive<u64> => "{ start: u64, end: u64 }",
        Bound<u8> => "enum { Unbounded, Included(u8), Excluded(u8) }",
        Result<u8, String> => "enum { Ok(u8), Err(String) }",
    }
}

#[test]
fn derived_types_are_covered_whole() {
    definitions! {
        Unit => "()", Meters => "(f64)", Pair => "(u8, String)",
        Params => "{ rate: f64, l2: f64 }",
        Shape => "enum { Nothing, Named(String), Both(u8, u16), Fields { x: f64, y: Option<f64> }, Inner(Inner), Last }",
        Skips => "{ first: u8, last: u16, kind: bool }",
        Original => "{ someField: u8 }",
        Twice => "{ number: W, text: W#2, again: W }",
    }
    texts! { Clear => "u32", Even => "u8" }
    let shape = structure::<Shape>();
    assert_eq!(find(&shape, "Inner"), "enum { A, B(Color), C { color: Color, pair: Pair } }");
    assert_eq!(find(&shape, "Color"), "enum { Red, Green, Blue(u8) }");
    assert_eq!(find(&shape, "Pair"), "(u8, String)");
    let twice = structure::<Twice>();
    assert_eq!([find(&twice, "W"), find(&twice, "W#2")], ["{ value: u8 }", "{ value: String }"]);
}

#[test]
fn recursive_types_are_covered_whole() {
    definitions! {
        Tree => "{ children: [Tree], size: u64 }",
        Chain => "{ next: Option<Chain>, value: u8 }",
        Term => "enum { Add(Term, Term), Call { name: String, arguments: [Term] }, If(Condition, Term), Number(i64), Maybe(Option<Term>) }",
    }
    let term = structure::<Term>();
    assert_eq!(find(&term, "Condition"), "enum { Not(Condition), Equal(Term, Term), Yes }");
    texts! { Nest => "[..]" }
}

#[test]
fn types_of_other_crates_are_covered_whole() {
    use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc, Weekday};
    texts! {
        bytes::Bytes => "bytes", bytes::BytesMut => "bytes", serde_bytes::ByteBuf => "bytes",
        DateTime<Utc> => "String", DateTime<FixedOffset> => "String", NaiveDate => "String", NaiveTime => "String",
        NaiveDateTime => "String", Weekday => "String",
        uuid::Uuid => "bytes", url::Url => "String",
        num_bigint::BigUint => "[u32]", num_bigint::BigInt => "(i8, [u32])",
    }
}

mod other {
    //! The same names, other structures.

    use serde::Deserialize;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Params {
        l2: f64,
        rate: f64,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) enum Color {
        Green,
        Red,
        Blue(u8),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Settings {
        rate: f64,
        l2: f64,
    }

    /// As `Tree`, written down in two types.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Trunk {
        children: Vec<Branch>,
        size: u64,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Branch {
        children: Vec<Trunk>,
        size: u64,
    }

    /// As `Tree`, but of another number.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Tree {
        children: Vec<Tree>,
        size: u32,
    }

    /// As `Twice`, with three types of equal structure.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Twice {
        number: Value,
        text: Text,
        again: super::W<u8>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Value {
        value: u8,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Text {
        value: String,
    }
}

#[test]
fn what_changes_the_bytes_or_their_meaning_changes_the_hash() {
    assert!(!same::<Params, other::Params>(), "the order of fields");
    assert!(!same::<Color, other::Color>(), "the order of variants");
    assert!(!same::<Vec<Option<Params>>, Vec<Option<other::Params>>>(), "deep inside");
    assert!(!same::<Tree, other::Tree>(), "in what is recursive");
    assert!(!same::<W<u8>, W<String>>(), "the parameter of a type");
    assert!(!same::<u8, i8>() && !same::<Vec<u8>, bytes::Bytes>() && !same::<[u8; 3], [u8; 4]>());
    assert!(!same::<Option<u8>, u8>() && !same::<Vec<u8>, Option<u8>>() && !same::<(u8, u16), (u16, u8)>());
    assert!(!same::<HashMap<u8, u16>, Vec<(u8, u16)>>() && !same::<(u8, u8), Params>());
    assert!(!same::<Result<u8, u16>, Result<u16, u8>>());
}

#[test]
fn what_changes_neither_does_not() {
    assert!(same::<Params, other::Settings>(), "the name of a type");
    assert!(same::<Tree, other::Trunk>(), "in how many types a recursive one is written down");
    assert!(same::<Twice, other::Twice>(), "whether a type is used twice or two equal ones");
    assert!(same::<Meters, f64>() && same::<Clear, u32>() && same::<Pair, (u8, String)>(), "what is around a type");
    assert!(same::<Box<Tree>, Arc<Tree>>() && same::<Vec<u8>, HashSet<u8>>() && same::<String, Cow<'static, str>>());
    assert!(same::<Unit, ()>());
}

#[test]
fn the_structure_is_the_same_each_time() {
    for _ in 0..3 {
        assert_eq!(structure::<Term>(), structure::<Term>());
        assert_eq!(structure::<Shape>(), structure::<Shape>());
    }
}

mod rude {
    //! Types that misbehave.

    use std::{fmt, marker::PhantomData};

    use serde::{
        Deserialize, Deserializer,
        de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
    };

    /// A type whose visitor is given a sequence.
    pub(super) trait Sequence: Sized {
        fn take<'de, A: SeqAccess<'de>>(sequence: A) -> Result<Self, A::Error>;
    }

    pub(super) struct From<T>(PhantomData<T>);

    impl<'de, T: Sequence> Deserialize<'de> for From<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Taking<T>(PhantomData<T>);
            impl<'de, T: Sequence> Visitor<'de> for Taking<T> {
                type Value = From<T>;
                fn expecting(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                    panic!("nobody should ask")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<From<T>, A::Error> {
                    T::take(sequence).map(|_| From(PhantomData))
                }
            }
            deserializer.deserialize_seq(Taking(PhantomData))
        }
    }

    /// Takes elements until there are none.
    pub(super) struct All;

    impl Sequence for All {
        fn take<'de, A: SeqAccess<'de>>(mut sequence: A) -> Result<Self, A::Error> {
            let mut numbers: Vec<u64> = Vec::new();
            while let Some(number) = sequence.next_element()? {
                numbers.push(number);
            }
            Ok(Self)
        }
    }

    /// Asks for more whatever it is told.
    pub(super) struct Insatiable;

    impl Sequence for Insatiable {
        fn take<'de, A: SeqAccess<'de>>(mut sequence: A) -> Result<Self, A::Error> {
            loop {
                let _ = sequence.next_element::<u64>();
            }
        }
    }

    /// Two of different types, one behind the other.
    pub(super) struct Two;

    impl Sequence for Two {
        fn take<'de, A: SeqAccess<'de>>(mut sequence: A) -> Result<Self, A::Error> {
            sequence.next_element::<u8>()?.ok_or_else(|| A::Error::custom("none"))?;
            sequence.next_element::<String>()?.ok_or_else(|| A::Error::custom("one"))?;
            Ok(Self)
        }
    }

    macro_rules! deserialize {
        ($kind:ident, $deserializer:ident => $body:expr) => {
            #[derive(Debug)]
            pub(super) struct $kind;
            impl<'de> Deserialize<'de> for $kind {
                fn deserialize<D: Deserializer<'de>>($deserializer: D) -> Result<Self, D::Error> {
                    $body
                }
            }
        };
    }

    deserialize!(Panics, _deserializer => panic!("at once"));
    deserialize!(PanicsLater, deserializer => {
        let number = u8::deserialize(deserializer)?;
        panic!("after {number}")
    });
    deserialize!(PanicsWithABomb, deserializer => {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("while it is dropped");
            }
        }
        u8::deserialize(deserializer)?;
        std::panic::panic_any(Bomb)
    });
    deserialize!(RefusesAll, deserializer => {
        String::deserialize(deserializer)?;
        Err(D::Error::custom("no"))
    });
    deserialize!(Odd, deserializer => {
        let (first, second) = <(u8, u8)>::deserialize(deserializer)?;
        if first < second && second == 4 { Ok(Self) } else { Err(D::Error::custom("no")) }
    });
    deserialize!(Readable, deserializer => {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?;
        } else {
            u8::deserialize(deserializer)?;
        }
        Ok(Self)
    });
    deserialize!(Ignores, deserializer => IgnoredAny::deserialize(deserializer).map(|_| Self));

    /// Contains itself without end.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "there is none")]
    pub(super) struct Endless {
        pub(super) first: u8,
        pub(super) inside: Box<Endless>,
    }

    /// Enums that contain each other without end.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "there is none")]
    pub(super) enum Hen {
        Lays(Box<Egg>),
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "there is none")]
    pub(super) enum Egg {
        Hatches(Box<Hen>),
        Breaks(Box<Egg>),
    }

    /// Deeper than anybody goes.
    pub(super) struct Deep<const DEPTH: usize>;

    impl<'de> Deserialize<'de> for Deep<0> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Down;
            impl<'de> Visitor<'de> for Down {
                type Value = ();
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a map")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                    while map.next_entry::<Deep<0>, Deep<0>>()?.is_some() {}
                    Ok(())
                }
            }
            deserializer.deserialize_map(Down).map(|()| Self)
        }
    }

    /// Needs more elements than are ever given.
    #[derive(Debug)]
    pub(super) struct Huge;

    impl<'de> Deserialize<'de> for Huge {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Taking;
            impl<'de> Visitor<'de> for Taking {
                type Value = Huge;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("much")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Huge, A::Error> {
                    while sequence.next_element::<u8>()?.is_some() {}
                    Ok(Huge)
                }
            }
            deserializer.deserialize_tuple(usize::MAX, Taking)
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) enum Untagged {
        Number(u8),
        Text(String),
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind")]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) enum Tagged {
        A { x: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Flat {
        first: u8,
        #[serde(flatten)]
        rest: std::collections::HashMap<String, u8>,
    }

    /// What cannot be seen is in the middle of what can.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) struct Around {
        before: Option<u8>,
        hidden: Option<RefusesAll>,
        many: Vec<Untagged>,
        choice: Choice,
        after: String,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its structure counts")]
    pub(super) enum Choice {
        Bad(Panics),
        Good(u16),
        Worse { never: Ignores },
        Better,
    }
}

/// What is seen of a type that hides something.
fn partly<T: DeserializeOwned>() -> String {
    let seen = structure::<T>();
    assert!(!seen.whole, "{} hides something: {seen:#?}", std::any::type_name::<T>());
    assert_eq!(seen, structure::<T>(), "it is the same on both sides");
    seen.types.iter().find(|(name, _)| *name == seen.text).map_or(seen.text, |(_, text)| text.clone())
}

#[test]
fn types_that_misbehave_end() {
    texts! { rude::From<rude::All> => "[u64]", rude::From<rude::Two> => "[u8, String]" }
    texts! { rude::Odd => "(u8, u8)", rude::Readable => "u8", rude::Deep<0> => "map<.., ..>" }
    assert_eq!(partly::<rude::From<rude::Insatiable>>(), "[u64]");
    assert_eq!(partly::<rude::Panics>(), "?");
    assert_eq!(partly::<rude::PanicsLater>(), "u8");
    assert_eq!(partly::<rude::PanicsWithABomb>(), "u8");
    assert_eq!(partly::<rude::RefusesAll>(), "String");
    assert_eq!(partly::<rude::Ignores>(), "?");
    assert_eq!(partly::<rude::Endless>(), "{ first: u8, inside: Endless }");
    assert_eq!(partly::<rude::Hen>(), "enum { Lays(Egg) }");
    assert_eq!(partly::<rude::Huge>(), "[u8; 18446744073709551615]");
}

#[test]
fn types_that_the_codec_cannot_carry_are_seen_in_part() {
    assert_eq!(partly::<rude::Untagged>(), "?");
    assert_eq!(partly::<rude::Tagged>(), "?");
    assert_eq!(partly::<rude::Flat>(), "map<?, ?> (partly seen)");
    assert_eq!(partly::<serde_json::Value>(), "?");
}

#[test]
fn what_is_around_a_hidden_type_is_seen() {
    assert_eq!(
        partly::<rude::Around>(),
        "{ before: Option<u8>, hidden: Option<String> (partly seen), many: [?] (partly seen), choice: Choice, after: String }"
    );
    let seen = structure::<rude::Around>();
    assert_eq!(find(&seen, "Choice"), "enum { Bad(?), Good(u16), Worse { never: ? }, Better } (partly seen)");
}
