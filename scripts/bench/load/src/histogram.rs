//! Latencies: a log-linear histogram with less than 1% error, of fixed size.

use std::time::Duration;

/// Buckets for each power of two are `2^SUB_BITS`: a value is off by at most 1/128.
const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

/// Counts durations by nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), count: 0, max_ns: 0 }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BITS;
    ((u64::from(shift) << SUB_BITS) + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    let mantissa = (bucket & (SUB - 1)) | SUB;
    (mantissa << shift) | ((1 << shift) - 1)
}

impl Histogram {
    pub fn record(&mut self, value: Duration) {
        let value = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(value)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(value);
    }

    /// Adds what another one recorded.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += count;
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The smallest value that at least this share of all values does not exceed; zero if empty.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(bucket_end(bucket).min(self.max_ns));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_one_percent() {
        let mut value: u64 = 1;
        while value < u64::MAX / 3 {
            for v in [value - 1, value, value + 1] {
                let end = bucket_end(bucket_of(v));
                assert!(end >= v && (end - v) as f64 <= v as f64 / 100.0, "{v} in a bucket to {end}");
            }
            value = value * 3 / 2 + 1;
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_a_uniform_set_are_where_they_belong() {
        let mut histogram = Histogram::default();
        for us in 1..=10_000 {
            histogram.record(Duration::from_micros(us));
        }
        for (share, us) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((found / us - 1.0).abs() < 0.01, "{share}: {found}");
        }
        assert_eq!(histogram.max(), Duration::from_millis(10));
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }
}
