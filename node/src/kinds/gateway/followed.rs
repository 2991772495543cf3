//! Which balancers obey a revision: for who changes the document, and wants to know that it is in force.
//!
//! Each says by gossip what it has in force. Counted are those that are there when the wait begins, are not about to go, and
//! obey the cluster's document; of the version before none says so, and none is counted. Who goes meanwhile is counted no
//! more, and who falls silent is not waited for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;
use serde::Serialize;
use skep_base::id::NodeId;
use skep_members::gossip::{GatewayAt, GatewayRevision, NodeState, PeerRecord, Program, View};
use skep_state::gateway::Revision;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// What a client may wish (RFC 7240).
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Longest wait, in seconds; who asks for more waits so long.
pub(super) const WAIT_MAX_S: u64 = 30;
/// Waits at a time; one more is answered at once, and nothing is said of balancers.
pub(super) const WAITS_MAX: usize = 32;
/// Balancers that are named as being behind.
const BEHIND_MAX: usize = 100;

/// How many obey it, and who does not.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Followed {
    seen_by: usize,
    of: usize,
    behind: Vec<Behind>,
}

/// A balancer that has another revision in force.
#[derive(Debug, PartialEq, Serialize)]
struct Behind {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    /// What it has in force; null where it serves nothing.
    revision: Option<u64>,
    why: Why,
}

/// Why a balancer has not what is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Why {
    /// It has not come to it yet.
    Late,
    /// It was told of it, and cannot read it.
    Refuses,
    /// Nothing is heard of it any more.
    Silent,
}

/// How many seconds a client wishes to wait: the first `wait` of its preferences. One that says nothing that can be
/// understood is no wish.
pub(super) fn wish(headers: &HeaderMap) -> Option<u64> {
    let fields = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let preferences = fields.flat_map(|value| value.split(','));
    let mut waits = preferences.filter_map(|it| {
        let (name, value) = it.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    let seconds = waits.next().filter(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit()))?;
    // More digits than a number has are a long wait, too.
    Some(seconds.parse().unwrap_or(u64::MAX).min(WAIT_MAX_S))
}

/// Waits until all obey that revision, or say that they cannot, or the time is over.
pub(super) async fn wait(
    mut view: watch::Receiver<Arc<View>>,
    now: Revision,
    patience: Duration,
) -> Followed {
    let deadline = Instant::now() + patience;
    let mut seen = view.borrow_and_update().clone();
    let counted = obeying(&seen.live).map(|(it, _)| (it.id, it.generation)).collect();
    loop {
        let (followed, is_over) = look(&seen, &counted, now);
        if is_over {
            return followed;
        }
        // Where nobody gossips any more, the node ends.
        let Ok(Ok(())) = timeout_at(deadline, view.changed()).await else { return followed };
        seen = view.borrow_and_update().clone();
    }
}

/// The balancers that obey the cluster's document.
fn obeying(there: &[PeerRecord]) -> impl Iterator<Item = (&PeerRecord, GatewayAt)> {
    let there = there.iter().filter(|it| it.program == Program::Balancer && it.state == NodeState::Ready);
    there.filter_map(|it| Some((it, it.gateway?)))
}

/// How many do, and whether there is nobody left to wait for.
fn look(view: &View, counted: &HashSet<(NodeId, u64)>, now: Revision) -> (Followed, bool) {
    let is_now = |it: GatewayRevision| it.lineage == now.lineage && it.number >= now.number;
    let mut is_over = true;
    let mut followed = Followed { seen_by: 0, of: 0, behind: Vec::new() };
    let live = obeying(&view.live).map(|it| (it, Why::Late));
    let all = live.chain(obeying(&view.dead).map(|it| (it, Why::Silent)));
    for ((it, at), why) in all.filter(|((it, _), _)| counted.contains(&(it.id, it.generation))) {
        followed.of += 1;
        if at.in_force.is_some_and(is_now) {
            followed.seen_by += 1;
            continue;
        }
        let why = if at.refused.is_some_and(is_now) { Why::Refuses } else { why };
        is_over &= why != Why::Late;
        if followed.behind.len() < BEHIND_MAX {
            let (id, http) = (it.id.to_string(), it.http.map(|address| address.to_string()));
            followed.behind.push(Behind { id, http, revision: at.in_force.map(|it| it.number), why });
        }
    }
    (followed, is_over)
}

#[cfg(test)]
mod tests;
