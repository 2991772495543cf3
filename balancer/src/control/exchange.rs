//! What is said beside gossip: what balancers tell one another of limits that they have in common
//! (`skep_gateway::exchange`), and of stored answers that are not to be used any more (`voiding`); and what nodes are told that ask how this one does (`figures`).
//!
//! One task; what nodes ask is answered by another, so that no balancer waits for it. What was let in here since it
//! looked last goes to each balancer that gossip shows, and what others let in is owed here from then on. Nothing is
//! promised of who cannot be heard: each side counts for itself until gossip shows the other again.
//!
//! As it starts it asks one other what is owed (`settling`), and tells whoever starts later (`giving`). What the one that
//! is asked is yet to say of its own requests is not in what it tells, and is heard behind it: so nothing counts twice.

mod giving;
mod settling;
mod voiding;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use skep_base::id::NodeId;
use skep_gateway::exchange::taking::PAGES_MAX;
use skep_gateway::exchange::{Body, Entry, Frame, Incoming, Outgoing, debts, voids};
use skep_gateway::figures::Ask;
use skep_gateway::limit::Scope;
use skep_members::gossip::{Gossip, NodeState, PeerRecord, Program, View};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::giving::{Asked, Giving};
use self::settling::{Other, Settling};
use super::debts::Settle;
use super::figures::{Teller, Told};
use crate::core::rates::Held;
use crate::core::routes::Parts;
use crate::core::shared::Shared;

/// Between two looks at what is to be told.
const LOOK: Duration = Duration::from_millis(20);
/// How long one that gossip does not show is kept in mind: a pause of its process is no end.
const KEPT: Duration = Duration::from_secs(5);
/// Most other balancers that are told.
const PEERS_MAX: usize = 64;

/// Most runs of others of which it is remembered what was heard: some are not seen for a moment, and seen again.
const RUNS_MAX: usize = 4 * PEERS_MAX;

/// Another balancer.
#[derive(Debug)]
struct Peer {
    /// Where it gossips.
    address: SocketAddr,
    outgoing: Outgoing,
    /// When gossip showed it last.
    seen: Instant,
    /// Of those that know what is owed, who is asked first: one of this version, and then the one that has run longest.
    turn: (bool, u64),
    /// Pages that it was told.
    pages: usize,
}

/// This run, and the others by theirs.
struct Exchange {
    me: u64,
    began: Instant,
    peers: HashMap<u64, Peer>,
    incoming: HashMap<u64, Incoming>,
    shared: Arc<Shared>,
    gossip: Gossip,
    giving: Giving,
    settling: Option<Settling>,
    /// What is about to be in force for the first time.
    coming: Option<Arc<Parts>>,
    /// Of what others have invalidated.
    heard: voiding::Heard,
}

/// Goes on as long as gossip does.
pub(super) async fn run(
    gossip: Gossip,
    shared: Arc<Shared>,
    told: Told,
    mut settles: mpsc::Receiver<Settle>,
) {
    let Some(mut heard) = gossip.hear() else { return };
    let view = gossip.view();
    let me = view.borrow().me.id.0;
    let mut exchange = Exchange {
        me,
        began: Instant::now(),
        peers: HashMap::new(),
        incoming: HashMap::new(),
        shared,
        gossip: gossip.clone(),
        giving: Giving::default(),
        settling: None,
        coming: None,
        heard: voiding::Heard::default(),
    };
    exchange.shared.cache.untold.begin();
    let mut teller = Teller::begin(gossip, told);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let seen = view.borrow().clone();
                exchange.meet(&seen);
                exchange.look().await;
                exchange.tell_voids().await;
                exchange.give_late().await;
                exchange.settle(!seen.live.is_empty()).await;
            }
            Some(settle) = settles.recv() => {
                exchange.coming = Some(settle.parts.clone());
                exchange.settling = Some(Settling::begin(settle, Instant::now()));
            }
            said = heard.recv() => {
                let Some((from, bytes)) = said else { return };
                match Ask::decode(&bytes) {
                    Ok(ask) => {
                        if let Some(node) = view.borrow().live(NodeId(ask.node)) {
                            teller.asked(ask, node.peer);
                        }
                    }
                    Err(_) => exchange.hear(from, &bytes).await,
                }
            }
        }
    }
}

