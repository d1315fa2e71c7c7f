//! One partition, from a cluster at work to a cluster at work again.

use std::{io, path::Path, time::Duration};

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    Asked, Line, Network, Peer, Told, Weather,
    lines::{between, now},
};

/// Longer than anything here takes when all is well; what is late but comes is measured, not missed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How a node and its master are parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Neither hears the other.
    Both,
    /// The node does not hear the master.
    ToNode,
    /// The master does not hear the node.
    ToMaster,
    /// Whatever either sends is answered with a reset, at both ends.
    Reset,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Both, Self::ToNode, Self::ToMaster, Self::Reset];

    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::ToNode => "master_to_node",
            Self::ToMaster => "node_to_master",
            Self::Reset => "reset",
        }
    }

    /// The weather to the node and to the master.
    fn weather(self) -> [Weather; 2] {
        match self {
            Self::Both => [Weather::Lost, Weather::Lost],
            Self::ToNode => [Weather::Lost, Weather::Clear],
            Self::ToMaster => [Weather::Clear, Weather::Lost],
            Self::Reset => [Weather::Reset, Weather::Reset],
        }
    }
}

/// What a trial does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How it cuts.
    pub kind: Kind,
    /// The nodes of the cluster, of which the first is cut off.
    pub nodes: usize,
    /// The master's heartbeat.
    pub heartbeat: Duration,
    /// When it cuts: so far, from 0 to 1, between one heartbeat of the node and its next.
    pub phase: f64,
    /// For how long the wire stays cut after the master has noticed.
    pub hold: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the cut to the master's declaring the node gone.
    pub noticed: Duration,
    /// Whether that was for its silence.
    pub silent: bool,
    /// The reason, as the event had it.
    pub reason: String,
    /// From the healing to a call's answer by the node that was cut off.
    pub recovered: Duration,
    /// How often it was lost again after it had come back.
    pub relapses: usize,
}

/// Runs one trial on a network that has the nodes and is in clear weather. The program has the roles of
/// `bin/partitions.rs`.
///
/// # Errors
///
/// Says what did not happen or should not have, with the logs.
pub async fn trial(network: &Network, program: &Path, plan: Plan) -> Result<Outcome, String> {
    let mut cluster = Cluster::start(network, program, plan).await.map_err(|error| format!("cannot start: {error}"))?;
    match cluster.part(network).await {
        Ok(outcome) => Ok(outcome),
        Err(what) => Err(format!("{plan:?}: {what}\n{}", cluster.logs())),
    }
}

struct Cluster {
    plan: Plan,
    master: Peer,
    nodes: Vec<Peer>,
    /// All that the master told, for the report of a failure.
    story: Vec<Line>,
}

