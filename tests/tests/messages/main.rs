//! All messages in one list, so that they can be read one after the other:
//! `cargo test -p distribution-tests --test messages -- --nocapture` prints it.
//!
//! It has three parts: a sample of each error, event and reason that users read; each log line; and every other text of
//! the library and the macro, from which the reasons within errors are made. The first is made by the library
//! (`fuzzing::messages`), the others are read from the sources.

mod fields;
mod guide;
mod texts;

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use distribution::fuzzing::{Message, messages};
use distribution_tests::{
    sources::{files, short, text},
    words::broken,
};
use texts::{Log, Printed, Text};

/// Letters of a message, of each line if it has several.
const LONGEST: usize = 300;

/// The sources that users meet at run time or when they compile. Tests and what only tests call are left out.
fn sources() -> Vec<(String, syn::File)> {
    let all = files("distribution/src", &[".rs"]).into_iter().chain(files("distribution-macros/src", &[".rs"]));
    let is_for_users = |path: &Path| {
        let name = short(path);
        !["/fuzzing/", "/simulation/", "/tests/", "/core/sanity.rs"].iter().any(|part| name.contains(part))
            && !name.ends_with("tests.rs")
    };
    all.filter(|path| is_for_users(path))
        .map(|path| {
            (short(&path), syn::parse_file(&text(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        })
        .collect()
}

/// What breaks the rules for messages.
fn faults(message: &str, opens_a_sentence: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut words = message.split_whitespace();
    // Names and abbreviations stay as they are: `TCP_NODELAY`, `Arith.sum`, `DISTRIBUTION_TOKEN`.
    let first = words.next().unwrap_or_default();
    let is_name = first.chars().skip(1).any(|letter| letter.is_uppercase() || letter == '.' || letter == '_');
    if opens_a_sentence && first.starts_with(char::is_uppercase) && !is_name {
        faults.push("begins with an upper case letter".to_owned());
    }
    if message.lines().any(|line| line.chars().count() > LONGEST) {
        faults.push(format!("has a line of more than {LONGEST} letters"));
    }
    if message != message.trim() && opens_a_sentence {
        faults.push("begins or ends with a space".to_owned());
    }
    faults.extend(
        broken("", message).into_iter().map(|(_, rule)| format!("`{}` should be {}", rule.words, rule.instead)),
    );
    faults
}

#[test]
fn all_messages_are_listed_and_keep_the_rules() {
    let sources = sources();
    let mut list = String::new();
    let mut wrong = String::new();
    let mut note = |list: &mut String, name: &str, message: &str, opens_a_sentence: bool| {
        let _ = writeln!(list, "{name}\n    {}", message.replace('\n', "\n    "));
        for fault in faults(message, opens_a_sentence) {
            let _ = writeln!(wrong, "{name}: {fault}: {message}");
        }
    };

    let _ = writeln!(list, "# Errors, events and reasons\n");
    let samples = messages();
    for Message { name, text } in &samples {
        note(&mut list, name, text, true);
    }
    let _ = writeln!(list, "\n# Log lines\n");
    for (file, source) in &sources {
        for Log { line, level, fields, message } in texts::logs(source) {
            let message = message.unwrap_or_else(|| panic!("{file}:{line}: a log line without a message"));
            let fields: String = fields.iter().map(|field| format!(" {field}")).collect();
            note(&mut list, &format!("{file}:{line}: {level}{fields}"), &message, true);
        }
    }
    let _ = writeln!(list, "\n# Other texts\n");
    for (file, source) in &sources {
        for Text { line, text } in texts::texts(source) {
            note(&mut list, &format!("{file}:{line}"), &text, false);
        }
    }
    texts::print(&list);

    let named: BTreeSet<&str> = samples.iter().map(|sample| sample.name).collect();
    for (file, source) in &sources {
        for Printed { name, variants } in texts::printed_types(source) {
            let values = match variants.is_empty() {
                true => vec![name],
                false => variants.iter().map(|variant| format!("{name}::{variant}")).collect(),
            };
            for value in values.iter().filter(|value| !named.contains(value.as_str())) {
                let _ = writeln!(wrong, "{file}: `fuzzing::messages` has no sample of {value}");
            }
        }
    }
    assert!(list.lines().count() > 500, "only {} lines", list.lines().count());
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_rules_find_what_breaks_them() {
    assert_eq!(faults("cannot listen on 10.0.0.1:80", true), [""; 0]);
    assert_eq!(faults("Arith.sum panicked", true), [""; 0]);
    assert_eq!(faults("TCP_NODELAY cannot be set", true), [""; 0]);
    assert_eq!(faults("Cannot listen", true).len(), 1);
    assert_eq!(faults(&["so", "many bytes"].join(" "), true).len(), 1);
    assert_eq!(faults(&"long ".repeat(80), false).len(), 1);
}
