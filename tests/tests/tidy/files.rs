//! Each file has one subject: it opens by saying which, and is short enough to be read at once.

use std::fmt::Write as _;

use distribution_tests::sources::{files, short, text};

/// Lines of a file of the library.
const LONGEST: usize = 500;

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let mut found = 0;
    let mut wrong = String::new();
    for path in files("", &[".rs"]) {
        found += 1;
        if !text(&path).starts_with("//!") {
            let _ = writeln!(wrong, "{}", short(&path));
        }
    }
    assert!(wrong.is_empty(), "these files do not open with `//!`:\n{wrong}");
    assert!(found > 100, "only {found} files were found");
}

#[test]
fn no_file_of_the_library_is_too_long() {
    let mut wrong = String::new();
    for path in files("distribution/src", &[".rs"]) {
        let lines = text(&path).lines().count();
        if lines > LONGEST {
            let _ = writeln!(wrong, "{}: {lines} lines", short(&path));
        }
    }
    assert!(wrong.is_empty(), "these files have more than {LONGEST} lines; split them by subject:\n{wrong}");
}

#[test]
fn bincode_is_known_to_one_module() {
    for path in files("distribution/src", &[".rs"]) {
        let named = text(&path).lines().any(|line| !line.trim_start().starts_with("//") && line.contains("bincode::"));
        assert!(!named || path.ends_with("wire/codec.rs"), "{} names bincode", short(&path));
    }
}

/// `core/balance.rs` in a document is the end of a file's path, so that documents follow when files move.
#[test]
fn documents_name_only_files_that_exist() {
    let all: Vec<String> =
        files("", &[".rs", ".md", ".txt", ".toml", ".py", ".svg"]).iter().map(|path| short(path)).collect();
    let mut named = 0;
    let mut wrong = String::new();
    for path in files("", &[".md"]) {
        let text = text(&path);
        // Every second piece between backticks is code.
        for code in text.split('`').skip(1).step_by(2) {
            if !code.contains('/') || !code.ends_with(".rs") || code.contains(char::is_whitespace) {
                continue;
            }
            named += 1;
            if !all.iter().any(|file| file == code || file.ends_with(&format!("/{code}"))) {
                let _ = writeln!(wrong, "{} names `{code}`", short(&path));
            }
        }
    }
    assert!(wrong.is_empty(), "no such files:\n{wrong}");
    assert!(named > 40, "only {named} files were named");
}
