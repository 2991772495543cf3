//! Whether a cluster that gossip shows is there: who can read gossip can write it, and a node that took a
//! cluster for its own which nobody belongs to would keep that for good. So one of those of whom gossip
//! says that they belong to it has to say so itself, over a peer's connection, which has the cluster key.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use skep_base::id::ClusterId;
use tokio::time::timeout;

use super::{ANSWER_TIMEOUT, Ask};
use crate::formation::bootstrap::{BootstrapAnswer, BootstrapAsk, Sight};

/// Most that are asked at once; the others' turn comes.
const ASKED_MAX: usize = 16;

/// Whether a node of the cluster says that it belongs to it. `turn` counts how often this was asked.
pub(super) async fn confirms(ask: &impl Ask, sight: &Sight, cluster: ClusterId, turn: usize) -> bool {
    let shown: Vec<_> = sight.others.iter().filter(|other| other.cluster == Some(cluster)).collect();
    let first = turn.wrapping_mul(ASKED_MAX) % shown.len().max(1);
    let asked = shown.iter().cycle().skip(first).take(shown.len().min(ASKED_MAX));
    let mut answers: FuturesUnordered<_> = asked
        .map(|other| timeout(ANSWER_TIMEOUT, ask.ask(other.id, BootstrapAsk::Query { cluster })))
        .collect();
    while let Some(answer) = answers.next().await {
        if matches!(answer, Ok(Ok(BootstrapAnswer::HasCluster(own))) if own == cluster) {
            return true;
        }
    }
    false
}
