//! A structure as people read it, and as it travels in the registration: one definition for each named type.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::shape::{Kind, Shape};
use crate::wire::handshake::Definition;

/// How long the text of one type may be, in bytes. A longer one is replaced by its hash.
const LONGEST_DEFINITION: usize = 1024;

/// How long all of a method's may be. Where it is met, the rest is left out.
const LONGEST: usize = 6 * 1024;

/// How many there may be.
const MOST: usize = 512;

/// How long a name may be before it is cut.
const LONGEST_NAME: usize = 128;

/// The definitions of what is reachable from the root, whose parts are the arguments, the value, and the error if there
/// is one. The first is nameless and says what they are.
pub(super) fn definitions(shapes: &[Shape], hashes: &[u64], fallible: bool) -> Vec<Definition> {
    let mut writer = Writer {
        shapes,
        hashes,
        names: FxHashMap::default(),
        numbers: FxHashMap::default(),
        queue: VecDeque::new(),
        open: Vec::new(),
        out: String::new(),
    };
    let parts = shapes[0].parts.clone();
    let mut parts = parts.into_iter().rev();
    let error = if fallible { parts.next() } else { None };
    let value = parts.next().unwrap_or_default();
    writer.out.push_str("fn(");
    for (at, part) in parts.rev().enumerate() {
        writer.separate(at, ", ");
        writer.part(part);
    }
    writer.out.push_str(") -> ");
    match error {
        None => writer.part(value),
        Some(error) => {
            writer.out.push_str("Result<");
            writer.part(value);
            writer.out.push_str(", ");
            writer.part(error);
            writer.out.push('>');
        }
    }
    let mut definitions = vec![Definition { name: String::new(), text: writer.take(hashes[0]) }];
    let mut length = definitions[0].text.len();
    while let Some((name, index)) = writer.queue.pop_front() {
        writer.body(&shapes[index]);
        let text = writer.take(hashes[index]);
        if length + name.len() + text.len() > LONGEST || definitions.len() == MOST {
            definitions
                .push(Definition { name: "…".to_owned(), text: format!("more types, hash {:016x}", hashes[0]) });
            break;
        }
        length += name.len() + text.len();
        definitions.push(Definition { name, text });
    }
    definitions
}

struct Writer<'a> {
    shapes: &'a [Shape],
    hashes: &'a [u64],
    /// What types were called, by name and hash.
    names: FxHashMap<(&'static str, u64), String>,
    /// How many types have a name.
    numbers: FxHashMap<&'static str, usize>,
    /// Types that were named and not defined yet.
    queue: VecDeque<(String, usize)>,
    /// What is being written and has no name.
    open: Vec<usize>,
    out: String,
}

impl Writer<'_> {
    fn is_full(&self) -> bool {
        self.out.len() > LONGEST_DEFINITION
    }

    /// What was written, or its hash.
    fn take(&mut self, hash: u64) -> String {
        let text = std::mem::take(&mut self.out);
        if text.len() > LONGEST_DEFINITION { format!("too long to be shown, hash {hash:016x}") } else { text }
    }

    fn separate(&mut self, at: usize, separator: &str) {
        if at > 0 {
            self.out.push_str(separator);
        }
    }

    fn part(&mut self, part: Option<usize>) {
        if self.is_full() {
            return;
        }
        let Some(index) = part else { return self.out.push('?') };
        let shape = &self.shapes[index];
        if !shape.name.is_empty() {
            let key = (shape.name, self.hashes[index]);
            if let Some(name) = self.names.get(&key) {
                self.out.push_str(name);
                return;
            }
            // Two of one name: a generic type with different parameters, or types of different modules.
            let number = self.numbers.entry(shape.name).or_default();
            *number += 1;
            let mut name = escaped(shape.name);
            if *number > 1 {
                name = format!("{name}#{number}");
            }
            self.out.push_str(&name);
            self.queue.push_back((name.clone(), index));
            self.names.insert(key, name);
        } else if self.open.contains(&index) {
            self.out.push_str("..");
        } else {
            self.open.push(index);
            self.body(shape);
            self.open.pop();
        }
    }

    fn body(&mut self, shape: &Shape) {
        match shape.kind {
            Kind::Leaf(leaf) => self.out.push_str(leaf.name()),
            Kind::Option => self.around("Option<", &shape.parts, ">"),
            Kind::List => {
                let mut parts = shape.parts.clone();
                parts.dedup_by_key(|part| part.map(|part| self.hashes[part]));
                self.around("[", &parts, "]");
            }
            Kind::Map => self.around("map<", &shape.parts, ">"),
            Kind::Tuple => self.tuple(shape),
            Kind::Newtype => self.around("(", &shape.parts, ")"),
            Kind::Struct => self.fields(shape),
            Kind::Enum => {
                self.out.push_str("enum { ");
                for (at, part) in shape.parts.iter().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    self.separate(at, ", ");
                    self.out.push_str(&escaped(shape.part_name(at)));
                    match part.map(|part| &self.shapes[part]) {
                        None => self.out.push_str("(?)"),
                        Some(payload) if matches!(payload.kind, Kind::Leaf(_)) => {}
                        Some(payload) => {
                            if payload.kind == Kind::Struct {
                                self.out.push(' ');
                            }
                            self.body(payload);
                        }
                    }
                }
                self.out.push_str(" }");
            }
        }
        if shape.unsure {
            self.out.push_str(" (partly seen)");
        }
    }

    fn around(&mut self, before: &str, parts: &[Option<usize>], behind: &str) {
        self.out.push_str(before);
        for (at, part) in parts.iter().enumerate() {
            self.separate(at, ", ");
            self.part(*part);
        }
        self.out.push_str(behind);
    }

    fn tuple(&mut self, shape: &Shape) {
        let hash = |part: &Option<usize>| part.map(|part| self.hashes[part]);
        let first = shape.parts.first().and_then(hash);
        if shape.length > 2 && first.is_some() && shape.parts.iter().all(|part| hash(part) == first) {
            self.out.push('[');
            self.part(shape.parts[0]);
            self.out.push_str(&format!("; {}]", shape.length));
            return;
        }
        self.around("(", &shape.parts, if shape.length > shape.parts.len() { ", ..)" } else { ")" });
    }

    fn fields(&mut self, shape: &Shape) {
        self.out.push_str("{ ");
        for (at, part) in shape.parts.iter().enumerate() {
            self.separate(at, ", ");
            self.out.push_str(&escaped(shape.part_name(at)));
            self.out.push_str(": ");
            self.part(*part);
            if self.is_full() {
                return;
            }
        }
        self.out.push_str(" }");
    }
}

/// A name of the user's, on one line and apart from what is around it.
fn escaped(name: &str) -> String {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let (shown, rest) = (&name[..end], if end < name.len() { "…" } else { "" });
    let is_plain = |character: char| character.is_alphanumeric() || "_-. ".contains(character);
    if !shown.is_empty() && shown.chars().all(is_plain) { format!("{shown}{rest}") } else { format!("{shown:?}{rest}") }
}
