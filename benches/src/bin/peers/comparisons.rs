//! What is compared with what, and how much better the crate is to be.

use clap::ValueEnum;

/// One thing that is run and gives one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Latency of one caller over this crate, in microseconds.
    OursUnary,
    /// The same for compute calls.
    OursUnaryCompute,
    /// The same without a library.
    RawUnary,
    /// Async calls a second of many callers over this crate and one node.
    OursMany,
    /// The same over tarpc.
    TarpcMany,
    /// The same over tonic.
    TonicMany,
    /// Compute calls a second of many callers over this crate and one node.
    OursManyCompute,
    /// Async calls a second of many callers, whose handlers calculate for a while and never wait.
    OursManyBusy,
    /// The same as compute calls.
    OursManyBusyCompute,
    /// Large `Bytes` there and back over this crate, in milliseconds.
    OursBytes,
    /// The same without a library.
    RawBytes,
    /// The same over tarpc, as `Vec<u8>`.
    TarpcBytes,
    /// The same over tonic.
    TonicBytes,
    /// A large `Vec<f64>` there and back over this crate, in milliseconds.
    OursFloats,
    /// The same without a library.
    RawFloats,
    /// Async calls a second of many callers over this crate and one node, within TLS.
    TlsMany,
    /// Large `Bytes` there and back over this crate within TLS, in milliseconds.
    TlsBytes,
    /// The 99th percentile of small async calls over this crate, in milliseconds.
    OursTail,
    /// The same beside an echo of 700 MiB on the same connection.
    OursTailBesideLarge,
    /// The same over tonic.
    TonicTailBesideLarge,
    /// That echo there and back beside small calls, in milliseconds.
    OursLargeBesideSmall,
    /// The same without a library and without small calls.
    RawLarge,
    /// The longest time of a cancel to its handler beside that echo, in milliseconds.
    OursCancelBesideLarge,
    /// Items a second of one distribution over two nodes.
    Distributed,
    /// Compute calls a second of many callers over the same nodes.
    DistributedOneByOne,
    /// The same as `OursUnary`, called from another process than the master's.
    RemoteUnary,
    /// The same as `OursMany`, called from another process than the master's.
    RemoteMany,
    /// The same as `OursBytes`, called from another process than the master's.
    RemoteBytes,
    /// The same as `Distributed`, called from another process than the master's.
    RemoteDistributed,
    /// Calls a second of many callers over this crate and this many simulated nodes.
    Light(usize),
    /// Memory of a master for each idle node, in KiB.
    IdleNode,
    /// Small items a second of one stream over this crate.
    OursStreamSmall,
    /// The same over tonic.
    TonicStreamSmall,
    /// MiB a second of one stream of blocks over this crate.
    OursStreamBlocks,
    /// The same without a library.
    RawStreamBlocks,
    /// The same over tonic.
    TonicStreamBlocks,
    /// The same as `OursStreamBlocks`, over a long way.
    OursStreamFar,
    /// The same without a library.
    RawStreamFar,
    /// The same over tonic.
    TonicStreamFar,
    /// The same as `OursStreamBlocks`, over a long line.
    OursStreamLine,
    /// The same without a library.
    RawStreamLine,
    /// The same over tonic.
    TonicStreamLine,
}

/// No case is run in more pieces than this within a round.
pub(crate) const MOST_SLICES: u32 = 8;

impl Case {
    /// In how many pieces a round runs it, turn by turn with the others. Latency depends on which cores the system puts
    /// the two processes on, and stays with that for a while, so one long run is a throw of the dice.
    pub(crate) fn slices(self) -> u32 {
        match self {
            Self::OursUnary | Self::OursUnaryCompute | Self::RawUnary | Self::RemoteUnary => MOST_SLICES,
            _ => 1,
        }
    }

    /// Open files of the process that has the most: connections, and some for the rest.
    pub(crate) fn open_files(self) -> u64 {
        const REST: u64 = 100;
        match self {
            Self::IdleNode => crate::idle::NODES as u64 + REST,
            _ => REST,
        }
    }
}

/// What the crate is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// Another run.
    Case(Case),
    /// A number.
    Limit(f64),
}

/// Whether a small number is the better one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Better {
    /// Times and memory.
    Less,
    /// Rates.
    More,
}

