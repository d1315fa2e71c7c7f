//! Imports go down: the layers of ARCHITECTURE.md, held.

use distribution_tests::sources::workspace;

use crate::modules::Crate;

/// The layer of a module of the first level.
fn layer(module: &str) -> Option<u32> {
    Some(match module {
        "administration" | "id" | "error" | "failed_attempt" | "config" | "hash" | "process_name" | "seconds"
        | "source" | "sync" | "text" | "view" | "security" => 0,
        "wire" => 1,
        "log_queue" | "service" => 2,
        "admin" | "many" | "core" => 3,
        "node" | "master" | "cluster" => 4,
        "local" | "in_process" | "fuzzing" | "simulation" | "guide" => 5,
        "lib" => 6,
        _ => return None,
    })
}

#[test]
fn imports_go_down_and_masters_nodes_and_callers_are_apart() {
    let mut checked = 0;
    let mut wrong = String::new();
    for reference in Crate::read(&workspace().join("distribution/src/lib.rs")).references() {
        let [from, to] = [&reference.from, &reference.to].map(|path| path.first().map_or("lib", String::as_str));
        let of = |module| {
            layer(module).unwrap_or_else(|| panic!("{module} has no layer; give it one here and in ARCHITECTURE.md"))
        };
        // A node makes nested calls as a caller.
        let apart = of(from) == 4 && of(to) == 4 && from != to && (from, to) != ("node", "cluster");
        if of(to) > of(from) || apart {
            wrong += &format!("{}: {from} must not use {to}\n", reference.at);
        }
        checked += usize::from(from != to);
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked > 50, "only {checked} imports were found");
}
