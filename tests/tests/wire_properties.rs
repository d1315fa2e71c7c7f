//! What holds for all bytes, registrations, frames and values, tried with random ones.
//!
//! `PROPTEST_CASES=100000 cargo test -p distribution-tests --test wire_properties` tries for longer; a
//! failure prints the smallest input that shows it.

use std::{
    collections::{BTreeMap, HashMap},
    process::Command,
    time::Instant,
};

use distribution::fuzzing::{
    self, ENDS, End, Frame, Hello, Offer, Reading, Registration, decode, encode, read, receive, receive_caller, write,
};
use proptest::{collection::vec, option, prelude::*, sample::Index};

/// Larger than any frame here.
const LIMIT: usize = 64 * 1024 * 1024;

/// Sizes of the pieces that a connection delivers; none stands for everything at once.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1usize..8, 1usize..20_000], 0..5)
}

fn registration() -> impl Strategy<Value = Registration> {
    let text = || prop_oneof!["[a-zA-Z0-9]{1,12}", any::<String>()];
    let types = vec((text(), text()), 0..3);
    let offer = (any::<u64>(), text(), any::<u32>(), text(), text(), any::<u64>(), types, any::<[bool; 2]>());
    let offers = vec(offer, 0..6).prop_map(|offers: Vec<Offer>| offers);
    (text(), any::<[u32; 3]>(), any::<u64>(), vec((text(), text()), 0..4), offers).prop_map(
        |(name, limits, max_message_size, labels, offers)| {
            Registration::new(name, limits, max_message_size, labels, offers)
        },
    )
}

/// Small ones mostly; some are large enough to be written apart from their header, or to fill the write
/// buffer.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(any::<u8>(), 0..50),
        2 => (any::<u8>(), 8_000usize..9_000).prop_map(|(byte, size)| vec![byte; size]),
        1 => (any::<u8>(), 60_000usize..90_000).prop_map(|(byte, size)| vec![byte; size]),
    ]
}

/// A frame that this end sends.
fn frame(from: End) -> BoxedStrategy<Frame> {
    let control = (any::<u8>(), any::<u64>(), any::<[u32; 4]>());
    let control = control.prop_map(move |(how, call, numbers)| Frame::control(from, how, call, numbers));
    let trace = option::of(any::<(u128, u64, bool)>());
    let texts = || vec((any::<String>(), any::<String>()), 0..4);
    let call = match from {
        End::Master => {
            (any::<(u64, u32)>(), any::<(u64, u64, u32, u32)>(), any::<Option<u64>>(), texts(), trace, body())
                .prop_map(|((id, granted), names, timeout, metadata, trace, payload)| {
                    Frame::request(id, names, granted, timeout, metadata, trace, payload)
                })
                .boxed()
        }
        End::Node => (any::<(u64, (u64, u32), u8)>(), any::<String>(), any::<(u64, u64)>(), body())
            .prop_map(|((id, run, how), text, sizes, payload)| Frame::response(id, run, how, text, sizes, payload))
            .boxed(),
        End::Caller => {
            let limits = any::<(Option<(u64, u64)>, Option<u32>, u8)>();
            // Few methods, so that some are called again.
            let names = (0u64..3, any::<u64>(), any::<u32>());
            let call = (any::<u64>(), names, any::<[Option<u64>; 4]>(), limits, (texts(), texts()), body()).prop_map(
                |(id, names, options, limits, (labels, metadata), payload)| {
                    Frame::caller_call(id, names, options, limits, [labels, metadata], payload)
                },
            );
            let question = (any::<(u64, u64)>(), texts())
                .prop_map(|((id, method), labels)| Frame::caller_question(id, method, labels));
            prop_oneof![3 => call, 1 => question].boxed()
        }
        End::MasterOfCaller => (any::<(u64, (u8, u32, u32), [u64; 3])>(), any::<String>(), body())
            .prop_map(|((id, how, numbers), name, payload)| Frame::caller_response(id, how, numbers, name, payload))
            .boxed(),
    };
    prop_oneof![control, call].boxed()
}

fn frames() -> impl Strategy<Value = (End, Vec<Frame>)> {
    prop::sample::select(&ENDS[..]).prop_flat_map(|from| (Just(from), vec(frame(from), 0..12)))
}

/// Bytes with some of them changed, and cut off at some place.
fn spoil(mut bytes: Vec<u8>, changes: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    for (at, byte) in changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1)));
    bytes
}

