//! Models of the queue of async calls and its runners.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use loom::thread;

use crate::runner_queue::{Labelled, Pushed, RunnerQueue, RunnerRole, RunnerStep};

struct Job(#[allow(dead_code, reason = "it stands for what a call is")] u32);

impl Labelled for Job {
    type Label = u32;

    fn label(&self) -> u32 {
        self.0
    }
}

/// Counts of one run of a model. They are the standard library's atomics, so that loom does not take them for order.
#[derive(Default)]
struct Counts {
    ran: AtomicUsize,
    answered: AtomicUsize,
}

fn run(mut role: RunnerRole<Job, u32>, counts: &Counts) {
    let (mut left, mut due, mut must_yield) = (None, Vec::new(), false);
    loop {
        match role.next(left.take(), 2, must_yield) {
            RunnerStep::Yield => must_yield = false,
            RunnerStep::Start(job, _) => {
                counts.ran.fetch_add(1, Ordering::Relaxed);
                left = Some(job.0);
            }
            RunnerStep::Answer => {
                must_yield = true;
                role.take_done(&mut due);
                counts.answered.fetch_add(due.drain(..).count(), Ordering::Relaxed);
            }
            RunnerStep::Nothing => return,
        }
    }
}

fn start(role: RunnerRole<Job, u32>, counts: &Arc<Counts>) -> thread::JoinHandle<()> {
    let counts = Arc::clone(counts);
    thread::spawn(move || run(role, &counts))
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn every_job_is_run_once_and_answered_although_a_runner_is_replaced() {
    check(|| {
        let queue: Arc<RunnerQueue<Job, u32>> = Arc::default();
        let counts = Arc::new(Counts::default());
        // Looks at any moment: the runner that it replaces may be about to end, and the new one may find no job.
        let supervisor = {
            let (queue, counts) = (Arc::clone(&queue), Arc::clone(&counts));
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(replacement) = queue.look().replacement {
                        run(replacement, &counts);
                    }
                }
            })
        };
        let mut threads = Vec::new();
        for job in 0..2 {
            match queue.push(Job(job)) {
                Pushed::Appointed(role) => threads.push(start(role, &counts)),
                Pushed::Waits => {}
                Pushed::Ended(_) => panic!("nothing has ended"),
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
        supervisor.join().expect("runs");
        assert_eq!(counts.ran.load(Ordering::Relaxed), 2, "a job was left waiting");
        assert_eq!(counts.answered.load(Ordering::Relaxed), 2, "an answer was left behind");
        assert!(queue.is_idle());
        assert!(!queue.is_one_stuck(), "a runner was not counted back");
    });
}

#[test]
fn a_job_that_waits_when_the_queue_ends_is_run_or_given_back() {
    check(|| {
        let queue: Arc<RunnerQueue<Job, u32>> = Arc::default();
        let counts = Arc::new(Counts::default());
        let ender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.end().len())
        };
        let (mut threads, mut refused) = (Vec::new(), 0);
        for job in 0..2 {
            match queue.push(Job(job)) {
                Pushed::Appointed(role) => threads.push(start(role, &counts)),
                Pushed::Waits => {}
                Pushed::Ended(_) => refused += 1,
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
        refused += ender.join().expect("runs");
        assert_eq!(counts.ran.load(Ordering::Relaxed) + refused, 2);
        assert_eq!(counts.answered.load(Ordering::Relaxed) + refused, 2);
        assert!(queue.is_idle());
    });
}

#[test]
fn a_runner_that_never_begins_is_replaced() {
    check(|| {
        let queue: Arc<RunnerQueue<Job, u32>> = Arc::default();
        let counts = Arc::new(Counts::default());
        let Pushed::Appointed(role) = queue.push(Job(0)) else { panic!("nobody is active") };
        let dropper = thread::spawn(move || drop(role));
        let appointed = match queue.push(Job(1)) {
            Pushed::Appointed(role) => Some(role),
            _ => None,
        };
        dropper.join().expect("drops");
        // The watchdog's next look finds no active runner.
        match appointed.or_else(|| queue.look().replacement) {
            Some(role) => run(role, &counts),
            None => panic!("two jobs wait and nobody takes them"),
        }
        assert_eq!(counts.answered.load(Ordering::Relaxed), 2);
        assert!(queue.is_idle() && !queue.is_one_stuck());
    });
}
