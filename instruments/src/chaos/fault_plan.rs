//! The fault plan: what is done to the processes, and when. It follows from the seed.

use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};

use super::Options;

/// One thing that is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    Freeze,
    Terminate,
    KillMaster,
    KillCaller,
    /// Of a node's connection, or a caller's.
    Reset,
}

/// A fault, and the calls that are released before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedFault {
    pub(super) fault: Fault,
    /// All keys below this have been released when it is injected.
    pub(super) released: u64,
    /// It is injected when this many calls have ended, amid those released for it.
    pub(super) ended: u64,
}

/// All faults in order, spread evenly over this many keys; what is left after the last runs undisturbed.
pub(super) fn draw(options: &Options, keys: u64, rng: &mut SmallRng) -> Vec<PlannedFault> {
    let many = |fault, count: u32| std::iter::repeat_n(fault, count as usize);
    let mut faults: Vec<Fault> = many(Fault::Kill, options.kills)
        .chain(many(Fault::Freeze, options.freezes))
        .chain(many(Fault::Terminate, options.terminates))
        .chain(many(Fault::KillMaster, options.master_kills))
        .chain(many(Fault::KillCaller, options.caller_kills))
        .chain(many(Fault::Reset, options.resets))
        .collect();
    faults.shuffle(rng);
    let portions = faults.len() as u64 + 1;
    let until =
        |portion: u64| u64::try_from(u128::from(keys) * u128::from(portion) / u128::from(portions)).unwrap_or(keys);
    let faults = faults.into_iter().zip(0..).map(|(fault, portion)| {
        let (before, released) = (until(portion), until(portion + 1));
        let part = (released - before) as f64 * rng.random_range(0.1..0.7);
        PlannedFault { fault, released, ended: before + part as u64 }
    });
    faults.collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_fault_that_was_asked_for_is_injected_while_calls_run() {
        let command = Options::augment_args(clap::Command::new("chaos"));
        let arguments = "chaos --calls 1000 --kills 7 --freezes 5 --terminates 3 --master-kills 2 \
                         --callers 2 --caller-kills 4 --resets 6";
        let matches = command.get_matches_from(arguments.split_whitespace());
        let options = Options::from_arg_matches(&matches).expect("parses");
        let faults = draw(&options, 1052, &mut SmallRng::seed_from_u64(1));
        let count = |fault| faults.iter().filter(|planned| planned.fault == fault).count();
        assert_eq!([Fault::Kill, Fault::Freeze, Fault::Terminate].map(count), [7, 5, 3]);
        assert_eq!([Fault::KillMaster, Fault::KillCaller, Fault::Reset].map(count), [2, 4, 6]);
        assert!(faults.windows(2).all(|pair| pair[0].released < pair[1].released));
        assert!(faults.iter().all(|planned| planned.ended < planned.released && planned.released < 1052));
    }
}
