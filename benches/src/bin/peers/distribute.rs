//! A million tiny compute calls through `.distribute()`, against the same calls made one by one by many callers.

use std::time::{Duration, Instant};

use distribution::prelude::*;

use crate::{
    failure::{During, Failure},
    load,
    ours::ComputeClient,
};

/// How many node processes share the work.
pub(crate) const NODES: usize = 2;

/// Slots of each.
pub(crate) const SLOTS: usize = 1;

/// How many items there are.
const ITEMS: u64 = 1_000_000;

/// Items a second of the whole of them, from the first line to the last result.
pub(crate) async fn items_per_second(client: &ComputeClient) -> Result<f64, Failure> {
    let echo = &client.0;
    let began = Instant::now();
    let mut results = (0..ITEMS).map(|number| echo.compute(number)).distribute();
    let (mut count, mut sum) = (0_u64, 0_u64);
    while let Some(result) = results.next().await {
        let number = result.during("an item of many failed")?;
        count += 1;
        sum = sum.wrapping_add(number);
    }
    let elapsed = began.elapsed();
    if (count, sum) != (ITEMS, ITEMS * (ITEMS - 1) / 2) {
        return Err(Failure::new(format!(
            "{ITEMS} items gave {count} results that add up to {sum}: some were lost, repeated or changed, so `.distribute()` is at fault"
        )));
    }
    Ok(ITEMS as f64 / elapsed.as_secs_f64())
}

/// Calls a second of many callers over the same nodes.
pub(crate) async fn calls_per_second(client: &ComputeClient, time: Duration) -> Result<f64, Failure> {
    load::rate(client, time).await
}
