//! Counts of times in buckets, from which quantiles are read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::seconds;

/// How many buckets there are: up to 2^36 microseconds, which is 19 hours. The last one has all that is longer.
pub(crate) const BUCKETS: usize = 140;

/// The bucket of a time. There are four for each power of two of microseconds, so that a bucket is at most a quarter as wide
/// as the times in it.
pub(crate) fn bucket_of(time: Duration) -> usize {
    let micros = time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into());
    if micros < 4 {
        return micros as usize;
    }
    let exponent = 63 - micros.leading_zeros() as usize;
    let quarter = (micros >> (exponent - 2)) as usize & 3;
    ((exponent - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// The shortest time that is too long for a bucket.
fn end_of(bucket: usize) -> Duration {
    let micros = match bucket {
        0..4 => bucket as u64 + 1,
        _ => (5 + (bucket as u64 & 3)) << (bucket / 4 - 1),
    };
    Duration::from_micros(micros)
}

fn middle_of(bucket: u16) -> Duration {
    let end = end_of(usize::from(bucket));
    let start = bucket.checked_sub(1).map_or(Duration::ZERO, |before| end_of(usize::from(before)));
    start + (end - start) / 2
}

/// How long something took, counted in buckets: for each power of two of microseconds four, up to 19 hours. So a time that is
/// read from it, as from [`quantile`](Self::quantile), is at most an eighth too long or too short, or half a microsecond.
///
/// The sum is exact to a microsecond for each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[non_exhaustive]
pub struct Histogram {
    /// How many times were counted.
    pub count: u64,
    /// All of them together.
    #[serde(with = "seconds")]
    pub sum: Duration,
    /// The buckets that are not empty, in order, each with its count.
    buckets: Vec<(u16, u64)>,
}

/// A histogram as it comes from elsewhere.
#[derive(Deserialize)]
#[serde(rename = "Histogram")]
struct Unchecked {
    count: u64,
    #[serde(with = "seconds")]
    sum: Duration,
    buckets: Vec<(u16, u64)>,
}

impl TryFrom<Unchecked> for Histogram {
    type Error = &'static str;

    fn try_from(Unchecked { count, sum, buckets }: Unchecked) -> Result<Self, Self::Error> {
        let are_known = buckets.iter().all(|(bucket, _)| usize::from(*bucket) < BUCKETS);
        let counted = buckets.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count));
        match are_known && buckets.is_sorted_by(|(one, _), (next, _)| one < next) && counted == Some(count) {
            true => Ok(Self { count, sum, buckets }),
            false => Err("a histogram whose buckets are not in order, or do not add up"),
        }
    }
}

impl Histogram {
    pub(crate) fn new(buckets: &[u64; BUCKETS], sum: Duration) -> Self {
        let filled = buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            count: buckets.iter().sum(),
            sum,
            buckets: filled.map(|(bucket, count)| (bucket as u16, *count)).collect(),
        }
    }

    /// The time that this part of all times is not longer than: 0.5 for the median, 0.99 for the 99th percentile. It is the
    /// middle of a bucket. `None` if nothing was counted.
    ///
    /// A part below 0 counts as 0, and one above 1 as 1.
    ///
    /// ```
    /// # use distribution::administration::Histogram;
    /// # fn show(in_queue: &Histogram) {
    /// if let Some(p99) = in_queue.quantile(0.99) {
    ///     println!("99 of 100 calls were sent within {:.1} ms", p99.as_secs_f64() * 1e3);
    /// }
    /// # }
    /// ```
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        // The rank of the time that is wanted, from 1.
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Some(middle_of(*bucket));
            }
        }
        None
    }

    /// How many times were shorter than this. It is exact for 1 to 4 microseconds, and for 5, 6, 7 and 8 times each power of
    /// two of them; other times are rounded down to one of these.
    pub fn shorter_than(&self, time: Duration) -> u64 {
        let shorter = self.buckets.iter().take_while(|(bucket, _)| end_of(usize::from(*bucket)) <= time);
        shorter.map(|(_, count)| count).sum()
    }

    /// The middle of each bucket that is not empty, in order, with its count.
    #[cfg(feature = "metrics")]
    pub(crate) fn middles(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.buckets.iter().map(|(bucket, count)| (middle_of(*bucket), *count))
    }

    /// What was counted after `earlier`, which is the same histogram at an earlier time.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bucket: u16| {
            let at = earlier.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket);
            at.map_or(0, |at| earlier.buckets[at].1)
        };
        let buckets = self.buckets.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(before(*bucket))));
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum.saturating_sub(earlier.sum),
            buckets: buckets.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (bucket, count) in &other.buckets {
            match self.buckets.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*bucket, *count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_whose_ends_are_around_it() {
        let mut micros = vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        micros.extend((4..35).flat_map(|exponent| [-1, 0, 1].map(|by| (1_u64 << exponent).wrapping_add_signed(by))));
        for micros in micros {
            let (time, bucket) = (Duration::from_micros(micros), bucket_of(Duration::from_micros(micros)));
            assert!(time < end_of(bucket), "{micros} is too long for {bucket}");
            assert!(bucket == 0 || time >= end_of(bucket - 1), "{micros} is too short for {bucket}");
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert!((0..BUCKETS - 1).all(|bucket| end_of(bucket) < end_of(bucket + 1)));
    }

    fn of(millis: impl IntoIterator<Item = u64>) -> Histogram {
        let (mut buckets, mut sum) = ([0; BUCKETS], Duration::ZERO);
        for time in millis.into_iter().map(Duration::from_millis) {
            buckets[bucket_of(time)] += 1;
            sum += time;
        }
        Histogram::new(&buckets, sum)
    }

    #[test]
    fn quantiles_are_within_an_eighth_of_the_times() {
        let all = of(1..=1000);
        for (part, millis) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let read = all.quantile(part).expect("is not empty").as_secs_f64() * 1e3;
            assert!((read / millis - 1.0).abs() <= 0.125, "{part}: {read} instead of {millis}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(of([7]).quantile(f64::NAN), of([7]).quantile(0.0));
    }

    #[test]
    fn a_histogram_that_cannot_be_is_not_read() {
        let good = serde_json::to_string(&of([1, 5])).expect("is written");
        assert_eq!(serde_json::from_str::<Histogram>(&good).expect("is read"), of([1, 5]));
        for buckets in ["[[257,1],[300,1]]", "[[5,1],[4,1]]", "[[4,1]]", "[[4,18446744073709551615],[5,3]]"] {
            let bad = format!(r#"{{"count":2,"sum":0.0,"buckets":{buckets}}}"#);
            assert!(serde_json::from_str::<Histogram>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_came_later_is_the_difference_and_adds_up_again() {
        let (early, late) = (of([1, 5, 5]), of([1, 5, 5, 5, 90]));
        let since = late.since(&early);
        assert_eq!(since, of([5, 90]));
        let mut sum = early;
        sum.add(&since);
        assert_eq!(sum, late);
        assert_eq!(late.shorter_than(Duration::from_micros(8 * 1024)), 4);
        assert_eq!(late.shorter_than(Duration::MAX), 5);
    }
}