/// Whether these frames, or the first of them, have arrived. Large messages come when they are complete, and the others in
/// order.
fn arrived(sent: &[Frame], reading: &Reading) -> bool {
    let (large, small): (Vec<_>, Vec<_>) = sent.iter().partition(|frame| frame.is_in_chunks());
    let (large_read, small_read): (Vec<_>, Vec<_>) = reading.frames.iter().partition(|frame| frame.is_in_chunks());
    small.len() >= small_read.len()
        && small.iter().zip(small_read).all(|(sent, read)| sent.arrived_as(read))
        && large_read.iter().all(|read| {
            let is_same = |frame: &&&Frame| frame.arrived_as(read);
            large.iter().filter(is_same).count() >= large_read.iter().filter(is_same).count()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_hold_each_law(bytes in vec(any::<u8>(), 0..400)) {
        fuzzing::preface(&bytes);
        fuzzing::registration(&bytes);
        fuzzing::frames(&bytes);
        fuzzing::payload(&bytes);
    }

    #[test]
    fn a_hello_that_is_almost_right_holds_the_laws(
        told in registration(), changes in vec(any::<(Index, u8)>(), 0..4), cut in any::<Option<Index>>(),
    ) {
        let hello = told.handshake();
        fuzzing::preface(&spoil(hello.clone(), &changes, cut));
        // Behind the preface of 32 bytes and the length of four.
        fuzzing::registration(&spoil(hello[36..].to_vec(), &changes, cut));
    }

    #[test]
    fn frames_that_are_almost_right_hold_the_law(
        (from, sent) in frames(), changes in vec(any::<(Index, u8)>(), 0..4), cut in any::<Option<Index>>(),
    ) {
        let mut bytes = write(from, &sent, &[]);
        // The law reads byte by byte too, and large payloads would only slow that down.
        bytes.truncate(20_000);
        fuzzing::frames(&spoil(bytes, &changes, cut));
    }

    #[test]
    fn any_registration_arrives_as_it_was(told in registration(), pieces in pieces()) {
        let hello = told.handshake();
        let (received, written) = receive(&hello, &pieces);
        prop_assert_eq!(received, Ok(told.clone()));
        prop_assert_eq!(written.len(), 32);
        prop_assert_eq!(Registration::decode(&hello[36..]), Ok(told));
    }

    #[test]
    fn any_hello_of_a_caller_arrives_as_it_was(
        name in any::<String>(), size in any::<u64>(), pieces in pieces(),
        changes in vec(any::<(Index, u8)>(), 0..4), cut in any::<Index>(),
    ) {
        let told = Hello::new(name, size);
        let hello = told.handshake();
        prop_assert_eq!(receive_caller(&hello, &pieces).0, Ok(told));
        let (received, _) = receive_caller(&hello[..cut.index(hello.len())], &pieces);
        prop_assert!(received.is_err_and(|reason| reason.contains("closed the connection before")));
        fuzzing::preface(&spoil(hello, &changes, Some(cut)));
    }

    #[test]
    fn a_hello_that_is_cut_off_is_refused(told in registration(), cut in any::<Index>(), pieces in pieces()) {
        let hello = told.handshake();
        let (received, _) = receive(&hello[..cut.index(hello.len())], &pieces);
        prop_assert!(received.is_err_and(|reason| reason.contains("closed the connection before")));
    }

    #[test]
    fn any_frames_arrive_as_they_were(
        (from, sent) in frames(), written_in in pieces(), read_in in pieces(),
    ) {
        let bytes = write(from, &sent, &written_in);
        let reading = read(from.other(), &bytes, &read_in, LIMIT);
        prop_assert_eq!((reading.frames.len(), &reading.end), (sent.len(), &Ok(())));
        prop_assert!(arrived(&sent, &reading), "{:?}", reading);
    }

    #[test]
    fn frames_that_are_cut_off_are_a_beginning_of_them(
        (from, sent) in frames(), cut in any::<Index>(), pieces in pieces(),
    ) {
        let sent: Vec<_> = sent.into_iter().filter(|frame| !frame.is_in_chunks()).collect();
        let bytes = write(from, &sent, &[]);
        let part = &bytes[..cut.index(bytes.len() + 1)];
        let reading = read(from.other(), part, &pieces, LIMIT);
        prop_assert!(arrived(&sent, &reading), "{:?}", reading);
        let whole: usize = write(from, &sent[..reading.frames.len()], &[]).len();
        prop_assert_eq!(reading.end.is_ok(), part.len() <= whole, "{:?}", reading.end);
    }

    #[test]
    fn a_large_message_that_is_cut_off_does_not_arrive(
        (from, sent) in frames(), cut in any::<Index>(), pieces in pieces(),
    ) {
        let Some(large) = sent.into_iter().find(Frame::is_in_chunks) else { return Ok(()) };
        let bytes = write(from, &[large], &[]);
        let part = &bytes[..cut.index(bytes.len())];
        let reading = read(from.other(), part, &pieces, LIMIT);
        prop_assert_eq!(reading.frames.len(), 0);
        prop_assert_eq!(reading.end.is_ok(), part.is_empty(), "{:?}", reading.end);
    }

    #[test]
    fn the_way_they_are_cut_up_changes_nothing(
        bytes in vec(any::<u8>(), 0..300), (from, sent) in frames(), first in pieces(), second in pieces(),
    ) {
        let bytes = [write(from, &sent, &[]), bytes].concat();
        for end in ENDS {
            prop_assert_eq!(read(end, &bytes, &first, LIMIT), read(end, &bytes, &second, LIMIT));
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header(
        limit in 16_384usize..1_000_000, over in 1usize..1_000_000, kind in any::<u8>(), end in prop::sample::select(&ENDS[..]),
    ) {
        let claim = [&((limit + over) as u32).to_le_bytes()[..], &[kind]].concat();
        let reading = read(end, &claim, &[], limit);
        prop_assert!(reading.frames.is_empty());
        prop_assert!(reading.end.is_err_and(|reason| reason.contains("the agreed limit is")));
    }

    #[test]
    fn any_value_arrives_as_it_was(
        value in any::<(String, Vec<i64>, Option<Vec<Option<String>>>, i128, char, Result<u16, bool>)>(),
        map in prop::collection::btree_map(any::<String>(), vec(any::<u128>(), 0..5), 0..5),
    ) {
        let value = (value, map);
        let bytes = encode(&value, usize::MAX).expect("encodes");
        prop_assert_eq!(decode(&bytes), Ok(value.clone()));
        // To the byte, and a byte less is too little.
        prop_assert_eq!(encode(&value, bytes.len()), Ok(bytes.clone()));
        prop_assert!(encode(&value, bytes.len() - 1).is_err());
        // Not from less than all of it, nor from more.
        type Value = ((String, Vec<i64>, Option<Vec<Option<String>>>, i128, char, Result<u16, bool>), BTreeMap<String, Vec<u128>>);
        prop_assert!(decode::<Value>(&bytes[..bytes.len() - 1]).is_err());
        prop_assert!(decode::<Value>(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_length_beyond_what_is_there_is_refused(more in 1u64.., rest in vec(any::<u8>(), 0..100)) {
        let claim = (rest.len() as u64).saturating_add(more);
        refuse_all(&[&length(claim), &rest[..]].concat(), &[&[1], &length(claim)[..], &rest[..]].concat());
    }
}

/// A length as the codec writes one that needs eight bytes. It takes it for a smaller one too.
fn length(claim: u64) -> [u8; 9] {
    let [a, b, c, d, e, f, g, h] = claim.to_le_bytes();
    [253, a, b, c, d, e, f, g, h]
}

/// Decodes bytes that begin with a length, or with `Some` and a length, that is larger than what follows.
fn refuse_all(plain: &[u8], optional: &[u8]) {
    assert!(decode::<String>(plain).is_err());
    assert!(decode::<Vec<u8>>(plain).is_err());
    assert!(decode::<Vec<u64>>(plain).is_err());
    assert!(decode::<Vec<[u64; 32]>>(plain).is_err());
    assert!(decode::<HashMap<String, u64>>(plain).is_err());
    assert!(decode::<BTreeMap<u8, Vec<String>>>(plain).is_err());
    assert!(decode::<Box<[Option<Vec<String>>]>>(plain).is_err());
    assert!(decode::<Option<String>>(optional).is_err());
    assert!(decode::<Option<Vec<String>>>(optional).is_err());
    assert!(decode::<Vec<Option<Vec<String>>>>(optional).is_err());
}

/// A line of what Linux says about this process's memory, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it tells this");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Runs a test in a process of its own, where nothing else takes memory: this one starts it, and in it
/// this says yes.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "DISTRIBUTION_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    // Else glibc would keep a reserve for each thread, in which what is taken does not show.
    let malloc = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072")];
    let program = std::env::current_exe().expect("this test");
    let output = Command::new(program).args(["--exact", test]).env(ALONE, "1").envs(malloc).output();
    let output = output.expect("starts again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    false
}

/// Runs this with small claims, so that what any run needs is there, then often with the large ones, and
/// says how many KiB more than before were reserved and used at most.
fn growth(small: &[u64], large: &[u64], run: impl Fn(u64)) -> (u64, u64) {
    small.iter().copied().for_each(&run);
    // What was reserved for a while before is reserved again, as nothing would show in that gap.
    let gap = memory("VmPeak") - memory("VmSize");
    let _filled = std::hint::black_box(Vec::<u8>::with_capacity(gap as usize * 1024));
    let (reserved, used) = (memory("VmPeak"), memory("VmHWM"));
    let began = Instant::now();
    for _ in 0..100 {
        large.iter().copied().for_each(&run);
    }
    // Each takes microseconds.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    (memory("VmPeak") - reserved, memory("VmHWM") - used)
}

const MIB: u64 = 1024;
const SMALL: [u64; 2] = [1, 100];
const LARGE: [u64; 6] = [1 << 20, 1 << 24, 3 << 30, 1 << 40, 1 << 60, u64::MAX];

#[test]
fn a_claimed_length_reserves_no_memory() {
    if !is_alone("a_claimed_length_reserves_no_memory") {
        return;
    }
    let (reserved, used) =
        growth(&SMALL, &LARGE, |claim| refuse_all(&length(claim), &[&[1], &length(claim)[..]].concat()));
    assert!(reserved <= 4 * MIB && used <= 4 * MIB, "payload: {reserved} KiB reserved, {used} KiB used");

    let preface = &Registration::new(String::new(), [0; 3], 0, Vec::new(), Vec::new()).handshake()[..32];
    let (reserved, used) = growth(&SMALL, &LARGE, |claim| {
        // In turn the length of the name, of the labels, of the methods and of the whole.
        for body in [&[][..], &[1, b'x', 1, 0, 1, 1], &[1, b'x', 1, 0, 1, 1, 0]] {
            let body = [body, &length(claim)].concat();
            let hello = [preface, &(body.len() as u32).to_le_bytes(), &body[..]].concat();
            assert!(receive(&hello, &[]).0.is_err());
        }
        let hello = [preface, &(claim.min(1 << 20) as u32).to_le_bytes()].concat();
        assert!(receive(&hello, &[]).0.is_err());
    });
    assert!(reserved <= 4 * MIB && used <= 4 * MIB, "hello: {reserved} KiB reserved, {used} KiB used");

    let (reserved, used) = growth(&SMALL, &LARGE, |claim| {
        // A frame within a small limit, whose header claims what it has no room for.
        let body = [&[1, 1, 2][..], &length(claim)].concat();
        let frame = [&(body.len() as u32).to_le_bytes()[..], &[2], &body[..]].concat();
        assert!(read(End::Master, &frame, &[], 16_384).end.is_err());
    });
    assert!(reserved <= 4 * MIB && used <= 4 * MIB, "frame: {reserved} KiB reserved, {used} KiB used");
}

#[test]
fn a_claim_within_a_large_limit_uses_no_memory() {
    if !is_alone("a_claim_within_a_large_limit_uses_no_memory") {
        return;
    }
    let (reserved, used) = growth(&SMALL, &[LIMIT as u64], |claim| {
        let header = [&(claim as u32).to_le_bytes()[..], &[1, 2, 3]].concat();
        assert!(read(End::Node, &header, &[], LIMIT).end.is_err());
    });
    // All that was agreed on is reserved at once, and none of it is touched.
    assert!(reserved <= LIMIT as u64 / 1024 + 4 * MIB, "frame: {reserved} KiB reserved");
    assert!(used <= 4 * MIB, "frame: {used} KiB used");

    // However much is there: what is not is not reserved either.
    let payload = vec![0; 5 << 20];
    let (reserved, used) = growth(&SMALL, &[(1 << 30) - 100], |claim| {
        let claim = [&[1], &length(claim)[..], &payload[..]].concat();
        assert!(decode::<Vec<String>>(&claim).is_err() && decode::<Option<bytes::Bytes>>(&claim).is_err());
    });
    // Copies of the payload come and go.
    assert!(reserved <= 64 * MIB && used <= 32 * MIB, "payload: {reserved} KiB reserved, {used} KiB used");
}
