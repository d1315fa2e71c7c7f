//! Finds a type's structure by running its `Deserialize` again and again, each time with values that show more of it.
//!
//! One run shows one variant of an enum and nothing behind a value that the type refuses. So the recorder goes on:
//! with the next variant until all were seen, with the next value where one was refused. A run that fails is laid to
//! the value that was read last; when all values have failed there, the innermost thing that need not be (the content of
//! an option, an element, a variant) is given up, and the others are looked at.
//!
//! A type that comes up inside itself is entered again, but only to get a value of it: options are empty there, lists
//! too, and of the variants the cheapest one that has worked is taken.
//!
//! Both ends must come to the same result, so everything is bounded in counts, nothing in time.

use std::{
    any::TypeId,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;

use super::{
    deserializer::{At, Stop},
    probes,
    shape::{Kind, Leaf, Shape},
};

/// How deep types may be in one another. Each level is some frames of the user's code on this thread's stack.
const MOST_DEPTH: usize = 64;

/// How many nodes a method may have.
const MOST_NODES: usize = 4096;

/// How many questions a method's types may ask in all runs together.
const MOST_QUESTIONS: u32 = 100_000;

/// Runs for one argument, value or error.
const MOST_RUNS: u32 = 5_000;

/// Runs that may fail in a row at one place.
const MOST_TRIES: u32 = 200;

/// How many of the values read last are changed when a run fails.
const MOST_CHANGED: usize = 12;

/// Fields or variants that are told apart.
const MOST_PARTS: usize = 1024;

/// Elements of a tuple or array that are told apart; those behind are like the last of them.
const MOST_ELEMENTS: usize = 64;

/// Elements of a list that are told apart.
const MOST_IN_LIST: usize = 16;

/// The node whose parts are what was recorded.
const ROOT: usize = 0;

/// A part of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) node: usize,
    pub(super) part: usize,
}

/// What tells types apart: the visitor is a type of its own for each, parameters included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) visitor: TypeId,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) names: &'static [&'static str],
    pub(super) length: usize,
}

struct Node {
    shape: Shape,
    /// `None` for what is told apart by its place.
    key: Option<Key>,
    /// How often it is entered and not left.
    open: u32,
    /// Which value is tried, counted from the first one that was.
    first: usize,
    tried: usize,
    /// It has refused a value on the spot.
    refused: bool,
    /// An option, list or map that stays empty.
    empty: bool,
    variants: Vec<Variant>,
}

#[derive(Clone, Copy, Default)]
struct Variant {
    /// Questions asked by a run through it, the cheapest.
    cost: Option<u32>,
    given_up: bool,
    /// It needs a value of a type that had none yet, when this many things had worked.
    deferred: Option<u32>,
}

#[derive(Clone, Copy)]
struct Step {
    node: usize,
    choice: Choice,
    /// The node was open already.
    again: bool,
    /// Questions before it.
    from: u32,
}

#[derive(Clone, Copy)]
enum Choice {
    None,
    /// Something in an option, list or map.
    Content,
    Variant(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The type did not like something.
    Refused,
    /// It did not like this value.
    RefusedValue(usize),
    /// A recursive type has no value yet.
    NoValue,
    /// Another value will not help.
    Hopeless,
    /// Too much of everything.
    Exhausted,
}

struct Failure {
    reason: Reason,
    path: Vec<Step>,
}

/// Records the structure of one method's types.
pub(super) struct Recorder {
    nodes: Vec<Node>,
    known: FxHashMap<(TypeId, Kind, usize), Vec<usize>>,
    /// The value that a visitor took after it had refused others.
    liked: FxHashMap<TypeId, usize>,
    questions: u32,
    /// Things that have worked for the first time.
    successes: u32,
    /// Of each node before this run: whether something in it is still to be seen.
    pending: Vec<bool>,
    path: Vec<Step>,
    /// How many of the path are entered again.
    again: u32,
    failure: Option<Failure>,
    /// Nodes whose values can be changed, in the order they were read.
    read: Vec<usize>,
    /// Whether this run has shown anything.
    progress: bool,
    /// Of each part of the root: whether no run through it came to its end.
    unsure: Vec<bool>,
    /// The one that is being recorded.
    part_recorded: usize,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let mut recorder = Self {
            nodes: Vec::new(),
            known: FxHashMap::default(),
            liked: FxHashMap::default(),
            questions: 0,
            successes: 0,
            pending: Vec::new(),
            path: Vec::new(),
            again: 0,
            failure: None,
            read: Vec::new(),
            progress: false,
            unsure: Vec::new(),
            part_recorded: 0,
        };
        recorder.add(Kind::Tuple, None, "", &[], 0);
        recorder
    }

