//! Words that were given up, in all files of the repository: code, documents and messages.

use std::fmt::Write as _;

use distribution_tests::{
    sources::{files, short, text},
    words::broken,
};

/// The rules themselves, and what quotes old names because it tells what was renamed.
const QUOTES: [&str; 2] = ["tests/src/words.rs", "CHANGELOG.md"];

#[test]
fn words_that_were_given_up_do_not_come_back() {
    let mut report = String::new();
    let mut found = 0;
    for path in files("", &[".rs", ".md", ".toml", ".py", ".stderr", ".svg", "run", "deny", "msrv"]) {
        let name = short(&path);
        if QUOTES.contains(&name.as_str()) {
            continue;
        }
        let text = text(&path);
        for (at, rule) in broken(&name, &text) {
            let line = text[..at].matches('\n').count() + 1;
            let shown: String = text[at..].lines().next().unwrap_or_default().chars().take(40).collect();
            let _ = writeln!(report, "{name}:{line}: `{}` should be {}: {shown}", rule.words, rule.instead);
            found += 1;
        }
    }
    assert!(found == 0, "{found} places:\n{report}");
}
