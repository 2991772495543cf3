//! The time that what is written gets: that of a majority of the voters' clocks.
//!
//! Each node asks the voters for their clocks over the peers' connections, once a second, and goes by what
//! a majority of them agrees on, carried on by its monotonic clock. So a clock that is wrong harms nobody,
//! its own node's leadership included: the leader stamps what it proposes with the agreed time, and hands
//! over to one whose clock is right. Where no majority agrees, time goes on as it did, and what needs more
//! (retention by age) waits; a node that has not yet seen a majority agree lets it go on from the newest time
//! that was given, if its own clock is ahead of that. One that is alone has its own clock; a jump of it is
//! followed after ten minutes.
//!
//! One task, [`run`]; it may be dropped at any await.

mod agreement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use serde::Serialize;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};
use skep_raft::peers::Peers;
use skep_raft::wire::{Request, Response};
use skep_state::level::Level;
use skep_store::{Applied, Raft};
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
/// How long a leader that has seen no majority agree waits for one before it stamps anything: it leads, so a
/// majority is there to be asked.
const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks until then.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The first level at which members tell each other their clocks.
pub const CLOCKS: Level = Level(3);

/// The agreed time of this node. Clones share it.
#[derive(Clone)]
pub struct Time {
    node_id: NodeId,
    known: Arc<Mutex<Known>>,
    applied: watch::Receiver<Applied>,
    /// A majority has been seen to agree, or there was but one.
    agreed: watch::Sender<bool>,
    /// A leader has waited for that in vain.
    waited: Arc<AtomicBool>,
}

struct Known {
    voters: BTreeSet<NodeId>,
    /// The others' clocks: their bases, and when each was asked.
    clocks: BTreeMap<NodeId, (i64, i64)>,
    anchor: Anchor,
    /// The newest time that was given to anything, and when by the monotonic clock it was seen.
    newest: (u64, i64),
    /// All voters that are there tell their clocks: none is of the version before.
    all_tell: bool,
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
    /// The newest that was given to anything: later than the former where a clock that was ahead was believed.
    pub newest_ms: u64,
    /// Whether a majority of the voters agrees on it, or there is but one.
    pub agreed: bool,
    /// Whether all voters that are there tell their clocks: none is of the version before.
    #[serde(skip)]
    pub all_tell: bool,
    /// The voters' clocks that are known, and this node's.
    pub members: Vec<MemberClock>,
}

impl Time {
    pub fn start(node_id: NodeId, applied: watch::Receiver<Applied>) -> Self {
        let known = Known {
            voters: BTreeSet::new(),
            clocks: BTreeMap::new(),
            anchor: Anchor::at(own_base_ms()),
            newest: (0, boot_ms()),
            all_tell: false,
        };
        let (agreed, waited) = (watch::Sender::new(false), Arc::default());
        Self { node_id, known: Arc::new(Mutex::new(known)), applied, agreed, waited }
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

    /// The agreed time, once this node has seen a majority agree: what a leader stamps with.
    pub async fn stamp_ms(&self) -> u64 {
        let waits = !*self.agreed.borrow() && !self.waited.load(Ordering::Relaxed);
        if waits {
            let mut agreed = self.agreed.subscribe();
            // Where none does, as among members of the version before, it goes by what was given, and waits no
            // second time.
            let seen = tokio::time::timeout(FIRST_LOOK_TIMEOUT, agreed.wait_for(|agreed| *agreed)).await;
            self.waited.fetch_or(seen.is_err(), Ordering::Relaxed);
        }
        self.now_ms()
    }

    /// The clocks as they are known here.
    pub fn clocks(&self) -> Clocks {
        let (agreement, time_ms, bases) = self.look();
        let (base_ms, all_tell) = {
            let known = self.lock();
            (known.anchor.base_ms, known.all_tell)
        };
        let offset = |(id, base): (NodeId, i64)| MemberClock {
            id: id.to_string(),
            offset_ms: base.saturating_sub(base_ms),
        };
        Clocks {
            time_ms,
            newest_ms: self.applied.borrow().latest.0,
            agreed: agreement != Agreement::None,
            all_tell,
            members: bases.into_iter().map(offset).collect(),
        }
    }

    fn look(&self) -> (Agreement, u64, BTreeMap<NodeId, i64>) {
        let (own_ms, boot_ms) = (own_base_ms(), boot_ms());
        let newest_ms = self.applied.borrow().latest.0;
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
        let now_ms = u64::try_from(boot_ms.saturating_add(known.anchor.base_ms)).unwrap_or(0);
        if agreement != Agreement::None && !known.voters.is_empty() {
            self.agreed.send_if_modified(|agreed| !std::mem::replace(agreed, true));
        }
        let now_ms = if *self.agreed.borrow() { now_ms } else { now_ms.min(known.go_on(newest_ms, boot_ms)) };
        (agreement, now_ms, bases)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The newest time that was given, gone on since it was seen; without one, the end of time.
    fn go_on(&mut self, newest_ms: u64, boot_ms: i64) -> u64 {
        let gone_on = |(newest_ms, seen_ms): (u64, i64)| {
            newest_ms.saturating_add(u64::try_from(boot_ms.saturating_sub(seen_ms)).unwrap_or(0))
        };
        // It falls where an operator has set it back.
        if newest_ms > gone_on(self.newest) || newest_ms < self.newest.0 || self.newest.0 == 0 {
            self.newest = (newest_ms, boot_ms);
        }
        if self.newest.0 == 0 { u64::MAX } else { gone_on(self.newest) }
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
    let mut last_heir = None;
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
        if let Some(to) = right.and_then(|right| asks.heir(&right, last_heir))
            && wrong >= LOOKS_WRONG
            && !lately
        {
            handed_over = Some(Instant::now());
            last_heir = Some(to);
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
        let interval = if *time.agreed.borrow() { INTERVAL } else { FIRST_LOOK_INTERVAL };
        let _ = tokio::time::timeout(interval, changes).await;
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
        // One that is not there tells nothing, and spoils nothing.
        let is_older = |id: &NodeId| *id != self.time.node_id && view.live(*id).is_some() && !tells(id);
        known.all_tell = !voters.iter().any(is_older);
        drop(known);
        self.time.look();
    }

    /// One whose clock is right and that is ready; another than the last time, where there is another.
    fn heir(&self, right: &BTreeSet<NodeId>, last: Option<NodeId>) -> Option<NodeId> {
        let view = self.gossip.view().borrow().clone();
        let is_ready = |id: &NodeId| view.live(*id).is_some_and(|record| record.state == NodeState::Ready);
        let ready = || right.iter().copied().filter(is_ready);
        ready().find(|id| Some(*id) != last).or_else(|| ready().next())
    }

    /// A voter's clock, taken to be read halfway between question and answer.
    async fn clock_of(&self, id: NodeId) -> Option<(NodeId, (i64, i64))> {
        let asked_ms = boot_ms();
        let deadline = Instant::now() + ROUND_TRIP_MAX;
        let Ok(Response::Clock { unix_ms }) = self.peers.call(id, Request::Clock, deadline).await else {
            return None;
        };
        let round_trip_ms = boot_ms() - asked_ms;
        // A process that was stopped meanwhile has no deadline that held.
        if round_trip_ms > i64::try_from(ROUND_TRIP_MAX.as_millis()).unwrap_or(i64::MAX) {
            return None;
        }
        let middle_ms = asked_ms + round_trip_ms / 2;
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
/// it, by which it is explained whether a token's time is over, and nothing else.
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
