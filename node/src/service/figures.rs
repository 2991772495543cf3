//! What balancers do, in numbers, asked of them beside gossip (`skep_gateway::figures`) when somebody wants to see it.
//!
//! Nothing is asked while nobody looks. One task, [`Figures::hear`]: what comes is believed of the balancer that was
//! asked by that number, and of no other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_base::id::{NodeId, RequestId};
use skep_gateway::figures::{Ask, Figures as Told, Gathering, Part};
use skep_members::gossip::{Gossip, NodeState, PeerRecord, Program, View};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Who looks within this time of another is shown the same.
const AGAIN: Duration = Duration::from_millis(950);
/// How long balancers have to answer who looks; what comes later is seen by the next.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// What was said longer ago is shown no more.
const OLD: Duration = Duration::from_secs(5);
/// Most balancers that are asked.
pub const BALANCERS_MAX: usize = 64;

/// What one balancer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub told: Told,
    at: Instant,
}

impl Heard {
    pub fn new(told: Told, at: Instant) -> Self {
        Self { told, at }
    }
}

/// What balancers said, and who is to say something.
pub struct Figures {
    gossip: Gossip,
    /// One who looks asks, and the others wait for what comes of it.
    turn: tokio::sync::Mutex<()>,
    asking: Mutex<Asking>,
    answered: Notify,
}

impl Figures {
    pub fn new(gossip: Gossip) -> Self {
        let (turn, asking, answered) = Default::default();
        Self { gossip, turn, asking, answered }
    }

    /// Hears for as long as there is gossip; what is `others` says whether it was for it.
    pub async fn hear(&self, others: impl Fn(&[u8]) -> bool) {
        let Some(mut said) = self.gossip.hear() else { return };
        while let Some((_, bytes)) = said.recv().await {
            if !others(&bytes) && self.asking().hear(&bytes, Instant::now()) {
                self.answered.notify_one();
            }
        }
    }

    /// What each balancer says now, or said a moment ago.
    pub async fn look(&self) -> HashMap<NodeId, Heard> {
        let _turn = self.turn.lock().await;
        let view = self.gossip.view().borrow().clone();
        let asks = self.asking().begin(&view, Instant::now(), || RequestId::random().0 as u64);
        for (address, ask) in &asks {
            self.gossip.say(*address, &ask.encode()).await;
        }
        if asks.is_empty() {
            return self.asking().heard.clone();
        }
        let all_answered = async {
            while !self.asking().have_all_answered() {
                self.answered.notified().await;
            }
        };
        let _ = timeout(ANSWER_MAX, all_answered).await;
        self.asking().heard.clone()
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Asking {
    at: Option<Instant>,
    /// By the number that each was asked with.
    waiting: HashMap<u64, (NodeId, Gathering)>,
    heard: HashMap<NodeId, Heard>,
}

impl Asking {
    /// What is to be sent now, and where; nothing where that was done a moment ago.
    fn begin(
        &mut self,
        view: &View,
        now: Instant,
        mut number: impl FnMut() -> u64,
    ) -> Vec<(SocketAddr, Ask)> {
        if self.at.is_some_and(|at| now.saturating_duration_since(at) < AGAIN) {
            return Vec::new();
        }
        self.at = Some(now);
        self.waiting.clear();
        self.heard.retain(|_, heard| now.saturating_duration_since(heard.at) < OLD);
        // One of a version before hears no such thing, and one with a file of its own is no part of this gateway.
        let follows = |it: &&PeerRecord| {
            it.program == Program::Balancer && it.state != NodeState::Left && it.gateway.is_some()
        };
        let asked = view.live.iter().filter(follows).take(BALANCERS_MAX).map(|balancer| {
            let ask = Ask { node: view.me.id.0, number: number() };
            self.waiting.insert(ask.number, (balancer.id, Gathering::default()));
            (balancer.peer, ask)
        });
        asked.collect()
    }

    /// Whether that was the last word of somebody's answer.
    fn hear(&mut self, bytes: &[u8], now: Instant) -> bool {
        let Ok(part) = Part::decode(bytes) else { return false };
        let number = part.number;
        let Some((balancer, gathering)) = self.waiting.get_mut(&number) else { return false };
        let Some(told) = gathering.add(part) else { return false };
        self.heard.insert(*balancer, Heard::new(told, now));
        self.waiting.remove(&number);
        true
    }

    fn have_all_answered(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use skep_members::gossip::GatewayAt;

    use super::*;
    use crate::service::peers;

    fn member(id: u64, program: Program, follows: bool) -> PeerRecord {
        let gateway = follows.then_some(GatewayAt::default());
        PeerRecord { gateway, ..peers::member(id, program) }
    }

    fn view(live: Vec<PeerRecord>) -> View {
        peers::view(member(9, Program::Node, false), live)
    }

    fn told(requests: u64) -> Told {
        let mut told = Told { over_ms: 1000, ..Told::default() };
        told.all.recent = requests;
        told.routes = (0..40).map(|n| (format!("a-route-with-a-long-name-{n}"), told.all)).collect();
        told
    }

    #[test]
    fn an_answer_is_of_the_balancer_that_was_asked_by_its_number() {
        let balancer = |id| member(id, Program::Balancer, true);
        let left = PeerRecord { state: NodeState::Left, ..balancer(3) };
        let seen = view(vec![
            balancer(1),
            balancer(2),
            left,
            member(4, Program::Node, true),
            member(5, Program::Balancer, false),
        ]);
        let (mut asking, start, mut number) = (Asking::default(), Instant::now(), 100);
        let mut numbers = || {
            number += 1;
            number
        };
        let asks = asking.begin(&seen, start, &mut numbers);
        let sent: Vec<_> = asks.iter().map(|(to, ask)| (to.to_string(), ask.node, ask.number)).collect();
        assert_eq!(sent, [("192.0.2.1:7401".into(), 9, 101), ("192.0.2.2:7401".into(), 9, 102)]);
        assert!(asking.begin(&seen, start + AGAIN / 2, &mut numbers).is_empty(), "it was asked just now");

        let parts = told(7).parts(102);
        assert_eq!(parts.len(), 2);
        assert!(!asking.hear(&parts[1], start));
        assert!(!asking.hear(b"nothing of this", start));
        assert!(!told(8).parts(103).iter().any(|part| asking.hear(part, start)), "nobody was asked so");
        assert!(asking.heard.is_empty());
        assert!(asking.hear(&parts[0], start));
        assert_eq!(asking.heard[&NodeId(2)].told, told(7));
        assert!(!parts.iter().any(|part| asking.hear(part, start)), "it has been said");
        assert!(!asking.have_all_answered());
        assert!(told(9).parts(101).iter().fold(false, |_, part| asking.hear(part, start)));
        assert!(asking.have_all_answered());
        assert_eq!(asking.heard.len(), 2);

        // One that answers no more is shown for a while.
        let two = view(vec![balancer(1), balancer(2)]);
        for (after, shown) in [(AGAIN, 2), (OLD, 0)] {
            asking.begin(&two, start + after, &mut numbers);
            assert_eq!(asking.heard.len(), shown);
        }
        assert!(!parts.iter().any(|part| asking.hear(part, start)), "an answer to a question of before");
    }
}