    /// The nodes, and which of the types recorded may hide something. The first node's parts are these types, in order.
    pub(super) fn finish(self) -> (Vec<Shape>, Vec<bool>) {
        (self.nodes.into_iter().map(|node| node.shape).collect(), self.unsure)
    }

    /// Records a type.
    pub(super) fn record<T: DeserializeOwned>(&mut self) {
        let part = self.nodes[ROOT].shape.parts.len();
        self.nodes[ROOT].shape.parts.push(None);
        self.nodes[ROOT].shape.length = part + 1;
        self.unsure.push(false);
        self.part_recorded = part;
        let place = Place { node: ROOT, part };
        self.explore(place, &mut |recorder| T::deserialize(At { recorder, place }).map(drop));
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

    fn is_selectable(&self, variant: &Variant) -> bool {
        !variant.given_up && variant.deferred.is_none_or(|then| self.successes > then)
    }

    /// Whether this variant has something that was not seen, as of before this run.
    fn is_variant_pending(&self, node: usize, variant: usize) -> bool {
        let payload = self.nodes[node].shape.parts[variant];
        let state = &self.nodes[node].variants[variant];
        self.is_selectable(state)
            && (state.cost.is_none()
                || payload.is_none_or(|payload| self.pending.get(payload).copied().unwrap_or(false)))
    }

    /// Whether something that was not seen can be reached through this variant without entering anything again, where
    /// only the cheapest is taken.
    fn leads_on(&self, node: usize, variant: usize) -> bool {
        let mut met = vec![false; self.nodes.len()];
        let mut ahead: Vec<usize> = self.nodes[node].shape.parts[variant].into_iter().collect();
        while let Some(index) = ahead.pop() {
            let node = &self.nodes[index];
            let is_pending = self.pending.get(index).copied().unwrap_or(false);
            if node.open > 0 || !is_pending || std::mem::replace(&mut met[index], true) {
                continue;
            }
            if self.is_new_in(node) {
                return true;
            }
            if node.shape.kind == Kind::Enum {
                let selectable = node.variants.iter().zip(&node.shape.parts);
                ahead.extend(
                    selectable.filter(|(variant, _)| self.is_selectable(variant)).filter_map(|(_, part)| *part),
                );
            } else {
                ahead.extend(node.shape.parts.iter().flatten());
            }
        }
        false
    }

    /// Whether something in the node itself was not seen.
    fn is_new_in(&self, node: &Node) -> bool {
        match node.shape.kind {
            Kind::Option | Kind::List | Kind::Map => !node.empty && node.shape.parts.iter().any(Option::is_none),
            Kind::Enum => node.variants.iter().any(|variant| self.is_selectable(variant) && variant.cost.is_none()),
            _ => false,
        }
    }

    /// Works out anew what is pending. Parts mostly come behind what they are in, so few rounds are needed.
    fn look_for_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.clear();
        pending.resize(self.nodes.len(), false);
        self.pending = pending;
        loop {
            let mut changed = false;
            for index in (0..self.nodes.len()).rev() {
                if !self.pending[index] && self.is_pending(index) {
                    self.pending[index] = true;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn is_pending(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let parts = &node.shape.parts;
        match node.shape.kind {
            Kind::Leaf(_) => false,
            Kind::Option | Kind::List | Kind::Map => {
                !node.empty && parts.iter().any(|part| part.is_none_or(|part| self.pending[part]))
            }
            Kind::Enum => (0..node.variants.len()).any(|variant| self.is_variant_pending(index, variant)),
            Kind::Tuple | Kind::Newtype | Kind::Struct => parts.iter().flatten().any(|part| self.pending[*part]),
        }
    }

    /// Counts a question.
    pub(super) fn ask(&mut self) -> Result<(), Stop> {
        self.questions += 1;
        if self.questions <= MOST_QUESTIONS {
            return Ok(());
        }
        if self.questions > 2 * MOST_QUESTIONS {
            // It goes on asking, whatever it is told. Unwinding ends it; no hook is run, so nothing is printed.
            resume_unwind(Box::new(Exhausted));
        }
        Err(self.stop(Reason::Exhausted))
    }

    /// Notes where a run failed, as the first to see it.
    pub(super) fn stop(&mut self, reason: Reason) -> Stop {
        if self.failure.is_none() {
            self.failure = Some(Failure { reason, path: self.path.clone() });
        }
        Stop
    }

    /// A value without parts: gives its node, and which of the values to try.
    pub(super) fn leaf(&mut self, place: Place, leaf: Leaf, visitor: TypeId) -> Result<(usize, usize), Stop> {
        self.ask()?;
        let node = match self.part(place) {
            Some(node) if self.nodes[node].shape.kind == Kind::Leaf(leaf) => node,
            other => {
                let node = self.add(Kind::Leaf(leaf), None, "", &[], 0);
                self.nodes[node].first = self.liked.get(&visitor).copied().unwrap_or(0);
                self.put(place, node, other.is_some());
                node
            }
        };
        if values(Kind::Leaf(leaf)) > 1 {
            self.read.push(node);
        }
        Ok((node, self.value(node)))
    }

    /// What the visitor made of the value.
    pub(super) fn leaf_visited(&mut self, node: usize, visitor: TypeId, taken: bool) {
        if !taken {
            self.nodes[node].refused = true;
            self.stop(Reason::RefusedValue(node));
        } else if self.nodes[node].refused {
            let value = self.value(node);
            self.liked.insert(visitor, value);
        }
    }

    /// What travels as if it were alone, where only its place tells it apart.
    pub(super) fn wrap(&mut self, place: Place) -> usize {
        match self.part(place) {
            Some(node) if self.nodes[node].shape.kind == Kind::Newtype => node,
            other => {
                let node = self.add(Kind::Newtype, None, "", &[], 1);
                self.put(place, node, other.is_some());
                node
            }
        }
    }

    /// Goes into something that has parts.
    pub(super) fn enter(&mut self, place: Place, key: Key) -> Result<usize, Stop> {
        self.ask()?;
        if self.path.len() >= MOST_DEPTH {
            return Err(self.stop(Reason::Hopeless));
        }
        if self.nodes.len() >= MOST_NODES {
            return Err(self.stop(Reason::Exhausted));
        }
        let there = self.part(place);
        let node = match there {
            Some(node) if self.nodes[node].key == Some(key) => node,
            _ => {
                let short = (key.visitor, key.kind, key.length);
                let known = self.known.get(&short).into_iter().flatten();
                let known = known.copied().find(|node| self.nodes[*node].key == Some(key));
                let node = known.unwrap_or_else(|| {
                    let node = self.add(key.kind, Some(key), key.name, key.names, key.length);
                    self.known.entry(short).or_default().push(node);
                    node
                });
                self.put(place, node, there.is_some());
                node
            }
        };
        let again = self.nodes[node].open > 0;
        self.nodes[node].open += 1;
        self.again += u32::from(again);
        self.path.push(Step { node, choice: Choice::None, again, from: self.questions });
        Ok(node)
    }

    /// Comes out of it.
    pub(super) fn leave(&mut self, node: usize, taken: bool) {
        if !taken {
            self.stop(Reason::Refused);
        }
        let Some(step) = self.path.pop() else { return };
        self.nodes[node].open = self.nodes[node].open.saturating_sub(1);
        self.again = self.again.saturating_sub(u32::from(step.again));
        if let (true, Choice::Variant(variant)) = (taken, step.choice) {
            let cost = self.questions - step.from;
            let variant = &mut self.nodes[node].variants[variant];
            if variant.cost.is_none() {
                self.successes += 1;
                self.progress = true;
            }
            variant.cost = Some(variant.cost.map_or(cost, |before| before.min(cost)));
        }
    }

    /// How many elements the option, list or map that was just entered is given.
    pub(super) fn elements(&mut self, node: usize) -> usize {
        if self.again > 0 || self.nodes[node].empty {
            return 0;
        }
        let elements = match self.nodes[node].shape.kind {
            Kind::Option => 1,
            _ => {
                self.read.push(node);
                probes::LENGTHS[self.value(node)]
            }
        };
        if let Some(step) = self.path.last_mut() {
            step.choice = Choice::Content;
        }
        elements
    }

    /// Which variant of the enum that was just entered is taken.
    pub(super) fn variant(&mut self, node: usize) -> Result<usize, Stop> {
        let count = self.nodes[node].variants.len();
        let cheapest = || {
            let costs = self.nodes[node].variants.iter().enumerate();
            costs.filter_map(|(variant, state)| Some((state.cost?, variant))).min().map(|(_, variant)| variant)
        };
        let state = |variant: usize| &self.nodes[node].variants[variant];
        let next = || (0..count).find(|at| self.is_selectable(state(*at)) && state(*at).cost.is_none());
        let around = || (0..count).find(|at| self.is_variant_pending(node, *at) && self.leads_on(node, *at));
        let variant = if self.again > 0 { cheapest() } else { next().or_else(around).or_else(cheapest) };
        let Some(variant) = variant else {
            let none_left = self.again == 0 && self.nodes[node].variants.iter().all(|variant| variant.given_up);
            return Err(self.stop(if none_left { Reason::Hopeless } else { Reason::NoValue }));
        };
        if let Some(step) = self.path.last_mut() {
            step.choice = Choice::Variant(variant);
        }
        Ok(variant)
    }

    /// Which part an element of a list or tuple is.
    pub(super) fn element(&self, node: usize, position: usize) -> usize {
        let most = match self.nodes[node].shape.kind {
            Kind::List => MOST_IN_LIST,
            Kind::Tuple => MOST_ELEMENTS,
            _ => MOST_PARTS,
        };
        position.min(most - 1)
    }

    fn value(&self, node: usize) -> usize {
        let node = &self.nodes[node];
        (node.first + node.tried) % values(node.shape.kind)
    }

    fn part(&self, place: Place) -> Option<usize> {
        self.nodes[place.node].shape.parts.get(place.part).copied().flatten()
    }

    /// Says what a part is, unless it was something else before.
    fn put(&mut self, place: Place, node: usize, differs: bool) {
        let shape = &mut self.nodes[place.node].shape;
        if differs {
            shape.unsure = true;
            return;
        }
        if shape.parts.len() <= place.part {
            shape.parts.resize(place.part + 1, None);
        }
        shape.parts[place.part] = Some(node);
        self.progress = true;
    }

    fn add(
        &mut self,
        kind: Kind,
        key: Option<Key>,
        name: &'static str,
        names: &'static [&'static str],
        length: usize,
    ) -> usize {
        let parts = match kind {
            Kind::Leaf(_) => 0,
            Kind::Option | Kind::List | Kind::Newtype => 1,
            Kind::Map => 2,
            Kind::Tuple => length.min(MOST_ELEMENTS),
            // A hand-written enum may not say its variants.
            Kind::Enum => length.clamp(1, MOST_PARTS),
            Kind::Struct => length.min(MOST_PARTS),
        };
        let unsure = match kind {
            Kind::Struct | Kind::Enum => parts != length,
            _ => false,
        };
        let variants = if kind == Kind::Enum { vec![Variant::default(); parts] } else { Vec::new() };
        let shape = Shape { kind, name, names, parts: vec![None; parts], length, unsure };
        let (open, first, tried, refused, empty) = (0, 0, 0, false, false);
        self.nodes.push(Node { shape, key, open, first, tried, refused, empty, variants });
        self.nodes.len() - 1
    }
}

/// How many values there are to try.
fn values(kind: Kind) -> usize {
    match kind {
        Kind::Leaf(Leaf::Unit) => 1,
        Kind::Leaf(Leaf::Bool) => 2,
        Kind::Leaf(Leaf::F32 | Leaf::F64) => probes::FLOATS.len(),
        Kind::Leaf(Leaf::Char) => probes::CHARACTERS.len(),
        Kind::Leaf(Leaf::Text) => probes::TEXTS.len(),
        Kind::Leaf(Leaf::Bytes) => probes::SIZES.len(),
        Kind::Leaf(_) => probes::NUMBERS.len(),
        Kind::List | Kind::Map => probes::LENGTHS.len(),
        _ => 1,
    }
}

/// What ends a type that goes on asking.
struct Exhausted;
