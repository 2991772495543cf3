//! What all cores and the control task share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::{ArcSwap, ArcSwapOption};
use skep_vrrp::let_go::LetGo;

use crate::core::account::Account;
use crate::core::connections::{ByClient, Connections};
use crate::core::following::Following;
use crate::core::rates::Rates;
use crate::core::routes::{Readings, Routes};
use crate::core::settings::Settings;
use crate::pools::{Pool, Pools};

/// What all cores and the control task share.
#[derive(Debug, Default)]
pub struct Shared {
    pub settings: ArcSwap<Settings>,
    pub pools: Pools,
    /// None where no gateway is configured.
    pub routes: Arc<ArcSwapOption<Routes>>,
    /// What was asked for of late, of routes with limits; whatever the document is.
    pub rates: Rates,
    /// Of the document that they are of.
    pub readings: Readings,
    /// Of the cluster's configuration, where that is followed.
    pub following: Following,
    pub connections: Arc<Connections>,
    /// Of the bytes that requests hold.
    pub account: Arc<Account>,
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
