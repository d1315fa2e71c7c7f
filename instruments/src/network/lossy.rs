//! Calls over wires that lose some of what they carry and delay the rest.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use super::{Asked, Network, Peer, Rough, Told, Weather, roles::millis_since};
use distribution_tests::ProbeClient;

/// 5 % loss and 100 ms ± 20 ms, each way.
const ROUGH: Rough = Rough { loss: 0.05, delay: Duration::from_millis(100), jitter: Duration::from_millis(20) };

/// Calls that are out at any moment.
const CALLERS: usize = 24;

/// How many violations are worth reading.
const VIOLATIONS_SHOWN: usize = 5;

/// What came of a time in rough weather.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lossy {
    /// How long it was.
    pub seconds: u64,
    /// Calls with the right answer.
    pub answered: u64,
    /// Calls with a wrong one.
    pub wrong: u64,
    /// Calls with none.
    pub failed: u64,
    /// Nodes that were declared gone, though all lived.
    pub gone: u64,
    /// Nodes that were suspected.
    pub suspect: u64,
    /// The longest that a call took, in milliseconds.
    pub slowest_ms: u64,
    /// Frames that were sent, both ways.
    pub frames: u64,
    /// The part of them that was lost.
    pub loss: f64,
    /// In words.
    pub violations: Vec<String>,
}

impl Lossy {
    /// Whether every call was answered right and no node declared gone.
    pub fn is_well(&self) -> bool {
        self.answered > 0 && self.wrong == 0 && self.failed == 0 && self.gone == 0
    }
}

/// Has a master make calls to all nodes of a network while its wires are rough, from registration on. The program has
/// the roles of `bin/partitions.rs`.
///
/// # Errors
///
/// Says what did not happen.
pub async fn lossy(network: &Network, nodes: usize, program: &Path, seconds: u64) -> io::Result<Lossy> {
    let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not come in time"));
    for number in 0..nodes {
        network.wire(number).set(Weather::Rough(ROUGH), Weather::Rough(ROUGH));
    }
    let mut master = Peer::start(&network.master(), program, &["master", "1000"])?;
    let Told::Listening { port } = master.told().await?.told else {
        return Err(io::Error::other("the master's first line is not its port"));
    };
    let mut peers = Vec::new();
    for number in 0..nodes {
        let addr = network.master_addr(number, port);
        peers.push(Peer::start(&network.node(number), program, &["node", &addr, &format!("n{number}")])?);
    }
    let mut joined = 0;
    while joined < nodes {
        let line = timeout(Duration::from_secs(60), master.told()).await.map_err(|_| late("nodes"))??;
        joined += usize::from(matches!(line.told, Told::Joined { .. }));
    }
    let mut result = Lossy { seconds, ..Lossy::default() };
    master.ask(&Asked::Load { seconds, callers: CALLERS }).await?;
    // A call that hangs keeps the load from ending; a minute is more than any takes.
    let ended = timeout(Duration::from_secs(seconds + 60), async {
        loop {
            match master.told().await?.told {
                Told::Gone { node, reason, .. } => {
                    result.gone += 1;
                    result.violations.push(format!("{node} is gone: it {reason}"));
                }
                Told::Suspect { .. } => result.suspect += 1,
                Told::Loaded { answered, wrong, failed, slowest, violations } => {
                    (result.answered, result.wrong, result.failed) = (answered, wrong, failed);
                    result.slowest_ms = slowest;
                    result.violations.extend(violations);
                    return io::Result::Ok(());
                }
                _ => {}
            }
        }
    });
    ended.await.map_err(|_| late("the last calls"))??;
    let traffic = (0..nodes).map(|number| network.wire(number).traffic());
    let (carried, lost) = traffic.fold((0, 0), |sum, traffic| (sum.0 + traffic.carried, sum.1 + traffic.lost));
    result.frames = carried + lost;
    result.loss = lost as f64 / result.frames.max(1) as f64;
    Ok(result)
}

/// Calls all the time, and checks every answer: the master's part.
pub(super) async fn load(probe: &ProbeClient, time: Duration, callers: usize) -> Told {
    let until = Instant::now() + time;
    let tallies = join_all((0..callers).map(|caller| call_until(probe.clone(), caller, until))).await;
    let mut sum = Tally::default();
    for tally in tallies {
        sum.answered += tally.answered;
        sum.wrong += tally.wrong;
        sum.failed += tally.failed;
        sum.slowest = sum.slowest.max(tally.slowest);
        sum.violations.extend(tally.violations);
    }
    sum.violations.truncate(VIOLATIONS_SHOWN);
    let Tally { answered, wrong, failed, slowest, violations } = sum;
    Told::Loaded { answered, wrong, failed, slowest, violations }
}

#[derive(Default)]
struct Tally {
    answered: u64,
    wrong: u64,
    failed: u64,
    slowest: u64,
    violations: Vec<String>,
}

impl Tally {
    fn count<T: PartialEq, E: std::fmt::Display>(&mut self, result: Result<T, E>, right: T, started: Instant) {
        self.slowest = self.slowest.max(millis_since(started));
        match result {
            Ok(value) if value == right => self.answered += 1,
            Ok(_) => self.wrong += 1,
            Err(error) => {
                self.failed += 1;
                if self.violations.len() < VIOLATIONS_SHOWN {
                    self.violations.push(error.to_string());
                }
            }
        }
    }
}

/// One call after the other: small ones of both kinds, and now and then one of many packets, each way.
async fn call_until(probe: ProbeClient, caller: usize, until: Instant) -> Tally {
    const MANY: u64 = 20_000;
    let mut tally = Tally::default();
    let mut number = caller as i64;
    while Instant::now() < until {
        let started = Instant::now();
        match number % 16 {
            0 => tally.count(probe.length(vec![7; MANY as usize]).await, MANY, started),
            1 => tally.count(probe.bytes(MANY).await, vec![7; MANY as usize], started),
            2..9 => tally.count(probe.add(number, 1).await, number + 1, started),
            _ => tally.count(probe.add_async(number, 1).await, number + 1, started),
        }
        number += 1;
    }
    tally
}
