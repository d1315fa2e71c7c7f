//! The hash of a structure: equal where the same bytes mean the same.
//!
//! It covers kinds, lengths, the order of parts, and the names of fields and variants. It does not cover the names of
//! types, and sees through newtypes: neither is on the wire, so renaming a type changes nothing. Nor does it matter
//! whether a type is used twice or two equal ones once each.
//!
//! What is finite is hashed from its leaves up. A recursive type is an infinite tree. One level more of it is hashed until
//! that tells no more of its nodes apart, as an automaton is minimised by refining a partition of its states (Hopcroft,
//! 1971): then how each hash leads to those one level deeper says the whole. So it makes no difference in how many types
//! somebody has written it down.

use std::collections::BTreeSet;

use super::shape::{Kind, Leaf, Shape, resolve_index};
use crate::hash::{hash, hash_on};

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
    let mut apart = 1;
    // As a set: it makes no difference how often something is written down.
    let mut leads = BTreeSet::new();
    while !recursive.is_empty() {
        let part = |part: Option<usize>| resolve_index(shapes, part).map_or_else(unseen, |part| level[part]);
        let deeper: Vec<u64> = recursive
            .iter()
            .map(|index| of(&shapes[*index], shapes[*index].parts.iter().map(|at| part(*at)).collect()))
            .collect();
        leads = recursive.iter().zip(&deeper).map(|(index, deeper)| (level[*index], *deeper)).collect();
        for (index, hash) in recursive.iter().zip(deeper) {
            level[*index] = hash;
        }
        // Never fewer: nodes that differ go on to.
        if leads.len() == apart {
            break;
        }
        apart = leads.len();
    }
    let both = leads.into_iter().flat_map(|(hash, deeper)| [hash, deeper]);
    level[0] = both.fold(level[0], |before, hash| hash_on(before, &hash.to_le_bytes()));
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use crate::service::structure::Structure;

    fn hash_of<T: serde::de::DeserializeOwned>() -> u64 {
        Structure::plain::<(), T>().hash()
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its structure matters")]
    struct Link<T> {
        next: T,
    }

    type Four<T> = Link<Link<Link<Link<T>>>>;

    macro_rules! ring {
        ($name:ident, $inner:ty) => {
            #[derive(Deserialize)]
            #[expect(dead_code, reason = "only its structure matters")]
            struct $name {
                next: $inner,
            }
        };
    }

    // How many links lie between two options is all that differs.
    ring!(Ring17, Four<Four<Four<Four<Option<Box<Ring17>>>>>>);
    ring!(Ring18, Link<Four<Four<Four<Four<Option<Box<Ring18>>>>>>>);
    ring!(Again17, Four<Four<Four<Four<Option<Box<Ring17>>>>>>);

    #[test]
    fn rings_of_different_lengths_differ_however_long_they_are() {
        assert_ne!(hash_of::<Ring17>(), hash_of::<Ring18>());
    }

    #[test]
    fn a_ring_that_is_written_down_again_is_the_same() {
        assert_eq!(hash_of::<Ring17>(), hash_of::<Again17>());
    }
}
