//! Counts the words of text files, by map and reduce. Shows a *stream* of calls, which is as lazy as an iterator: a file is
//! read when a node is ready for it, so that any number of files fits into memory.
//!
//! `cargo run --release --example wordcount` runs it in one process. Over several, where only the master reads files:
//!
//! ```text
//! wordcount README.md examples master --listen 127.0.0.1:3000 --wait 2
//! wordcount node --master 127.0.0.1:3000        # twice
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    collections::HashMap,
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Args, Parser};
use distribution::{Master, prelude::*};
use distribution_examples::{Place, counted, milliseconds, nodes_of};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

type Counts = HashMap<String, u64>;

/// What the nodes calculate.
#[distribution::service(idempotent)]
pub trait WordCount {
    /// Counts the words of a text. The counts are split into `parts` parts. A word is in the same part for each text, so
    /// that each part can be summed up without the others.
    fn map(&self, text: String, parts: u64) -> Vec<Counts>;

    /// Sums up one part of the counts of all texts.
    fn reduce(&self, counts: Vec<Counts>, top: u64) -> Summary;
}

/// A summary of counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    words: u64,
    different: u64,
    /// The most frequent words, most frequent first; words with equal counts in alphabetical order.
    top: Vec<(String, u64)>,
}

struct Counter;

impl WordCount for Counter {
    fn map(&self, text: String, parts: u64) -> Vec<Counts> {
        let mut counts = vec![Counts::new(); parts as usize];
        for word in words(&text) {
            let part = (hash(&word) % parts) as usize;
            *counts[part].entry(word).or_default() += 1;
        }
        counts
    }

    fn reduce(&self, counts: Vec<Counts>, top: u64) -> Summary {
        let mut sums = Counts::new();
        for (word, count) in counts.into_iter().flatten() {
            *sums.entry(word).or_default() += count;
        }
        let (words, different) = (sums.values().sum(), sums.len() as u64);
        Summary { words, different, top: most_frequent(sums.into_iter().collect(), top) }
    }
}

/// The words of a text in lower case: sequences of letters and digits, with apostrophes between them.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric() && character != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// FNV-1a. All nodes must use the same hash, and the standard library's may change with the compiler.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn most_frequent(mut counts: Vec<(String, u64)>, top: u64) -> Vec<(String, u64)> {
    counts.sort_unstable_by(|(word, count), (other, others)| others.cmp(count).then_with(|| word.cmp(other)));
    counts.truncate(top as usize);
    counts
}

/// Counts the words of text files over nodes, and prints the most frequent ones.
///
/// Without a command it starts a local cluster, counts, and ends.
#[derive(Parser)]
#[command(version, subcommand_precedence_over_arg = true)]
struct Options {
    #[command(flatten)]
    job: Job,

    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Job {
    /// Files, and folders with all files in them except hidden files and caches; by default the *.md and *.rs files of this
    /// project. They come before the command, if there is one. Write `./node` for a file called `node`.
    paths: Vec<PathBuf>,
    /// How many of the most frequent words to print.
    #[arg(long, default_value_t = 10, global = true)]
    top: u64,
    /// About how many bytes of text each call gets.
    #[arg(long, default_value_t = 64 * 1024, global = true, value_parser = clap::value_parser!(u64).range(1..=16 * 1024 * 1024))]
    chunk: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { job, place } = Options::parse();
    distribution_examples::run(place, || WordCountServer::new(Counter), async |master| count(master, &job).await).await
}

/// Counts and sums up the words of the files on the nodes, and prints the result.
async fn count(master: &Master, job: &Job) -> Result<(), Box<dyn Error>> {
    let found = find(&job.paths);
    let client = WordCountClient::new(master);
    let started = Instant::now();

    // One part for each slot, so that each has something to sum up. More parts for a long text, because all counts of a part
    // are arguments of one call, and have to fit into one message.
    let slots: u64 = master.nodes().iter().map(|node| u64::from(node.slots)).sum();
    let size: u64 = found.iter().filter_map(|path| fs::metadata(path).ok()).map(|about| about.len()).sum();
    let parts = slots.max(size / (8 * 1024 * 1024)).max(1);

    let (mut files, mut bytes, mut chunks) = (0, 0, 0);
    let mut shuffled: Vec<Vec<Counts>> = vec![Vec::new(); parts as usize];
    let mut mapped = stream::iter(found)
        .filter_map(read)
        .inspect(|text| {
            files += 1;
            bytes += text.len() as u64;
        })
        .flat_map(|text| stream::iter(split(&text, job.chunk as usize)))
        .map(|chunk| {
            chunks += 1;
            client.map(chunk, parts)
        })
        .distribute()
        .unordered();
    while let Some(counts) = mapped.try_next().await? {
        for (part, counts) in shuffled.iter_mut().zip(counts) {
            part.push(counts);
        }
    }
    drop(mapped);
    if files == 0 {
        return Err("there is no file to count the words of; name text files, or folders that hold some".into());
    }

    let mut all = Summary::default();
    let mut reduced = shuffled.into_iter().map(|part| client.reduce(part, job.top)).distribute().unordered();
    while let Some(part) = reduced.try_next().await? {
        all.words += part.words;
        all.different += part.different;
        all.top.extend(part.top);
    }
    let elapsed = started.elapsed();

    for (word, count) in most_frequent(all.top, job.top) {
        println!("{count:>9} {word}");
    }
    let (words, different) = (counted(all.words, "word"), all.different);
    println!("{words}, {different} different, in {} of {}", counted(files, "file"), counted(bytes, "byte"));
    let (chunks, parts) = (counted(chunks, "chunk"), counted(parts, "part"));
    println!("{chunks} and {parts} over {} in {}", nodes_of(master), milliseconds(elapsed));
    Ok(())
}

/// Lines are not split, and a longer one might not fit into a message.
const LONGEST_LINE: usize = 32 * 1024 * 1024;

/// The text of a file. If the file is not text, prints that and returns `None`.
async fn read(path: PathBuf) -> Option<String> {
    let reason = match tokio::fs::read(&path).await.map(String::from_utf8) {
        Ok(Ok(text)) if text.lines().all(|line| line.len() <= LONGEST_LINE) => return Some(text),
        Ok(Ok(_)) => "it has a line beyond 32 MiB".to_owned(),
        Ok(Err(error)) => format!("it is not text: {error}"),
        Err(error) => error.to_string(),
    };
    skip(&path, &reason);
    None
}

#[allow(clippy::print_stderr, reason = "messages that are not part of the result")]
fn skip(path: &Path, reason: &dyn fmt::Display) {
    eprintln!("skipped {}: {reason}", path.display());
}

/// Splits a text at ends of lines, into pieces of at most this size unless a line is longer.
fn split(text: &str, size: usize) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() + line.len() <= size => chunk.push_str(line),
            _ => chunks.push(line.to_owned()),
        }
    }
    chunks
}

/// The files that the arguments name.
fn find(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() { walk(path, &mut found) } else { found.push(path.clone()) }
    }
    if paths.is_empty() {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut found);
        found.retain(|path| path.extension().is_some_and(|extension| extension == "md" || extension == "rs"));
    }
    found
}

/// Adds the files in a folder and its subfolders.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return skip(folder, &error),
    };
    // A folder with this file, as cargo's target, contains only files that can be made again.
    if entries.iter().any(|entry| entry.file_name() == "CACHEDIR.TAG") {
        return;
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries.iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")) {
        // Links are not followed, because they can form a circle.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(_) => {}
            Err(error) => skip(&entry.path(), &error),
        }
    }
}
