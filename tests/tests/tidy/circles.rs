//! No import circles inside folders: of two files in a folder, or of a file and a folder beside it, one at most leads to
//! the other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use distribution_tests::sources::workspace;

use crate::modules::{Crate, Reference};

/// The files and folders of one folder that name each other, each pair with a place.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// A graph for each folder. A file in a folder below stands for that folder here; a folder's own `mod.rs` is `mod`.
fn graphs(references: BTreeSet<Reference>) -> BTreeMap<Vec<String>, Graph> {
    let mut graphs: BTreeMap<Vec<String>, Graph> = BTreeMap::new();
    for Reference { from, to, at, in_test } in references {
        if in_test {
            continue;
        }
        let name = |path: &[String], level: usize| path.get(level).map_or_else(|| "mod".to_owned(), Clone::clone);
        let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
        let [from_name, to_name] = [name(&from, common), name(&to, common)];
        let folder = from[..common].to_vec();
        graphs.entry(folder).or_default().entry(from_name).or_default().entry(to_name).or_insert(at);
    }
    graphs
}

/// The shortest way from one file to another.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(name) = next.pop_front() {
        for other in graph.get(name).into_iter().flat_map(BTreeMap::keys) {
            if other == to {
                let mut way = vec![to.to_owned(), name.to_owned()];
                let mut name = name;
                while name != from {
                    name = came_from[name];
                    way.push(name.to_owned());
                }
                way.reverse();
                return Some(way);
            }
            if other != from && !came_from.contains_key(other.as_str()) {
                came_from.insert(other, name);
                next.push_back(other);
            }
        }
    }
    None
}

/// For each import that is part of a circle, the shortest circle with it; each circle once.
fn circles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (from, others) in graph {
        for to in others.keys() {
            let Some(back) = way(graph, to, from) else { continue };
            // `back` is to .. from; the circle begins with the name that is first in the alphabet.
            let first = (0..back.len()).min_by_key(|at| &back[*at]).unwrap_or(0);
            found.insert(back[first..].iter().chain(&back[..first]).cloned().collect());
        }
    }
    found
}

/// All circles of a crate, in words.
fn report(root: &str) -> String {
    let all = Crate::read(&workspace().join(root).join("lib.rs"));
    let mut report = String::new();
    for (folder, graph) in graphs(all.references()) {
        for circle in circles(&graph) {
            let mut closed = circle.clone();
            closed.push(circle[0].clone());
            let folder: String = folder.iter().map(|name| format!("/{name}")).collect();
            let _ = writeln!(report, "{root}{folder}: {}", closed.join(" -> "));
            for pair in closed.windows(2) {
                let _ = writeln!(report, "    {} names {} at {}", pair[0], pair[1], graph[&pair[0]][&pair[1]]);
            }
        }
    }
    report
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let report: String = ["distribution/src", "distribution-macros/src"].map(report).concat();
    assert!(
        report.is_empty(),
        "import circles; move what both need to a file of its own, or pass it as an argument:\n{report}"
    );
}

#[test]
fn circles_are_found_once_each_by_their_shortest_way() {
    let graph = |edges: &[(&str, &str)]| -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).into()).or_default().insert((*to).into(), String::new());
        }
        graph
    };
    let circle = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), BTreeSet::new());
    let found = circles(&graph(&[("b", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]));
    assert_eq!(found, BTreeSet::from([circle(&["a", "b"]), circle(&["b", "c", "d"])]));
}
