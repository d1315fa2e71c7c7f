//! Models of slots and their workers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use loom::thread;

use crate::slots::{Slots, Worker, WorkerStep};

/// Counts of one run of a model. They are the standard library's atomics, so that loom does not take them for order.
#[derive(Default)]
struct Counts {
    running: AtomicUsize,
    ran: AtomicUsize,
    answered: AtomicUsize,
}

/// Runs a worker on a thread, and those that it asks for. Each looks for a job a second time before it leaves.
fn start(worker: Worker<u32, u32>, counts: Arc<Counts>, most: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || work(worker, &counts, most))
}

fn work(mut worker: Worker<u32, u32>, counts: &Arc<Counts>, most: usize) {
    let (mut left, mut due, mut has_looked, mut others) = (None, Vec::new(), false, Vec::new());
    loop {
        let next = worker.next(left.take(), |_| true, &mut due, has_looked);
        counts.answered.fetch_add(due.drain(..).count(), Ordering::Relaxed);
        match next {
            WorkerStep::Run(job, another) => {
                others.extend(another.map(|another| start(another, Arc::clone(counts), most)));
                let running = counts.running.fetch_add(1, Ordering::Relaxed) + 1;
                assert!(running <= most, "{running} jobs in {most} slots");
                thread::yield_now();
                counts.running.fetch_sub(1, Ordering::Relaxed);
                counts.ran.fetch_add(1, Ordering::Relaxed);
                (left, has_looked) = (Some(job), false);
            }
            WorkerStep::Look => has_looked = true,
            WorkerStep::Leave => break,
        }
    }
    others.into_iter().for_each(|other| other.join().expect("runs"));
}

fn every_job_is_run(most: usize, jobs: u32) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let slots = Arc::new(Slots::new(most));
        let counts = Arc::new(Counts::default());
        let mut threads = Vec::new();
        for job in 0..jobs {
            threads.extend(slots.push(job).map(|worker| start(worker, Arc::clone(&counts), most)));
        }
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
        assert_eq!(counts.ran.load(Ordering::Relaxed), jobs as usize, "a job was left waiting");
        assert_eq!(counts.answered.load(Ordering::Relaxed), jobs as usize, "an answer was left behind");
        // Each slot is free again.
        assert!(slots.push(0).is_some());
    });
}

#[test]
fn one_slot_runs_every_job_and_one_at_a_time() {
    every_job_is_run(1, 3);
}

#[test]
fn two_slots_run_every_job_and_two_at_a_time() {
    every_job_is_run(2, 3);
}

#[test]
fn each_job_is_either_run_or_given_back() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let slots = Arc::new(Slots::new(1));
        let counts = Arc::new(Counts::default());
        let giver = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || slots.take_waiting().len())
        };
        let mut threads = Vec::new();
        for job in 0..2 {
            threads.extend(slots.push(job).map(|worker| start(worker, Arc::clone(&counts), 1)));
        }
        let given_back = giver.join().expect("runs");
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
        assert_eq!(counts.ran.load(Ordering::Relaxed) + given_back, 2);
        assert_eq!(counts.answered.load(Ordering::Relaxed) + given_back, 2);
    });
}

#[test]
fn two_slots_are_in_use_at_once_although_one_thread_is_woken_at_a_time() {
    // The jobs wait for each other, so they would never end in one slot.
    loom::model(|| {
        let slots = Arc::new(Slots::<u32, u32>::new(2));
        let meeting = Arc::new((loom::sync::Mutex::new(0), loom::sync::Condvar::new()));
        fn work(mut worker: Worker<u32, u32>, meeting: Arc<(loom::sync::Mutex<i32>, loom::sync::Condvar)>) {
            let (mut due, mut others) = (Vec::new(), Vec::new());
            while let WorkerStep::Run(_, another) = worker.next(None, |_| true, &mut due, true) {
                if let Some(another) = another {
                    let meeting = Arc::clone(&meeting);
                    others.push(thread::spawn(move || work(another, meeting)));
                }
                let mut here = meeting.0.lock().expect("whole");
                *here += 1;
                meeting.1.notify_all();
                while *here < 2 {
                    here = meeting.1.wait(here).expect("whole");
                }
            }
            others.into_iter().for_each(|other| other.join().expect("runs"));
        }
        let mut threads = Vec::new();
        for job in 0..2 {
            let meeting = Arc::clone(&meeting);
            threads.extend(slots.push(job).map(|worker| thread::spawn(move || work(worker, meeting))));
        }
        threads.into_iter().for_each(|thread| thread.join().expect("runs"));
    });
}
