//! What is known of a method's types, and how it answers when a type asks for a value.
//!
//! A type that occurs inside itself is entered again, but only to get a value of it: there, options and lists are empty, and
//! the cheapest variant that has worked is taken. `search.rs` decides what each run shows.

use std::{any::TypeId, panic::resume_unwind};

use rustc_hash::FxHashMap;

use super::{
    probes,
    shape::{Kind, Leaf, Shape},
    stop::Stop,
};

/// How deep types may be in one another. Each level is some frames of the user's code on this thread's stack.
const MOST_DEPTH: usize = 64;

/// How many nodes a method may have.
const MOST_NODES: usize = 4096;

/// How many questions a method's types may ask in all runs together.
const MOST_QUESTIONS: u32 = 100_000;

/// Fields or variants that are told apart.
const MOST_PARTS: usize = 1024;

/// Elements of a tuple or array that are told apart; those behind are like the last of them.
const MOST_ELEMENTS: usize = 64;

/// Elements of a list that are told apart.
const MOST_IN_LIST: usize = 16;

/// The node whose parts are what was recorded.
pub(super) const ROOT: usize = 0;

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

pub(super) struct Node {
    pub(super) shape: Shape,
    /// `None` for what is told apart by its place.
    pub(super) key: Option<Key>,
    /// How often it is entered and not left.
    pub(super) open: u32,
    /// Which value is tried, counted from the first one that was.
    pub(super) first: usize,
    pub(super) tried: usize,
    /// It has refused a value on the spot.
    pub(super) refused: bool,
    /// An option, list or map that stays empty.
    pub(super) empty: bool,
    pub(super) variants: Vec<Variant>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Variant {
    /// Questions asked by a run through it, the cheapest.
    pub(super) cost: Option<u32>,
    pub(super) given_up: bool,
    /// It needs a value of a type that had none yet, when this many things had worked.
    pub(super) deferred: Option<u32>,
}

#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) node: usize,
    pub(super) choice: Choice,
    /// The node was open already.
    pub(super) again: bool,
    /// Questions before it.
    pub(super) from: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Choice {
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

pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) path: Vec<Step>,
}

/// Records the structure of one method's types.
pub(super) struct Recorder {
    pub(super) nodes: Vec<Node>,
    pub(super) known: FxHashMap<(TypeId, Kind, usize), Vec<usize>>,
    /// The value that a visitor took after it had refused others.
    pub(super) liked: FxHashMap<TypeId, usize>,
    pub(super) questions: u32,
    /// Things that have worked for the first time.
    pub(super) successes: u32,
    /// Of each node before this run: whether something in it is still to be seen.
    pub(super) pending: Vec<bool>,
    pub(super) path: Vec<Step>,
    /// How many of the path are entered again.
    pub(super) again: u32,
    pub(super) failure: Option<Failure>,
    /// Nodes whose values can be changed, in the order they were read.
    pub(super) read: Vec<usize>,
    /// Whether this run has shown anything.
    pub(super) progress: bool,
    /// Of each part of the root: whether no run through it came to its end.
    pub(super) unsure: Vec<bool>,
    /// The one that is being recorded.
    pub(super) part_recorded: usize,
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
pub(super) fn values(kind: Kind) -> usize {
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
pub(super) struct Exhausted;
