//! `InProcess`: calls behave as in a cluster, without a socket and on the runtime of any test.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use distribution::{CallError, InProcess, error::Execution, prelude::*};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};

/// A value that can be encoded only if it is even.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Even(u64);

impl Serialize for Even {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 2 {
            0 => serializer.serialize_newtype_struct("Even", &self.0),
            _ => Err(S::Error::custom("it is odd")),
        }
    }
}

#[distribution::service]
trait Lab {
    fn double(&self, number: u64) -> u64;
    async fn double_async(&self, number: u64) -> u64;
    fn half(&self, number: Even) -> Result<Even, String>;
    fn panics(&self) -> u64;
    fn thread(&self) -> String;
    fn call_id(&self) -> String;
    /// Returns once its caller has given up.
    fn compute_until_cancelled(&self) -> u64;
    /// Never returns.
    async fn wait_for_ever(&self) -> u64;
    async fn sleep_seconds(&self, seconds: u64) -> u64;
}

#[distribution::service]
trait Unserved {
    fn nothing(&self) -> u64;
}

struct Bench {
    /// Told when a handler has started, and again when its caller has given up.
    events: mpsc::Sender<&'static str>,
}

/// Tells when the future that holds it is dropped.
struct OnDrop(mpsc::Sender<&'static str>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send("cancelled");
    }
}

impl Lab for Bench {
    fn double(&self, number: u64) -> u64 {
        number * 2
    }

    async fn double_async(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        number * 2
    }

    fn half(&self, Even(number): Even) -> Result<Even, String> {
        if number == 0 { Err("zero".to_owned()) } else { Ok(Even(number / 2)) }
    }

    fn panics(&self) -> u64 {
        panic!("as it should")
    }

    fn thread(&self) -> String {
        format!("{:?}", std::thread::current().id())
    }

    fn call_id(&self) -> String {
        distribution::current().id().to_string()
    }

    fn compute_until_cancelled(&self) -> u64 {
        let _ = self.events.send("started");
        let call = distribution::current();
        while !call.is_cancelled() {
            std::thread::yield_now();
        }
        let _ = self.events.send("cancelled");
        0
    }

    async fn wait_for_ever(&self) -> u64 {
        let _cancelled = OnDrop(self.events.clone());
        let _ = self.events.send("started");
        std::future::pending().await
    }

    async fn sleep_seconds(&self, seconds: u64) -> u64 {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        seconds
    }
}

fn lab() -> (InProcess, LabClient, mpsc::Receiver<&'static str>) {
    let (events, seen) = mpsc::channel();
    let direct = InProcess::new().serve(LabServer::new(Bench { events }));
    let client = LabClient::new(&direct);
    (direct, client, seen)
}

