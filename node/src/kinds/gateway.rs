//! The gateway as served: its document on the admin address, for operators; and the watch on the public one, for
//! balancers.
//!
//! Whoever changes the document says of which one it was made: `If-Match`, by the revision that is its entity tag. What
//! it is to be is looked at here, by the code by which a balancer obeys it; the state itself takes any bytes.

mod admin;
mod change;
mod described;
mod followed;
mod purge;
mod refused;
mod seen;
mod shifts;
mod watch;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderValue;
use serde::Serialize;
use skep_base::id::NodeId;
use skep_gateway::kept::Difference;
use skep_gateway::{Fault, Kept};
use skep_members::gossip::View;
use skep_state::gateway::{GatewayOutcome, Revision};
use skep_state::kinds::gateway::{Gateway, Told};
use skep_state::kinds::purges::Purges;
use skep_state::kinds::shifts::Shifts;
use skep_state::level::Level;
use skep_state::purge::PurgeOutcome;
use skep_state::shift::{ShiftOp, ShiftOutcome};
use tokio::sync::watch as channel;

use crate::http::encode::time_rfc3339;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::served::MessageApi;
use crate::service::figures::Heard;
use crate::service::secrets::{Secrets, Stored};
use crate::service::shifts::heard::Summed;
use crate::service::{Service, ServiceError};

pub(crate) use admin::admin_routes;
use followed::Followed;
#[cfg(test)]
pub(crate) use watch::WATCHES_MAX;
pub(crate) use watch::{Watches, routes};

/// The page of the gateway.
pub(crate) type Page = fn(&HeaderMap) -> Result<Response, Problem>;

/// The gateway's view of the node. A dropped future of a change may still take effect.
pub trait GatewayApi: MessageApi {
    /// Looks at the documents as far as they are applied here.
    fn gateway<T>(&self, look: impl FnOnce(&Gateway) -> T) -> T;
    /// Changes whenever another document is the newest here.
    fn newest_gateway(&self) -> channel::Receiver<Option<Revision>>;
    /// Who is there, of whom balancers say where they stand.
    fn members(&self) -> channel::Receiver<Arc<View>>;
    /// Looks at the shifts of routes as far as they are applied here.
    fn shifts<T>(&self, look: impl FnOnce(&Shifts) -> T) -> T;
    /// Changes whenever one of them does: how far they are.
    fn newest_shifts(&self) -> channel::Receiver<u64>;
    /// What balancers say of one.
    fn shift_seen(&self, id: u64) -> Summed;
    /// Changes one, or begins one.
    fn change_shift(&self, op: ShiftOp) -> impl Future<Output = Result<ShiftOutcome, ServiceError>> + Send;
    /// What balancers do, as they say when they are asked now.
    fn figures(&self) -> impl Future<Output = HashMap<NodeId, Heard>> + Send;
    /// What opens and seals secrets.
    fn secrets(&self) -> &Secrets;
    /// Whether the members have agreed to keep secrets sealed.
    fn keeps_sealed(&self) -> bool;
    /// Fails until the members have agreed to keep certificates.
    fn require_certificates(&self) -> impl Future<Output = Result<(), ServiceError>> + Send;
    /// Whether all of them read what routes say of rollouts.
    fn reads_rollout(&self) -> bool;
    /// Makes a document the newest, where what is expected still is.
    fn set_gateway(
        &self,
        expect: Option<Revision>,
        stored: Stored,
        source: String,
    ) -> impl Future<Output = Result<GatewayOutcome, ServiceError>> + Send;
    /// Looks at the purges as far as they are applied here.
    fn purges<T>(&self, look: impl FnOnce(&Purges) -> T) -> T;
    /// The number of the last purge here; changes with each.
    fn last_purge(&self) -> channel::Receiver<u64>;
    /// Has balancers forget what this says.
    fn purge(&self, what: Bytes) -> impl Future<Output = Result<PurgeOutcome, ServiceError>> + Send;
}

