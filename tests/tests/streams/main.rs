//! Streams: methods that return them, and arguments that are streams.

mod corners;
mod hostile;
mod service;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use distribution::{
    CallError, Cluster, InProcess, Master, Node, StreamCall, Streaming,
    error::{Execution, Part},
};
use distribution_tests::{failure, soon, until};
use futures::{StreamExt, stream};

use self::service::{Notes, Source, StreamsClient, StreamsServer, local, until_at_rest};

/// Something that all ways of making calls must do alike.
async fn all_streams_work(streams: &StreamsClient) {
    for end in [0, 1, 2, 1000, 100_000] {
        let expected: Vec<u64> = (0..end).collect();
        assert_eq!(streams.count(end).try_collect::<Vec<_>>().await, Ok(expected.clone()), "count {end}");
        assert_eq!(streams.count_waiting(end).try_collect::<Vec<_>>().await, Ok(expected.clone()), "waiting {end}");
        assert_eq!(streams.sum(1, Streaming::from_iter(0..end)).await, Ok(1 + expected.iter().sum::<u64>()));
        let values = Streaming::new(stream::iter(0..end));
        assert_eq!(streams.sum_waiting(values).await, Ok(expected.iter().sum::<u64>()));
        let doubled: Vec<u64> = expected.iter().map(|value| 2 * value).collect();
        let values = Streaming::new(stream::iter(0..end));
        assert_eq!(streams.doubled(values).try_collect::<Vec<_>>().await, Ok(doubled.clone()));
        let values = Streaming::from_iter(0..end);
        assert_eq!(streams.doubled_waiting(values).try_collect::<Vec<_>>().await, Ok(doubled));
        assert_eq!(streams.count_nested(end).try_collect::<Vec<_>>().await, Ok(expected.clone()));
        assert_eq!(streams.count_nested_blocking(end).try_collect::<Vec<_>>().await, Ok(expected));
    }
    let lengths = vec![0, 1, 60_000, 65_532, 65_536, 65_537, 200_000, 3_000_000, 0, 5];
    let texts: Vec<String> = streams.texts(lengths.clone()).try_collect().await.expect("all come");
    assert_eq!(texts.iter().map(|text| text.len() as u64).collect::<Vec<_>>(), lengths);
    let blocks: Vec<Bytes> = streams.blocks(100, 100_000).try_collect().await.expect("all come");
    assert!(blocks.len() == 100 && blocks.iter().all(|block| block.len() == 100_000 && block.iter().all(|b| *b == 7)));
    let sent = stream::iter(blocks);
    assert_eq!(streams.length(Streaming::new(sent)).await, Ok(10_000_000));
    assert_eq!(streams.add(1, 2).await, Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_work_in_the_masters_process() {
    let (_cluster, streams, notes) = local(2).await;
    soon("all streams", all_streams_work(&streams)).await;
    until("all were dropped", || notes.running() == 0).await;
}

#[tokio::test]
async fn streams_work_in_process() {
    let direct = InProcess::new().serve(StreamsServer::new(Source::default()));
    soon("all streams", all_streams_work(&StreamsClient::new(&direct))).await;
}

#[tokio::test]
async fn streams_work_from_a_caller_elsewhere() {
    let (cluster, _, notes) = local(2).await;
    let caller = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    soon("all streams", all_streams_work(&StreamsClient::new(&caller))).await;
    until("all were dropped", || notes.running() == 0).await;
}

#[tokio::test]
async fn items_that_are_errors_do_not_end_a_stream() {
    let (_cluster, streams, _) = local(1).await;
    let items: Vec<_> = streams.even(4).collect().await;
    let odd = |number: u64| Err(CallError::Handler(format!("{number} is odd")));
    assert_eq!(items, [Ok(0), odd(1), Ok(2), odd(3)]);
    assert_eq!(streams.even(4).try_collect::<Vec<_>>().await, odd(1).map(|_: u64| Vec::new()));
    let values = Streaming::from_iter([6, 7]);
    assert_eq!(streams.sum_waiting(values).await, Err(CallError::Handler("unlucky".to_owned())));
}

#[tokio::test]
async fn a_panic_ends_a_stream_behind_the_items_before_it() {
    let (_cluster, streams, _) = local(1).await;
    let mut items = streams.panic_after(1000);
    for number in 0..1000 {
        assert_eq!(items.next().await, Some(Ok(number)));
    }
    let error = items.next().await.expect("is not the end").expect_err("panics");
    assert!(matches!(&error, CallError::Panicked { message, .. } if message == "no more than 1000"), "{error:?}");
    assert_eq!(items.next().await, None, "nothing comes behind an error");
    assert_eq!(streams.add(1, 2).await, Ok(3), "the node goes on");
}

#[tokio::test]
async fn a_stream_is_not_sent_before_it_is_polled() {
    let (cluster, streams, notes) = local(1).await;
    let items = streams.count(10);
    assert_eq!(items.id(), None);
    drop(items);
    let items = streams.count(10).send();
    assert!(items.id().is_some());
    until("it is begun", || notes.running() == 1 || notes.made() == 10).await;
    drop(items);
    drop(cluster);
}

#[tokio::test]
async fn the_first_items_are_not_held_back() {
    let (_cluster, streams, _) = local(1).await;
    let mut items = streams.stuck_after(3);
    for number in 0..3 {
        assert_eq!(soon("an item", items.next()).await, Some(Ok(number)));
    }
}

/// How much a producer may be ahead of a consumer that has taken nothing: the window and one item.
fn most_made(size: u64) -> u64 {
    64 * 1024 / (size + 4) + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_at_most_the_window_and_one_item_ahead() {
    let (cluster, streams, notes) = local(1).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    for streams in [&streams, &StreamsClient::new(&elsewhere)] {
        for size in [1000_u64, 200_000] {
            let before = notes.made();
            let mut items = streams.blocks(1_000_000, size - 3).send();
            until("it is begun", || notes.made() > before).await;
            let made = until_at_rest(&notes).await - before;
            assert!(made <= most_made(size), "{made} items of {size} bytes");
            // It goes on when the consumer does, and stops again.
            for _ in 0..100 {
                items.next().await.expect("there are more").expect("is an item");
            }
            let made = until_at_rest(&notes).await - before;
            // The window may have grown up to its limit.
            let most = 100 + 64 * 1024 * 1024 / size + 1;
            assert!((100..=most).contains(&made), "{made} items of {size} bytes");
        }
        until("the producer was dropped", || notes.running() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_is_not_read_ahead_of_its_handler() {
    let (cluster, streams, _) = local(1).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    for streams in [&streams, &StreamsClient::new(&elsewhere)] {
        let polled = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&polled);
        let values = stream::iter(0..u64::MAX).inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));
        // The slot is taken, so that the next handler does not begin.
        let busy = streams.doubled(Streaming::new(stream::pending())).send();
        until("it runs", || cluster.master().nodes().iter().any(|node| node.in_flight == 1)).await;
        let sum = streams.sum(0, Streaming::new(values)).send();
        drop((busy, sum));
        assert!(polled.load(Ordering::Relaxed) < 100_000);
        // A handler that reads some of it ends all of it.
        let (counted, is_dropped) = (Arc::clone(&polled), Arc::new(AtomicBool::new(false)));
        let guard = SetOnDrop(Arc::clone(&is_dropped));
        let values = stream::iter(0..u64::MAX).inspect(move |_| {
            let _guard = &guard;
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(soon("the sum", streams.sum_first(3, Streaming::new(values))).await, Ok(3));
        until("the stream was dropped", || is_dropped.load(Ordering::Relaxed)).await;
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_stream_ends_its_handler_also_while_it_waits() {
    let (cluster, streams, notes) = local(1).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    for streams in [&streams, &StreamsClient::new(&elsewhere)] {
        // For credit on a slot and without one, and for the next item.
        for mut items in [streams.count(u64::MAX), streams.count_waiting(u64::MAX), streams.stuck_after(3)] {
            assert_eq!(soon("an item", items.next()).await, Some(Ok(0)));
            until_at_rest(&notes).await;
            drop(items);
            until("it was dropped", || notes.running() == 0).await;
        }
        // A compute handler that waits for an argument, and an async one.
        let gone = notes.readers_gone.load(Ordering::Relaxed);
        let waits = streams.sum(0, Streaming::new(stream::iter([1]).chain(stream::pending()))).send();
        until("it waits", || cluster.master().nodes().iter().any(|node| node.in_flight == 1)).await;
        drop(waits);
        let waits = streams.sum_waiting(Streaming::new(stream::iter([1]).chain(stream::pending()))).send();
        until("it waits", || cluster.master().nodes().iter().any(|node| node.in_flight == 1)).await;
        drop(waits);
        until("both have ended, or were never begun", || {
            cluster.master().nodes().iter().all(|node| node.in_flight == 0)
        })
        .await;
        assert!(notes.readers_gone.load(Ordering::Relaxed) - gone <= 2);
        assert_eq!(soon("a sum", streams.add(1, 2)).await, Ok(3), "the slot is free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_a_stream_in_either_direction() {
    let (cluster, streams, notes) = local(1).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    let time = Duration::from_millis(300);
    for streams in [&streams, &StreamsClient::new(&elsewhere)] {
        let mut items = streams.count(u64::MAX).timeout(time);
        let mut last = None;
        while let Some(item) = soon("an item", items.next()).await {
            last = Some(item);
        }
        let error = last.expect("there were some").expect_err("has no end");
        assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
        let values = Streaming::new(stream::pending());
        let error = failure(soon("the sum", streams.sum(0, values).timeout(time)).await);
        assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
        // A consumer that has stopped reading gets it too.
        let mut items = streams.count(u64::MAX).timeout(time).send();
        until("it was dropped", || notes.running() == 0).await;
        let error = loop {
            match soon("an item", items.next()).await.expect("is not the end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_free_while_its_stream_waits_for_its_consumer() {
    let (_cluster, streams, notes) = local(1).await;
    let mut stalled: Vec<StreamCall<u64>> = (0..20).map(|_| streams.count(u64::MAX).send()).collect();
    until("all are begun", || notes.running() == 20).await;
    assert_eq!(soon("a sum", streams.add(1, 2)).await, Ok(3));
    for items in &mut stalled {
        for number in 0..50_000 {
            assert_eq!(soon("an item", items.next()).await, Some(Ok(number)));
        }
    }
    drop(stalled);
    until("all were dropped", || notes.running() == 0).await;
}

#[tokio::test]
async fn a_stream_can_be_read_by_code_that_is_not_async() {
    let (cluster, streams, _) = local(1).await;
    let sum = tokio::task::spawn_blocking(move || {
        let sum: u64 = streams.count(1000).iter().map(|item| item.expect("is an item")).sum();
        sum + streams.sum(0, Streaming::from_iter(0..10)).wait().expect("is a sum")
    });
    assert_eq!(sum.await.expect("does not panic"), 499_500 + 45);
    drop(cluster);
}

#[tokio::test]
async fn a_caller_whose_own_stream_panics_or_is_too_large_is_told() {
    let (cluster, streams, notes) = local(1).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    for streams in [&streams, &StreamsClient::new(&elsewhere)] {
        let values = stream::iter(0..10_u64).inspect(|value| assert!(*value < 5, "five"));
        for values in
            [Streaming::new(values), Streaming::from_iter((0..10).inspect(|value| assert!(*value < 5, "five")))]
        {
            let error = soon("the sum", streams.sum_waiting(values)).await.expect_err("cannot be sent");
            let CallError::Encode { part: Part::Item, source, .. } = &error else { panic!("{error:?}") };
            assert!(source.to_string().contains("panicked here: five"), "{source}");
            assert_eq!(error.execution(), Execution::MayHaveRun);
        }
        until("the handlers have ended", || notes.readers_gone.load(Ordering::Relaxed) % 2 == 0).await;
    }
}

#[tokio::test]
async fn calls_with_a_streaming_argument_are_sent_by_themselves() {
    use distribution::prelude::*;
    let (_cluster, streams, _) = local(1).await;
    let calls = [streams.sum(0, Streaming::from_iter(0..3))];
    let results: Vec<_> = calls.into_iter().distribute().collect().await;
    let [Err(error)] = &results[..] else { panic!("{results:?}") };
    assert!(error.to_string().contains("can be sent only once"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_ends_its_streams_and_one_that_has_yielded_nothing_is_repeated() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let streams = StreamsClient::new(&master);
    let source = Source::default();
    let start = |notes: &Arc<Notes>| {
        let source = Source { notes: Arc::clone(notes) };
        Node::builder().slots(1).serve(StreamsServer::new(source)).spawn(master.local_addr())
    };
    let first = start(&source.notes).await.expect("registers");
    let mut items = streams.count_again(u64::MAX);
    for number in 0..10 {
        assert_eq!(items.next().await, Some(Ok(number)));
    }
    // It has a stream of arguments of which it has read something, and one that it has not read.
    let read = streams.doubled_waiting(Streaming::new(stream::iter([1]).chain(stream::pending())));
    let mut read = Box::pin(read);
    assert_eq!(read.next().await, Some(Ok(2)));
    let mut waits = streams.count_again(3).on(first.id()).send();
    drop(first);
    let mut last = None;
    while let Some(item) = soon("an item", items.next()).await {
        last = Some(item);
    }
    let error = last.expect("there were some").expect_err("has no end");
    assert!(matches!(error, CallError::NodeLost { .. }), "{error:?}");
    let error = soon("the end", read.next()).await.expect("is not the end").expect_err("its node is lost");
    assert!(matches!(error, CallError::NodeLost { .. }), "{error:?}");
    let _ = soon("the end", waits.next()).await;
    // What waits for a node finds the next one.
    let waiting = streams.count_again(3).send();
    let _second = start(&source.notes).await.expect("registers");
    assert_eq!(soon("all items", waiting.try_collect::<Vec<_>>()).await, Ok(vec![0, 1, 2]));
}
