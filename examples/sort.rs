//! Sorts more records than fit into memory, by an external merge sort. Shows calls that are streams in both directions:
//! each node gets its share of the records as a stream, sorts them in runs that fit into memory, keeps the runs in
//! temporary files, and returns the merged runs as a stream. The caller merges the streams of all nodes. No process ever
//! holds more than a small part of the records.
//!
//! `cargo run --release --example sort` runs it in one process. Over several, with 4 GiB of records:
//!
//! ```text
//! sort master --listen 127.0.0.1:3000 --wait 2 --mib 4096
//! sort node --master 127.0.0.1:3000 --budget 64        # twice
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut},
    env,
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    iter,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use clap::{Args, Parser};
use distribution::{Master, StreamCall, Streaming};
use distribution_examples::{Place, counted, milliseconds, nodes_of};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};

/// A key of 8 bytes with a value of 8 bytes, as one number. Its bytes have the order of the number: the highest comes
/// first.
type Record = u128;

const RECORD: usize = size_of::<Record>();

/// Records travel in blocks of this many bytes. Each item of a stream costs something, however small it is.
const BLOCK: usize = 64 * 1024;

/// The most runs that are merged at a time, so that a node does not run out of open files.
const MOST_RUNS: usize = 256;

const MIB: usize = 1024 * 1024;

/// What the nodes do.
#[distribution::service]
pub trait Sort {
    /// Sorts records. A block has whole records, one behind the other; so has each that comes back. After an error
    /// nothing comes back.
    fn sort(&self, blocks: Streaming<Bytes>) -> impl Iterator<Item = Result<Bytes, Problem>> + Send;

    /// The memory of the process that serves this.
    #[rpc(idempotent)]
    fn memory(&self) -> Memory;
}

/// Why records cannot be sorted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Problem {
    /// A block has this many bytes, and does not end with a record.
    Torn(usize),
    /// A file in this folder cannot be made, written or read.
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn(bytes) => {
                write!(f, "a block of {bytes} bytes does not end with a record; send blocks of {RECORD}-byte records")
            }
            Self::Disk { folder, reason } => {
                let folder = folder.display();
                write!(f, "a node cannot keep records in a temporary file in {folder}: {reason}; ")?;
                f.write_str("make room there, or start the node with another --folder")
            }
        }
    }
}

impl Error for Problem {}

/// The memory of a process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    process: u32,
    /// The most that it has had in memory so far, in KiB; `None` if the system does not tell.
    peak: Option<u64>,
}

impl Memory {
    /// That of this process.
    fn own() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        Self { process: process::id(), peak }
    }
}

struct Sorter {
    /// How many bytes of records are in memory at a time.
    budget: usize,
    /// For temporary files.
    folder: PathBuf,
}

impl Sort for Sorter {
    fn sort(&self, blocks: Streaming<Bytes>) -> impl Iterator<Item = Result<Bytes, Problem>> + Send {
        // The first record of all may be the last to come, so all are read before one is given back.
        let mut merge = Some(self.spill_all(blocks).and_then(|runs| self.on_disk(self.merge(runs))));
        iter::from_fn(move || {
            let mut sorted = match merge.take()? {
                Ok(sorted) => sorted,
                Err(problem) => return Some(Err(problem)),
            };
            let block = self.on_disk(next_block(&mut sorted));
            merge = Some(Ok(sorted));
            block.transpose()
        })
    }

    fn memory(&self) -> Memory {
        Memory::own()
    }
}

impl Sorter {
    /// Sorts as many records as the budget allows at a time, and writes each such run to a file.
    fn spill_all(&self, blocks: Streaming<Bytes>) -> Result<Vec<Run>, Problem> {
        let most = self.budget / RECORD;
        let mut runs = Vec::new();
        let mut records: Vec<Record> = Vec::with_capacity(most);
        let mut spill = |records: &mut Vec<Record>| {
            records.sort_unstable();
            runs.push(self.on_disk(Run::write(&self.folder, records.drain(..).map(Ok)))?);
            Ok(())
        };
        for mut block in blocks {
            if block.len() % RECORD != 0 {
                return Err(Problem::Torn(block.len()));
            }
            while block.has_remaining() {
                if records.len() == most {
                    spill(&mut records)?;
                }
                records.push(block.get_u128());
            }
        }
        spill(&mut records)?;
        Ok(runs)
    }

    /// The records of all runs in order. If there are too many runs to merge at a time, merges some into longer ones
    /// first.
    fn merge(&self, mut runs: Vec<Run>) -> io::Result<Merge> {
        let most = (self.budget / BLOCK).clamp(2, MOST_RUNS);
        while runs.len() > most {
            let some = Merge::new(runs.drain(..most).collect(), self.budget)?;
            runs.push(Run::write(&self.folder, some)?);
        }
        Merge::new(runs, self.budget)
    }

