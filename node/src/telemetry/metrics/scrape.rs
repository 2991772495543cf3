//! Metrics that are asked for at each scrape.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

pub(super) type Source = Box<dyn Fn(&mut Scrape<'_>) + Send + Sync>;

/// All sources; each is asked in turn.
#[derive(Clone)]
pub(super) struct Sources(pub(super) Arc<RwLock<Vec<Source>>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut scrape = Scrape { encoder, result: Ok(()) };
        for source in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&mut scrape);
        }
        scrape.result
    }
}

/// What a source writes its values to. Names are without the prefix and without a counter's
/// `_total`; a unit is part of the name (`_seconds`, `_bytes`).
pub struct Scrape<'a> {
    encoder: DescriptorEncoder<'a>,
    /// The first failure; sources need not look, the scrape as a whole fails.
    result: fmt::Result,
}

impl Scrape<'_> {
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::Gauge, |metric| metric.encode_gauge(&value));
    }

    /// One gauge for each value of a label.
    pub fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, f64)>,
    ) {
        self.family(name, help, MetricType::Gauge, |metric| {
            for (label_value, value) in values {
                metric.encode_family(&[(label, label_value)])?.encode_gauge(&value)?;
            }
            Ok(())
        });
    }

    /// `value` is a `u64`, or an `f64` of seconds.
    pub fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) {
        self.family(name, help, MetricType::Counter, |metric| {
            metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
        });
    }

    /// One counter for each value of a label.
    pub fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        self.family(name, help, MetricType::Counter, |metric| {
            for (label_value, value) in values {
                metric
                    .encode_family(&[(label, label_value)])?
                    .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            }
            Ok(())
        });
    }

    /// A histogram kept elsewhere: `buckets` are upper bounds with the count of each alone, the
    /// last bound being `f64::INFINITY`.
    pub fn histogram(&mut self, name: &str, help: &str, sum: f64, count: u64, buckets: &[(f64, u64)]) {
        self.family(name, help, MetricType::Histogram, |metric| {
            metric.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
        });
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) {
        if self.result.is_ok() {
            self.result = self
                .encoder
                .encode_descriptor(name, help, None, kind)
                .and_then(|mut metric| write(&mut metric));
        }
    }
}
