//! Imports go one way, and every file says what it is for: ARCHITECTURE.md's layers, held.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The module of the first level, and its layer.
fn layer(module: &str) -> Option<u32> {
    Some(match module {
        "id" | "error" | "config" | "hash" | "sync" | "text" | "view" | "security" => 0,
        "wire" => 1,
        "service" => 2,
        "many" => 3,
        "core" => 3,
        "node" | "master" => 4,
        "local" | "fuzzing" | "simulation" | "guide" => 5,
        "lib" => 6,
        _ => return None,
    })
}

/// The modules of the first level that a source names as `crate::…`, grouped imports included.
fn uses(source: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            // Of each path in the group, its first part: up to the first colon after a comma.
            let (mut depth, mut first, mut name) = (0, true, String::new());
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ if depth > 0 => {}
                    ',' => (first, name) = (true, String::new()),
                    ':' if first => (first, _) = (false, modules.push(std::mem::take(&mut name))),
                    character if first && !character.is_whitespace() => name.push(character),
                    _ => {}
                }
            }
        } else {
            modules.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    // Types re-exported at the root, as documentation links name them, are no modules.
    modules.retain(|module| module.starts_with(char::is_lowercase));
    modules
}

#[test]
fn imports_go_down_and_master_and_node_are_apart() {
    let root = workspace().join("distribution/src");
    let mut checked = 0;
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).expect("below");
        let module = relative.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
        let own =
            layer(&module).unwrap_or_else(|| panic!("{module} has no layer; give it one here and in ARCHITECTURE.md"));
        for used in uses(&fs::read_to_string(&path).expect("reads")) {
            let other = layer(&used).unwrap_or_else(|| panic!("{}: what is `crate::{used}`?", relative.display()));
            let apart = own == 4 && other == 4 && used != module;
            assert!(other <= own && !apart, "{} must not use `crate::{used}`", relative.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} imports were found");
}

#[test]
fn the_check_of_imports_sees_through_groups() {
    let source = "use crate::{\n    a::{b, c::d},\n    e::f::{g, h},\n};\nuse crate::i::j; // [`crate::Type`]";
    assert_eq!(uses(source), ["a", "e", "i"]);
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let mut files = 0;
    for folder in
        ["distribution/src", "distribution-macros/src", "tests/src", "tests/tests", "tests/loom", "examples", "benches"]
    {
        for path in sources(&workspace().join(folder)) {
            let source = fs::read_to_string(&path).expect("reads");
            assert!(source.starts_with("//!"), "{} does not open with `//!`", path.display());
            files += 1;
        }
    }
    assert!(files > 40, "only {files} files were found");
}

#[test]
fn bincode_is_known_to_one_module() {
    for path in sources(&workspace().join("distribution/src")) {
        let source = fs::read_to_string(&path).expect("reads");
        let named = source.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("bincode::"));
        assert!(!named || path.ends_with("wire/codec.rs"), "{} names bincode", path.display());
    }
}
