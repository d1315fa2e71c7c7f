//! What the guide quotes of errors and log lines: each quoted text is in a message.

use std::collections::BTreeSet;

use distribution::fuzzing::{Message, messages};
use distribution_tests::sources::{text, workspace};

use super::{sources, texts};

/// Texts of the operating system and of Rust's standard library, which messages pass on.
const OF_THE_SYSTEM: [&str; 2] = ["Connection refused", "failed to lookup address"];

/// The messages, with their placeholders.
fn all_messages() -> Vec<String> {
    let mut all: Vec<_> = messages().into_iter().map(|Message { text, .. }| text).collect();
    for (_, source) in sources() {
        all.extend(texts::logs(&source).into_iter().filter_map(|log| log.message));
        all.extend(texts::texts(&source).into_iter().map(|text| text.text));
    }
    all
}

/// The quoted texts of a page: what is in backticks, has several words, and is not code.
fn quotes(page: &str) -> BTreeSet<String> {
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let in_backticks = page.split('`').skip(1).step_by(2);
    let is_text = |text: &&str| text.contains(' ') && !text.contains(['#', '(', '=']) && *text != "async fn";
    in_backticks.filter(is_text).map(str::to_owned).collect()
}

/// Whether a message has this text. `..` stands for what differs from message to message.
fn has(message: &str, quote: &str) -> bool {
    let quote = OF_THE_SYSTEM.iter().fold(quote.to_owned(), |quote, text| quote.replace(text, ".."));
    let mut rest = message;
    quote.split("..").map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn each_text_that_the_troubleshooting_page_quotes_is_in_a_message() {
    let quotes = quotes(&text(&workspace().join("distribution/src/guide/troubleshooting.md")));
    assert!(quotes.len() >= 10, "{quotes:?}");
    let messages = all_messages();
    let missing: Vec<_> = quotes.iter().filter(|quote| !messages.iter().any(|message| has(message, quote))).collect();
    assert!(missing.is_empty(), "no message has these texts: {missing:#?}");
}

#[test]
fn a_quote_is_found_by_its_parts_in_their_order() {
    let message = "none of the {count} registered nodes serves it";
    assert!(has(message, "none of the .. registered nodes"));
    assert!(has(message, "nodes serves it"));
    assert!(!has(message, "registered nodes .. none of"));
    assert!(!has(message, "none of the 3 registered nodes"));
    assert!(has("cannot connect: {error}", "cannot connect: Connection refused"));
    let page = "The node logs `is\nlost ..`; see `drain`, `.on(node)` and `#[serde(with = \"x\")]`.";
    assert_eq!(quotes(page), ["is lost ..".to_owned()].into());
}
