//! The corpus of each fuzz target, replayed: what fuzzing once found stays found.

use std::{fs, panic::catch_unwind, path::Path};

use distribution::fuzzing;

/// Holds each file of a target's corpus to the law that the target tests.
fn replay(target: &str, law: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("reads");
        assert!(bytes.len() <= 2048, "{} is too large to be kept", path.display());
        catch_unwind(|| law(&bytes)).unwrap_or_else(|_| panic!("{} breaks the law, see above", path.display()));
        files += 1;
    }
    assert!((20..=60).contains(&files), "{files} files in {}", folder.display());
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
fn the_corpus_of_payloads_holds() {
    replay("payload", fuzzing::payload);
}
