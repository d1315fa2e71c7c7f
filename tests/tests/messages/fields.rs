//! Log lines are for programs too: the message is always the same sentence, and what varies is in fields, which have the
//! same names everywhere.

use std::{collections::BTreeSet, fmt::Write as _};

use distribution_tests::sources::{files, short, text, workspace};

use super::{
    sources,
    texts::{Log, logs},
};

/// The names in the guide's table of fields: the first column of the rows below this heading.
fn listed() -> BTreeSet<String> {
    let page = text(&workspace().join("distribution/src/guide/logging.md"));
    let table = page.split("# Fields\n").nth(1).expect("the guide lists the fields");
    let table = table.split("\n# ").next().unwrap_or_default();
    let first = table.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    first.flat_map(|names| names.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The log lines of the library and the command line, each with its place.
fn lines() -> Vec<(String, Log)> {
    let program = files("distribution-cli/src", &[".rs"]).into_iter();
    let program = program.map(|path| (short(&path), syn::parse_file(&text(&path)).expect("is Rust")));
    let all = sources().into_iter().chain(program);
    all.flat_map(|(file, source)| logs(&source).into_iter().map(move |log| (file.clone(), log))).collect()
}

#[test]
fn a_message_is_always_the_same_and_the_guide_lists_the_fields() {
    let (listed, mut used, mut wrong) = (listed(), BTreeSet::new(), String::new());
    for (file, Log { line, fields, message, .. }) in lines() {
        let message = message.unwrap_or_default();
        if message.contains('{') {
            let _ = writeln!(wrong, "{file}:{line}: what varies belongs into fields: {message}");
        }
        for field in fields {
            if !listed.contains(&field) {
                let _ = writeln!(wrong, "{file}:{line}: the guide about logs does not list `{field}`");
            }
            used.insert(field);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(listed.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "no log line has these");
}
