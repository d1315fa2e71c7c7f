//! Words that must not come back, in code, documents and messages: old names of things that have one name now, and turns
//! of phrase that are hard to read for those whose first language is not English.

/// A phrase that is not to be written.
#[derive(Debug)]
pub struct Rule {
    /// One word or several; `*` at the end of one is any ending. In names (`FrameVerdict`, `frame_verdict`) each part is
    /// a word.
    pub words: &'static str,
    /// What to write.
    pub instead: &'static str,
    /// Where the rule holds: what a path in the repository begins with.
    pub within: &'static str,
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

/// All rules.
pub const RULES: &[Rule] = &[
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
    rule("put out", "`disconnected`, and by whom"),
    rule("puts out", "`disconnects`"),
    rule("pace", "`batch sizing`"),
    rule("parcel*", "`batch`"),
    rule("patience", "`peer timeouts`"),
    Rule { words: "race*", instead: "`hedge`", within: "distribution/src/many", not_after: &[], not_before: &[] },
    rule("seat*", "the name of what it is"),
    rule("setback*", "`failed attempt`"),
    rule("stranger*", "`unauthenticated peer`"),
    rule("strike*", "`fault plan`"),
    rule("stronghold", "the name of what it is"),
    Rule { words: "stub*", instead: "`client`", within: "distribution-macros", not_after: &[], not_before: &[] },
    Rule { words: "stub*", instead: "`client`", within: "distribution/src/service", not_after: &[], not_before: &[] },
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
fn places(rule: &Rule, text: &str, words: &[(String, usize)]) -> Vec<usize> {
    let phrase: Vec<&str> = rule.words.split(' ').collect();
    let is_like = |pattern: &str, word: &str| match pattern.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => word == pattern,
    };
    let hit = |at: usize| {
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
    (0..words.len()).filter_map(hit).collect()
}

/// The places in a text where rules that hold in this file are broken, with the rule.
pub fn broken(file: &str, text: &str) -> Vec<(usize, &'static Rule)> {
    let words = words(text);
    let rules = RULES.iter().filter(|rule| file.starts_with(rule.within));
    rules.flat_map(|rule| places(rule, text, &words).into_iter().map(move |at| (at, rule))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_sentences_over_lines_and_in_names() {
        let hits = |words_of_rule: &str, text: &str| {
            broken("distribution/src/many/a.rs", text).iter().filter(|(_, rule)| rule.words == words_of_rule).count()
        };
        assert_eq!(hits("so many", "So many bytes, so, many; /// so\n    //! many; so_many_nodes; soMany"), 4);
        assert_eq!(hits("verdict*", "the verdict FrameVerdict FRAME_VERDICT verdicts"), 4);
        assert_eq!(hits("flight*", "in-flight in_flight InFlight `in flight` a flight"), 1);
        assert_eq!(hits("is no", "there is no key; it is no longer there; it is no key"), 1);
        assert_eq!(hits("lest", "at least the latest"), 0);
        assert_eq!(hits("race*", "a race"), 1);
        assert!(broken("distribution/src/node/a.rs", "a race").is_empty());
    }
}