    /// Says where an error of a file was.
    fn on_disk<T>(&self, result: io::Result<T>) -> Result<T, Problem> {
        result.map_err(|error| Problem::Disk { folder: self.folder.clone(), reason: error.to_string() })
    }
}

/// Sorted records in a file.
struct Run {
    /// It has no name any more, so the system removes it however this process ends.
    file: File,
    records: u64,
}

impl Run {
    fn write(folder: &Path, sorted: impl Iterator<Item = io::Result<Record>>) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(BLOCK, tempfile::tempfile_in(folder)?);
        let mut records = 0;
        for record in sorted {
            file.write_all(&record?.to_be_bytes())?;
            records += 1;
        }
        let mut file = file.into_inner()?;
        file.rewind()?;
        Ok(Self { file, records })
    }
}

/// The records of several runs in order. Nothing comes after an error.
struct Merge {
    /// Each with the number of records that were not read yet.
    files: Vec<(BufReader<File>, u64)>,
    /// The next record of each file that has one, the least on top.
    heap: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merge {
    fn new(runs: Vec<Run>, budget: usize) -> io::Result<Self> {
        let buffer = (budget / runs.len().max(1)).clamp(BLOCK, MIB);
        let files = runs.into_iter().map(|run| (BufReader::with_capacity(buffer, run.file), run.records)).collect();
        let mut this = Self { files, heap: BinaryHeap::new() };
        for number in 0..this.files.len() {
            if let Some(record) = read(&mut this.files[number])? {
                this.heap.push(Reverse((record, number)));
            }
        }
        Ok(this)
    }
}

impl Iterator for Merge {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<io::Result<Record>> {
        let mut top = self.heap.peek_mut()?;
        let Reverse((record, number)) = *top;
        match read(&mut self.files[number]) {
            Ok(Some(next)) => *top = Reverse((next, number)),
            Ok(None) => _ = PeekMut::pop(top),
            Err(error) => {
                drop(top);
                self.heap.clear();
                return Some(Err(error));
            }
        }
        Some(Ok(record))
    }
}

fn read((file, left): &mut (BufReader<File>, u64)) -> io::Result<Option<Record>> {
    if *left == 0 {
        return Ok(None);
    }
    *left -= 1;
    let mut bytes = [0; RECORD];
    file.read_exact(&mut bytes)?;
    Ok(Some(Record::from_be_bytes(bytes)))
}

fn next_block(merge: &mut Merge) -> io::Result<Option<Bytes>> {
    let mut block = BytesMut::with_capacity(BLOCK);
    for record in merge.take(BLOCK / RECORD) {
        block.put_u128(record?);
    }
    Ok((!block.is_empty()).then(|| block.freeze()))
}

/// Sorts random records over nodes, more than fit into memory, and checks the result.
///
/// Without a command it starts a local cluster, sorts, and ends.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    job: Job,

    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Job {
    /// How many MiB of records to sort, 65,536 records each.
    #[arg(long, default_value_t = 32, global = true, value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    mib: u64,
    /// The seed of the first node's records; those after it have the numbers that follow.
    #[arg(long, default_value_t = 0, global = true)]
    seed: u64,
    /// How many MiB of records each node holds in memory.
    #[arg(long, default_value_t = 4, global = true, value_parser = clap::value_parser!(u16).range(1..))]
    budget: u16,
    /// Where each node keeps the other records; by default the system's folder for temporary files. It should not be in
    /// memory, as /tmp is on some systems.
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { job, place } = Options::parse();
    let budget = usize::from(job.budget) * MIB;
    let folder = job.folder.clone().unwrap_or_else(env::temp_dir);
    let service = move || SortServer::new(Sorter { budget, folder: folder.clone() });
    distribution_examples::run(place, service, async |master| sort(master, &job).await).await
}

/// What records have in common with the same records in another order.
#[derive(Default)]
struct Totals {
    records: AtomicU64,
    checksum: AtomicU64,
}

impl Totals {
    fn add(&self, mut block: &[u8]) {
        self.records.fetch_add((block.len() / RECORD) as u64, Ordering::Relaxed);
        let mut sum = 0_u64;
        while block.has_remaining() {
            sum = sum.wrapping_add(checksum(block.get_u128()));
        }
        self.checksum.fetch_add(sum, Ordering::Relaxed);
    }
}

fn checksum(record: Record) -> u64 {
    let mixed = ((record >> 64) as u64 ^ (record as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// Blocks of random keys, each with its number as the value.
fn random_blocks(seed: u64, records: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..records).step_by(BLOCK / RECORD).map(move |first| {
        let numbers = first..records.min(first + (BLOCK / RECORD) as u64);
        let mut block = BytesMut::with_capacity(BLOCK);
        for number in numbers {
            block.put_u64(random.random());
            block.put_u64(number);
        }
        block.freeze()
    })
}

/// The sorted records of one node.
struct Sorted {
    node: Arc<str>,
    blocks: StreamCall<Bytes, Problem>,
    /// What is left of the newest block.
    block: Bytes,
}

impl Sorted {
    async fn next(&mut self) -> Result<Option<Record>, Box<dyn Error>> {
        while self.block.is_empty() {
            match self.blocks.try_next().await {
                Ok(Some(block)) if block.len() % RECORD == 0 => self.block = block,
                Ok(Some(block)) => return Err(format!("{}: {}", self.node, Problem::Torn(block.len())).into()),
                Ok(None) => return Ok(None),
                Err(error) => return Err(format!("{}: {error}", self.node).into()),
            }
        }
        Ok(Some(self.block.get_u128()))
    }
}

/// Has each node sort its share of the records, merges what they return, and checks it.
async fn sort(master: &Master, job: &Job) -> Result<(), Box<dyn Error>> {
    let nodes = master.nodes();
    if nodes.is_empty() {
        return Err("there is no node to sort on; start some, and let the master wait for them with --wait".into());
    }
    let client = SortClient::new(master);
    let started = Instant::now();
    let records = job.mib * (MIB / RECORD) as u64;
    let sent = Arc::new(Totals::default());
    let share = |number: u64| {
        let [begin, end] = [number, number + 1].map(|part| records * part / nodes.len() as u64);
        let sent = Arc::clone(&sent);
        random_blocks(job.seed.wrapping_add(number), end - begin).inspect(move |block| sent.add(block))
    };
    let mut parts = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        // The blocks are made while they are sent, and only as fast as the node takes them.
        let blocks = client.sort(Streaming::from_iter(share(number as u64))).on(node).send();
        parts.push(Sorted { node: Arc::clone(&node.name), blocks, block: Bytes::new() });
    }

    let mut heap = BinaryHeap::new();
    for (number, part) in parts.iter_mut().enumerate() {
        heap.extend(part.next().await?.map(|record| Reverse((record, number))));
    }
    let (mut count, mut sum, mut last) = (0_u64, 0_u64, 0);
    while let Some(mut top) = heap.peek_mut() {
        let Reverse((record, number)) = *top;
        let part = &mut parts[number];
        if record < last {
            let node = &part.node;
            return Err(format!(
                "record {count}, of {node}, is less than the one before it; compare the node's program with this one"
            )
            .into());
        }
        (count, sum, last) = (count + 1, sum.wrapping_add(checksum(record)), record);
        match part.next().await? {
            Some(next) => *top = Reverse((next, number)),
            None => _ = PeekMut::pop(top),
        }
    }
    let elapsed = started.elapsed();
    let sent = (sent.records.load(Ordering::Relaxed), sent.checksum.load(Ordering::Relaxed));
    if (count, sum) != sent || count != records {
        let text = format!(
            "{count} records with checksum {sum:016x} came back of {records}, of which {} with checksum {:016x} were \
             sent; compare the nodes' program with this one",
            sent.0, sent.1
        );
        return Err(text.into());
    }

    println!(
        "Sorted {} of {} MiB over {} in {}",
        counted(count, "record"),
        job.mib,
        nodes_of(master),
        milliseconds(elapsed)
    );
    println!("All are there, and in order; checksum {sum:016x}");
    print_memory(&client).await?;
    Ok(())
}

/// Prints the peak memory of each process.
async fn print_memory(client: &SortClient) -> Result<(), Box<dyn Error>> {
    // Nodes on other machines may have the same numbers. The nodes of a local cluster have one number and one address.
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let own = Memory::own();
    let mut processes = BTreeMap::from([((here, own.process), (vec!["master".to_owned()], own.peak))]);
    for (node, memory) in client.memory().broadcast().await {
        let memory = memory?;
        let (names, peak) = processes.entry((node.addr.ip(), memory.process)).or_default();
        names.push(node.name.to_string());
        *peak = memory.peak.max(*peak);
    }
    for ((_, process), (names, peak)) in processes {
        let peak =
            peak.map_or_else(|| "not known on this system".to_owned(), |peak| format!("{} MiB", peak.div_ceil(1024)));
        println!("Peak memory of process {process} ({}): {peak}", names.join(", "));
    }
    Ok(())
}
