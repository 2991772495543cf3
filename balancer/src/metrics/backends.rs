//! What is told of each backend, of whatever pool. Nodes are told by their ids alone, servers of the gateway's services
//! by their service, too.

use std::fmt::Error;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::DescriptorEncoder;

use super::{CLASSES, Labels, counter, gauge};
use crate::pools::backends::{BackendStats, Kind, Known};
use crate::pools::failures::Way;

/// A backend, and the service that it is a server of.
type Row = (Option<String>, Known);

/// One sample's labels.
type Owned<'a> = Vec<(&'static str, &'a str)>;

fn labels<'a>(row: &'a Row, more: Option<(&'static str, &'a str)>) -> Owned<'a> {
    let service = row.0.as_deref().map(|name| ("service", name));
    [("backend", row.1.backend.name.as_str())].into_iter().chain(more).chain(service).collect()
}

fn refer<'a, T: Copy>(samples: &'a [(Owned<'a>, T)]) -> Vec<(&'a Labels<'a>, T)> {
    samples.iter().map(|(labels, value)| (&labels[..], *value)).collect()
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, known: &[Row]) -> Result<(), Error> {
    type Read = fn(&BackendStats) -> u64;
    let counters: [(&str, &str, Read); 7] = [
        ("backend_failures", "Attempts that failed, by no answer or by its status", |it| {
            it.failures.load(Relaxed)
        }),
        ("backend_retries", "Attempts after another backend's failure", |it| it.retries.load(Relaxed)),
        ("backend_ejections", "Times that traffic ejected it", |it| it.ejections.load(Relaxed)),
        ("backend_connects", "Connections begun", |it| it.connects.load(Relaxed)),
        ("backend_connect_failures", "Connections that failed", |it| it.connect_failures.load(Relaxed)),
        ("backend_request_bytes", "Bytes of requests' bodies", |it| it.bytes_in.load(Relaxed)),
        ("backend_response_bytes", "Bytes of answers' bodies", |it| it.bytes_out.load(Relaxed)),
    ];
    for (name, help, read) in counters {
        let samples: Vec<_> =
            known.iter().map(|row| (labels(row, None), read(&row.1.backend.stats))).collect();
        counter(encoder, name, help, &refer(&samples))?;
    }
    let mut samples = Vec::new();
    for row in known {
        for (class, count) in CLASSES.iter().zip(&row.1.backend.stats.answers).skip(1) {
            samples.push((labels(row, Some(("code", class))), count.load(Relaxed)));
        }
    }
    counter(encoder, "backend_responses", "Answers passed on, by class", &refer(&samples))?;
    type Gauge = fn(&Known) -> f64;
    let gauges: [(&str, &str, Gauge); 8] = [
        (
            "backend_failing",
            "How much of what it answered of late was a failure, from 0 to 1; it fades",
            |it| it.backend.failing(),
        ),
        ("backend_serving", "Whether requests may go there", |it| f64::from(it.serving)),
        ("backend_ejected", "Whether traffic has ejected it", |it| f64::from(it.backend.is_ejected())),
        ("backend_drained", "Whether an operator drains it", |it| f64::from(it.order.drained)),
        ("backend_ejected_by_operator", "Whether an operator has ejected it", |it| {
            f64::from(it.order.ejected.is_some())
        }),
        ("backend_weight", "How many times the load of another it is to have", |it| it.weight),
        ("backend_outstanding", "Requests in flight", |it| {
            f64::from(it.backend.stats.outstanding.load(Relaxed))
        }),
        ("backend_waiting", "Requests that wait there for something to happen", |it| {
            it.backend.stats.waiting.iter().map(|count| f64::from(count.load(Relaxed))).sum::<f64>()
        }),
    ];
    for (name, help, read) in gauges {
        let samples: Vec<_> = known.iter().map(|row| (labels(row, None), read(&row.1))).collect();
        gauge(encoder, name, help, &refer(&samples))?;
    }
    encode_failures(encoder, known)?;
    encode_latencies(encoder, known)
}

fn encode_failures(encoder: &mut DescriptorEncoder<'_>, known: &[Row]) -> Result<(), Error> {
    let mut samples = Vec::new();
    for row in known {
        samples
            .extend(Way::ALL.map(|way| {
                (labels(row, Some(("way", way.as_str()))), row.1.backend.stats.failed.count(way))
            }));
    }
    counter(encoder, "backend_failures_by_way", "Failures, by how each was one", &refer(&samples))
}

fn encode_latencies(encoder: &mut DescriptorEncoder<'_>, known: &[Row]) -> Result<(), Error> {
    let mut samples = Vec::new();
    for kind in Kind::ALL {
        samples.extend(known.iter().map(|row| {
            (labels(row, Some(("methods", kind.as_str()))), row.1.backend.latency_ns(kind) / 1e9)
        }));
    }
    let help = "Peak EWMA of the time to the first byte, of safe and of unsafe methods; it fades";
    gauge(encoder, "backend_latency_seconds", help, &refer(&samples))
}
