//! `distribution profile`: where a node spends its processor time, and what its handlers do.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use distribution::administration::{HandlerStack, Profile, ThreadState};

use crate::{
    administer::{administer, find},
    arguments::OneNode,
    failure::{Failure, Kind},
    look::{Look, Tone},
    new_file::NewFile,
    output::{print, print_json},
    table::{Table, shown},
    units::{size, time},
};

/// How long a node may take to look names up and to send them, once it has taken all samples.
const ANSWER_TIME: Duration = Duration::from_secs(35);

/// How many handlers the summary has with their stacks.
const STACKS: usize = 20;

/// How many functions the summary has.
const FUNCTIONS: usize = 20;

/// What a file is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Html,
    Folded,
}

impl Format {
    /// By the ending of the file's name.
    fn of(file: &Path) -> Result<Self, Failure> {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("html" | "htm") => Ok(Self::Html),
            Some("folded") => Ok(Self::Folded),
            _ => {
                let sentence = format!(
                    "the name of {} says no format: end it with .html for a page, or with .folded for other programs",
                    file.display()
                );
                Err(Failure::new(Kind::Usage, sentence))
            }
        }
    }
}

/// Takes a profile, and writes or prints it.
pub(crate) async fn run(
    OneNode { node, master, json }: OneNode,
    seconds: u64,
    output: Option<PathBuf>,
    look: Look,
) -> Result<(), Failure> {
    // What cannot be written is known before the node is asked.
    let output = match output {
        Some(path) => Some((Format::of(&path)?, NewFile::create(&path)?, path)),
        None => None,
    };
    let length = Duration::from_secs(seconds);
    let profile = administer(master, async |admin| {
        let found = find(&admin.nodes().await?, &node)?.id;
        Ok(admin.profile(found, length).timeout(length + ANSWER_TIME).await?)
    })
    .await?;
    if let Some((format, file, path)) = output {
        let content = match format {
            Format::Html => distribution_http::profile_page(&profile),
            Format::Folded => profile.folded(),
        };
        file.finish(content.as_bytes())?;
        if !json {
            return print(&format!("wrote {} ({})\n", path.display(), size(content.len())));
        }
    }
    match json {
        true => print_json(&profile),
        false => print(&summary(&profile, look)),
    }
}

/// The functions that used most, and the handlers.
fn summary(profile: &Profile, look: Look) -> String {
    let left_out = match profile.left_out {
        0 => String::new(),
        left_out => format!(", {left_out} of them left out as too rare"),
    };
    let missed = match profile.missed {
        0 => String::new(),
        missed => format!(", and {missed} that could not be taken, as in the C library"),
    };
    let mut text = format!(
        "node {} ({}): {} samples in {}{left_out}{missed}\n\n",
        shown(&profile.name),
        profile.node,
        profile.samples,
        time(profile.length)
    );
    text += &functions(profile, look);
    text += "\n";
    text + &handlers(&profile.handlers, look)
}

fn functions(profile: &Profile, look: Look) -> String {
    let mut counts: HashMap<&str, (u64, u64)> = HashMap::new();
    for stack in &profile.stacks {
        // A function that calls itself is on a stack once.
        for name in stack.frames.iter().collect::<HashSet<_>>() {
            counts.entry(name).or_default().1 += stack.samples;
        }
        if let Some(innermost) = stack.frames.last() {
            counts.entry(innermost).or_default().0 += stack.samples;
        }
    }
    let mut rows: Vec<_> = counts.into_iter().filter(|(_, (own, _))| *own > 0).collect();
    if rows.is_empty() {
        return "no thread used the processor meanwhile\n".to_owned();
    }
    rows.sort_by(|(one, (a, _)), (other, (b, _))| b.cmp(a).then(one.cmp(other)));
    let part = |samples: u64| format!("{:.1} %", samples as f64 / profile.samples.max(1) as f64 * 100.0);
    let mut table = Table::new(&["ITSELF>", "WITH CALLEES>", "FUNCTION~"]);
    for (name, (own, all)) in rows.into_iter().take(FUNCTIONS) {
        table.row([part(own), part(all), name.to_owned()]);
    }
    table.text(look)
}

fn handlers(handlers: &[HandlerStack], look: Look) -> String {
    if handlers.is_empty() {
        return "no handler had a thread at the end\n".to_owned();
    }
    let mut table = Table::new(&["CALL", "METHOD", "STATE", "TIME>1", "CORES>2", "IN~"]);
    for handler in handlers {
        table.row([
            handler.call.to_string(),
            handler.method.clone(),
            handler.state.to_string(),
            time(handler.running),
            handler.cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
            handler.frames.last().cloned().unwrap_or_else(|| "-".to_owned()),
        ]);
        table.tone("STATE", (handler.state == ThreadState::Running).then_some(Tone::Good));
    }
    let mut text = table.text(look);
    for handler in handlers.iter().filter(|handler| !handler.frames.is_empty()).take(STACKS) {
        text += &format!("\n{} of {}, the innermost last:\n", handler.call, shown(&handler.method));
        for frame in own_frames(&handler.frames) {
            text += &format!("    {}\n", shown(frame));
        }
    }
    text
}

/// The frames from the handler on: those before are of the thread and of this crate.
fn own_frames(frames: &[String]) -> &[String] {
    let last = frames.iter().rposition(|frame| frame.contains("distribution::service::"));
    let own = last.map_or(frames, |last| &frames[last + 1..]);
    if own.is_empty() { frames } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let json = serde_json::json!({
            "node": "5f3a91c2-1", "name": "n1", "length": 5.0, "frequency": 99, "samples": 10, "left_out": 0, "missed": 7,
            "stacks": [
                { "frames": ["slot", "walk", "walk", "step"], "samples": 6 },
                { "frames": ["slot", "walk"], "samples": 4 },
            ],
            "handlers": [{
                "call": "91c2a7-12", "attempt": 1, "method": "Sim.step", "thread": "slot", "running": 3.0,
                "state": "sleeping", "cpu": null,
                "frames": ["start", "distribution::service::router::Routes::compute", "Sim::step", "wait"],
            }],
        });
        serde_json::from_value(json).expect("can be read")
    }

    #[test]
    fn a_summary_has_functions_by_their_own_time_and_what_handlers_are_in() {
        let text = summary(&profile(), Look { is_coloured: false, width: None });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "node n1 (5f3a91c2-1): 10 samples in 5.0 s, and 7 that could not be taken, as in the C library"
        );
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cells(lines[3]), ["60.0", "%", "60.0", "%", "step"], "{text}");
        assert_eq!(cells(lines[4]), ["40.0", "%", "100.0", "%", "walk"], "{text}");
        assert!(lines[7].starts_with("91c2a7-12  Sim.step  sleeping") && lines[7].ends_with("wait"), "{text}");
        assert_eq!(lines[9..], ["91c2a7-12 of Sim.step, the innermost last:", "    Sim::step", "    wait"], "{text}");
    }

    #[test]
    fn the_format_is_that_of_the_files_name() {
        let format = |name: &str| Format::of(Path::new(name)).ok();
        assert_eq!(format("a.html"), Some(Format::Html));
        assert_eq!(format("a.b.folded"), Some(Format::Folded));
        assert_eq!((format("html"), format("a.svg")), (None, None));
    }
}
