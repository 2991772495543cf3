//! The time that what is written gets: that of a majority of the voters' clocks.
//!
//! Each node asks the voters for their clocks over the peers' connections, once a second, and goes by what
//! a majority of them agrees on, carried on by its monotonic clock. So a clock that is wrong harms nobody,
//! its own node's leadership included: the leader stamps what it proposes with the agreed time, and hands
//! over to one whose clock is right. Where no majority agrees, time goes on as it did, and what needs more
//! (retention by age) waits. One that is alone has its own clock; a jump of it is followed after ten minutes.
//!
//! One task, [`run`]; it may be dropped at any await.

mod agreement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use serde::Serialize;
use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use skep_raft::peers::Peers;
use skep_raft::wire::{Request, Response};
use skep_state::level::Level;
use skep_store::Raft;
use tokio::sync::watch;
use tokio::time::Instant;

use agreement::{Agreement, Anchor, agree};

pub use agreement::APART_MAX_MS;

/// Between two looks at the voters' clocks.
const INTERVAL: Duration = Duration::from_secs(1);
/// An answer that took longer says too little of the moment when it was given.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(250);
/// What is known of a clock for longer is known no more.
const KNOWN_FOR_MS: i64 = 15_000;
/// Looks in a row at which a leader's clock is wrong before it hands over.
const LOOKS_WRONG: u32 = 3;
/// Between two times that a leader hands over for its clock.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(60);
/// How long a leader waits for its first look at the clocks before it stamps anything.
const FIRST_LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// The first level at which members tell each other their clocks.
pub const CLOCKS: Level = Level(3);

/// The agreed time of this node. Clones share it.
#[derive(Clone)]
pub struct Time {
    node_id: NodeId,
    known: Arc<Mutex<Known>>,
    looked: watch::Sender<bool>,
}

struct Known {
    voters: BTreeSet<NodeId>,
    /// The others' clocks: their bases, and when each was asked.
    clocks: BTreeMap<NodeId, (i64, i64)>,
    anchor: Anchor,
}

/// A voter's clock beside the agreed time.
#[derive(Debug, Clone, Serialize)]
pub struct MemberClock {
    pub id: String,
    /// How far it is ahead; below 0, behind.
    pub offset_ms: i64,
}

/// What is known of the clocks at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Clocks {
    /// The time that is gone by, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Whether a majority of the voters agrees on it, or there is but one.
    pub agreed: bool,
    /// The voters' clocks that are known, and this node's.
    pub members: Vec<MemberClock>,
}

impl Time {
    pub fn start(node_id: NodeId) -> Self {
        let anchor = Anchor::at(own_base_ms());
        let known = Known { voters: BTreeSet::new(), clocks: BTreeMap::new(), anchor };
        Self { node_id, known: Arc::new(Mutex::new(known)), looked: watch::Sender::new(false) }
    }

    /// The agreed time now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.look().1
    }

    /// The same, where a majority of the voters agrees on it or there is but one.
    pub fn trusted_ms(&self) -> Option<u64> {
        let (agreement, now_ms, _) = self.look();
        (agreement != Agreement::None).then_some(now_ms)
    }

    /// The agreed time, once this node has looked at the voters' clocks: what a leader stamps with.
    pub async fn stamp_ms(&self) -> u64 {
        if !*self.looked.borrow() {
            let mut looked = self.looked.subscribe();
            // Where nobody can be asked, its own clock is all there is.
            let _ = tokio::time::timeout(FIRST_LOOK_TIMEOUT, looked.wait_for(|looked| *looked)).await;
        }
        self.now_ms()
    }

    /// The clocks as they are known here.
    pub fn clocks(&self) -> Clocks {
        let (agreement, time_ms, bases) = self.look();
        let base_ms = self.lock().anchor.base_ms;
        let offset = |(id, base): (NodeId, i64)| MemberClock {
            id: id.to_string(),
            offset_ms: base.saturating_sub(base_ms),
        };
        Clocks {
            time_ms,
            agreed: agreement != Agreement::None,
            members: bases.into_iter().map(offset).collect(),
        }
    }

    fn look(&self) -> (Agreement, u64, BTreeMap<NodeId, i64>) {
        let (own_ms, boot_ms) = (own_base_ms(), boot_ms());
        let mut known = self.lock();
        let fresh = |asked_ms: i64| boot_ms.saturating_sub(asked_ms) <= KNOWN_FOR_MS;
        let others = known.clocks.iter().filter(|(_, (_, asked_ms))| fresh(*asked_ms));
        let mut bases: BTreeMap<_, _> = others.map(|(id, (base_ms, _))| (*id, *base_ms)).collect();
        bases.insert(self.node_id, own_ms);
        let agreement = agree(self.node_id, &known.voters, &bases);
        if known.anchor.follow(&agreement, own_ms, boot_ms) {
            tracing::warn!(
                "this node's clock took a step, and nobody is there to say otherwise: it is followed"
            );
        }
        let now_ms = boot_ms.saturating_add(known.anchor.base_ms);
        (agreement, u64::try_from(now_ms).unwrap_or(0), bases)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`run`] needs.
