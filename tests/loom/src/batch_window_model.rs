//! Models of the window of a batch: one thread runs the batch, one extends the window, one cuts or closes it.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use crate::batch_window::BatchWindow;

/// Runs the batch to its end, checks that each call was granted when it was started, and returns how many were.
fn run(window: &BatchWindow, granted: &AtomicU32) -> u32 {
    let mut count = 0;
    while let Some(started) = window.start_next() {
        count += 1;
        assert_eq!(started, count, "each call is started once, in their order");
        assert!(started <= granted.load(Ordering::SeqCst), "{started} was not granted");
    }
    count
}

#[test]
fn a_batch_that_waits_for_its_grant_gets_it() {
    loom::model(|| {
        let window = Arc::new(BatchWindow::new(3, 1));
        let granted = Arc::new(AtomicU32::new(1));
        let granting = {
            let (window, granted) = (Arc::clone(&window), Arc::clone(&granted));
            thread::spawn(move || {
                for upto in [2, 3] {
                    granted.store(upto, Ordering::SeqCst);
                    window.grant(upto);
                }
            })
        };
        // If it missed a wake-up it would wait for ever, which loom reports.
        assert_eq!(run(&window, &granted), 3);
        granting.join().expect("ends");
    });
}

#[test]
fn a_cut_agrees_with_the_thread_that_runs_the_batch() {
    // Four threads have too many orders to try all: this tries those with up to three preemptions.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let window = Arc::new(BatchWindow::new(2, 1));
        let running = {
            let window = Arc::clone(&window);
            thread::spawn(move || std::iter::from_fn(|| window.start_next()).count())
        };
        let granting = {
            let window = Arc::clone(&window);
            thread::spawn(move || window.grant(2))
        };
        let kept = window.cut();
        granting.join().expect("ends");
        let started = running.join().expect("ends");
        // Each call is in exactly one part: the calls that are kept are those that were started.
        assert_eq!(started, kept.map_or(2, |kept| kept as usize));
        assert!(kept.is_none_or(|kept| kept == 1), "{kept:?}");
        assert_eq!(window.cut(), None, "a batch is cut once");
    });
}

#[test]
fn a_batch_that_waits_for_a_grant_is_ended_by_a_cut() {
    loom::model(|| {
        let window = Arc::new(BatchWindow::new(3, 1));
        assert_eq!(window.start_next(), Some(1));
        let cutting = {
            let window = Arc::clone(&window);
            thread::spawn(move || window.cut())
        };
        assert_eq!(window.start_next(), None, "its master does not answer");
        assert_eq!(cutting.join().expect("ends"), Some(1));
    });
}

#[test]
fn a_batch_that_is_closed_starts_no_more_calls() {
    loom::model(|| {
        let window = Arc::new(BatchWindow::new(3, 1));
        let granted = Arc::new(AtomicU32::new(2));
        let running = {
            let (window, granted) = (Arc::clone(&window), Arc::clone(&granted));
            thread::spawn(move || run(&window, &granted))
        };
        let granting = {
            let window = Arc::clone(&window);
            thread::spawn(move || window.grant(2))
        };
        window.close();
        // One more call may have been started meanwhile, and no other follows.
        let closed = window.start_next();
        granting.join().expect("ends");
        let started = running.join().expect("it does not wait for more");
        assert!(closed.is_none() && started <= 2, "{started}");
    });
}
