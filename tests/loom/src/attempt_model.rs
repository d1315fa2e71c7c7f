//! An attempt that is written while the core gives it up, and the one after it.

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

/// Writes an attempt as a connection does. `taken` says whether the socket takes the last byte; a connection of which it
/// does not ends.
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

/// While the connection lives, what the core takes back is never written, and what it does not is finished.
#[test]
fn what_is_withdrawn_is_not_written() {
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

/// A core that gives a node up while its connection still writes: what it takes for not run never gets there whole.
#[test]
fn what_is_abandoned_is_not_written_to_its_end() {
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

/// Once the connection has ended, an attempt is not run exactly if its last byte was not taken.
#[test]
fn what_a_connection_left_unfinished_is_not_run_and_nothing_else() {
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

/// The core abandons an attempt and opens the next, which another connection writes, while the first still writes: of
/// one that is not idempotent at most one gets to a node whole, and the first has no say in the second.
#[test]
fn of_two_attempts_one_at_most_is_whole() {
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
            // The second that was opened and not begun is still to be written, whatever the first did.
            if elsewhere && whole.load(Ordering::Relaxed) == 0 {
                assert_eq!(write(&word, 2, true), Written::Whole);
            }
        });
    }
}
