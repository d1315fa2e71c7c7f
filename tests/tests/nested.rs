//! Nested calls: handlers that make calls.

use std::time::Duration;

use distribution::{CallError, InProcess, LocalCluster, NodeBuilder, current, service};
use distribution_tests::{meeting, meeting::Meeting, soon, until};

#[service]
trait Family {
    /// The Fibonacci number, by two nested calls.
    fn fibonacci(&self, number: u64) -> u64;
    /// The depth that is reached by nested async calls.
    async fn depth(&self, deep: u32) -> u32;
    /// Calls itself without end.
    async fn circle(&self) -> Result<u32, String>;
    /// The same as compute calls.
    fn compute_circle(&self) -> Result<u32, String>;
    /// Makes this many nested calls that wait for the test, and waits for them.
    async fn tree(&self, children: u32, at: std::net::SocketAddr) -> u32;
    /// Waits until the test lets it go.
    async fn leaf(&self, at: std::net::SocketAddr) -> u32;
}

struct Relatives;

impl Family for Relatives {
    fn fibonacci(&self, number: u64) -> u64 {
        if number < 2 {
            return number;
        }
        let family = FamilyClient::new(&current());
        let both = [family.fibonacci(number - 1).send(), family.fibonacci(number - 2).send()];
        both.into_iter().map(|call| call.wait().expect("is answered")).sum()
    }

    async fn depth(&self, deep: u32) -> u32 {
        match deep {
            0 => 0,
            deep => 1 + FamilyClient::new(&current()).depth(deep - 1).await.expect("is answered"),
        }
    }

    async fn circle(&self) -> Result<u32, String> {
        match FamilyClient::new(&current()).circle().await {
            Ok(below) => Ok(below + 1),
            Err(CallError::TooDeep { limit, .. }) => Ok(limit),
            Err(other) => Err(other.to_string()),
        }
    }

    fn compute_circle(&self) -> Result<u32, String> {
        match FamilyClient::new(&current()).compute_circle().wait() {
            Ok(below) => Ok(below + 1),
            Err(CallError::TooDeep { limit, .. }) => Ok(limit),
            Err(other) => Err(other.to_string()),
        }
    }

    async fn tree(&self, children: u32, at: std::net::SocketAddr) -> u32 {
        let family = FamilyClient::new(&current());
        let calls: Vec<_> = (0..children).map(|_| family.leaf(at).send()).collect();
        let mut sum = 0;
        for call in calls {
            sum += call.await.unwrap_or(0);
        }
        sum
    }

    async fn leaf(&self, at: std::net::SocketAddr) -> u32 {
        meeting::wait(at, "leaf").await;
        1
    }
}

async fn cluster(nodes: usize, slots: usize) -> (LocalCluster, FamilyClient) {
    let cluster =
        LocalCluster::builder().nodes(nodes).slots(slots).serve(|| FamilyServer::new(Relatives)).start().await;
    let cluster = cluster.expect("starts");
    let family = FamilyClient::new(&cluster);
    (cluster, family)
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_compute_calls_finish_on_one_slot() {
    let (_cluster, family) = cluster(1, 1).await;
    assert_eq!(soon("the number", family.fibonacci(12)).await, Ok(144));
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_compute_calls_finish_on_three_nodes() {
    let (_cluster, family) = cluster(3, 1).await;
    assert_eq!(soon("the number", family.fibonacci(14)).await, Ok(377));
}

#[tokio::test(flavor = "multi_thread")]
async fn async_calls_may_be_nested_two_hundred_deep() {
    let (_cluster, family) = cluster(1, 1).await;
    assert_eq!(soon("the depth", family.depth(200)).await, Ok(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_wait_for_nested_calls_do_not_count_towards_the_async_limit() {
    let node = |node: NodeBuilder| node.async_limit(1).serve(FamilyServer::new(Relatives));
    let master = distribution::Master::bind("127.0.0.1:0").await.expect("binds");
    let _node = node(distribution::Node::builder()).spawn(master.local_addr()).await.expect("registers");
    assert_eq!(soon("the depth", FamilyClient::new(&master).depth(20)).await, Ok(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_calls_ends_at_the_limit_of_depth() {
    let (_cluster, family) = cluster(1, 1).await;
    assert_eq!(soon("the circle", family.circle()).await, Ok(256 + 256));
    assert_eq!(soon("the circle", family.compute_circle()).await, Ok(256 + 256));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_call_cancels_the_calls_that_its_handler_made() {
    let (cluster, family) = cluster(2, 1).await;
    let mut meeting = Meeting::new().await;
    let tree = family.tree(20, meeting.addr()).send();
    let mut guests = Vec::new();
    for _ in 0..20 {
        guests.push(meeting.guest("leaf").await);
    }
    drop(tree);
    for guest in guests {
        guest.gone().await;
    }
    until("nothing is left", || cluster.master().nodes().iter().all(|node| node.in_flight == 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_calls_inherit_the_deadline() {
    let (cluster, family) = cluster(2, 1).await;
    let mut meeting = Meeting::new().await;
    let tree = family.tree(20, meeting.addr()).timeout(Duration::from_millis(300)).send();
    let mut guests = Vec::new();
    for _ in 0..20 {
        guests.push(meeting.guest("leaf").await);
    }
    let error = tree.await.expect_err("nothing was released");
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    for guest in guests {
        guest.gone().await;
    }
    until("nothing is left", || cluster.master().nodes().iter().all(|node| node.in_flight == 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_calls_work_in_process() {
    let direct = InProcess::new().serve(FamilyServer::new(Relatives));
    let family = FamilyClient::new(&direct);
    assert_eq!(soon("the number", family.fibonacci(8)).await, Ok(21));
    assert_eq!(soon("the depth", family.depth(10)).await, Ok(10));
}

#[tokio::test]
async fn a_call_outside_a_handler_says_so() {
    let error = FamilyClient::new(&current()).depth(1).await.expect_err("there is no cluster");
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
    assert!(error.to_string().contains("outside a handler"), "{error}");
}
