//! Words that must not come back, in code, documents and messages: old names of things that have one name now, and turns
//! of phrase that are hard to read for those whose first language is not English.

use std::fmt::Write as _;

use distribution_tests::sources::{files, short, text};

struct Rule {
    /// One word or several; `*` at the end of one is any ending. In names (`FrameVerdict`, `frame_verdict`) each part is
    /// a word.
    words: &'static str,
    /// What to write.
    instead: &'static str,
    /// Where the rule holds: what a path in the repository begins with.
    within: &'static str,
    /// The phrase is right behind one of these, or before one of these.
    not_after: &'static [&'static str],
    not_before: &'static [&'static str],
}

const fn rule(words: &'static str, instead: &'static str) -> Rule {
    Rule { words, instead, within: "", not_after: &[], not_before: &[] }
}

/// What may follow `is no`.
const COMPARED: &[&str] = &[
    "longer",
    "more",
    "other",
    "one",
    "less",
    "fewer",
    "better",
    "worse",
    "larger",
    "smaller",
    "earlier",
    "later",
    "different",
];

const fn is_no(words: &'static str) -> Rule {
    Rule { words, instead: "`is not a`", within: "", not_after: &["there", "here"], not_before: COMPARED }
}

const RULES: &[Rule] = &[
    // Names of the field, as DESIGN has them.
    rule("amnesty", "`stall grace`"),
    rule("attendance", "`member list`"),
    rule("choices", "`security config`"),
    rule("complaint*", "`protocol violation`"),
    rule("door*", "`admission control`"),
    rule("enrol*", "`register`"),
    rule("farewell*", "`graceful close`"),
    Rule { words: "flight*", instead: "`in-flight batch`", within: "", not_after: &["in"], not_before: &[] },
    rule("floor", "`layer`"),
    rule("lane*", "`batch sizing`"),
    rule("outlet*", "`reorder buffer`"),
    rule("pace", "`batch sizing`"),
    rule("parcel*", "`batch`"),
    rule("patience", "`peer timeouts`"),
    Rule { words: "race*", instead: "`hedge`", within: "distribution/src/many", not_after: &[], not_before: &[] },
    rule("seat*", "the name of what it is"),
    rule("setback*", "`failed attempt`"),
    rule("stranger*", "`unauthenticated peer`"),
    rule("strike*", "`fault plan`"),
    rule("stronghold", "the name of what it is"),
    Rule { words: "stub*", instead: "`client`", within: "distribution", not_after: &[], not_before: &[] },
    Rule { words: "stub*", instead: "`client`", within: "ARCHITECTURE.md", not_after: &[], not_before: &[] },
    rule("verdict*", "`close reason`, or what it says: `result`, `report`"),
    rule("wish*", "`desired state`"),
    rule("world of chance", "`randomised simulation`"),
    // Sentences.
    rule("apiece", "`each`"),
    rule("henceforth", "`from then on`"),
    rule("hitherto", "`so far`"),
    rule("in vain", "what failed"),
    is_no("are no"),
    is_no("is no"),
    is_no("was no"),
    is_no("were no"),
    rule("lest", "`so that .. not`"),
    rule("no use", "`useless`, or what does not work"),
    rule("of use", "`useful`"),
    rule("once more", "`again`"),
    rule("shall", "`must`"),
    rule("so many", "`this many`, or the number"),
    rule("so much", "`this much`, or the amount"),
    rule("such as it is", "nothing"),
    rule("the same again", "what is repeated"),
    rule("thence", "`from there`"),
    rule("whence", "`from where`"),
    rule("whoever", "who it is"),
    rule("whosoever", "who it is"),
];

/// Files of which the names are part of the rule, and those that quote old names because they tell what was renamed.
const QUOTES: [&str; 2] = ["tests/tests/tidy/words.rs", "CHANGELOG.md"];

/// Between the words of a phrase there may be a line break with the marks of a comment or of a string.
fn is_gap(text: &str) -> bool {
    text.chars().all(|letter| letter.is_whitespace() || "/!#*>_\\".contains(letter))
}

/// The words of a text in lower case, each with its place. The parts of names are words too.
fn words(text: &str) -> Vec<(String, usize)> {
    let mut words: Vec<(String, usize)> = Vec::new();
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        let continues =
            before.is_alphabetic() && letter.is_alphabetic() && !(before.is_lowercase() && letter.is_uppercase());
        match words.last_mut() {
            Some((word, _)) if continues => word.extend(letter.to_lowercase()),
            _ if letter.is_alphabetic() => words.push((letter.to_lowercase().collect(), at)),
            _ => {}
        }
        before = letter;
    }
    words
}

/// The places in a text where a rule is broken.
fn broken<'a>(rule: &'a Rule, text: &'a str, words: &'a [(String, usize)]) -> impl Iterator<Item = usize> + 'a {
    let phrase: Vec<&str> = rule.words.split(' ').collect();
    let is_like = |pattern: &str, word: &str| match pattern.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => word == pattern,
    };
    let hits = move |at: usize| {
        let found = words.get(at..at + phrase.len())?;
        let is_phrase = phrase.iter().zip(found).all(|(pattern, (word, _))| is_like(pattern, word));
        let ends = found.iter().map(|(word, at)| at + word.len());
        let gaps = ends.zip(&found[1..]).all(|(end, (_, next))| is_gap(&text[end..*next]));
        let near = |at: Option<usize>, words_near: &[&str]| {
            at.and_then(|at| words.get(at)).is_some_and(|(word, _)| words_near.contains(&word.as_str()))
        };
        let excused = near(at.checked_sub(1), rule.not_after) || near(Some(at + phrase.len()), rule.not_before);
        (is_phrase && gaps && !excused).then(|| found[0].1)
    };
    (0..words.len()).filter_map(hits)
}

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
        let words = words(&text);
        for rule in RULES.iter().filter(|rule| name.starts_with(rule.within)) {
            for at in broken(rule, &text, &words) {
                let line = text[..at].lines().count().max(1);
                let shown = text[at..].lines().next().unwrap_or_default();
                let shown: String = shown.chars().take(40).collect();
                let _ = writeln!(report, "{name}:{line}: `{}` should be {}: {shown}", rule.words, rule.instead);
                found += 1;
            }
        }
    }
    assert!(found == 0, "{found} places:\n{report}");
}

#[test]
fn words_are_found_in_sentences_over_lines_and_in_names() {
    let hits = |words_of_rule: &'static str, text: &str| {
        let rule = RULES.iter().find(|rule| rule.words == words_of_rule).expect("a rule");
        broken(rule, text, &words(text)).count()
    };
    assert_eq!(hits("so many", "So many bytes, so, many; /// so\n    //! many; so_many_nodes; soMany"), 4);
    assert_eq!(hits("verdict*", "the verdict FrameVerdict FRAME_VERDICT verdicts"), 4);
    assert_eq!(hits("flight*", "in-flight in_flight InFlight `in flight` a flight"), 1);
    assert_eq!(hits("is no", "there is no key; it is no longer there; it is no key"), 1);
    assert_eq!(hits("lest", "at least the latest"), 0);
}
