//! What all cores and the control task share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use skep_vrrp::let_go::LetGo;

use crate::core::account::Account;
use crate::core::connections::{ByClient, Connections};
use crate::core::settings::Settings;
use crate::pools::Pools;

/// What all cores and the control task share.
#[derive(Debug, Default)]
pub struct Shared {
    pub settings: ArcSwap<Settings>,
    pub pools: Pools,
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
