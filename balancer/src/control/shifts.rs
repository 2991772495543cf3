//! Tells nodes how requests to the new services of shifts end here. One task, which goes on as long as gossip does.
//!
//! It says so again and again, to each node, beside gossip: nothing waits for an answer, and what is lost is said again.
//! Where a rule is broken it is said at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_gateway::shift::report::Report;
use skep_members::gossip::{Gossip, NodeState, Program};
use tokio::time::timeout;

use crate::core::shared::Shared;

/// How often it is said while a shift is open, and once a rule was broken here.
const INTERVAL: Duration = Duration::from_millis(500);
const INTERVAL_BROKEN: Duration = Duration::from_millis(100);
/// Most nodes that are told.
const NODES_MAX: usize = 64;

pub(super) async fn tell(gossip: Gossip, shared: Arc<Shared>) {
    let view = gossip.view();
    let mut has_left = false;
    loop {
        let interval = if has_left { INTERVAL_BROKEN } else { INTERVAL };
        // Either is a reason to say it.
        let _ = timeout(interval, shared.shifts.broke.notified()).await;
        if view.has_changed().is_err() {
            return;
        }
        let now = Instant::now();
        shared.shifts.look(now);
        let seen = shared.shifts.seen(now);
        has_left = seen.iter().any(|it| it.has_left);
        if seen.is_empty() {
            continue;
        }
        let there = view.borrow().clone();
        let report = Report { balancer: there.me.id.0, seen }.encode();
        let nodes = there.live.iter().filter(|it| it.program == Program::Node && it.state != NodeState::Left);
        for node in nodes.take(NODES_MAX) {
            gossip.say(node.peer, &report).await;
        }
    }
}
