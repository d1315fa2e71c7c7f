//! What is done to the processes, and when: an order that follows from the seed.

use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};

use super::Options;

/// One thing that is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    Kill,
    Freeze,
    Terminate,
    KillMaster,
}

/// A blow, and the calls that are released before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    pub(super) blow: Blow,
    /// All keys below this have been released when it falls.
    pub(super) released: u64,
    /// It falls when this many calls have ended, in the midst of those released for it.
    pub(super) ended: u64,
}

/// All strikes in order, spread evenly over this many keys; what is left after the last runs undisturbed.
pub(super) fn plan(options: &Options, keys: u64, rng: &mut SmallRng) -> Vec<Strike> {
    let many = |blow, count: u32| std::iter::repeat_n(blow, count as usize);
    let mut blows: Vec<Blow> = many(Blow::Kill, options.kills)
        .chain(many(Blow::Freeze, options.freezes))
        .chain(many(Blow::Terminate, options.terminates))
        .chain(many(Blow::KillMaster, options.master_kills))
        .collect();
    blows.shuffle(rng);
    let portions = blows.len() as u64 + 1;
    let until =
        |portion: u64| u64::try_from(u128::from(keys) * u128::from(portion) / u128::from(portions)).unwrap_or(keys);
    let strikes = blows.into_iter().zip(0..).map(|(blow, portion)| {
        let (before, released) = (until(portion), until(portion + 1));
        let part = (released - before) as f64 * rng.random_range(0.1..0.7);
        Strike { blow, released, ended: before + part as u64 }
    });
    strikes.collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_strike_that_was_asked_for_falls_while_calls_run() {
        let command = Options::augment_args(clap::Command::new("chaos"));
        let arguments = "chaos --calls 1000 --kills 7 --freezes 5 --terminates 3 --master-kills 2";
        let matches = command.get_matches_from(arguments.split(' '));
        let options = Options::from_arg_matches(&matches).expect("parses");
        let strikes = plan(&options, 1052, &mut SmallRng::seed_from_u64(1));
        let count = |blow| strikes.iter().filter(|strike| strike.blow == blow).count();
        assert_eq!([Blow::Kill, Blow::Freeze, Blow::Terminate, Blow::KillMaster].map(count), [7, 5, 3, 2]);
        assert!(strikes.windows(2).all(|pair| pair[0].released < pair[1].released));
        assert!(strikes.iter().all(|strike| strike.ended < strike.released && strike.released < 1052));
    }
}
