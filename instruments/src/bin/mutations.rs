//! Shows that faults of the core are found: plants one after the other in a copy of the library, and has the core's tests
//! and, if they find nothing, the simulator look for it. Ends with code 1 if one is not caught.
//!
//! `cargo run --release -p distribution-instruments --bin mutations` builds the library below `target/mutations` once for each
//! fault, and a second time for those that the tests do not catch; about 15 s each. `--check` builds nothing and says
//! whether each fault can still be planted.
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

#[path = "mutations/copy.rs"]
mod copy;
#[path = "mutations/faults.rs"]
mod faults;
#[path = "mutations/functions.rs"]
mod functions;
#[path = "mutations/pattern.rs"]
mod pattern;

use std::{io, path::Path, process::ExitCode, time::Instant};

use clap::Parser;
use copy::{Copy, Finding};
use faults::{FAULTS, Fault};
use functions::Functions;

/// Where faults are planted.
const CORE: &str = "distribution/src/core";

/// Plants faults in the core and has its tests and the simulator find them.
#[derive(Parser)]
struct Options {
    /// Seeds to run against each fault that the tests do not catch.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,

    /// Build nothing: only find the place of each fault.
    #[arg(long)]
    check: bool,

    /// Only the faults with this in their name.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("cannot plant faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<bool> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).ok_or(io::ErrorKind::NotFound)?.to_owned();
    if !all_can_be_planted(&workspace)? {
        return Ok(false);
    }
    if options.check {
        println!("{} faults can be planted", FAULTS.len());
        return Ok(true);
    }
    let copy = Copy::lay_out(&workspace)?;
    let chosen: Vec<&Fault> = FAULTS.iter().filter(|fault| fault.what.contains(&options.only)).collect();
    let left = look_for(&copy, &chosen, "tests", || copy.test())?;
    let missed = match left.is_empty() {
        true => left,
        false => look_for(&copy, &left, "simulator", || copy.simulate(options.seeds))?,
    };
    for fault in &missed {
        println!("MISSED: {}", fault.what);
    }
    println!("{} of {} faults caught", chosen.len() - missed.len(), chosen.len());
    Ok(missed.is_empty() && !chosen.is_empty())
}

/// Plants these faults one by one, and gives back those that were not found.
fn look_for<'a>(
    copy: &Copy,
    faults: &[&'a Fault],
    who: &str,
    look: impl Fn() -> io::Result<Finding>,
) -> io::Result<Vec<&'a Fault>> {
    let sound = look()?;
    println!("{who}, without a fault: {}", sound.said);
    if !sound.is_sound {
        return Err(io::Error::other("the copy fails without a fault"));
    }
    let mut missed = Vec::new();
    for fault in faults {
        let started = Instant::now();
        let finding = copy.with(fault, &look);
        let (what, seconds) = (fault.what, started.elapsed().as_secs());
        match finding {
            Ok(Finding { is_sound: false, said }) => println!("caught by {who}: {what} ({seconds} s): {said}"),
            Ok(Finding { said, .. }) => {
                println!("not caught by {who}: {what} ({seconds} s): {said}");
                missed.push(*fault);
            }
            Err(error) => {
                println!("NOT PLANTED: {error}");
                missed.push(*fault);
            }
        }
    }
    Ok(missed)
}

/// Says of each fault that has no place, or more than one, what was looked for.
fn all_can_be_planted(workspace: &Path) -> io::Result<bool> {
    let core = Functions::read(&workspace.join(CORE))?;
    let mut all = true;
    for fault in FAULTS {
        if let Err(why) = core.plant(fault) {
            println!("CANNOT BE PLANTED: {}: {why}", fault.what);
            all = false;
        }
    }
    Ok(all)
}
