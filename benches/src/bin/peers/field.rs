//! Everything that takes part, started once: servers in processes of their own, and a client of each in this one.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use crate::{
    cancel,
    comparisons::Case,
    distribute,
    failure::{During, Failure},
    idle, load,
    ours::Cluster,
    process::ServerProcess,
    raw,
    relay::{self, Way},
    remote::RemoteCluster,
    streams::{self, BLOCKS, BLOCKS_FAR},
    tarpc_peer, tonic_peer,
};

/// Bytes of a large payload.
const LARGE: usize = 16 * 1024 * 1024;

/// Bytes of a payload that others must not wait for.
const HUGE: usize = 700 * 1024 * 1024;

/// Who takes part, and what is sent.
pub(crate) struct Field {
    ours: Cluster,
    /// The same with a token.
    secured: Cluster,
    /// Two nodes with a slot each.
    pair: Cluster,
    /// Like `ours`, but the master is in a process of its own.
    remote: RemoteCluster,
    /// Like `pair`, but the master is in a process of its own.
    remote_pair: RemoteCluster,
    raw: raw::Client,
    raw_addr: SocketAddr,
    tarpc: tarpc_peer::Client,
    tonic: tonic_peer::Client,
    /// Over a long way.
    far: Far,
    /// Over a long line.
    line: Far,
    bytes: Bytes,
    floats: Vec<f64>,
    /// Killed with the field.
    _servers: Vec<ServerProcess>,
}

/// Those who stream from far away.
struct Far {
    /// Like `ours` in the field.
    ours: Cluster,
    raw: SocketAddr,
    tonic: tonic_peer::Client,
    /// Killed with the others.
    _relays: [ServerProcess; 2],
}

impl Far {
    async fn start(way: Way, raw: SocketAddr, tonic: SocketAddr) -> Result<Self, Failure> {
        let (raw_relay, raw) = relay::start(raw, way).await?;
        let (tonic_relay, tonic) = relay::start(tonic, way).await?;
        Ok(Self {
            ours: Cluster::start_far(way).await?,
            raw,
            tonic: tonic_peer::Client::connect_far(tonic).await?,
            _relays: [raw_relay, tonic_relay],
        })
    }

    async fn ours(&self) -> Result<f64, Failure> {
        streams::mib_per_second(self.ours.streaming(), BLOCKS_FAR).await
    }

    async fn raw(&self) -> Result<f64, Failure> {
        streams::mib_per_second(raw::StreamClient::connect(self.raw).await?, BLOCKS_FAR).await
    }

    async fn tonic(&self) -> Result<f64, Failure> {
        streams::mib_per_second(self.tonic.clone(), BLOCKS_FAR).await
    }
}