/// The measures by the names that `--only` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// Median latency of one caller's small async calls.
    #[value(name = "unary_p50")]
    UnaryP50,
    /// Median latency of one caller's small compute calls.
    #[value(name = "compute_p50")]
    ComputeP50,
    /// Async calls a second of 256 callers over one node.
    #[value(name = "unary_256")]
    Unary256,
    /// Compute calls a second of 256 callers over one node.
    #[value(name = "compute_256")]
    Compute256,
    /// Async calls a second of 256 callers over one node, of 80 microseconds of work each.
    #[value(name = "busy_256")]
    Busy256,
    /// 16 MiB of bytes there and back.
    #[value(name = "bytes_16m")]
    Bytes16m,
    /// 16 MiB of `f64` there and back.
    #[value(name = "vec_f64_16m")]
    VecF6416m,
    /// The same as `unary_256` within TLS.
    #[value(name = "tls_256")]
    Tls256,
    /// The same as `bytes_16m` within TLS.
    #[value(name = "tls_16m")]
    Tls16m,
    /// The 99th percentile of small async calls beside an echo of 700 MiB.
    SmallBesideLarge,
    /// An echo of 700 MiB beside small async calls.
    LargeBesideSmall,
    /// The longest way of a cancel beside an echo of 700 MiB.
    CancelBesideLarge,
    /// A million tiny compute calls, distributed over two nodes.
    #[value(name = "distribute_1m")]
    Distribute1m,
    /// The same as `unary_p50`, called from another process than the master's.
    CallerUnary,
    /// The same as `unary_256`, called from another process than the master's.
    CallerMany,
    /// The same as `bytes_16m`, called from another process than the master's.
    CallerBytes,
    /// The same as `distribute_1m`, called from another process than the master's.
    #[value(name = "caller_distribute_1m")]
    CallerDistribute1m,
    /// Calls a second of 256 callers over 64 nodes.
    #[value(name = "nodes_64")]
    Nodes64,
    /// Calls a second of 256 callers over 1,000 nodes.
    #[value(name = "nodes_1000")]
    Nodes1000,
    /// Memory of the master for each idle node.
    #[value(name = "idle_node")]
    IdleNode,
    /// A million small items through one stream.
    #[value(name = "stream_small")]
    StreamSmall,
    /// Blocks of 64 KiB through one stream, 1 GiB of them.
    #[value(name = "stream_64k")]
    Stream64k,
    /// 256 MiB of the same blocks, at a round trip of 60 ms.
    #[value(name = "stream_rtt60")]
    StreamRtt60,
    /// The same over a line of 1 Gbit/s.
    #[value(name = "stream_rtt60_1g")]
    StreamRtt60Line,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) measure: Measure,
    pub(crate) peer: &'static str,
    pub(crate) ours: Case,
    pub(crate) theirs: Against,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The ratio to reach; above 1 the crate is the better one.
    pub(crate) target: f64,
}

impl Comparison {
    /// How many times better `ours` is.
    pub(crate) fn ratio(&self, ours: f64, theirs: f64) -> f64 {
        match self.better {
            Better::Less => theirs / ours,
            Better::More => ours / theirs,
        }
    }

    /// The runs it needs.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Case> {
        let theirs = match self.theirs {
            Against::Case(case) => Some(case),
            Against::Limit(_) => None,
        };
        std::iter::once(self.ours).chain(theirs)
    }
}