/// Waits for an event without blocking the runtime, on which the handler may run.
async fn event(seen: &mpsc::Receiver<&'static str>) -> &'static str {
    loop {
        match seen.try_recv() {
            Ok(event) => return event,
            Err(mpsc::TryRecvError::Empty) => tokio::task::yield_now().await,
            Err(mpsc::TryRecvError::Disconnected) => panic!("the service is gone"),
        }
    }
}

#[tokio::test]
async fn compute_and_async_calls_are_answered() {
    let (_direct, lab, _) = lab();
    assert_eq!(lab.double(21).await, Ok(42));
    assert_eq!(lab.double_async(21).await, Ok(42));
    let answer = lab.double(1).answer().await.expect("is answered");
    assert_eq!((answer.value, &*answer.node.name, answer.attempts), (2, "in-process", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_on_a_runtime_with_several_threads() {
    let (_direct, lab, _) = lab();
    assert_eq!(lab.double(21).await, Ok(42));
    assert_eq!(lab.double_async(21).await, Ok(42));
}

#[test]
fn calls_are_answered_without_a_runtime() {
    let (_direct, lab, _) = lab();
    let calls = async { (lab.double(21).await, lab.double_async(21).await) };
    assert_eq!(futures::executor::block_on(calls), (Ok(42), Ok(42)));
}

#[tokio::test]
async fn compute_handlers_run_on_threads_of_the_node() {
    let (_direct, lab, _) = lab();
    assert_ne!(lab.thread().await, Ok(format!("{:?}", std::thread::current().id())));
}

#[tokio::test]
async fn arguments_and_results_are_encoded_and_decoded() {
    let (_direct, lab, _) = lab();
    assert_eq!(lab.half(Even(8)).await, Ok(Even(4)));
    assert_eq!(lab.half(Even(0)).await, Err(CallError::Handler("zero".to_owned())));
    let error = lab.half(Even(3)).await.expect_err("the argument cannot be encoded");
    assert!(matches!(error, CallError::Encode { .. }) && error.execution() == Execution::NotRun, "{error:?}");
    let error = lab.half(Even(6)).await.expect_err("the result cannot be encoded");
    assert!(matches!(error, CallError::Encode { .. }) && error.execution() == Execution::Ran, "{error:?}");
}

#[tokio::test]
async fn a_panic_comes_back_and_the_next_call_is_answered() {
    let (_direct, lab, _) = lab();
    let error = lab.panics().await.expect_err("it panics");
    assert!(matches!(&error, CallError::Panicked { message, .. } if message == "as it should"), "{error:?}");
    assert_eq!(lab.double(1).await, Ok(2));
}

#[tokio::test]
async fn a_call_of_a_service_that_is_not_served_ends_at_once() {
    let (direct, _, _) = lab();
    let error = UnservedClient::new(&direct).nothing().await.expect_err("nothing serves it");
    assert!(matches!(error, CallError::NoNode { waited: Duration::ZERO, .. }), "{error:?}");
}

#[tokio::test]
async fn a_timeout_ends_a_call_and_cancels_its_handler() {
    let (_direct, lab, seen) = lab();
    for call in [lab.compute_until_cancelled(), lab.wait_for_ever()] {
        let error = call.timeout(Duration::from_millis(50)).await.expect_err("it never ends by itself");
        assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
        assert_eq!((event(&seen).await, event(&seen).await), ("started", "cancelled"));
    }
}

#[tokio::test]
async fn dropping_a_call_cancels_its_handler() {
    let (_direct, lab, seen) = lab();
    for call in [lab.compute_until_cancelled(), lab.wait_for_ever()] {
        let handle = call.send();
        assert_eq!(event(&seen).await, "started");
        drop(handle);
        assert_eq!(event(&seen).await, "cancelled");
    }
}

#[tokio::test]
async fn dropping_it_ends_calls() {
    let (direct, lab, seen) = lab();
    let handle = lab.wait_for_ever().send();
    assert_eq!(event(&seen).await, "started");
    drop(direct);
    let error = handle.await.expect_err("nothing answers it");
    assert!(matches!(error, CallError::Shutdown { execution: Execution::MayHaveRun, .. }), "{error:?}");
    let error = lab.double(1).await.expect_err("nothing serves it");
    assert!(matches!(error, CallError::Shutdown { execution: Execution::NotRun, .. }), "{error:?}");
}

#[tokio::test]
async fn many_calls_can_be_distributed_and_broadcast() {
    let (_direct, lab, _) = lab();
    let keyed = (0..5000).map(|number| (number, lab.double(number)));
    let doubled: Vec<(u64, u64)> = keyed.distribute().try_collect().await.expect("all are answered");
    assert_eq!(doubled, (0..5000).map(|number| (number, number * 2)).collect::<Vec<_>>());
    let results = lab.double(4).broadcast().await;
    assert_eq!(
        results.into_iter().map(|(node, result)| (node.name.to_string(), result)).collect::<Vec<_>>(),
        [("in-process".to_owned(), Ok(8))]
    );
}

#[tokio::test]
async fn handlers_know_the_call_that_they_run() {
    let (_direct, lab, _) = lab();
    let (one, other) = (lab.call_id().await, lab.call_id().await);
    assert!(one.is_ok() && other.is_ok() && one != other, "{one:?} {other:?}");
}

#[tokio::test]
async fn a_large_value_is_longer_than_the_buffer_between_master_and_node() {
    let (events, _seen) = mpsc::channel();
    let direct = InProcess::new().serve(LabServer::new(Bench { events })).serve(EchoServer::new(Mirror));
    let bytes = vec![7; 4 * 1024 * 1024];
    assert_eq!(EchoClient::new(&direct).echo(bytes.clone()).await, Ok(bytes));
    assert_eq!(LabClient::new(&direct).double(1).await, Ok(2), "both services are served");
}

#[distribution::service]
trait Echo {
    fn echo(&self, bytes: Vec<u8>) -> Vec<u8>;
}

struct Mirror;

impl Echo for Mirror {
    fn echo(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

#[tokio::test(start_paused = true)]
async fn with_paused_time_calls_are_answered_and_handlers_sleep_in_no_time() {
    let (_direct, lab, _) = lab();
    assert_eq!(lab.double(21).await, Ok(42));
    let started = (Instant::now(), tokio::time::Instant::now());
    assert_eq!(lab.sleep_seconds(3600).await, Ok(3600));
    assert!(started.0.elapsed() < Duration::from_secs(3600));
    assert!(started.1.elapsed() >= Duration::from_secs(3600));
}

#[test]
#[should_panic(expected = "after a client was made")]
fn serving_after_a_client_was_made_panics() {
    let (direct, _, _) = lab();
    let _ = direct.serve(EchoServer::new(Mirror));
}

#[test]
#[should_panic(expected = "serves `Echo` twice")]
fn serving_a_service_twice_panics_when_a_client_is_made() {
    let direct = InProcess::new().serve(EchoServer::new(Mirror)).serve(EchoServer::new(Mirror));
    let _ = EchoClient::new(&direct);
}