impl Field {
    /// Starts all that stays for every round.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let mut servers = Vec::new();
        let mut addresses = Vec::new();
        for role in ["raw-server", "tarpc-server", "tonic-server"] {
            let mut server = ServerProcess::start(&[role])?;
            addresses.push(server.announced().await?.parse::<SocketAddr>().during("a server told no address")?);
            servers.push(server);
        }
        let &[raw, tarpc, tonic] = &addresses[..] else { return Err(Failure::new("not every server was started")) };
        Ok(Self {
            ours: Cluster::start(1, None).await?,
            secured: Cluster::start_secured().await?,
            pair: Cluster::start(distribute::NODES, Some(distribute::SLOTS)).await?,
            remote: RemoteCluster::start(1, None).await?,
            remote_pair: RemoteCluster::start(distribute::NODES, Some(distribute::SLOTS)).await?,
            raw: raw::Client::connect(raw).await?,
            raw_addr: raw,
            tarpc: tarpc_peer::Client::connect(tarpc).await?,
            tonic: tonic_peer::Client::connect(tonic).await?,
            far: Far::start(Way::Wide, raw, tonic).await?,
            line: Far::start(Way::Line, raw, tonic).await?,
            bytes: (0..LARGE).map(|at| (at / 7) as u8).collect(),
            floats: (0..LARGE / 8).map(|at| at as f64 / 7.0).collect(),
            _servers: servers,
        })
    }

    /// Runs a case once, for this long; its unit is the comparison's.
    pub(crate) async fn measure(&self, case: Case, time: Duration) -> Result<f64, Failure> {
        match case {
            Case::OursUnary => load::latency(&self.ours.client(), time).await.map(micros),
            Case::OursUnaryCompute => load::latency(&self.ours.computing(), time).await.map(micros),
            Case::RawUnary => load::latency(&self.raw, time).await.map(micros),
            Case::OursMany => load::rate(&self.ours.client(), time).await,
            Case::TarpcMany => load::rate(&self.tarpc, time).await,
            Case::TonicMany => load::rate(&self.tonic, time).await,
            Case::OursManyCompute => load::rate(&self.ours.computing(), time).await,
            Case::OursManyBusy => load::rate(&self.ours.busy(), time).await,
            Case::OursManyBusyCompute => load::rate(&self.ours.computing_busy(), time).await,
            Case::OursBytes => load::round_trip(&self.ours.client(), &self.bytes, time).await.map(millis),
            Case::RawBytes => load::round_trip(&self.raw, &self.bytes, time).await.map(millis),
            Case::TarpcBytes => load::round_trip(&self.tarpc, &self.bytes.to_vec(), time).await.map(millis),
            Case::TonicBytes => load::round_trip(&self.tonic, &self.bytes, time).await.map(millis),
            Case::OursFloats => load::round_trip(&self.ours.client(), &self.floats, time).await.map(millis),
            Case::RawFloats => load::round_trip(&self.raw, &self.floats, time).await.map(millis),
            Case::OursTail => load::tail(&self.ours.client(), time).await.map(millis),
            Case::OursTailBesideLarge => {
                load::tail_beside(&self.ours.client(), huge(), time).await.map(|(tail, _)| millis(tail))
            }
            Case::TonicTailBesideLarge => {
                load::tail_beside(&self.tonic, huge(), time).await.map(|(tail, _)| millis(tail))
            }
            Case::OursLargeBesideSmall => {
                load::tail_beside(&self.ours.client(), huge(), time).await.map(|(_, echo)| millis(echo))
            }
            Case::RawLarge => load::round_trip(&self.raw, &huge(), time).await.map(millis),
            Case::OursCancelBesideLarge => cancel::longest_beside(&self.ours.client(), huge(), time).await.map(millis),
            Case::TlsMany => load::rate(&self.secured.client(), time).await,
            Case::TlsBytes => load::round_trip(&self.secured.client(), &self.bytes, time).await.map(millis),
            Case::Distributed => distribute::items_per_second(&self.pair.computing()).await,
            Case::DistributedOneByOne => distribute::calls_per_second(&self.pair.computing(), time).await,
            Case::RemoteUnary => load::latency(&self.remote.client(), time).await.map(micros),
            Case::RemoteMany => load::rate(&self.remote.client(), time).await,
            Case::RemoteBytes => load::round_trip(&self.remote.client(), &self.bytes, time).await.map(millis),
            Case::RemoteDistributed => distribute::items_per_second(&self.remote_pair.computing()).await,
            Case::Light(nodes) => {
                let cluster = Cluster::start_simulated(nodes).await?;
                load::rate(&cluster.client(), time).await
            }
            Case::IdleNode => idle::kib_per_node().await,
            Case::OursStreamSmall => streams::items_per_second(self.ours.streaming()).await,
            Case::TonicStreamSmall => streams::items_per_second(self.tonic.clone()).await,
            Case::OursStreamBlocks => streams::mib_per_second(self.ours.streaming(), BLOCKS).await,
            Case::RawStreamBlocks => {
                streams::mib_per_second(raw::StreamClient::connect(self.raw_addr).await?, BLOCKS).await
            }
            Case::TonicStreamBlocks => streams::mib_per_second(self.tonic.clone(), BLOCKS).await,
            Case::OursStreamFar => self.far.ours().await,
            Case::RawStreamFar => self.far.raw().await,
            Case::TonicStreamFar => self.far.tonic().await,
            Case::OursStreamLine => self.line.ours().await,
            Case::RawStreamLine => self.line.raw().await,
            Case::TonicStreamLine => self.line.tonic().await,
        }
    }
}

/// A payload that takes about a second on the way. Made when it is needed.
fn huge() -> Bytes {
    vec![7; HUGE].into()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
