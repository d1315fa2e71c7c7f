//! Shows that the simulator finds faults: plants one after the other in a copy of the core and runs
//! `simulate` against each. Ends with code 1 if one is not caught.
//!
//! `cargo run --release -p distribution-tests --bin mutations` builds a copy of the library for each
//! fault, below `target/mutations`; some seconds apiece.
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Parser;

/// A fault: this text in this file of the core becomes that one.
struct Mutation {
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn mutation(what: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Mutation {
    Mutation { what, file, from, to }
}

const MUTATIONS: [Mutation; 28] = [
    mutation(
        "a call that may have run is repeated although it is not idempotent",
        "retry.rs",
        "!call.method.is_idempotent()\n            || call.demand.node",
        "call.demand.node",
    ),
    mutation(
        "a call that was written is taken for one that was not",
        "retry.rs",
        "if call.handle.abandon(call.attempt) {",
        "if !call.handle.abandon(call.attempt) {",
    ),
    mutation(
        "a call of which some was written is taken for one that was sent, although its connection ended",
        "retry.rs",
        "if call.handle.abandon(call.attempt) {",
        "if call.handle.withdraw(call.attempt) {",
    ),
    mutation(
        "the slot of a call that has ended is not given back",
        "registry.rs",
        "node.counts[entry.kind as usize] -= 1;",
        "",
    ),
    mutation(
        "a node that has ended a call is not given what waits",
        "mod.rs",
        "self.feed(now, node, effects);\n        self.tell_drained(node, effects);",
        "self.tell_drained(node, effects);",
    ),
    mutation("silence counts although the master was stalled", "liveness.rs", "self.liveness.amnesty = now;", ""),
    mutation(
        "nodes that fall silent together are given up at once",
        "liveness.rs",
        "if most { GONE_AFTER * 2 } else { GONE_AFTER }",
        "GONE_AFTER",
    ),
    mutation(
        "a kind of which a node is full keeps the other kind from it",
        "schedule.rs",
        "full[kind as usize] = true;\n                    continue;",
        "return;",
    ),
    mutation(
        "a call whose turn another took does not look for another node",
        "schedule.rs",
        "if waits { self.choose(id) } else { None }",
        "if waits && id.0 == u64::MAX { self.choose(id) } else { None }",
    ),
    mutation(
        "the timer of a call that has ended is kept",
        "mod.rs",
        "self.timers.remove(&(deadline, id, Timer::Deadline));",
        "",
    ),
    mutation("bytes that no longer wait are still counted", "schedule.rs", "self.waiting_bytes -= size;", ""),
    mutation("a node that is leaving gets calls", "mod.rs", "self.registry.set_state(id, NodeState::Draining);", ""),
    mutation(
        "a suspect node gets calls",
        "registry.rs",
        "self.state == NodeState::Alive",
        "self.state != NodeState::Draining",
    ),
    mutation(
        "deadlines pass unnoticed",
        "mod.rs",
        "Timer::Deadline => self.time_out(id, effects),",
        "Timer::Deadline => {}",
    ),
    mutation(
        "a call that may have run is turned away as not run",
        "schedule.rs",
        "stage: Stage::Queued(_), attempt: 0, demand",
        "stage: Stage::Queued(_), demand",
    ),
    mutation(
        "a node is told that it is drained while it has calls",
        "mod.rs",
        "node.state == NodeState::Draining && node.in_flight.is_empty()",
        "node.state == NodeState::Draining",
    ),
    mutation(
        "a node that joins is not given what waits",
        "mod.rs",
        "self.note_served(now);\n        self.feed(now, id, effects);",
        "self.note_served(now);",
    ),
    mutation(
        "a call avoids the nodes it has tried also where there are no others",
        "schedule.rs",
        "if serving.len() >= all { Vec::new() } else { serving }",
        "serving",
    ),
    mutation(
        "a call waits for ever for a node that serves it",
        "schedule.rs",
        "call.queued.max(since) + wait <= now",
        "call.queued.max(since) + wait <= now && wait.is_zero()",
    ),
    mutation("a batch is repeated as a whole", "retry.rs", "            || is_batch\n", ""),
    mutation(
        "a batch is shortened twice",
        "mod.rs",
        "if call.kept.is_none() && (1..call.demand.count)",
        "if (1..call.demand.count)",
    ),
    mutation(
        "a node may start calls of a batch that are not in the books as granted",
        "mod.rs",
        "            call.granted = upto;\n",
        "",
    ),
    mutation(
        "calls of a lost batch are said to be lost that were not granted",
        "retry.rs",
        "if call.kept.is_none() && call.granted < call.demand.count {",
        "if false {",
    ),
    mutation("a node that kept more than it was granted is believed", "mod.rs", " && kept <= call.granted {", " {"),
    mutation(
        "a batch is granted what was given back",
        "mod.rs",
        "if upto > call.granted && call.kept.is_none() {",
        "if upto > call.granted {",
    ),
    mutation(
        "a loss as part of a batch counts towards a call's attempts",
        "retry.rs",
        "None => (call.sent.saturating_sub(in_batch(call)), ATTEMPTS),",
        "None => (call.sent, ATTEMPTS),",
    ),
    mutation(
        "a batch of which calls were given back is sent again whole",
        "mod.rs",
        "Outcome::Refused(_) if self.calls.get(&id).is_some_and(|call| call.kept.is_some()) =>",
        "Outcome::Refused(_) if false =>",
    ),
    mutation(
        "labels are not looked at where a node is chosen",
        "registry.rs",
        "(labels.is_none() || self.node(*id).is_some_and(|node| node.has_labels(labels)))",
        "true",
    ),
];

/// Plants faults in the core and has the simulator find them.
#[derive(Parser)]
struct Options {
    /// Seeds to run against each fault.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options.seeds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("cannot plant faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(seeds: u64) -> io::Result<bool> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).ok_or(io::ErrorKind::NotFound)?.to_owned();
    let copy = workspace.join("target/mutations");
    lay_out(&workspace, &copy)?;
    let sound = simulate(&copy, seeds)?;
    println!("without a fault: {}", sound.said);
    let mut missed = usize::from(!sound.success);
    for Mutation { what, file, from, to } in &MUTATIONS {
        let started = Instant::now();
        let path = copy.join("distribution/src/core").join(file);
        let source = fs::read_to_string(&path)?;
        if source.matches(from).count() != 1 {
            println!("NOT PLANTED: {what}: the text stands {} times in {file}", source.matches(from).count());
            missed += 1;
            continue;
        }
        fs::write(&path, source.replace(from, to))?;
        let verdict = simulate(&copy, seeds)?;
        fs::write(&path, source)?;
        missed += usize::from(verdict.success);
        let caught = if verdict.success { "MISSED" } else { "caught" };
        println!("{caught}: {what} ({} s): {}", started.elapsed().as_secs(), verdict.said);
    }
    println!("{} of {} faults caught", MUTATIONS.len() - missed.min(MUTATIONS.len()), MUTATIONS.len());
    Ok(missed == 0)
}

/// Copies the library, with `simulate` as the only other member of the workspace.
fn lay_out(workspace: &Path, copy: &Path) -> io::Result<()> {
    for folder in ["distribution", "distribution-macros"] {
        copy_folder(&workspace.join(folder), &copy.join(folder))?;
    }
    let members = r#"members = ["distribution", "distribution-macros", "examples", "tests", "tests/loom", "benches"]"#;
    let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
    if !manifest.contains(members) {
        return Err(io::Error::other("the workspace's members are not as this program knows them"));
    }
    let manifest = manifest.replace(members, r#"members = ["distribution", "distribution-macros", "simulate"]"#);
    write_if_changed(&copy.join("Cargo.toml"), &manifest)?;
    fs::copy(workspace.join("Cargo.lock"), copy.join("Cargo.lock"))?;
    let simulate = copy.join("simulate");
    fs::create_dir_all(simulate.join("src"))?;
    let manifest = "[package]\nname = \"simulate\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
        clap.workspace = true\ndistribution = { workspace = true, features = [\"simulation\"] }\nrayon.workspace = true\n";
    write_if_changed(&simulate.join("Cargo.toml"), manifest)?;
    let source = fs::read_to_string(workspace.join("tests/src/bin/simulate.rs"))?;
    write_if_changed(&simulate.join("src/main.rs"), &source)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            write_if_changed(&target, &fs::read_to_string(entry.path())?)?;
        }
    }
    Ok(())
}

/// Leaves the time of a file alone that is as it should be, so that it is not built anew.
fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) { Ok(()) } else { fs::write(path, text) }
}

struct Verdict {
    success: bool,
    /// The first line that was printed.
    said: String,
}

fn simulate(copy: &Path, seeds: u64) -> io::Result<Verdict> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let built = Command::new(&cargo)
        .args(["build", "--quiet", "--release", "-p", "simulate"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .env("RUSTFLAGS", "-Awarnings")
        .status()?;
    if !built.success() {
        return Err(io::Error::other("a copy with a fault does not build"));
    }
    let seeds = seeds.to_string();
    let output = Command::new(copy.join("target/release/simulate")).args(["--seeds", &seeds]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // A fault may also show as a panic of the core.
    let said = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    Ok(Verdict { success: output.status.success(), said })
}