impl Cluster {
    async fn start(network: &Network, program: &Path, plan: Plan) -> io::Result<Self> {
        let heartbeat = plan.heartbeat.as_millis().to_string();
        let mut master = Peer::start(&network.master(), program, &["master", &heartbeat])?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the master does not start");
        let Told::Listening { port } = timeout(TIMEOUT, master.told()).await.map_err(late)??.told else {
            return Err(io::Error::other("the master's first line is not its port"));
        };
        let nodes = (0..plan.nodes)
            .map(|number| {
                let addr = network.master_addr(number, port);
                Peer::start(&network.node(number), program, &["node", &addr, &name(number)])
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { plan, master, nodes, story: Vec::new() })
    }

    async fn part(&mut self, network: &Network) -> Result<Outcome, String> {
        let Plan { kind, heartbeat, phase, hold, nodes } = self.plan;
        let victim = name(0);
        let mut joined = 0;
        for _ in 0..nodes {
            let (at, node) = self.until("a node to register", joined_any).await?;
            if node == victim {
                joined = at;
            }
        }
        for number in 0..nodes {
            self.call(Some(name(number))).await??;
        }

        // The passing of time is what is tested: the node sends a heartbeat each period from when it registered.
        let since = between(joined, now()).as_secs_f64() / heartbeat.as_secs_f64();
        sleep(heartbeat.mul_f64(since.ceil() + phase - since)).await;
        let [to_node, to_master] = kind.weather();
        network.wire(0).set(to_node, to_master);
        let cut = now();
        let gone = |line: &Line| match &line.told {
            Told::Gone { node, silent, reason } => Some((line.at, node.clone(), *silent, reason.clone())),
            _ => None,
        };
        let (at, node, silent, reason) = self.until("the loss to be noticed", gone).await?;
        if node != victim {
            return Err(format!("{node} was declared gone, and lives"));
        }
        let noticed = between(cut, at);
        if nodes > 1 {
            self.call(None).await?.map_err(|error| format!("the other nodes do not answer: {error}"))?;
        }

        // Here too the passing of time is tested: the node redials less and less often.
        self.quiet(hold).await?;
        network.wire(0).set(Weather::Clear, Weather::Clear);
        let healed = now();
        let mut relapses = 0;
        loop {
            let (_, node) = self.until("the node to come back", joined_any).await?;
            if node != victim {
                return Err(format!("{node} had to register again, and was not cut off"));
            }
            match self.call(Some(victim.clone())).await? {
                Ok(at) => return Ok(Outcome { noticed, silent, reason, recovered: between(healed, at), relapses }),
                Err(_) => relapses += 1,
            }
        }
    }

    /// Has the master make a call, and says when it was answered or why it was not.
    async fn call(&mut self, node: Option<String>) -> Result<Result<u64, String>, String> {
        let (a, b) = (rand::random_range(-1_000_000..1_000_000), rand::random_range(-1_000_000..1_000_000));
        self.master
            .ask(&Asked::Call { node, a, b })
            .await
            .map_err(|error| format!("cannot ask the master: {error}"))?;
        let ended = |line: &Line| match &line.told {
            Told::Answer { sum } => Some(Ok((line.at, *sum))),
            Told::Failed { error } => Some(Err(error.clone())),
            _ => None,
        };
        match self.until("a call to end", ended).await? {
            Ok((_, sum)) if sum != a + b => Err(format!("{a} + {b} was answered with {sum}")),
            Ok((at, _)) => Ok(Ok(at)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The first thing that the master tells and `pick` takes.
    async fn until<T>(&mut self, what: &str, pick: impl Fn(&Line) -> Option<T>) -> Result<T, String> {
        let waited = timeout(TIMEOUT, async {
            loop {
                let line = self.master.told().await.map_err(|error| format!("the master does not talk: {error}"))?;
                let picked = pick(&line);
                self.story.push(line);
                if let Some(picked) = picked {
                    return Ok(picked);
                }
            }
        });
        waited.await.unwrap_or_else(|_| Err(format!("{what} did not come within {TIMEOUT:?}")))
    }

    /// Lets time pass in which no node comes or goes.
    async fn quiet(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while let Ok(line) = timeout_at(until, self.master.told()).await {
            let line = line.map_err(|error| format!("the master does not talk: {error}"))?;
            let wrong = match &line.told {
                Told::Gone { node, reason, .. } => Some(format!("{node} is gone during the partition: it {reason}")),
                Told::Joined { node } => Some(format!("{node} registered during the partition")),
                _ => None,
            };
            self.story.push(line);
            if let Some(wrong) = wrong {
                return Err(wrong);
            }
        }
        Ok(())
    }

    fn logs(&self) -> String {
        let story: Vec<_> = self.story.iter().filter_map(|line| serde_json::to_string(line).ok()).collect();
        let logs: String = std::iter::once(&self.master).chain(&self.nodes).map(Peer::log).collect();
        format!("-- what the master told\n{}\n{logs}", story.join("\n"))
    }
}

fn name(number: usize) -> String {
    format!("n{number}")
}

fn joined_any(line: &Line) -> Option<(u64, String)> {
    match &line.told {
        Told::Joined { node } => Some((line.at, node.clone())),
        _ => None,
    }
}