impl GatewayApi for Service {
    fn gateway<T>(&self, look: impl FnOnce(&Gateway) -> T) -> T {
        Service::gateway(self, look)
    }
    fn newest_gateway(&self) -> channel::Receiver<Option<Revision>> {
        Service::newest_gateway(self)
    }
    fn members(&self) -> channel::Receiver<Arc<View>> {
        Service::members(self)
    }
    fn shifts<T>(&self, look: impl FnOnce(&Shifts) -> T) -> T {
        Service::shifts(self, look)
    }
    fn newest_shifts(&self) -> channel::Receiver<u64> {
        Service::newest_shifts(self)
    }
    fn shift_seen(&self, id: u64) -> Summed {
        Service::shift_seen(self, id)
    }
    fn change_shift(&self, op: ShiftOp) -> impl Future<Output = Result<ShiftOutcome, ServiceError>> + Send {
        Service::change_shift(self, op)
    }
    fn figures(&self) -> impl Future<Output = HashMap<NodeId, Heard>> + Send {
        Service::figures(self)
    }
    fn secrets(&self) -> &Secrets {
        Service::secrets(self)
    }
    fn keeps_sealed(&self) -> bool {
        Service::keeps_sealed(self)
    }
    fn require_certificates(&self) -> impl Future<Output = Result<(), ServiceError>> + Send {
        Service::require_certificates(self)
    }
    fn reads_rollout(&self) -> bool {
        self.reader().level() >= Level::SHIFTS
    }
    fn set_gateway(
        &self,
        expect: Option<Revision>,
        stored: Stored,
        source: String,
    ) -> impl Future<Output = Result<GatewayOutcome, ServiceError>> + Send {
        Service::set_gateway(self, expect, stored, source)
    }
    fn purges<T>(&self, look: impl FnOnce(&Purges) -> T) -> T {
        Service::purges(self, look)
    }
    fn last_purge(&self) -> channel::Receiver<u64> {
        Service::last_purge(self)
    }
    fn purge(&self, what: Bytes) -> impl Future<Output = Result<PurgeOutcome, ServiceError>> + Send {
        Service::purge(self, what)
    }
}

/// The newest document and its revision.
#[derive(Debug, Clone)]
struct Newest {
    revision: Revision,
    stored: Stored,
}

fn newest<A: GatewayApi>(api: &A) -> Option<Newest> {
    api.gateway(|gateway| {
        let (revision, told) = gateway.newest()?;
        Some(Newest { revision, stored: stored(gateway, told) })
    })
}

fn stored(gateway: &Gateway, told: &Told) -> Stored {
    Stored { document: told.document.clone(), keys: gateway.keys_of(told).cloned().collect() }
}

/// What a document that is kept says, with secrets as they lie: none where this version cannot read it. Takes the
/// processor for long.
fn kept(document: &[u8]) -> Option<Kept> {
    Kept::trusted(std::str::from_utf8(document).ok()?)
}

/// That it cannot: nothing is said of what it cannot read.
fn unreadable() -> Problem {
    let detail =
        "the document that is kept is none that this version can read: put a whole one, or go back to one";
    Problem::new(ProblemKind::OperationFailed, detail)
}

fn rfc3339(time_ms: u64) -> String {
    let mut time = Vec::new();
    time_rfc3339(time_ms, &mut time);
    String::from_utf8_lossy(&time).into_owned()
}

/// The entity tag of a revision.
fn etag(revision: Revision) -> String {
    format!("\"{:032x}.{}\"", revision.lineage, revision.number)
}

fn etag_value(revision: Revision) -> HeaderValue {
    // Hex digits, a point and a number are a header's value.
    HeaderValue::from_str(&etag(revision)).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What a change came to, or would.
#[derive(Debug, Serialize)]
struct Changed {
    /// 0 where there is no document yet, as for one that is only tried.
    lineage: String,
    revision: u64,
    #[serde(flatten)]
    difference: Difference,
    /// What holds, and is maybe not what was meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Fault>,
    /// Where that was waited for.
    #[serde(flatten)]
    followed: Option<Followed>,
}

impl Changed {
    fn of(revision: Option<Revision>, changes: (Difference, Vec<Fault>), followed: Option<Followed>) -> Self {
        let Revision { lineage, number } = revision.unwrap_or(Revision { lineage: 0, number: 0 });
        let (difference, warnings) = changes;
        Self { lineage: format!("{lineage:032x}"), revision: number, difference, warnings, followed }
    }
}
