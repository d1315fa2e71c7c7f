//! Finds a type's structure by running its `Deserialize` again and again, each time with values that show more of it.
//!
//! One run shows one variant of an enum, and nothing behind a value that the type refuses. So there are more runs: with the
//! next variant until all were seen, and with the next value where one was refused. A run that fails is attributed to the
//! value that was read last. When all values have failed there, the innermost thing that is optional (the content of an
//! option, an element, a variant) is given up, and the others are looked at.
//!
//! Both ends must come to the same result, so the limits count runs and questions, and never time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    recorder::{Choice, Exhausted, Failure, Place, ROOT, Reason, Recorder, values},
    stop::Stop,
};

/// Runs for one argument, value or error.
const MOST_RUNS: u32 = 5_000;

/// Runs that may fail in a row at one place.
const MOST_TRIES: u32 = 200;

/// How many of the values read last are changed when a run fails.
const MOST_CHANGED: usize = 12;

impl Recorder {
    /// Records a type as the next of the root's parts: `run` deserializes it once, at the place that it is given.
    pub(super) fn record(&mut self, run: &mut dyn FnMut(&mut Self, Place) -> Result<(), Stop>) {
        let part = self.nodes[ROOT].shape.parts.len();
        self.nodes[ROOT].shape.parts.push(None);
        self.nodes[ROOT].shape.length = part + 1;
        self.unsure.push(false);
        self.part_recorded = part;
        let place = Place { node: ROOT, part };
        self.explore(place, &mut |recorder| run(recorder, place));
    }

    fn explore(&mut self, place: Place, run: &mut dyn FnMut(&mut Self) -> Result<(), Stop>) {
        let mut tries = 0;
        for _ in 0..MOST_RUNS {
            self.begin();
            // A user's `Deserialize` may panic, and so may the `Drop` of what it makes.
            let ran = catch_unwind(AssertUnwindSafe(|| run(self)));
            if self.progress {
                tries = 0;
            }
            let go_on = match ran {
                Ok(Ok(())) => {
                    self.look_for_pending();
                    self.progress && self.nodes[ROOT].shape.parts[place.part].is_none_or(|root| self.pending[root])
                }
                Ok(Err(Stop)) => {
                    tries += 1;
                    let failure = self.failure.take();
                    let failure = failure.unwrap_or(Failure { reason: Reason::Refused, path: Vec::new() });
                    self.learn(&failure, tries)
                }
                Err(panic) => {
                    let path = std::mem::take(&mut self.path);
                    for step in &path {
                        self.nodes[step.node].open = 0;
                    }
                    let exhausted = panic.is::<Exhausted>();
                    // What a panic carries may panic when it is dropped.
                    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                        std::mem::forget(again);
                    }
                    let reason = if exhausted { Reason::Exhausted } else { Reason::Hopeless };
                    self.learn(&Failure { reason, path }, tries)
                }
            };
            if !go_on {
                return;
            }
        }
        self.unsure[self.part_recorded] = true;
    }

    fn begin(&mut self) {
        for step in self.path.drain(..) {
            self.nodes[step.node].open = 0;
        }
        self.again = 0;
        self.failure = None;
        self.read.clear();
        self.progress = false;
    }

    /// Changes something after a failed run; whether another one makes sense.
    fn learn(&mut self, failure: &Failure, tries: u32) -> bool {
        let change = match failure.reason {
            Reason::Exhausted => {
                self.unsure[self.part_recorded] = true;
                return false;
            }
            Reason::NoValue => return self.defer(failure),
            Reason::Hopeless => false,
            Reason::RefusedValue(node) => self.next_value(node),
            Reason::Refused => tries <= MOST_TRIES && self.change_values(),
        };
        let go_on = change || self.give_up(failure);
        // What is pending may have changed with it.
        self.look_for_pending();
        go_on
    }

    fn change_values(&mut self) -> bool {
        let mut seen: Vec<usize> = Vec::with_capacity(MOST_CHANGED);
        for node in std::mem::take(&mut self.read).into_iter().rev() {
            if seen.contains(&node) {
                continue;
            }
            if seen.len() == MOST_CHANGED {
                break;
            }
            seen.push(node);
            if self.next_value(node) {
                return true;
            }
        }
        false
    }

    /// Turns to the node's next value; `false` after the last one, when it is back at the first.
    fn next_value(&mut self, node: usize) -> bool {
        let node = &mut self.nodes[node];
        node.tried += 1;
        if node.tried < values(node.shape.kind) {
            return true;
        }
        node.tried = 0;
        false
    }

    /// Goes on without what is around the failure and need not be there.
    fn give_up(&mut self, failure: &Failure) -> bool {
        self.progress = true;
        for step in failure.path.iter().rev() {
            let node = &mut self.nodes[step.node];
            match step.choice {
                Choice::None => continue,
                Choice::Content if node.empty => continue,
                Choice::Content => node.empty = true,
                Choice::Variant(variant) if node.variants[variant].given_up => continue,
                Choice::Variant(variant) => node.variants[variant].given_up = true,
            }
            node.shape.unsure = true;
            return true;
        }
        self.unsure[self.part_recorded] = true;
        false
    }

    /// Leaves out what needs a value of a recursive type, until there is one.
    fn defer(&mut self, failure: &Failure) -> bool {
        self.look_for_pending();
        for step in failure.path.iter().rev() {
            let node = &mut self.nodes[step.node];
            match step.choice {
                Choice::Content if !node.empty => {
                    // Not unsure: what is in it is the type that it is in.
                    node.empty = true;
                    self.successes += 1;
                    return true;
                }
                Choice::Variant(variant) if !node.variants[variant].given_up => {
                    if node.variants[variant].deferred == Some(self.successes) {
                        node.variants[variant].given_up = true;
                        node.shape.unsure = true;
                    }
                    node.variants[variant].deferred = Some(self.successes);
                    return true;
                }
                _ => {}
            }
        }
        self.unsure[self.part_recorded] = true;
        false
    }
}
