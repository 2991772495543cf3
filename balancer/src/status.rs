//! The admin address: health, metrics, the backends as JSON and as a page that refreshes itself.
//!
//! What `/`, `/backends`, `/gateway` and `/vrrp` show; how they are served is `skep_console`'s. On the control
//! runtime; one task, that works out rates.

mod gateway;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use skep_console::admin::Operators;
use skep_console::{Admin, answer};
use skep_gateway::document::SKEP;
use skep_vrrp::track;

use crate::core::shared::Shared;
use crate::operator::Operations;
use crate::pools::backends::{Kind, Known};
use crate::pools::{Pool, orders};

/// Over what time rates are taken.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// A balancer that can do no more than say 503 for so long has started all the same: it is not what is amiss.
const START_MAX: Duration = Duration::from_secs(20);

/// A backend, as `/backends` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// The service that it is a server of; `skep` for the nodes.
    #[serde(default = "nodes")]
    pub service: String,
    /// The node's id; the address where it has none.
    pub id: String,
    pub address: String,
    /// As gossip says.
    pub state: String,
    pub role: String,
    /// As probes say.
    pub probe: String,
    pub serving: bool,
    /// By traffic.
    pub ejected: bool,
    /// By an operator: drained; ejected, and for how much longer where that has an end.
    #[serde(default)]
    pub drained: bool,
    #[serde(default)]
    pub ejected_by_operator: bool,
    #[serde(default)]
    pub ejected_by_operator_for_s: Option<f64>,
    /// How many times the load of another an operator would have it have.
    #[serde(default = "usual_weight")]
    pub weight: f64,
    /// The share of its usual traffic that it gets now: less than 1 while it starts slowly.
    pub share: f64,
    pub outstanding: u32,
    /// Of safe requests; of the others below. 0 where there was none of late.
    pub latency_ms: f64,
    #[serde(default)]
    pub latency_unsafe_ms: f64,
    pub requests_per_s: f64,
    pub responses: u64,
    pub responses_5xx: u64,
    pub failures: u64,
    pub retries: u64,
    pub ejections: u64,
    pub connect_failures: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub version: String,
}

fn nodes() -> String {
    SKEP.to_owned()
}

fn usual_weight() -> f64 {
    orders::WEIGHT
}

impl BackendStatus {
    /// What becomes of new requests, in a word.
    pub fn word(&self) -> &'static str {
        match (self.drained, self.ejected_by_operator, self.serving, self.ejected) {
            (true, ..) => "drained",
            (false, true, ..) | (.., true, true) => "ejected",
            (.., true, false) => "serving",
            (.., false, _) => "out",
        }
    }
}

/// What the admin address shows.
#[derive(Debug)]
pub struct Status {
    shared: Arc<Shared>,
    vrrp: Option<skep_vrrp::View>,
    started: Instant,
    /// It was ready once.
    was_ready: AtomicBool,
    rates: Mutex<HashMap<u64, Rate>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    count: u64,
    per_s: f64,
}

