//! What balancers tell one another of limits that they have in common (`skep_gateway::exchange`), beside gossip.
//!
//! One task. What was let in here since it looked last goes to each balancer that gossip shows, and what others let in
//! is owed here from then on. Nothing is promised of who cannot be heard: each side counts for itself until gossip shows
//! the other again.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use skep_gateway::exchange::{Body, Entry, Frame, Incoming, Outgoing};
use skep_gateway::limit::Scope;
use skep_members::gossip::{Gossip, NodeState, PeerRecord, Program, View};
use tokio::time::{MissedTickBehavior, interval};

use crate::core::rates::Held;
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
}

/// This run, and the others by theirs.
struct Exchange {
    me: u64,
    began: Instant,
    peers: HashMap<u64, Peer>,
    incoming: HashMap<u64, Incoming>,
    shared: Arc<Shared>,
    gossip: Gossip,
}

/// Goes on as long as gossip does.
pub(super) async fn run(gossip: Gossip, shared: Arc<Shared>) {
    let Some(mut heard) = gossip.hear() else { return };
    let view = gossip.view();
    let me = view.borrow().me.id.0;
    let mut exchange = Exchange {
        me,
        began: Instant::now(),
        peers: HashMap::new(),
        incoming: HashMap::new(),
        shared,
        gossip,
    };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let seen = view.borrow().clone();
                exchange.meet(&seen);
                exchange.look().await;
            }
            said = heard.recv() => {
                let Some((from, bytes)) = said else { return };
                exchange.hear(from, &bytes).await;
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
            let outgoing = || Outgoing::begin(self.began.elapsed().as_micros() as u64);
            let peer =
                self.peers.entry(record.id.0).or_insert_with(|| Peer { address, outgoing: outgoing(), seen });
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
            Body::Counts(entries) => {
                if self.incoming.entry(frame.from).or_default().is_new(frame.number) {
                    owe(&self.shared, &entries);
                }
                let seen = Frame { from: self.me, to: frame.from, number: frame.number, body: Body::Seen };
                self.gossip.say(from, &seen.encode()).await;
            }
        }
    }
}

/// Others have let in so many.
fn owe(shared: &Shared, entries: &[Entry]) {
    let (rates, routes) = (&shared.rates, shared.routes.load());
    let now = rates.now();
    for entry in entries {
        let held = routes.as_ref().and_then(|it| it.limit(entry.limit));
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
