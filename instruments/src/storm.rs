//! Many nodes that register at once, over a line on which every message takes a while.

use std::time::Duration;

use distribution::{
    Master,
    simulation::{IdleNode, IdleNodes},
};
use distribution_tests::line::Line;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

/// How a storm went.
#[derive(Debug)]
pub struct Storm {
    /// Until when each node was registered, from when all began, in that order.
    pub registered: Vec<Duration>,
    /// How often they dialled, all together.
    pub tries: u32,
    /// They leave with this.
    pub nodes: Vec<IdleNode>,
    // What they are connected over.
    _line: Line,
}

/// Has this many nodes register at once over a line with this round trip, each however often it has to try; gives up
/// those that are not registered after `limit`.
///
/// # Panics
///
/// If one is refused for good.
pub async fn storm(master: &Master, token: Option<&str>, count: usize, round_trip: Duration, limit: Duration) -> Storm {
    let line = Line::to(master.local_addr(), round_trip).await;
    let nodes = IdleNodes::new(line.addr(), token).expect("they can be made");
    let begin = Instant::now();
    let mut tries: FuturesUnordered<_> = (0..count)
        .map(|number| {
            let nodes = nodes.clone();
            tokio::spawn(
                async move { nodes.register(format!("storm-{number}")).await.map(|node| (node, Instant::now())) },
            )
        })
        .collect();
    let mut storm = Storm { registered: Vec::new(), tries: 0, nodes: Vec::new(), _line: line };
    let end = sleep_until(begin + limit);
    tokio::pin!(end);
    loop {
        tokio::select! {
            next = tries.next() => match next {
                Some(registered) => {
                    let (node, at) = registered.expect("runs").expect("is not refused for good");
                    storm.registered.push(at - begin);
                    storm.tries += node.tries;
                    storm.nodes.push(node);
                }
                None => break,
            },
            () = &mut end => break,
        }
    }
    for late in tries {
        late.abort();
    }
    storm
}
