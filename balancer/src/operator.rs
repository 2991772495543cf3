//! What an operator may ask of a balancer at its admin address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /operator` | `{"backends":[ORDER],"log":{"filter","configured"},"retry_budget":BUDGET}`: all that is set |
//! | `POST /drain` `{"backend": NAME}` | ORDER: it gets nothing new, and finishes what it has |
//! | `POST /undrain` `{"backend": NAME}` | ORDER |
//! | `POST /weigh` `{"backend": NAME, "weight": NUMBER}` | ORDER: how many times the load of another it is to have |
//! | `POST /eject` `{"backend": NAME, "seconds": NUMBER or null}` | ORDER: as drained, for that long or until it is reset |
//! | `POST /reset` `{"backend": NAME}` | ORDER: nothing is set any more, and what traffic showed is forgotten |
//! | `GET /log-level` | `{"filter","configured"}` |
//! | `POST /log-level` `{"filter": TEXT or null}` | the same; null: as it was started with |
//! | `GET /retry-budget` | BUDGET `{"tokens","tokens_max","share","retries","refused","cores":[tokens]}` |
//!
//! NAME is a backend's id or its address. ORDER is `{"backend","drained","weight","ejected","ejected_for_s"}`. What
//! is set outlives SIGHUP and the backend's process, and not this one. Who may ask is `skep_console::admin`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use skep_base::log;
use skep_console::admin::Builder;
use skep_console::{Answer, Problem, ProblemKind, answer};

use crate::core::shared::Shared;
use crate::core::stats::CoreStats;
use crate::forward::retry::{BUDGET_MAX, BUDGET_SHARE};
use crate::pools::Pool;
use crate::pools::orders::{EJECTION_MAX, Ejection, Order, WEIGHT_MAX, WEIGHT_MIN};

/// Longest filter of the log, in bytes.
const FILTER_BYTES_MAX: usize = 1024;

/// What is set of a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderStatus {
    pub backend: String,
    pub drained: bool,
    pub weight: f64,
    pub ejected: bool,
    /// How much longer; none where it has no end or is not ejected.
    pub ejected_for_s: Option<f64>,
}