pub struct Asks {
    pub time: Time,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
}

/// Looks at the voters' clocks for as long as Raft runs. A leader whose clock is wrong hands over with
/// `hand_over`, to one whose clock is right.
pub async fn run<F>(asks: Asks, hand_over: impl Fn(NodeId) -> F + Send)
where
    F: Future<Output = Result<(), String>> + Send,
{
    let Asks { time, raft, .. } = &asks;
    let mut wrong = 0;
    let mut handed_over = None::<Instant>;
    let mut metrics = raft.metrics();
    loop {
        let now = metrics.borrow_and_update().clone();
        if now.running_state.is_err() {
            return;
        }
        let voters: BTreeSet<_> = now.membership_config.membership().voter_ids().map(NodeId).collect();
        asks.ask(&voters).await;
        let leads = now.current_leader == Some(time.node_id.0);
        let right = asks.who_is_right().filter(|right| leads && !right.contains(&time.node_id));
        wrong = if right.is_some() { wrong + 1 } else { 0 };
        let lately = handed_over.is_some_and(|at| at.elapsed() < HAND_OVER_INTERVAL);
        if let Some(to) = right.and_then(|right| right.first().copied())
            && wrong >= LOOKS_WRONG
            && !lately
        {
            handed_over = Some(Instant::now());
            tracing::error!(to = %to, "this node's clock is not the majority's: handing over leadership; set the clock");
            if let Err(error) = hand_over(to).await {
                tracing::warn!(%error, "leadership stays where the clock is wrong; what is written has the majority's time");
            }
        }
        let changes = async {
            // Another set of voters is looked at at once.
            loop {
                if metrics.changed().await.is_err() {
                    return;
                }
                let new = metrics.borrow_and_update();
                let others = new.membership_config.membership().voter_ids().map(NodeId);
                if new.running_state.is_err() || !others.eq(voters.iter().copied()) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(INTERVAL, changes).await;
    }
}

impl Asks {
    async fn ask(&self, voters: &BTreeSet<NodeId>) {
        let view = self.gossip.view().borrow().clone();
        let tells = |id: &NodeId| view.live(*id).is_some_and(|record| record.protocol.1 >= CLOCKS.0);
        let others = voters.iter().filter(|id| **id != self.time.node_id && tells(id));
        let answers = join_all(others.map(|id| self.clock_of(*id))).await;
        let mut known = self.time.lock();
        known.voters.clone_from(voters);
        known.clocks.retain(|id, _| voters.contains(id));
        known.clocks.extend(answers.into_iter().flatten());
        drop(known);
        if !voters.is_empty() {
            self.time.looked.send_replace(true);
        }
    }

    /// A voter's clock, taken to be read halfway between question and answer.
    async fn clock_of(&self, id: NodeId) -> Option<(NodeId, (i64, i64))> {
        let asked_ms = boot_ms();
        let deadline = Instant::now() + ROUND_TRIP_MAX;
        let Ok(Response::Clock { unix_ms }) = self.peers.call(id, Request::Clock, deadline).await else {
            return None;
        };
        let middle_ms = asked_ms + (boot_ms() - asked_ms) / 2;
        let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        Some((id, (unix_ms.saturating_sub(middle_ms), asked_ms)))
    }

    /// Those whose clocks a majority agrees with.
    fn who_is_right(&self) -> Option<BTreeSet<NodeId>> {
        match self.time.look().0 {
            Agreement::Majority { with, .. } => Some(with),
            Agreement::Alone | Agreement::None => None,
        }
    }
}

/// Milliseconds since the Unix epoch by this node's own clock, which may be wrong: what others are told of
/// it, and nothing else.
pub fn own_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn own_base_ms() -> i64 {
    i64::try_from(own_clock_ms()).unwrap_or(i64::MAX).saturating_sub(boot_ms())
}

/// The monotonic clock that also counts while the machine is suspended.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn boot_ms() -> i64 {
    i64::try_from(since_boot().as_millis()).unwrap_or(i64::MAX)
}
