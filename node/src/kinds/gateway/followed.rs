//! Which balancers obey a revision, or a purge: for who changes the document, or purges, and wants to know that it is in
//! force.
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
    #[serde(flatten)]
    has: Has,
    why: Why,
}

/// What it has in force; null where it serves nothing, or says nothing of it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Has {
    Revision(Option<u64>),
    Purge(Option<u64>),
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    Revision(Revision),
    /// The number of a cluster's purge.
    Purge(GatewayRevision),
}

impl From<Revision> for Wanted {
    fn from(revision: Revision) -> Self {
        Self::Revision(revision)
    }
}

impl From<GatewayRevision> for Wanted {
    fn from(purge: GatewayRevision) -> Self {
        Self::Purge(purge)
    }
}

impl Wanted {
    fn is_of(self, it: GatewayRevision) -> bool {
        let (lineage, number) = match self {
            Self::Revision(it) => (it.lineage, it.number),
            Self::Purge(it) => (it.lineage, it.number),
        };
        it.lineage == lineage && it.number >= number
    }

    /// What of a balancer's is to be so.
    fn stand(self, at: &GatewayAt) -> Option<GatewayRevision> {
        match self {
            Self::Revision(_) => at.in_force,
            Self::Purge(_) => at.purged,
        }
    }

    fn has(self, at: &GatewayAt) -> Has {
        let number = self.stand(at).map(|it| it.number);
        match self {
            Self::Revision(_) => Has::Revision(number),
            Self::Purge(_) => Has::Purge(number),
        }
    }

    /// Whether it says nothing of such.
    fn is_unheard(self, at: &GatewayAt) -> bool {
        matches!(self, Self::Purge(_)) && at.purged.is_none()
    }

    /// Whether it says that it cannot obey it.
    fn is_refused(self, at: &GatewayAt) -> bool {
        matches!(self, Self::Revision(_)) && at.refused.is_some_and(|it| self.is_of(it))
    }
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
    /// It says nothing of purges: it is of the version before, or no node has told it of them yet.
    Unheard,
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
    now: impl Into<Wanted>,
    patience: Duration,
) -> Followed {
    let now = now.into();
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
fn look(view: &View, counted: &HashSet<(NodeId, u64)>, now: Wanted) -> (Followed, bool) {
    let mut is_over = true;
    let mut followed = Followed { seen_by: 0, of: 0, behind: Vec::new() };
    let live = obeying(&view.live).map(|it| (it, Why::Late));
    let all = live.chain(obeying(&view.dead).map(|it| (it, Why::Silent)));
    for ((it, at), why) in all.filter(|((it, _), _)| counted.contains(&(it.id, it.generation))) {
        followed.of += 1;
        if now.stand(&at).is_some_and(|it| now.is_of(it)) {
            followed.seen_by += 1;
            continue;
        }
        let why = match why {
            _ if now.is_refused(&at) => Why::Refuses,
            Why::Late if now.is_unheard(&at) => Why::Unheard,
            why => why,
        };
        is_over &= why != Why::Late;
        if followed.behind.len() < BEHIND_MAX {
            let (id, http) = (it.id.to_string(), it.http.map(|address| address.to_string()));
            followed.behind.push(Behind { id, http, has: now.has(&at), why });
        }
    }
    (followed, is_over)
}

#[cfg(test)]
mod tests;
