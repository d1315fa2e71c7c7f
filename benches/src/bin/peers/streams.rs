//! Streams from a server to its caller: very many small items, and blocks of bytes.

use std::time::Instant;

use bytes::Bytes;

use crate::failure::Failure;

/// How many small items there are.
const ITEMS: u64 = 1_000_000;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64 * 1024;

/// Blocks of about 1 GiB.
pub(crate) const BLOCKS: u64 = 16 * 1024;

/// Blocks for a long way, of about 256 MiB.
pub(crate) const BLOCKS_FAR: u64 = 4 * 1024;

const MIB: f64 = 1024.0 * 1024.0;

/// A client whose server makes as many items as it is asked for.
pub(crate) trait Streams<Item> {
    /// One stream, read to its end.
    fn stream(&mut self, count: u64, each: impl FnMut(Item) + Send)
    -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The numbers below `count`.
pub(crate) fn numbers(count: u64) -> impl Iterator<Item = u64> + Send + 'static {
    0..count
}

/// This many blocks, which share their memory.
pub(crate) fn blocks(count: u64) -> impl Iterator<Item = Bytes> + Send + 'static {
    let block = Bytes::from(vec![7; BLOCK]);
    (0..count).map(move |_| block.clone())
}

/// Small items a second of one stream, from its beginning to its end.
pub(crate) async fn items_per_second<Client: Streams<u64>>(mut client: Client) -> Result<f64, Failure> {
    let (mut count, mut sum) = (0_u64, 0_u64);
    let began = Instant::now();
    let each = |number: u64| {
        count += 1;
        sum = sum.wrapping_add(number);
    };
    client.stream(ITEMS, each).await?;
    let elapsed = began.elapsed();
    if (count, sum) != (ITEMS, ITEMS * (ITEMS - 1) / 2) {
        return Err(Failure::new(format!(
            "a stream of {ITEMS} items gave {count} that add up to {sum}; one of the programs under comparison is at fault"
        )));
    }
    Ok(ITEMS as f64 / elapsed.as_secs_f64())
}

/// MiB a second of one stream of this many blocks, from its beginning to its end.
pub(crate) async fn mib_per_second<Client: Streams<Bytes>>(mut client: Client, blocks: u64) -> Result<f64, Failure> {
    let (mut count, mut changed) = (0_u64, 0_u64);
    let began = Instant::now();
    let each = |block: Bytes| {
        count += 1;
        // To compare all bytes would take as long as to move them.
        changed += u64::from((block.len(), block.first(), block.last()) != (BLOCK, Some(&7), Some(&7)));
    };
    client.stream(blocks, each).await?;
    let elapsed = began.elapsed();
    if (count, changed) != (blocks, 0) {
        return Err(Failure::new(format!(
            "a stream of {blocks} blocks gave {count}, {changed} of them changed; one of the programs under comparison is at fault"
        )));
    }
    Ok((blocks * BLOCK as u64) as f64 / MIB / elapsed.as_secs_f64())
}
