//! The hash of a structure: equal where the same bytes mean the same.
//!
//! It covers kinds, lengths, the order of parts, and the names of fields and variants. It does not cover the names of
//! types, and sees through newtypes: neither is on the wire, so renaming a type changes nothing. Nor does it matter
//! whether a type is used twice or two equal ones once each.
//!
//! What is finite is hashed from its leaves up. A recursive type is an infinite tree, of which a fixed number of levels
//! is hashed, so that it makes no difference in how many types somebody has written it down.

use super::shape::{Kind, Leaf, Shape, resolve_index};
use crate::service::method::{hash, hash_on};

/// Levels of a recursive type that are hashed. What is deeper counts too: the whole covers these levels of each node.
const LEVELS: usize = 12;

/// The hash of each node; that of a newtype is what it holds. The first node is the whole, whose hash covers all others.
pub(super) fn hashes(shapes: &[Shape]) -> Vec<u64> {
    let mut done: Vec<Option<u64>> = vec![None; shapes.len()];
    // Parts mostly come behind what they are in.
    loop {
        let mut changed = false;
        for (index, shape) in shapes.iter().enumerate().rev() {
            if done[index].is_none() && shape.kind != Kind::Newtype {
                let part = |part: Option<usize>| match resolve_index(shapes, part) {
                    Some(part) => done[part],
                    None => Some(unseen()),
                };
                if let Some(parts) = shape.parts.iter().map(|at| part(*at)).collect::<Option<Vec<u64>>>() {
                    done[index] = Some(of(shape, parts));
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let recursive = |index: &usize| done[*index].is_none() && shapes[*index].kind != Kind::Newtype;
    let recursive: Vec<usize> = (0..shapes.len()).filter(recursive).collect();
    let mut level: Vec<u64> = done.iter().map(|hash| hash.unwrap_or(hash_of_nothing())).collect();
    if !recursive.is_empty() {
        for _ in 0..LEVELS {
            let part = |part: Option<usize>| resolve_index(shapes, part).map_or_else(unseen, |part| level[part]);
            let next: Vec<u64> = recursive
                .iter()
                .map(|index| of(&shapes[*index], shapes[*index].parts.iter().map(|at| part(*at)).collect()))
                .collect();
            for (index, hash) in recursive.iter().zip(next) {
                level[*index] = hash;
            }
        }
    }
    // As a set: it makes no difference how often something is written down.
    let mut all: Vec<u64> = recursive.iter().map(|index| level[*index]).collect();
    all.sort_unstable();
    all.dedup();
    level[0] = all.into_iter().fold(level[0], |before, hash| hash_on(before, &hash.to_le_bytes()));
    (0..shapes.len()).map(|index| resolve_index(shapes, Some(index)).map_or_else(unseen, |at| level[at])).collect()
}

fn of(shape: &Shape, mut parts: Vec<u64>) -> u64 {
    let (tag, names) = match shape.kind {
        Kind::Leaf(leaf) => (leaf.name(), false),
        Kind::Option => ("option", false),
        Kind::List => {
            parts.dedup();
            ("list", false)
        }
        Kind::Map => ("map", false),
        Kind::Tuple if shape.length == 0 => (Leaf::Unit.name(), false),
        Kind::Tuple => ("tuple", false),
        Kind::Newtype => ("newtype", false),
        Kind::Struct => ("struct", true),
        Kind::Enum => ("enum", true),
    };
    let mut whole = text(hash(&[]), tag);
    whole = hash_on(whole, &(shape.length as u64).to_le_bytes());
    for (at, part) in parts.into_iter().enumerate() {
        if names {
            whole = text(whole, shape.part_name(at));
        }
        whole = hash_on(whole, &part.to_le_bytes());
    }
    whole
}

/// A text and a byte that no UTF-8 text contains, so that neighbours cannot run into one another.
fn text(before: u64, text: &str) -> u64 {
    hash_on(hash_on(before, text.as_bytes()), &[0xff])
}

fn unseen() -> u64 {
    text(hash(&[]), "?")
}

fn hash_of_nothing() -> u64 {
    hash(&[])
}