impl Status {
    pub fn new(shared: Arc<Shared>, vrrp: Option<skep_vrrp::View>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            vrrp,
            started: Instant::now(),
            was_ready: AtomicBool::new(false),
            rates: Mutex::default(),
        })
    }

    /// The admin address's routes, those of `operations` among them.
    pub fn admin(
        self: &Arc<Self>,
        registry: Registry,
        operations: &Arc<Operations>,
        operators: Operators,
    ) -> Admin {
        let (ready, started, listed, drawn) = (self.clone(), self.clone(), self.clone(), self.clone());
        let (routers, routed) = (self.vrrp.clone(), self.shared.clone());
        let builder =
            Admin::builder(registry, move || ready.not_ready().map_or(Ok(()), |why| Err(why.into())));
        operations
            .routes(builder.operators(operators))
            .route("/startedz", move || answer::state("started", started.started(Instant::now())))
            .route("/backends", move || answer::json(&listed.backends()))
            .route("/gateway", move || gateway::shown(&routed))
            .route("/vrrp", move || match &routers {
                Some(view) => view.answer(),
                None => answer::json::<[(); 0]>(&[]),
            })
            .route("/", move || {
                answer::fresh(HeaderValue::from_static("text/html; charset=utf-8"), drawn.page())
            })
            .build()
    }

    /// Works out rates until it is dropped.
    pub async fn measure(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(RATE_INTERVAL);
        let mut before = Instant::now();
        loop {
            ticks.tick().await;
            let elapsed = before.elapsed().as_secs_f64().max(1e-3);
            before = Instant::now();
            if self.not_ready().is_none() {
                self.was_ready.store(true, Relaxed);
            }
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::take(&mut *rates);
            for known in self.shared.each_pool().iter().flat_map(|pool| pool.load().known.clone()) {
                let count: u64 = known.backend.stats.answers.iter().map(|count| count.load(Relaxed)).sum();
                let rate = before.get(&known.backend.serial).copied().unwrap_or_default();
                let per_s = count.saturating_sub(rate.count) as f64 / elapsed;
                rates.insert(known.backend.serial, Rate { count, per_s });
            }
        }
    }

    pub fn backends(&self) -> Vec<BackendStatus> {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let status = |service: &str, known: &Known| {
            let (backend, stats) = (&known.backend, &known.backend.stats);
            BackendStatus {
                service: service.to_owned(),
                id: backend.name.clone(),
                address: backend.address.to_string(),
                state: known.state.as_str().into(),
                role: known.role.into(),
                probe: known.health.as_str().into(),
                serving: known.serving,
                ejected: backend.is_ejected(),
                drained: known.order.drained,
                ejected_by_operator: known.order.ejected.is_some(),
                ejected_by_operator_for_s: known
                    .order
                    .ejected
                    .and_then(|it| it.until)
                    .map(|until| until.saturating_duration_since(now).as_secs_f64()),
                weight: known.weight,
                share: backend.share(),
                outstanding: stats.outstanding.load(Relaxed),
                latency_ms: backend.latency_ns(Kind::Safe) / 1e6,
                latency_unsafe_ms: backend.latency_ns(Kind::Unsafe) / 1e6,
                requests_per_s: rates.get(&backend.serial).map_or(0.0, |rate| rate.per_s),
                responses: stats.answers.iter().map(|count| count.load(Relaxed)).sum(),
                responses_5xx: stats.answers[5].load(Relaxed),
                failures: stats.failures.load(Relaxed),
                retries: stats.retries.load(Relaxed),
                ejections: stats.ejections.load(Relaxed),
                connect_failures: stats.connect_failures.load(Relaxed),
                bytes_in: stats.bytes_in.load(Relaxed),
                bytes_out: stats.bytes_out.load(Relaxed),
                version: known.version.clone(),
            }
        };
        let of_pool = |pool: &Arc<Pool>| -> Vec<_> {
            pool.load().known.iter().map(|known| status(&pool.name, known)).collect()
        };
        self.shared.each_pool().iter().flat_map(of_pool).collect()
    }

    fn not_ready(&self) -> Option<&'static str> {
        if self.shared.draining.load(Relaxed) {
            Some(track::DRAINING)
        } else if self.shared.core_hangs.load(Relaxed) {
            Some(track::CORE_HANGS)
        } else if self.shared.is_closed() {
            Some(track::NOT_TOLD)
        } else if !self.shared.is_able() {
            Some(track::NO_BACKEND)
        } else {
            None
        }
    }

    /// Whether it was ready, or has looked for backends long enough. What becomes of them later is no reason
    /// to replace it: it serves what there is, and drains what it has.
    fn started(&self, now: Instant) -> Result<(), &'static str> {
        let is_over =
            self.was_ready.load(Relaxed) || now.saturating_duration_since(self.started) >= START_MAX;
        match self.not_ready() {
            Some(why) if !is_over => Err(why),
            _ => Ok(()),
        }
    }

    fn page(&self) -> String {
        let backends = self.backends();
        let mut rows = String::new();
        for it in &backends {
            let (class, word) = match it.word() {
                "serving" => ("up", "up"),
                "out" => ("down", "down"),
                held => ("ejected", held),
            };
            // Nothing here is free text but the version, which gossip has checked to be a word.
            let version: String =
                it.version.chars().filter(|c| c.is_ascii_alphanumeric() || ".-+_".contains(*c)).collect();
            let _ = writeln!(
                rows,
                "<tr class={class}><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{word}<td>{:.0}%<td>{}<td>{}<td>{:.1}<td>{:.2}\
                 <td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{version}",
                it.service,
                it.id,
                it.address,
                it.state,
                it.role,
                it.probe,
                it.share * 100.0,
                it.weight,
                it.outstanding,
                it.requests_per_s,
                it.latency_ms,
                it.responses,
                it.responses_5xx,
                it.failures,
                it.connect_failures,
                it.retries,
                it.ejections,
                it.bytes_out,
            );
        }
        let ready = self.not_ready().unwrap_or("ready");
        let total: f64 = backends.iter().map(|it| it.requests_per_s).sum();
        let connections = self.shared.connections.total();
        let uptime = self.started.elapsed().as_secs();
        let vrrp = self.vrrp.as_ref().map(skep_vrrp::View::html).unwrap_or_default();
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\
             <title>skep-balancer</title><style>body{{font:14px system-ui,sans-serif;margin:2em}}\
             table{{border-collapse:collapse}}th,td{{padding:.3em .7em;text-align:right;border-bottom:1px solid #ccc}}\
             td:nth-child(-n+7),th:nth-child(-n+7){{text-align:left}}.up td:nth-child(7){{color:#080}}\
             .ejected td:nth-child(7){{color:#a60}}.down td{{color:#a00}}</style>\
             <h1>skep-balancer {}</h1><p>{ready} &middot; {} of {} backends serve &middot; {total:.1} requests/s \
             &middot; {connections} connections &middot; up {uptime} s</p><table><tr><th>service<th>backend<th>address<th>state\
             <th>role<th>probe<th>status<th>share<th>weight<th>in flight<th>req/s<th>latency ms<th>answers<th>5xx<th>failures\
             <th>connect errors<th>retries<th>ejections<th>bytes out<th>version\n{rows}</table>{vrrp}</html>\n",
            env!("CARGO_PKG_VERSION"),
            backends.iter().filter(|it| it.serving).count(),
            backends.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::backends::{Backend, BackendSet};
    use crate::pools::probe::Health;

    fn known(health: Health) -> BackendSet {
        let backend = Arc::new(Backend::new(([127, 0, 0, 1], 1).into(), None));
        BackendSet::of(vec![Known { health, ..Known::well(backend) }], [])
    }

    #[tokio::test]
    async fn who_was_ready_has_started_whatever_becomes_of_the_backends() {
        let status = Status::new(Arc::default(), None);
        let pool = status.shared.pools.skep();
        assert!(status.started(status.started).is_err());
        assert!(status.started(status.started + START_MAX).is_ok(), "it is not what is amiss");
        pool.store(known(Health::Up));
        let measuring = tokio::spawn(status.clone().measure());
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        let was_ready = async {
            while !status.was_ready.load(Relaxed) {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), was_ready).await.unwrap();
        measuring.abort();
        pool.store(known(Health::Refused));
        assert_eq!(status.not_ready(), Some("no backend is ready"));
        assert!(status.started(status.started).is_ok());
    }
}
