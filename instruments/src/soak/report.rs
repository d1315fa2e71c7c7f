//! What was measured, by quarter and in all, and whether it is well.

use std::{io, time::Duration};

use serde::Serialize;

use super::{
    FAIR, GROWTH, Options, SETTLING,
    fleet::Fleet,
    gauge::{Reading, median},
    load::{Load, Wrong},
};
use crate::memory::resident;

/// A quarter as it is measured.
#[derive(Debug)]
pub(super) struct Quarter {
    number: u32,
    began: std::time::Instant,
    calls_before: u64,
    master: Vec<u64>,
    first_node: Vec<u64>,
    nodes: Vec<u64>,
    descriptors: Vec<u64>,
    tasks: Vec<u64>,
}

/// A quarter that is over. Memory in KiB; all but calls and times are medians of samples.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    quarter: u32,
    master_kib: u64,
    first_node_kib: u64,
    all_nodes_kib: u64,
    descriptors: u64,
    tasks: u64,
    calls_per_second: u64,
    small_p50_micros: f64,
    small_p99_micros: f64,
}

impl Quarter {
    pub(super) fn begin(number: u32, load: &Load) -> Self {
        Self {
            number,
            began: std::time::Instant::now(),
            calls_before: load.calls(),
            master: Vec::new(),
            first_node: Vec::new(),
            nodes: Vec::new(),
            descriptors: Vec::new(),
            tasks: Vec::new(),
        }
    }

    pub(super) fn sample(&mut self, fleet: &Fleet) -> io::Result<()> {
        let nodes = fleet.ids().map(resident).collect::<io::Result<Vec<u64>>>()?;
        let reading = Reading::take()?;
        self.master.push(resident(std::process::id())?);
        self.first_node.extend(nodes.first());
        self.nodes.push(nodes.iter().sum());
        self.descriptors.push(reading.descriptors as u64);
        self.tasks.push(reading.tasks as u64);
        Ok(())
    }

    pub(super) fn end(self, load: &Load) -> Measured {
        let calls = (load.calls() - self.calls_before) as f64;
        let [p50, p99] = load.small().take([0.5, 0.99]);
        Measured {
            quarter: self.number,
            master_kib: median(self.master),
            first_node_kib: median(self.first_node),
            all_nodes_kib: median(self.nodes),
            descriptors: median(self.descriptors),
            tasks: median(self.tasks),
            calls_per_second: (calls / self.began.elapsed().as_secs_f64()) as u64,
            small_p50_micros: p50,
            small_p99_micros: p99,
        }
    }
}

/// Prints a quarter for people.
#[allow(clippy::print_stdout, reason = "it is what the program is for")]
pub(super) fn show(quarter: &Measured) {
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "quarter {}: master {:.1} MiB, first node {:.1} MiB, all nodes {:.1} MiB; {} descriptors, {} tasks; \
         {} calls/s, small ones p50 {} us, p99 {} us",
        quarter.quarter,
        mib(quarter.master_kib),
        mib(quarter.first_node_kib),
        mib(quarter.all_nodes_kib),
        quarter.descriptors,
        quarter.tasks,
        quarter.calls_per_second,
        quarter.small_p50_micros,
        quarter.small_p99_micros,
    );
}

/// The whole, as the last line has it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seconds: u64,
    restarts: u32,
    quarters: Vec<Measured>,
    start: Reading,
    quiet: Reading,
    /// From the second quarter to the last, in percent.
    master_growth: f64,
    first_node_growth: f64,
    /// Calls that ended otherwise than they were to.
    wrong: u64,
    /// What is not as it has to be, in sentences.
    failures: Vec<String>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        restarts: u32,
        quarters: Vec<Measured>,
        start: Reading,
        quiet: Reading,
        wrong: Wrong,
    ) -> Self {
        let growth = |memory: fn(&Measured) -> u64| match &*quarters {
            [_, second, .., last] => memory(last) as f64 / memory(second) as f64 - 1.0,
            _ => 0.0,
        };
        let (master, node) = (growth(|quarter| quarter.master_kib), growth(|quarter| quarter.first_node_kib));
        let mut failures = Vec::new();
        if Duration::from_secs(options.seconds) >= FAIR && !options.allocator_as_is {
            for (who, growth) in [("the master's process", master), ("the first node", node)] {
                if growth > GROWTH {
                    failures.push(format!(
                        "the memory of {who} grew by {:.1} % from the second quarter to the last",
                        growth * 100.0
                    ));
                }
            }
        }
        if quiet != start {
            failures.push(format!("{SETTLING:?} after the load there were {quiet:?}, and {start:?} before it"));
        }
        failures.extend(wrong.first);
        let percent = |growth: f64| (growth * 1000.0).round() / 10.0;
        Self {
            seconds: options.seconds,
            restarts,
            quarters,
            start,
            quiet,
            master_growth: percent(master),
            first_node_growth: percent(node),
            wrong: wrong.count,
            failures,
        }
    }

    pub(super) fn is_well(&self) -> bool {
        self.failures.is_empty()
    }

    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    pub(super) fn show(&self) {
        let Self { start, quiet, .. } = self;
        println!("before the load: {} descriptors, {} tasks", start.descriptors, start.tasks);
        println!("when quiet:      {} descriptors, {} tasks", quiet.descriptors, quiet.tasks);
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{}", serde_json::to_string(self).expect("plain data"));
    }
}
