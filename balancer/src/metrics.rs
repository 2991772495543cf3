//! Prometheus metrics, read from the cores' counters at each scrape.

mod backends;
mod cache;
mod issuers;
mod limits;
mod shifts;

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use skep_console::metrics::process::Process;
use skep_members::gossip::Gossip;

use crate::core::following::{Known, Position, Word};
use crate::core::passwords::Passwords;
use crate::core::shared::Shared;
use crate::core::stats::{BUCKETS_S, CoreStats, Count};
use crate::forward::retry;
use crate::listen::tls::Certificates;

/// Reads what is counted.
pub struct Metrics {
    pub shared: Arc<Shared>,
    pub cores: Vec<Arc<CoreStats>>,
    pub gossip: Option<Gossip>,
    pub certificates: Option<Arc<Certificates>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("cores", &self.cores.len()).finish_non_exhaustive()
    }
}

/// The registry that the admin address shows.
pub fn registry(metrics: Metrics, vrrp: Option<skep_vrrp::View>) -> Registry {
    let mut registry = Registry::with_prefix("skep_balancer");
    registry.register_collector(Box::new(metrics));
    registry.register_collector(Box::new(Process::new(env!("CARGO_PKG_VERSION"))));
    if let Some(view) = vrrp {
        registry.register_collector(Box::new(view));
    }
    registry
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

type Labels<'a> = [(&'static str, &'a str)];

impl Metrics {
    pub fn sum(&self, of: impl Fn(&CoreStats) -> &Count) -> u64 {
        self.cores.iter().map(|core| of(core).get()).fold(0, u64::wrapping_add)
    }

    fn encode_cores(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        type Of = fn(&CoreStats) -> &Count;
        let counters: [(&str, &str, Of); 15] = [
            ("connections_accepted", "Connections accepted", |it| &it.accepted),
            ("connections_rejected", "Connections over a limit", |it| &it.rejected),
            ("requests_refused", "Requests refused as malformed or too large", |it| &it.refused),
            ("retries", "Requests sent again", |it| &it.retries),
            ("retries_refused", "Retries for which the budget had nothing left", |it| &it.retries_refused),
            ("requests_queued", "Requests that waited for a backend", |it| &it.queued),
            ("http2_requests", "Requests over HTTP/2", |it| &it.http2_requests),
            ("http2_calmed", "Connections ended because too many requests were taken back", |it| {
                &it.http2_calmed
            }),
            ("request_bytes", "Bytes of requests' bodies", |it| &it.bytes_in),
            ("response_bytes", "Bytes of answers' bodies", |it| &it.bytes_out),
            ("tls_handshakes", "TLS handshakes", |it| &it.tls_handshakes),
            ("tls_resumed", "TLS handshakes that resumed a session", |it| &it.tls_resumed),
            ("tls_handshake_failures", "TLS handshakes that failed", |it| &it.tls_failures),
            ("tls_unrecognized_names", "TLS handshakes that failed for a name without a certificate", |it| {
                &it.tls_unknown_names
            }),
            ("access_log_lines_dropped", "Lines that the log's reader was too slow for", |it| {
                &it.log_lines_dropped
            }),
        ];
        for (name, help, of) in counters {
            counter(encoder, name, help, &[(&[], self.sum(of))])?;
        }
        let answers: Vec<(&str, u64)> =
            CLASSES.iter().enumerate().map(|(i, class)| (*class, self.sum(|it| &it.answers[i]))).collect();
        let labels: Vec<[(&'static str, &str); 1]> =
            answers.iter().map(|(class, _)| [("code", *class)]).collect();
        let samples: Vec<(&Labels<'_>, u64)> =
            labels.iter().zip(&answers).map(|(labels, (_, count))| (&labels[..], *count)).collect();
        counter(encoder, "requests", "Requests by the class of their answer", &samples)?;
        let account = &self.shared.account;
        let gauges: [(&str, &str, u64); 7] = [
            ("connections", "Connections that are open", self.sum(|it| &it.connections)),
            ("queue_length", "Requests that wait for a backend", self.sum(|it| &it.waiting)),
            (
                "connections_limit",
                "Connections that may be open",
                self.shared.settings.load().connections_max as u64,
            ),
            ("retry_budget", "Retries that there may be now", self.sum(|it| &it.retry_tokens)),
            (
                "retry_budget_max",
                "Retries that may be saved up",
                retry::BUDGET_MAX as u64 * self.cores.len() as u64,
            ),
            ("request_memory_bytes", "Bytes that requests hold, as the account has it", account.drawn()),
            ("request_memory_max_bytes", "Most bytes that requests may hold", account.bytes_max()),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, name, help, &[(&[], value as f64)])?;
        }
        self.encode_durations(encoder)
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let bounds = BUCKETS_S.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.enumerate().map(|(i, bound)| (bound, self.sum(|it| &it.durations.counts[i]))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum(|it| &it.durations.sum_ns) as f64 / 1e9;
        encoder
            .encode_descriptor(
                "request_duration_seconds",
                "Time from a request's head to the end of its answer",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn encode_certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(certificates) = &self.certificates else { return Ok(()) };
        let ends = certificates.ends();
        let labels: Vec<_> = ends.iter().map(|end| [("certificate", end.certificate.as_str())]).collect();
        let samples: Vec<(&Labels<'_>, f64)> = labels
            .iter()
            .zip(ends.iter())
            .map(|(labels, end)| (&labels[..], end.not_after_s as f64))
            .collect();
        let help = "Unix time after which a certificate, or one that it hangs on, is not valid";
        gauge(encoder, "certificate_not_after_timestamp_seconds", help, &samples)?;
        let help = "Certificates of the document that are not shown, for no node could open their keys";
        gauge(encoder, "certificates_absent", help, &[(&[], certificates.absent() as f64)])
    }

    fn encode_gateway(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let faults = self.shared.readings.faults().len() as f64;
        let help = "Faults of the gateway's newest document; above 0, an older one is in force";
        gauge(encoder, "gateway_faults", help, &[(&[], faults)])?;
        if let Some(known) = self.shared.following.known() {
            encode_following(encoder, &known)?;
        }
        let routes = self.shared.routes.load();
        let Some(routes) = routes.as_ref().filter(|it| !it.closed) else { return Ok(()) };
        let (taken, refused, taken_at_s) = self.shared.readings.counts();
        let readings: [(&Labels<'_>, u64); 2] =
            [(&[("result", "taken")], taken), (&[("result", "refused")], refused)];
        counter(encoder, "gateway_readings", "Times that the gateway's document was read", &readings)?;
        let refused: [(&Labels<'_>, u64); 7] = [
            (&[("reason", "missing")], self.sum(|it| &it.auth_missing)),
            (&[("reason", "several")], self.sum(|it| &it.auth_several)),
            (&[("reason", "unknown")], self.sum(|it| &it.auth_unknown)),
            (&[("reason", "token")], self.sum(|it| &it.auth_token)),
            (&[("reason", "no-keys")], self.sum(|it| &it.auth_no_keys)),
            (&[("reason", "password")], self.sum(|it| &it.auth_password)),
            (&[("reason", "group")], self.sum(|it| &it.auth_group)),
        ];
        counter(
            encoder,
            "gateway_auth_refused",
            "Requests that did not prove what a route asks for",
            &refused,
        )?;
        let asked: [(&Labels<'_>, u64); 3] = [
            (&[("answer", "yes")], self.sum(|it| &it.asks_admitted)),
            (&[("answer", "no")], self.sum(|it| &it.asks_refused)),
            (&[("answer", "none")], self.sum(|it| &it.asks_failed)),
        ];
        let compressed: [(&Labels<'_>, u64); 3] = [
            (&[("coding", "gzip")], self.sum(|it| &it.compressed_gzip)),
            (&[("coding", "zstd")], self.sum(|it| &it.compressed_zstd)),
            (&[("coding", "none")], self.sum(|it| &it.compressed_full)),
        ];
        let help = "Answers that were compressed, by coding; none: there was no memory for it";
        counter(encoder, "compressed_answers", help, &compressed)?;
        let bytes: [(&Labels<'_>, u64); 2] = [
            (&[("side", "before")], self.sum(|it| &it.compressed_bytes_in)),
            (&[("side", "after")], self.sum(|it| &it.compressed_bytes_out)),
        ];
        counter(
            encoder,
            "compressed_bytes",
            "Bytes of answers, before they were compressed and after",
            &bytes,
        )?;
        let help = "Requests of which a route asked a service first, by what that said";
        counter(encoder, "gateway_asks", help, &asked)?;
        let (count, services) = (routes.table.routes.len(), routes.pools.len() - 1);
        let (kept, kept_bytes) = (self.sum(|it| &it.tokens_kept), self.sum(|it| &it.tokens_kept_bytes));
        let certificates = routes.table.certificates.all().len() as f64;
        let gauges: [(&str, &str, f64); 8] = [
            ("gateway_certificates", "Certificates of the document that are in force", certificates),
            ("gateway_consumers", "Consumers that are in force", routes.table.consumers.count() as f64),
            ("gateway_issuers", "Issuers that are in force", routes.table.consumers.issuers().0.len() as f64),
            ("gateway_tokens_kept", "Tokens that cores have seen to hold and keep", kept as f64),
            ("gateway_tokens_kept_bytes", "Bytes that they take", kept_bytes as f64),
            ("gateway_routes", "Routes that are in force", count as f64),
            ("gateway_services", "Services that are in force", services as f64),
            (
                "gateway_taken_timestamp_seconds",
                "Unix time at which what is in force was read",
                taken_at_s as f64,
            ),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, name, help, &[(&[], value)])?;
        }
        encode_passwords(encoder, &self.shared.passwords)?;
        cache::encode(encoder, self, routes)?;
        let mut labels = Vec::new();
        for (entry, counts) in routes.table.routes.iter().zip(&routes.counts) {
            for (class, count) in CLASSES.iter().zip(&counts.answers) {
                // A class that was never seen is no series: there may be many routes.
                let count = count.load(Relaxed);
                if count > 0 {
                    labels.push(([("route", entry.name.as_str()), ("code", *class)], count));
                }
            }
        }
        let samples: Vec<(&Labels<'_>, u64)> =
            labels.iter().map(|(labels, count)| (&labels[..], *count)).collect();
        counter(encoder, "route_requests", "Requests of a route, by the class of their answer", &samples)?;
        issuers::encode(encoder, routes)?;
        limits::encode(encoder, &self.shared.rates, routes)?;
        shifts::encode(encoder, &self.shared)
    }

    fn encode_pools(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let set = self.shared.pools.skep().load();
        let ejected = set.serving.iter().filter(|it| it.is_ejected()).count();
        let states: [(&[(&str, &str)], f64); 4] = [
            (&[("state", "known")], set.known.len() as f64),
            (&[("state", "serving")], set.serving.len() as f64),
            (&[("state", "ejected")], ejected as f64),
            (&[("state", "available")], set.able() as f64),
        ];
        gauge(
            encoder,
            "backends",
            "Backends; available: a probe was answered well, and neither gossip nor traffic speaks against it",
            &states,
        )?;
        let pools = self.shared.each_pool();
        let able: Vec<_> = pools
            .iter()
            .skip(1)
            .map(|it| ([("service", it.name.as_str())], it.load().able() as f64))
            .collect();
        let samples: Vec<(&Labels<'_>, f64)> =
            able.iter().map(|(labels, able)| (&labels[..], *able)).collect();
        if !samples.is_empty() {
            let help = "Servers of a service that requests may go to and that were seen to answer";
            gauge(encoder, "service_backends_available", help, &samples)?;
        }
        let known = pools.iter().flat_map(|pool| {
            // Nodes have no service's name: theirs are as they were before there were others.
            let service = Some(&pool.name).filter(|_| !pool.are_nodes).cloned();
            pool.load().known.iter().map(|it| (service.clone(), it.clone())).collect::<Vec<_>>()
        });
        backends::encode(encoder, &known.collect::<Vec<_>>())
    }
}

/// What came of looks at passwords.
fn encode_passwords(encoder: &mut DescriptorEncoder<'_>, passwords: &Passwords) -> Result<(), Error> {
    let counts = passwords.counts();
    let results: [(&Labels<'_>, u64); 5] = [
        (&[("result", "right")], counts.right.load(Relaxed)),
        (&[("result", "wrong")], counts.wrong.load(Relaxed)),
        (&[("result", "limited")], counts.limited.load(Relaxed)),
        (&[("result", "full")], counts.full.load(Relaxed)),
        (&[("result", "left")], counts.left.load(Relaxed)),
    ];
    counter(encoder, "gateway_password_looks", "Passwords that were to be looked at", &results)?;
    let help = "Passwords that were seen to be right of late";
    gauge(encoder, "gateway_passwords_kept", help, &[(&[], passwords.kept() as f64)])?;
    let help = "Passwords that wait to be looked at and were not right before";
    gauge(encoder, "gateway_passwords_waiting", help, &[(&[], passwords.waiting() as f64)])?;
    let help = "Passwords that were right before and wait to be looked at again";
    gauge(encoder, "gateway_passwords_renewals_waiting", help, &[(&[], passwords.renewals_waiting() as f64)])
}

/// Of the configuration that the cluster keeps.
fn encode_following(encoder: &mut DescriptorEncoder<'_>, known: &Known) -> Result<(), Error> {
    let is_told = known.word != Word::Nobody;
    let help =
        "Whether it is known what the cluster's configuration is; where it is not, requests are answered 503";
    gauge(encoder, "gateway_told", help, &[(&[], f64::from(u8::from(is_told)))])?;
    let help = "Whether the copy of the cluster's configuration could not be written";
    gauge(encoder, "gateway_copy_failed", help, &[(&[], f64::from(u8::from(known.copy_failed)))])?;
    if let Some(age) = known.age(Instant::now()) {
        let help = "Seconds since a node last said what the cluster's configuration is";
        gauge(encoder, "gateway_age_seconds", help, &[(&[], age.as_secs_f64())])?;
    }
    let Some(Position { lineage, revision }) = known.position else { return Ok(()) };
    let lineage = format!("{lineage:032x}");
    let help = "Revision of the cluster's configuration that is in force";
    gauge(encoder, "gateway_revision", help, &[(&[("lineage", lineage.as_str())], revision as f64)])
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        self.encode_cores(&mut encoder)?;
        self.encode_pools(&mut encoder)?;
        self.encode_gateway(&mut encoder)?;
        self.encode_certificates(&mut encoder)?;
        if let Some(gossip) = &self.gossip {
            let counters = gossip.counters();
            counter(&mut encoder, "gossip_datagrams_sent", "Gossip datagrams sent", &[(&[], counters.sent)])?;
            let received = [(&[][..], counters.received)];
            counter(&mut encoder, "gossip_datagrams_received", "Gossip datagrams received", &received)?;
            let dropped = counters.dropped.by_reason().map(|(reason, count)| ([("reason", reason)], count));
            let samples: Vec<(&Labels<'_>, u64)> =
                dropped.iter().map(|(labels, count)| (&labels[..], *count)).collect();
            counter(&mut encoder, "gossip_datagrams_dropped", "Datagrams that were not opened", &samples)?;
        }
        Ok(())
    }
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &[(&Labels<'_>, u64)],
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(value, None)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &[(&Labels<'_>, f64)],
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        metric.encode_family(labels)?.encode_gauge(value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn scrape(core: Arc<CoreStats>, certificates: Option<Arc<Certificates>>) -> String {
        let metrics = Metrics { shared: Arc::default(), cores: vec![core], gossip: None, certificates };
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry(metrics, None)).unwrap();
        text
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|it| it == line), "{line} is not in:\n{text}");
    }

    #[test]
    fn the_last_bucket_of_a_histogram_is_without_bound_and_holds_all() {
        let core = Arc::new(CoreStats::default());
        core.durations.observe(Duration::from_micros(400));
        core.durations.observe(Duration::from_secs(60));
        let text = scrape(core, None);
        has(&text, "skep_balancer_request_duration_seconds_bucket{le=\"0.0005\"} 1");
        has(&text, "skep_balancer_request_duration_seconds_bucket{le=\"10.0\"} 1");
        has(&text, "skep_balancer_request_duration_seconds_bucket{le=\"+Inf\"} 2");
    }

    #[test]
    fn where_no_backend_is_known_that_is_told_and_certificates_are_told_where_there_are_any() {
        let text = scrape(Arc::default(), None);
        has(&text, "skep_balancer_backends{state=\"available\"} 0.0");
        assert!(!text.contains("skep_balancer_certificate_"), "{text}");
        let text = scrape(Arc::default(), Some(Arc::new(Certificates::new(vec![], None).unwrap())));
        let start = "skep_balancer_certificate_not_after_timestamp_seconds{certificate=\"self-signed\"} ";
        assert!(text.lines().any(|line| line.starts_with(start)), "{text}");
    }
}
