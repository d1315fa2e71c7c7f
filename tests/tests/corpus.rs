//! The corpus of each fuzz target, replayed: what fuzzing once found stays found.

use std::{
    collections::HashMap,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use distribution::fuzzing::{
    self, End, Library, Numbers, Registration, Shape, decode, introduce, introduce_caller, read, receive,
    receive_caller,
};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Holds each file of a target's corpus to the law that the target tests.
fn replay(target: &str, law: fn(&[u8])) {
    let folder = corpus(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("reads");
        assert!(bytes.len() <= 2048, "{} is too large to be kept", path.display());
        catch_unwind(|| law(&bytes)).unwrap_or_else(|_| panic!("{} breaks the law, see above", path.display()));
        files += 1;
    }
    assert!((20..=90).contains(&files), "{files} files in {}", folder.display());
}

#[test]
fn the_corpus_of_the_preface_holds() {
    replay("preface", fuzzing::preface);
}

#[test]
fn the_corpus_of_the_registration_holds() {
    replay("registration", fuzzing::registration);
}

#[test]
fn the_corpus_of_frames_holds() {
    replay("frames", fuzzing::frames);
}

#[test]
fn the_corpus_of_callers_frames_holds() {
    replay("callers", fuzzing::frames);
}

#[test]
fn the_corpus_of_streams_holds() {
    replay("streams", fuzzing::frames);
}

#[test]
fn the_corpus_of_payloads_holds() {
    replay("payload", fuzzing::payload);
}

#[test]
fn what_is_well_formed_in_it_is_understood() {
    let file = |name| fs::read(corpus(name)).expect("reads");
    let stale = "the wire has changed: bring fuzz/seeds.py up to date and run it";
    let (received, _) = receive(&file("preface/node"), &[]);
    let registration = Registration::decode(&file("registration/plain")).expect(stale);
    assert_eq!(received.as_ref(), Ok(&registration), "{stale}");
    assert_eq!(registration.check(), Ok(()), "{stale}");
    assert!(introduce(&file("preface/master_welcome"), &[]).expect(stale).starts_with("Accepted"));
    let (received, _) = receive_caller(&file("preface/caller"), &[]);
    assert_eq!(received.expect(stale).check(), Ok(()), "{stale}");
    assert!(introduce_caller(&file("preface/master_accepts_a_caller"), &[]).expect(stale).starts_with("Accepted"));
    for (end, name, count) in [
        (End::Node, "frames/life_of_a_master", 7),
        (End::Node, "frames/request_with_metadata", 1),
        (End::Master, "frames/life_of_a_node", 6),
        (End::MasterOfCaller, "callers/life_of_a_caller", 11),
        (End::Caller, "callers/life_of_its_master", 7),
    ] {
        let reading = read(end, &file(name), &[], 16_384);
        assert_eq!((reading.frames.len(), reading.end), (count, Ok(())), "{stale}");
    }
    assert!(decode::<Numbers>(&file("payload/numbers")).is_ok(), "{stale}");
    assert!(decode::<Vec<Shape<'static>>>(&file("payload/shapes")).is_ok(), "{stale}");
    assert!(decode::<Library>(&file("payload/library")).is_ok(), "{stale}");
    assert!(decode::<(u64, String, Option<Vec<String>>)>(&file("payload/option")).is_ok(), "{stale}");
    assert!(decode::<HashMap<String, Vec<u64>>>(&file("payload/map_without_order")).is_ok(), "{stale}");
}