impl OrderStatus {
    fn of(backend: String, order: Order, now: Instant) -> Self {
        let until = order.ejected.and_then(|it| it.until);
        Self {
            backend,
            drained: order.drained,
            weight: order.weight,
            ejected: order.ejected.is_some(),
            ejected_for_s: until.map(|until| until.saturating_duration_since(now).as_secs_f64()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Budget {
    tokens: u64,
    tokens_max: u64,
    /// What each request adds.
    share: f64,
    retries: u64,
    /// Retries that the rule would have allowed and the budget did not.
    refused: u64,
    cores: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct LogStatus {
    filter: String,
    configured: String,
}

#[derive(Debug, Serialize)]
struct Overview {
    backends: Vec<OrderStatus>,
    log: LogStatus,
    retry_budget: Budget,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    backend: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weigh {
    backend: String,
    weight: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eject {
    backend: String,
    #[serde(default)]
    seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    filter: Option<String>,
}

/// Carries out what is asked for.
#[derive(Debug)]
pub struct Operations {
    shared: Arc<Shared>,
    cores: Vec<Arc<CoreStats>>,
}

impl Operations {
    pub fn new(shared: Arc<Shared>, cores: Vec<Arc<CoreStats>>) -> Arc<Self> {
        Arc::new(Self { shared, cores })
    }

    /// Adds its routes.
    pub fn routes(self: &Arc<Self>, builder: Builder) -> Builder {
        let it = || self.clone();
        let (shown, budget) = (it(), it());
        let (drains, undrains, weighs, ejects, resets) = (it(), it(), it(), it(), it());
        builder
            .route("/operator", move || answer::json(&shown.overview()))
            .route("/retry-budget", move || answer::json(&budget.budget()))
            .route("/log-level", || answer::json(&log_status()))
            .change("/drain", move |asked: Named| {
                drains.order(&asked.backend, "drained", |order| order.drained = true)
            })
            .change("/undrain", move |asked: Named| {
                undrains.order(&asked.backend, "not drained any more", |order| order.drained = false)
            })
            .change("/weigh", move |asked: Weigh| weighs.weigh(&asked))
            .change("/eject", move |asked: Eject| ejects.eject(&asked))
            .change("/reset", move |asked: Named| resets.reset(&asked.backend))
            .change("/log-level", |asked: Level| set_level(asked.filter.as_deref()))
    }

    fn overview(&self) -> Overview {
        let now = Instant::now();
        let pools = self.shared.each_pool();
        let orders = pools.iter().flat_map(|pool| pool.orders.all());
        let mut backends: Vec<_> = orders.map(|(name, order)| OrderStatus::of(name, order, now)).collect();
        backends.dedup();
        Overview { backends, log: log_status(), retry_budget: self.budget() }
    }

    fn budget(&self) -> Budget {
        let cores: Vec<u64> = self.cores.iter().map(|core| core.retry_tokens.get()).collect();
        Budget {
            tokens: cores.iter().sum(),
            tokens_max: BUDGET_MAX as u64 * cores.len() as u64,
            share: BUDGET_SHARE,
            retries: self.cores.iter().map(|core| core.retries.get()).sum(),
            refused: self.cores.iter().map(|core| core.retries_refused.get()).sum(),
            cores,
        }
    }

    /// The name of the backend that is meant, in each pool that has it: one that is known, or of which something is
    /// set. A server of two services is drained in both.
    fn found(&self, given: &str) -> Result<Vec<(Arc<Pool>, String)>, Problem> {
        let pools = self.shared.each_pool().into_iter();
        let found: Vec<_> =
            pools.filter_map(|pool| Self::name(&pool, given).map(|name| (pool, name))).collect();
        if found.is_empty() {
            let detail = "no backend has this id or address; /backends lists them";
            return Err(Problem::new(ProblemKind::NotFound, detail));
        }
        Ok(found)
    }

    fn name(pool: &Pool, given: &str) -> Option<String> {
        let set = pool.load();
        let is_meant = |name: &str, address: std::net::SocketAddr| {
            name == given || given.parse().is_ok_and(|given: std::net::SocketAddr| given == address)
        };
        // Of two runs at one address, the later.
        let known = set.known.iter().rev().map(|known| &known.backend);
        let found = known.into_iter().find(|it| is_meant(&it.name, it.address)).map(|it| it.name.clone());
        found.or_else(|| pool.orders.all().contains_key(given).then(|| given.to_owned()))
    }

    fn order(&self, given: &str, what: &str, change: impl Fn(&mut Order)) -> Result<Answer, Problem> {
        let mut changed = None;
        for (pool, name) in self.found(given)? {
            let order = pool.orders.change(&name, &change);
            let order = order.map_err(|full| Problem::new(ProblemKind::Refused, full.to_string()))?;
            changed = Some((name, order));
        }
        let (name, order) = changed.unwrap_or_default();
        let status = OrderStatus::of(name, order, Instant::now());
        tracing::warn!(
            backend = status.backend,
            drained = status.drained,
            weight = status.weight,
            ejected = status.ejected,
            seconds = status.ejected_for_s,
            "by an operator: {what}"
        );
        Ok(answer::json(&status))
    }

    fn weigh(&self, asked: &Weigh) -> Result<Answer, Problem> {
        if !(WEIGHT_MIN..=WEIGHT_MAX).contains(&asked.weight) {
            let detail =
                format!("a weight is a number from {WEIGHT_MIN} to {WEIGHT_MAX}; for none at all, drain it");
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        }
        self.order(&asked.backend, "weighed", |order| order.weight = asked.weight)
    }

    fn eject(&self, asked: &Eject) -> Result<Answer, Problem> {
        let length = asked.seconds.map(Duration::try_from_secs_f64).transpose();
        let length = length.ok().filter(|it| it.is_none_or(|it| !it.is_zero() && it <= EJECTION_MAX));
        let Some(length) = length else {
            let detail = format!(
                "seconds are a number above 0, up to {}; with none it lasts until it is reset",
                EJECTION_MAX.as_secs()
            );
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        };
        let until = length.map(|length| Instant::now() + length);
        self.order(&asked.backend, "ejected", |order| order.ejected = Some(Ejection { until }))
    }

    fn reset(&self, given: &str) -> Result<Answer, Problem> {
        for (pool, name) in self.found(given)? {
            pool.load().known.iter().filter(|it| it.backend.name == name).for_each(|it| it.backend.pardon());
        }
        self.order(given, "reset", |order| *order = Order::default())
    }
}

fn log_status() -> LogStatus {
    let (filter, configured) = log::filters();
    LogStatus { filter, configured }
}

fn set_level(filter: Option<&str>) -> Result<Answer, Problem> {
    let invalid = |detail: String| Problem::new(ProblemKind::InvalidRequest, detail);
    if filter.is_some_and(|filter| filter.trim().is_empty() || filter.len() > FILTER_BYTES_MAX) {
        return Err(invalid(format!(
            "a filter has 1 to {FILTER_BYTES_MAX} bytes, as info or target=level,..."
        )));
    }
    // Said before, for a filter may leave nothing of what is said after.
    tracing::warn!(filter = filter.unwrap_or("as it was started with"), "by an operator: the log's level");
    log::change(filter).map_err(|error| invalid(error.to_string()))?;
    Ok(answer::json(&log_status()))
}
