//! What all cores and the control task share.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use skep_gateway::figures::REASONS;
use skep_vrrp::let_go::LetGo;

use crate::core::account::Account;
use crate::core::cache::Cache;
use crate::core::connections::{ByClient, Connections};
use crate::core::following::Following;
use crate::core::mirrors::Mirrors;
use crate::core::passwords::Passwords;
use crate::core::rates::Rates;
use crate::core::routes::{Readings, Routes};
use crate::core::settings::Settings;
use crate::core::shifts::Shifts;
use crate::pools::{Pool, Pools};

/// What all cores and the control task share.
#[derive(Debug, Default)]
pub struct Shared {
    pub settings: ArcSwap<Settings>,
    pub pools: Pools,
    /// None where no gateway is configured.
    pub routes: Arc<ArcSwapOption<Routes>>,
    /// Held by who replaces them: a document, or keys that an issuer publishes.
    pub replacing: Mutex<()>,
    /// What was asked for of late, of routes with limits; whatever the document is.
    pub rates: Rates,
    /// Of requests, that are on their way.
    pub mirrors: Arc<Mirrors>,
    /// Of routes, that are open.
    pub shifts: Shifts,
    /// That were right of late, and that are looked at.
    pub passwords: Passwords,
    /// Requests that came no further, in the order of [`REASONS`], whether or not they had a route.
    pub refused: [AtomicU64; REASONS.len()],
    /// Of the document that they are of.
    pub readings: Readings,
    /// Of the cluster's configuration, where that is followed.
    pub following: Following,
    pub connections: Arc<Connections>,
    /// Of the bytes that requests hold.
    pub account: Arc<Account>,
    /// Answers of routes that store them.
    pub cache: Arc<Cache>,
    /// Requests that a backend has while their bodies still come.
    pub uploads: Arc<ByClient>,
    /// Set once, by SIGTERM.
    pub draining: AtomicBool,
    /// Idle connections are closed now, too.
    pub close_idle: AtomicBool,
    /// A core's thread makes no turns: what came to it is not served.
    pub core_hangs: AtomicBool,
    pub all_cores_hang: AtomicBool,
    /// Connections that end although the process stays.
    pub let_go: LetGo,
}

impl Shared {
    /// Puts routes in force; the answer is those that were.
    pub fn replace_routes(&self, next: Option<Routes>) -> Option<Arc<Routes>> {
        let _turn = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        // Keys may have been published since they were made.
        let next = next.map(|it| it.of_now().unwrap_or(it));
        self.routes.swap(next.map(Arc::new))
    }

    /// Has the routes that are in force go by the keys that issuers publish now.
    pub fn take_published(&self) {
        let _turn = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.routes.load().as_ref().and_then(|it| it.of_now());
        if let Some(next) = next {
            self.routes.store(Some(Arc::new(next)));
        }
    }

    /// Every pool: that of the nodes, then those of the gateway's services.
    pub fn each_pool(&self) -> Vec<Arc<Pool>> {
        let routes = self.routes.load();
        let routed = routes.iter().flat_map(|it| it.pools.iter().skip(1).cloned());
        [self.pools.skep().clone()].into_iter().chain(routed).collect()
    }

    /// Whether it is known what is to become of requests, and any pool has a backend that may be served from, and was
    /// seen to answer.
    pub fn is_able(&self) -> bool {
        let able = |pool: &Arc<Pool>| pool.load().able() > 0;
        let routes = self.routes.load();
        let pools = || routes.iter().flat_map(|it| it.pools.iter().skip(1));
        !Self::are_closed(&routes) && (able(self.pools.skep()) || pools().any(able))
    }

    /// Whether every request is refused, for nobody has said yet what is to become of it.
    pub fn is_closed(&self) -> bool {
        Self::are_closed(&self.routes.load())
    }

    fn are_closed(routes: &Option<Arc<Routes>>) -> bool {
        routes.as_ref().is_some_and(|it| it.closed)
    }
}
