//! Models of an attempt that is written while the core abandons it, and of the attempt after it.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use crate::attempt::AttemptWord;

/// How far the connection of an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    Some,
    Whole,
}

/// Writes an attempt as a connection does. `taken` is whether the socket takes the last byte; if it does not, the
/// connection ends.
fn write(word: &AttemptWord, attempt: u32, taken: bool) -> Written {
    if !word.begin(attempt) {
        return Written::Nothing;
    }
    if !word.complete(attempt) {
        return Written::Some;
    }
    if !taken {
        word.cut_short(attempt);
        return Written::Some;
    }
    Written::Whole
}

/// While the connection is open, an attempt that the core withdraws is never written, and any other is written to its end.
#[test]
fn an_attempt_that_is_withdrawn_is_not_written() {
    loom::model(|| {
        let word = Arc::new(AttemptWord::new());
        word.open(1);
        let writer = thread::spawn({
            let word = Arc::clone(&word);
            move || write(&word, 1, true)
        });
        let withdrawn = word.withdraw(1);
        let again = word.withdraw(1);
        let written = writer.join().expect("ends");
        assert_eq!(written, if withdrawn { Written::Nothing } else { Written::Whole });
        assert!(!withdrawn || again, "taken back is taken back");
    });
}

/// The core abandons an attempt while its connection still writes: an attempt that counts as not run is never written to
/// its end.
#[test]
fn an_attempt_that_is_abandoned_is_not_written_to_its_end() {
    for taken in [true, false] {
        loom::model(move || {
            let word = Arc::new(AttemptWord::new());
            word.open(1);
            let writer = thread::spawn({
                let word = Arc::clone(&word);
                move || write(&word, 1, taken)
            });
            let not_run = word.abandon(1);
            let written = writer.join().expect("ends");
            if not_run {
                assert_ne!(written, Written::Whole);
            } else if taken {
                assert_eq!(written, Written::Whole);
            }
        });
    }
}

/// Once the connection has ended, an attempt counts as not run if, and only if, its last byte was not taken.
#[test]
fn an_attempt_is_not_run_exactly_if_its_connection_left_it_unfinished() {
    for taken in [true, false] {
        loom::model(move || {
            let word = Arc::new(AttemptWord::new());
            word.open(1);
            let writer = thread::spawn({
                let word = Arc::clone(&word);
                move || write(&word, 1, taken)
            });
            let written = writer.join().expect("ends");
            assert_eq!(word.abandon(1), written != Written::Whole);
        });
    }
}

/// The core abandons an attempt and opens the next one, which another connection writes, while the first still writes. If
/// the method is not idempotent, at most one of them is written to its end, and the first does not affect the second.
#[test]
fn at_most_one_of_two_attempts_is_written_to_its_end() {
    for taken in [true, false] {
        loom::model(move || {
            let word = Arc::new(AttemptWord::new());
            let whole = Arc::new(AtomicU32::new(0));
            let opened = Arc::new(AtomicBool::new(false));
            word.open(1);
            let first = thread::spawn({
                let (word, whole) = (Arc::clone(&word), Arc::clone(&whole));
                move || {
                    if write(&word, 1, taken) == Written::Whole {
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let second = thread::spawn({
                let (word, whole, opened) = (Arc::clone(&word), Arc::clone(&whole), Arc::clone(&opened));
                move || {
                    let written = write(&word, 2, true);
                    if written == Written::Whole {
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(
                        written == Written::Nothing || opened.load(Ordering::Acquire),
                        "written before it was opened"
                    );
                }
            });
            let elsewhere = word.abandon(1);
            if elsewhere {
                opened.store(true, Ordering::Release);
                word.open(2);
            }
            first.join().expect("ends");
            second.join().expect("ends");
            assert!(whole.load(Ordering::Relaxed) <= 1);
            // The second attempt was opened and not begun: it is still to be written, whatever the first did.
            if elsewhere && whole.load(Ordering::Relaxed) == 0 {
                assert_eq!(write(&word, 2, true), Written::Whole);
            }
        });
    }
}