impl Exchange {
    /// Who is there, and who is not any more: that one's run is over, or it hears of nothing meanwhile.
    fn meet(&mut self, view: &View) {
        let is_one = |it: &&PeerRecord| it.program == Program::Balancer;
        let (left, there): (Vec<&PeerRecord>, Vec<&PeerRecord>) =
            view.live.iter().filter(is_one).partition(|it| it.state == NodeState::Left);
        let now = Instant::now();
        for record in there.into_iter().take(PEERS_MAX) {
            let (address, seen) = (record.peer, now);
            let turn = (record.version != view.me.version, record.generation);
            let peer = self.peers.entry(record.id.0).or_insert_with(|| {
                let outgoing = Outgoing::begin(self.began.elapsed().as_micros() as u64);
                Peer { address, outgoing, seen, turn, pages: 0 }
            });
            (peer.address, peer.seen) = (address, seen);
        }
        let has_left: HashSet<u64> = left.into_iter().map(|it| it.id.0).collect();
        self.peers.retain(|id, peer| !has_left.contains(id) && now.duration_since(peer.seen) < KEPT);
        let ids: HashSet<u64> = self.peers.keys().copied().collect();
        if self.incoming.len() > RUNS_MAX {
            self.incoming.retain(|id, _| ids.contains(id));
        }
        self.shared.rates.tell(self.peers.len());
    }

    /// Tells what there is to tell.
    async fn look(&mut self) {
        let exchanged = &self.shared.rates.exchanged;
        let mut taken: Vec<Entry> = Vec::new();
        self.shared.rates.take_untold(|entry| taken.push(entry));
        let now = Instant::now();
        for peer in self.peers.values_mut() {
            exchanged.untold.fetch_add(peer.outgoing.give_up(now), Relaxed);
            for entry in &taken {
                let count = if peer.outgoing.add(*entry) { &exchanged.told } else { &exchanged.untold };
                count.fetch_add(entry.count.into(), Relaxed);
            }
        }
        for (id, peer) in &mut self.peers {
            if let Some(frame) = peer.outgoing.next(self.me, *id, now) {
                self.gossip.say(peer.address, &frame.encode()).await;
            }
        }
    }

    /// Of what is for another run, or of nobody whom gossip shows, nothing is believed.
    async fn hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        if let Ok(frame) = debts::Frame::decode(bytes) {
            return self.hear_of_debts(frame).await;
        }
        if let Ok(frame) = voids::Frame::decode(bytes) {
            return self.hear_voids(&frame);
        }
        let Ok(frame) = Frame::decode(bytes) else { return };
        let Some(peer) = self.peers.get_mut(&frame.from).filter(|_| frame.to == self.me) else { return };
        match frame.body {
            Body::Seen => {
                peer.outgoing.seen(frame.number);
                // What came meanwhile need not wait for the next look.
                if let Some(frame) = peer.outgoing.next(self.me, frame.from, Instant::now()) {
                    self.gossip.say(from, &frame.encode()).await;
                }
            }
            // It comes again, and then counts on top of what is owed.
            Body::Counts(_) if self.settling.as_ref().is_some_and(|it| it.asks(frame.from)) => {}
            Body::Counts(entries) => {
                if self.incoming.entry(frame.from).or_default().is_new(frame.number) {
                    let limits = in_force(&self.shared).or_else(|| self.coming.clone());
                    owe(&self.shared, limits.as_deref(), &entries);
                }
                let seen = Frame { from: self.me, to: frame.from, number: frame.number, body: Body::Seen };
                self.gossip.say(from, &seen.encode()).await;
            }
        }
    }
}

