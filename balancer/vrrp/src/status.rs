//! What is known of the virtual routers: for metrics, `/vrrp`, the stats page and the log.

use std::fmt::Write;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use serde::Serialize;
use skep_console::{Answer, answer};
use tokio::sync::watch;

use crate::counts::{Counts, Discard, RouterCounts};

/// One virtual router, as `/vrrp` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouterStatus {
    pub vrid: u8,
    pub family: &'static str,
    pub interface: String,
    pub addresses: Vec<String>,
    /// `initialize`, `backup` or `active`.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: &'static str,
    /// When it came to it, in Unix time.
    pub since: u64,
    /// As configured.
    pub priority: u8,
    /// As claimed now; none in a fault.
    pub effective_priority: Option<u8>,
    /// Why the claim is less than it was configured to be.
    pub health: Option<String>,
    /// What it sends advertisements from.
    pub source: Option<String>,
    /// Who is Active, as far as this one hears.
    pub active: Option<String>,
    /// Of the Active: whether another is connected that would take over at once. Of a Backup:
    /// whether that is this one.
    pub successor: bool,
    /// Unicast peers whose advertisements the mesh confirms.
    pub confirmed_peers: usize,
    /// One that is not in the mesh has been heard, keepalived perhaps: the RFC's timers rule.
    pub stranger: bool,
    /// Connections that were begun elsewhere are being sent on to there.
    pub forwarding: bool,
    /// The addresses were handed over; connections that began here are being ended.
    pub draining: bool,
}

/// All that can be shown. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    pub routers: watch::Receiver<Vec<RouterStatus>>,
    pub counts: Arc<Counts>,
    pub router_counts: Vec<Arc<RouterCounts>>,
}

impl View {
    /// `/vrrp`.
    pub fn answer(&self) -> Answer {
        let routers = self.routers.borrow().clone();
        answer::json(&routers)
    }

    /// A table for the stats page.
    pub fn html(&self) -> String {
        let mut out = String::from(
            "<h2>virtual addresses</h2><table><tr><th>VRID<th>addresses<th>interface<th>state<th>why\
             <th>priority<th>active one<th>successor<th>transitions\n",
        );
        for (it, counts) in self.routers.borrow().iter().zip(&self.router_counts) {
            let class = match it.state {
                "active" => "up",
                "backup" => "ejected",
                _ => "down",
            };
            let why = it.health.as_deref().unwrap_or(it.reason);
            let priority = it.effective_priority.map_or("none".to_owned(), |it| it.to_string());
            let transitions = counts.transitions.load(std::sync::atomic::Ordering::Relaxed);
            let _ = writeln!(
                out,
                "<tr class={class}><td>{}<td>{}<td>{}<td>{}<td>{}<td>{priority} of {}<td>{}<td>{}<td>{transitions}",
                it.vrid,
                it.addresses.join(" "),
                escaped(&it.interface),
                it.state,
                escaped(why),
                it.priority,
                it.active.as_deref().unwrap_or("-"),
                if it.successor { "yes" } else { "no" },
            );
        }
        out + "</table>"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let routers = self.routers.borrow().clone();
        let vrids: Vec<String> = routers.iter().map(|it| it.vrid.to_string()).collect();
        let labels = |at: usize| {
            [
                ("vrid", vrids[at].as_str()),
                ("family", routers[at].family),
                ("interface", routers[at].interface.as_str()),
            ]
        };
        let discards = "VRRP packets discarded, by reason";
        let mut metric = encoder.encode_descriptor("vrrp_discards", discards, None, MetricType::Counter)?;
        for reason in Discard::ALL {
            let count = self.counts.discarded(*reason);
            metric
                .encode_family(&[("reason", reason.as_str())])?
                .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        let counts: Vec<_> = self.router_counts.iter().map(|it| it.all()).collect();
        for (which, (name, help, _)) in counts.first().into_iter().flatten().enumerate() {
            let name = format!("vrrp_{name}");
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (at, counts) in counts.iter().enumerate().take(routers.len()) {
                let value = counts[which].2;
                metric.encode_family(&labels(at))?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            }
        }
        type Read = fn(&RouterStatus) -> i64;
        let gauges: [(&str, &str, Read); 6] = [
            ("vrrp_active", "Whether this one holds the addresses", |it| (it.state == "active").into()),
            ("vrrp_priority", "The priority that is claimed; 0 in a fault", |it| {
                it.effective_priority.unwrap_or(0).into()
            }),
            ("vrrp_successor", "Whether one is known that takes over at once", |it| it.successor.into()),
            ("vrrp_confirmed_peers", "Unicast peers whose advertisements the mesh confirms", |it| {
                it.confirmed_peers as i64
            }),
            ("vrrp_since_seconds", "Unix time of the last change of state", |it| it.since as i64),
            ("vrrp_forwarding", "Whether connections are sent on to the one before", |it| {
                it.forwarding.into()
            }),
        ];
        for (name, help, read) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (at, router) in routers.iter().enumerate() {
                metric.encode_family(&labels(at))?.encode_gauge(&read(router))?;
            }
        }
        Ok(())
    }
}
