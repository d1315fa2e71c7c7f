//! Models of the hand-over of the runner.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use loom::thread;

use crate::turns::{Labelled, Next, Pushed, Turn, Turns};

struct Job(#[allow(dead_code, reason = "it stands for what a call is")] u32);

impl Labelled for Job {
    type Label = u32;

    fn label(&self) -> u32 {
        self.0
    }
}

/// What is counted while a model runs. The standard library's, so that the counts order nothing.
#[derive(Default)]
struct Counts {
    ran: AtomicUsize,
    answered: AtomicUsize,
}

fn run(mut turn: Turn<Job, u32>, counts: &Counts) {
    let (mut left, mut due, mut owes_way) = (None, Vec::new(), false);
    loop {
        match turn.next(left.take(), 2, owes_way) {
            Next::GiveWay => owes_way = false,
            Next::Start(job, _) => {
                counts.ran.fetch_add(1, Ordering::Relaxed);
                left = Some(job.0);
            }
            Next::Answer => {
                owes_way = true;
                turn.take_done(&mut due);
                counts.answered.fetch_add(due.drain(..).count(), Ordering::Relaxed);
            }
            Next::Nothing => return,
        }
    }
}

fn start(turn: Turn<Job, u32>, counts: &Arc<Counts>) -> thread::JoinHandle<()> {
    let counts = Arc::clone(counts);
    thread::spawn(move || run(turn, &counts))
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn every_job_is_run_once_and_answered_whoever_is_given_up_meanwhile() {
    check(|| {
        let turns: Arc<Turns<Job, u32>> = Arc::default();
        let counts = Arc::new(Counts::default());
        // Looks at any moment: what it gives up may be about to end, and what it appoints may find nothing.
        let supervisor = {
            let (turns, counts) = (Arc::clone(&turns), Arc::clone(&counts));
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(relief) = turns.look().relief {
                        run(relief, &counts);
                    }
                }
            })
        };
        let mut threads = Vec::new();
        for job in 0..2 {
            match turns.push(Job(job)) {
                Pushed::Appointed(turn) => threads.push(start(turn, &counts)),
                Pushed::Waits => {}
                Pushed::Ended(_) => panic!("nothing has ended"),
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
        supervisor.join().expect("runs");
        assert_eq!(counts.ran.load(Ordering::Relaxed), 2, "a job was left waiting");
        assert_eq!(counts.answered.load(Ordering::Relaxed), 2, "an answer was left behind");
        assert!(turns.is_idle());
        assert!(!turns.is_one_stuck(), "a runner was not counted back");
    });
}

#[test]
fn what_waits_at_the_end_is_run_or_given_back() {
    check(|| {
        let turns: Arc<Turns<Job, u32>> = Arc::default();
        let counts = Arc::new(Counts::default());
        let ender = {
            let turns = Arc::clone(&turns);
            thread::spawn(move || turns.end().len())
        };
        let (mut threads, mut refused) = (Vec::new(), 0);
        for job in 0..2 {
            match turns.push(Job(job)) {
                Pushed::Appointed(turn) => threads.push(start(turn, &counts)),
                Pushed::Waits => {}
                Pushed::Ended(_) => refused += 1,
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
        refused += ender.join().expect("runs");
        assert_eq!(counts.ran.load(Ordering::Relaxed) + refused, 2);
        assert_eq!(counts.answered.load(Ordering::Relaxed) + refused, 2);
        assert!(turns.is_idle());
    });
}

#[test]
fn a_runner_that_never_begins_is_counted_out_and_another_takes_over() {
    check(|| {
        let turns: Arc<Turns<Job, u32>> = Arc::default();
        let counts = Arc::new(Counts::default());
        let Pushed::Appointed(turn) = turns.push(Job(0)) else { panic!("nobody is active") };
        let dropper = thread::spawn(move || drop(turn));
        let appointed = match turns.push(Job(1)) {
            Pushed::Appointed(turn) => Some(turn),
            _ => None,
        };
        dropper.join().expect("drops");
        // The supervisor's next look finds that nobody is active.
        match appointed.or_else(|| turns.look().relief) {
            Some(turn) => run(turn, &counts),
            None => panic!("two jobs wait and nobody takes them"),
        }
        assert_eq!(counts.answered.load(Ordering::Relaxed), 2);
        assert!(turns.is_idle() && !turns.is_one_stuck());
    });
}