/// What is owed as a run starts.
impl Exchange {
    async fn hear_of_debts(&mut self, frame: debts::Frame) {
        let debts::Frame { from, to, number, body } = frame;
        if to != self.me || !self.peers.contains_key(&from) {
            return;
        }
        let now = Instant::now();
        match body {
            debts::Body::Ask { place, until } => {
                let asked = Asked { by: from, number, places: place..until };
                if let Some(asked) = self.giving.turn(asked) {
                    self.give(asked).await;
                }
            }
            debts::Body::Nothing => {
                if let Some(settling) = &mut self.settling {
                    settling.hear_nothing(from, number);
                }
            }
            debts::Body::Page { place, next, debts } => {
                let Some(settling) = &mut self.settling else { return };
                if settling.hear((from, number), (place, next), now) {
                    let coming = self.coming.as_deref();
                    let held = |id| coming?.limit(id).filter(|it| it.limit.scope == Scope::Cluster);
                    settling.taken += self.shared.rates.take_over(&debts, held);
                    self.settle(true).await;
                }
            }
        }
    }

    /// Asks what is still to be asked for, and says so once that is all. `has_others` is whether gossip shows anybody.
    async fn settle(&mut self, has_others: bool) {
        let Some(settling) = &mut self.settling else {
            // What was about to be in force is.
            if self.coming.is_some() && in_force(&self.shared).is_some() {
                self.coming = None;
            }
            return;
        };
        let others = self.peers.iter().map(|(id, it)| Other { id: *id, address: it.address, turn: it.turn });
        match settling.turn(self.me, others.collect(), has_others, Instant::now()) {
            Some(asks) => {
                for (address, ask) in asks {
                    self.gossip.say(address, &ask.encode()).await;
                }
            }
            None => {
                self.shared.rates.handed.taken.fetch_add(settling.taken, Relaxed);
                self.settling.take().into_iter().for_each(Settling::end);
            }
        }
    }

    /// Tells those that had to wait for it.
    async fn give_late(&mut self) {
        self.giving.look();
        while let Some(asked) = self.giving.next() {
            self.give(asked).await;
        }
    }

    /// Tells a balancer that starts what is owed, at the address that gossip shows: but for what it is yet to hear as it was
    /// let in here.
    async fn give(&mut self, asked: Asked) {
        let Some(peer) = self.peers.get_mut(&asked.by).filter(|it| it.pages < PAGES_MAX) else { return };
        peer.pages += 1;
        let body = match in_force(&self.shared) {
            _ if self.settling.is_some() || self.shared.is_closed() => debts::Body::Nothing,
            limits => {
                let apart = |limit, who, untold: i32| {
                    let held = limits.as_ref()?.limit(limit)?;
                    let unheard = i64::try_from(peer.outgoing.unheard(limit, who)).unwrap_or(i64::MAX);
                    let unheard = unheard.saturating_add(untold.into());
                    (held.limit.scope == Scope::Cluster).then_some(unheard)
                };
                let place = asked.places.start;
                let (debts, next) = self.shared.rates.debts(asked.places, debts::DEBTS_MAX, apart);
                self.shared.rates.handed.given.fetch_add(debts.len() as u64, Relaxed);
                debts::Body::Page { place, next, debts }
            }
        };
        let frame = debts::Frame { from: self.me, to: asked.by, number: asked.number, body };
        self.gossip.say(peer.address, &frame.encode()).await;
    }
}

/// Of whose limits something is owed; none before it is known.
fn in_force(shared: &Shared) -> Option<Arc<Parts>> {
    shared.routes.load().as_ref().filter(|it| !it.closed).map(|it| it.parts().clone())
}

/// Others have let in so many.
fn owe(shared: &Shared, limits: Option<&Parts>, entries: &[Entry]) {
    let rates = &shared.rates;
    let now = rates.now();
    for entry in entries {
        let held = limits.and_then(|it| it.limit(entry.limit));
        let count = match held {
            Some(Held { limit, .. }) if !limit.counts(entry.who) || limit.scope != Scope::Cluster => {
                &rates.exchanged.strange
            }
            Some(held) => {
                rates.owe(held, entry.who, entry.count, now);
                &rates.exchanged.heard
            }
            None => &rates.exchanged.strange,
        };
        count.fetch_add(entry.count.into(), Relaxed);
    }
}