impl Measure {
    /// The name in the table and on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is held against.
    pub(crate) fn comparisons(self) -> Vec<Comparison> {
        use Against::{Case as Run, Limit};
        let (unit, better, ours) = match self {
            Self::UnaryP50 => ("us", Better::Less, Case::OursUnary),
            Self::ComputeP50 => ("us", Better::Less, Case::OursUnaryCompute),
            Self::Busy256 => ("calls/s", Better::More, Case::OursManyBusy),
            Self::Unary256 => ("calls/s", Better::More, Case::OursMany),
            Self::Compute256 => ("calls/s", Better::More, Case::OursManyCompute),
            Self::Bytes16m => ("ms", Better::Less, Case::OursBytes),
            Self::VecF6416m => ("ms", Better::Less, Case::OursFloats),
            Self::Tls256 => ("calls/s", Better::More, Case::TlsMany),
            Self::Tls16m => ("ms", Better::Less, Case::TlsBytes),
            Self::SmallBesideLarge => ("ms", Better::Less, Case::OursTailBesideLarge),
            Self::LargeBesideSmall => ("ms", Better::Less, Case::OursLargeBesideSmall),
            Self::CancelBesideLarge => ("ms", Better::Less, Case::OursCancelBesideLarge),
            Self::Distribute1m => ("items/s", Better::More, Case::Distributed),
            Self::CallerUnary => ("us", Better::Less, Case::RemoteUnary),
            Self::CallerMany => ("calls/s", Better::More, Case::RemoteMany),
            Self::CallerBytes => ("ms", Better::Less, Case::RemoteBytes),
            Self::CallerDistribute1m => ("items/s", Better::More, Case::RemoteDistributed),
            Self::Nodes64 => ("calls/s", Better::More, Case::Light(64)),
            Self::Nodes1000 => ("calls/s", Better::More, Case::Light(1000)),
            Self::IdleNode => ("KiB", Better::Less, Case::IdleNode),
            Self::StreamSmall => ("items/s", Better::More, Case::OursStreamSmall),
            Self::Stream64k => ("MiB/s", Better::More, Case::OursStreamBlocks),
            Self::StreamRtt60 => ("MiB/s", Better::More, Case::OursStreamFar),
            Self::StreamRtt60Line => ("MiB/s", Better::More, Case::OursStreamLine),
        };
        let peers: &[(&str, Against, f64)] = match self {
            Self::UnaryP50 => &[("raw", Run(Case::RawUnary), 0.8)],
            Self::Unary256 => &[("tarpc", Run(Case::TarpcMany), 1.3), ("tonic", Run(Case::TonicMany), 3.5)],
            // At most 1.3 times as long.
            Self::ComputeP50 => &[("ours_async", Run(Case::OursUnary), 0.77)],
            Self::Compute256 => &[("ours_async", Run(Case::OursMany), 0.8)],
            Self::Busy256 => &[("ours_compute", Run(Case::OursManyBusyCompute), 0.8)],
            Self::Bytes16m => &[
                ("raw", Run(Case::RawBytes), 0.8),
                ("tarpc", Run(Case::TarpcBytes), 5.0),
                ("tonic", Run(Case::TonicBytes), 3.0),
            ],
            Self::VecF6416m => &[("raw", Run(Case::RawFloats), 0.4)],
            Self::Tls256 => &[("ours_plain", Run(Case::OursMany), 0.8)],
            Self::Tls16m => &[("ours_plain", Run(Case::OursBytes), 0.5)],
            // At most ten times as long as without the large one.
            Self::SmallBesideLarge => &[
                ("limit", Limit(5.0), 1.0),
                ("ours_quiet", Run(Case::OursTail), 0.1),
                ("tonic", Run(Case::TonicTailBesideLarge), 1.0),
            ],
            Self::LargeBesideSmall => &[("raw", Run(Case::RawLarge), 0.7)],
            Self::CancelBesideLarge => &[("limit", Limit(50.0), 1.0)],
            Self::Distribute1m => &[("ours_256", Run(Case::DistributedOneByOne), 10.0)],
            // At most 2.2 times as long: there are twice as many connections on the way.
            Self::CallerUnary => &[("own_process", Run(Case::OursUnary), 0.45)],
            Self::CallerMany => &[("own_process", Run(Case::OursMany), 0.5)],
            Self::CallerBytes => &[("own_process", Run(Case::OursBytes), 0.5)],
            Self::CallerDistribute1m => &[("own_process", Run(Case::Distributed), 0.6)],
            Self::Nodes64 => &[("ours_2_nodes", Run(Case::Light(2)), 0.9)],
            Self::Nodes1000 => &[("ours_2_nodes", Run(Case::Light(2)), 0.8)],
            Self::IdleNode => &[("limit", Limit(32.0), 1.0)],
            Self::StreamSmall => &[("limit", Limit(3_000_000.0), 1.0), ("tonic", Run(Case::TonicStreamSmall), 1.0)],
            Self::Stream64k => {
                &[("raw", Run(Case::RawStreamBlocks), 0.7), ("tonic", Run(Case::TonicStreamBlocks), 1.0)]
            }
            Self::StreamRtt60 => &[("raw", Run(Case::RawStreamFar), 0.8), ("tonic", Run(Case::TonicStreamFar), 1.0)],
            Self::StreamRtt60Line => {
                &[("raw", Run(Case::RawStreamLine), 0.8), ("tonic", Run(Case::TonicStreamLine), 1.0)]
            }
        };
        let line = |&(peer, theirs, target)| Comparison { measure: self, peer, ours, theirs, unit, better, target };
        peers.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_one_is_better_for_times_and_for_rates() {
        for measure in Measure::value_variants() {
            for comparison in measure.comparisons() {
                let (better, worse) = match comparison.better {
                    Better::Less => (1.0, 2.0),
                    Better::More => (2.0, 1.0),
                };
                assert_eq!(comparison.ratio(better, worse), 2.0, "{}", measure.name());
            }
        }
    }
}
