//! The task between the gossip library and the rest: it tells the library what to do at once,
//! and makes the view of what the library knows.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ListenerHandle,
    ProtocolVersion, spawn_chitchat,
};
use skep_base::id::NodeId;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::admission::{Admission, Proved};
use super::aside::Said;
use super::counters::{add, set};
use super::fallen::Fallen;
use super::forms::{Forms, KEY_EDGE};
use super::proofs::{Believed, Proofs};
use super::record::{PeerRecord, Program, RecordError};
use super::transport::{COMPLAINT_INTERVAL, SealedTransport, Speaker};
use super::view::{Sighting, View};
use super::{DEAD_NODE_GRACE, FORGOTTEN_AFTER, GossipError, INTERVAL, STALL, Shared};
use crate::in_force::Keys;
use crate::seeds::{Seed, SeedWatch};

/// The same for every cluster: which cluster a member belongs to, its record says, and a process
/// that belongs to none yet has to see them all.
const GOSSIP_CLUSTER: &str = "skep";

/// Silence of this many mean intervals is death.
const PHI_THRESHOLD: f64 = 8.0;

/// The detector weighs its samples against five times the initial interval. With one sample the
/// time-out is 1.2 s and a bit more after a pause, however much gossip there is; with many it
/// would adapt to the flow of heartbeats by way of others and fall to a few hundred ms.
const SAMPLING_WINDOW: usize = 1;

/// What the detector expects before it has measured. Longer, and the last of 20 members sees a
/// death after 2 s; shorter, and the time-out comes near to what a process waits for a core on a
/// busy machine.
const INITIAL_INTERVAL: Duration = Duration::from_millis(175);

/// A longer pause is no sample: the last heartbeat of a dead node, when it comes late by way of
/// others, does not bring it back to life.
const SAMPLE_INTERVAL_MAX: Duration = Duration::from_millis(1000);

/// Rounds with a newly known address: the detector calls a node live with its third heartbeat.
const BURST: usize = 3;

/// Addresses that one look at the members or seeds starts a burst with; the rest is left to
/// the rounds.
const BURST_PEERS_MAX: usize = 256;

/// Silent seeds that are tried each round while the cluster is not complete.
const SEEDS_PER_ROUND: usize = 3;

/// The same once it is complete: one in this many rounds, so that two halves find each other.
const SEED_ROUNDS_LATER: u64 = 5;

/// Rounds on time, with something received, after which a process that stalled trusts its view.
const TRUST_ROUNDS: u32 = 5;

/// Rounds on time after which it does so also if nothing came: the others are gone then.
const TRUST_ROUNDS_MAX: u32 = 15;

/// Where the driver stands with a stall of its own process.
#[derive(Debug, Clone, Copy)]
enum Trust {
    Trusted,
    Stalled { rounds: u32, received: u64 },
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    chitchat: ChitchatHandle,
    receiver: AbortHandle,
    forms: Arc<Forms>,
    admission: Arc<Admission>,
    /// This process as the library knows it.
    id: ChitchatId,
    key_changes: watch::Receiver<()>,
    proofs: Proofs,
    fallen: Fallen,
    remote_change: Arc<Notify>,
    _listener: ListenerHandle,
    live: watch::Receiver<std::collections::BTreeMap<ChitchatId, chitchat::NodeState>>,
    seeds: SeedWatch,
    view: watch::Sender<Arc<View>>,
    me: SocketAddr,
    expect: u32,
    greeted: HashSet<SocketAddr>,
    /// Versions of records that were found bad, so that each is counted once.
    bad: HashMap<ChitchatId, u64>,
    complained: Option<Instant>,
    rounds: u64,
    last_round: Instant,
    trust: Trust,
}

impl Driver {
    pub async fn start(
        shared: Arc<Shared>,
        socket: tokio::net::UdpSocket,
        keys: Keys,
        seeds: Vec<Seed>,
        nodes: Vec<NodeId>,
        (view, asides): (watch::Sender<Arc<View>>, mpsc::Sender<Said>),
    ) -> Result<(Self, Speaker), GossipError> {
        let failed = |error: &dyn std::fmt::Display| GossipError::Start(error.to_string());
        let record = shared.record().clone();
        let listen_addr = socket.local_addr()?;
        let forms = Arc::<Forms>::default();
        let id = ChitchatId::new(record.id.to_string(), record.generation, record.peer);
        let key_changes = keys.changes();
        let mut proofs = Proofs::new(keys.clone());
        let admission = Arc::new(Admission::new(id.clone(), GOSSIP_CLUSTER, proofs.judges(), nodes));
        let counters = shared.counters.clone();
        let transport = SealedTransport::start(
            socket,
            keys.clone(),
            forms.clone(),
            admission.clone(),
            (counters, asides),
        )
        .await
        .map_err(|error| failed(&error))?;
        let speaker = transport.speaker();
        let config = ChitchatConfig {
            chitchat_id: id.clone(),
            cluster_id: GOSSIP_CLUSTER.to_string(),
            gossip_interval: INTERVAL,
            listen_addr,
            // Seeds are the driver's: the library would look names up by getaddrinfo.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: PHI_THRESHOLD,
                sampling_window_size: SAMPLING_WINDOW,
                max_interval: SAMPLE_INTERVAL_MAX,
                initial_interval: INITIAL_INTERVAL,
                dead_node_grace_period: FORGOTTEN_AFTER,
            },
            marked_for_deletion_grace_period: FORGOTTEN_AFTER,
            catchup_callback: None,
            extra_liveness_predicate: None,
            // Compressed digests: twice as many members fit into one packet.
            protocol_version: ProtocolVersion::V1,
        };
        let edge = keys.now().ring.has_edge_alone().then(|| (KEY_EDGE, "1".to_owned()));
        let proof = proofs.prove(&id, &record);
        let said =
            record.encode().into_iter().chain(edge).chain(proof).map(|(key, value)| (key.to_string(), value));
        let receiver = transport.receiver();
        let chitchat =
            spawn_chitchat(config, said.collect(), &transport).await.map_err(|error| failed(&error))?;
        let remote_change = Arc::new(Notify::new());
        let notify = remote_change.clone();
        // Called with the library's state locked: it only rings.
        let (_listener, live) = chitchat
            .with_chitchat(|chitchat| {
                let notify = notify.clone();
                let listener = chitchat.subscribe_event("", move |_| notify.notify_one());
                (listener, chitchat.live_nodes_watcher())
            })
            .await;
        let driver = Self {
            shared,
            chitchat,
            receiver,
            forms,
            admission,
            id,
            key_changes,
            proofs,
            fallen: Fallen::default(),
            remote_change,
            _listener,
            live,
            seeds: SeedWatch::start(seeds),
            view,
            me: record.peer,
            expect: record.expect,
            greeted: HashSet::new(),
            bad: HashMap::new(),
            complained: None,
            rounds: 0,
            last_round: Instant::now(),
            trust: Trust::Trusted,
        };
        Ok((driver, speaker))
    }

    pub async fn run(mut self) {
        let mut rounds = interval(INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.last_round = Instant::now();
        let shared = self.shared.clone();
        let remote_change = self.remote_change.clone();
        loop {
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                () = shared.record_changed.notified() => self.push().await,
                Ok(()) = self.key_changes.changed() => {
                    self.proofs.renew();
                    // What is said is proved with the key that is the first now.
                    self.push().await;
                }
                () = shared.leave.cancelled() => {
                    self.leave(&mut rounds).await;
                    break;
                }
                _ = rounds.tick() => self.round(),
                () = remote_change.notified() => {}
                Ok(()) = self.live.changed() => {}
                () = self.seeds.changed() => {
                    let seeds = self.seeds.addresses();
                    self.greet(seeds);
                }
            }
            self.look().await;
        }
        self.receiver.abort();
        let _ = self.chitchat.shutdown().await;
    }

    /// What is done once an interval.
    fn round(&mut self) {
        self.notice_stall();
        self.rounds += 1;
        self.last_round = Instant::now();
        if let Trust::Stalled { rounds, received } = self.trust {
            let rounds = rounds + 1;
            let heard = self.shared.counters.read().received > received;
            let over = rounds >= TRUST_ROUNDS_MAX || heard && rounds >= TRUST_ROUNDS;
            self.trust = if over { Trust::Trusted } else { Trust::Stalled { rounds, received } };
        }
        let complete = self.complete();
        self.seeds.set_complete(complete);
        if !complete || self.rounds.is_multiple_of(SEED_ROUNDS_LATER) {
            self.try_seeds(if complete { 1 } else { SEEDS_PER_ROUND });
        }
    }

    /// Gossips with some of the seeds at which nobody is known to live, in turn.
    fn try_seeds(&mut self, count: usize) {
        let view = self.view.borrow().clone();
        let live: HashSet<_> = view.live.iter().map(|record| record.peer).collect();
        let silent: Vec<_> = self
            .seeds
            .addresses()
            .into_iter()
            .filter(|seed| *seed != self.me && !live.contains(seed))
            .collect();
        if silent.is_empty() {
            return;
        }
        let turn = usize::try_from(self.rounds).unwrap_or(0).wrapping_mul(count);
        for step in 0..count.min(silent.len()) {
            self.gossip(silent[(turn.wrapping_add(step)) % silent.len()]);
        }
    }

    /// Whether as many nodes are there as are expected, and somebody at all if there are seeds.
    fn complete(&self) -> bool {
        let view = self.view.borrow();
        let nodes = view.live.iter().chain([&view.me]).filter(|record| record.program == Program::Node);
        let expected = nodes.count() >= usize::try_from(self.expect).unwrap_or(usize::MAX);
        expected && (!view.live.is_empty() || self.seeds.is_empty())
    }

    /// After a stall everybody seems dead: says so before anything is made of it.
    fn notice_stall(&mut self) {
        if self.last_round.elapsed() < INTERVAL + STALL {
            return;
        }
        let stalled = self.last_round.elapsed();
        self.last_round = Instant::now();
        add(&self.shared.counters.stalls, 1);
        warn!(?stalled, "this process stood still: its view of the members is not trusted for a moment");
        self.trust = Trust::Stalled { rounds: 0, received: self.shared.counters.read().received };
        // Everyone is asked at once, as at the start.
        self.greeted.clear();
    }

    /// Gives the library the own record as it is now, and gossips with everyone.
    async fn push(&mut self) {
        let record = self.shared.record().clone();
        let proof = self.proofs.prove(&self.id, &record);
        self.chitchat
            .with_chitchat(|chitchat| {
                for (key, value) in record.encode().into_iter().chain(proof.clone()) {
                    chitchat.self_node_state().set(key, value);
                }
            })
            .await;
        self.gossip_with_all();
    }

    fn gossip_with_all(&self) {
        let view = self.view.borrow().clone();
        for peer in &view.live {
            self.gossip(peer.peer);
        }
    }

    /// The last words, twice in case a datagram is lost, and a round's time for them to arrive.
    async fn leave(&mut self, rounds: &mut Interval) {
        self.push().await;
        sleep(INTERVAL / 2).await;
        self.gossip_with_all();
        rounds.reset();
        rounds.tick().await;
    }

    fn gossip(&self, peer: SocketAddr) {
        // Fails only when the library's task has ended, which the next look reports.
        let _ = self.chitchat.gossip(peer);
    }

    /// A burst of gossip with each address that is new.
    fn greet(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut new = Vec::new();
        for address in addresses {
            if new.len() == BURST_PEERS_MAX {
                break;
            }
            if address != self.me && self.greeted.insert(address) {
                new.push(address);
            }
        }
        for _ in 0..BURST {
            new.iter().for_each(|address| self.gossip(*address));
        }
    }

    /// Makes the view of what the library knows, and greets who is new.
    async fn look(&mut self) {
        self.notice_stall();
        let chitchat = self.chitchat.chitchat();
        let (mut sightings, addresses) = {
            let chitchat = chitchat.lock().await;
            self.sightings(&chitchat)
        };
        // An address is greeted again when who comes back there was gone.
        self.greeted.retain(|address| addresses.contains(address) || self.seeds.contains(address));
        self.greet(addresses);

        let now = Instant::now();
        self.fallen.complete(&mut sightings, DEAD_NODE_GRACE, now);
        let me = self.shared.record().clone();
        let trusted = matches!(self.trust, Trust::Trusted);
        let before = self.view.borrow().clone();
        let (view, tally) = before.next(me, sightings, trusted, now);
        set(&self.shared.counters.live, view.live.len());
        set(&self.shared.counters.dead, view.dead.len());
        set(&self.shared.counters.foreign, tally.foreign);
        set(&self.shared.counters.id_conflicts, tally.id_conflicts);
        if view != *before {
            report(&before, &view);
            self.view.send_replace(Arc::new(view));
        }
    }

    fn sightings(&mut self, chitchat: &Chitchat) -> (Vec<Sighting>, HashSet<SocketAddr>) {
        let live: HashSet<_> = chitchat.live_nodes().collect();
        let dead: HashSet<_> = chitchat.dead_nodes().collect();
        let (mut sightings, mut addresses) = (Vec::new(), HashSet::new());
        let (mut edges, mut members) = (HashSet::new(), HashSet::new());
        self.bad.retain(|id, _| chitchat.node_state(id).is_some());
        self.proofs.retain(|id| chitchat.node_state(id).is_some());
        let demanded = self.shared.demands_proofs.load(Relaxed);
        if demanded {
            self.fallen.demand_proofs();
        }
        for (id, state) in chitchat.node_states() {
            if id == chitchat.self_chitchat_id() {
                continue;
            }
            let (alive, address) = (live.contains(id), id.gossip_advertise_addr);
            // Another process may have the address of one that is dead.
            let is_there = !dead.contains(id);
            if is_there && state.get(KEY_EDGE).is_some() {
                edges.insert(address);
            }
            let get = |key| state.get(key);
            let record = PeerRecord::decode(&id.node_id, id.generation_id, address, get);
            match self.proofs.judge(id, state.max_version(), record, get, self.admission.spoke(id), demanded)
            {
                Ok(Believed { record, proved }) => {
                    if is_there {
                        addresses.insert(address);
                        members.extend(proved.then_some(address));
                    }
                    sightings.push(Sighting { record, alive, proved });
                }
                // It is how each restart looks to who has heard of the new run first.
                Err(RecordError::Earlier) if !alive => {}
                // Known by name, its words still on their way: asking it directly is fastest.
                Err(RecordError::Incomplete(_)) => addresses.extend(is_there.then_some(address)),
                Err(error) => {
                    if self.bad.insert(id.clone(), state.max_version()) != Some(state.max_version()) {
                        add(&self.shared.counters.bad_records, 1);
                        // Whoever can write gossip can say another such thing at each moment.
                        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
                            self.complained = Some(Instant::now());
                            warn!(member = ?id, %error, "a member's record is ignored");
                        }
                    }
                }
            }
        }
        let proved = sightings.iter().filter(|sighting| sighting.proved).map(|sighting| sighting.record.id);
        let nodes = self.proofs.proved().chain(proved).collect();
        let proved = Proved { nodes, places: members.clone() };
        self.admission.tell(chitchat.node_states().keys(), proved, Instant::now());
        self.forms.tell(edges, members);
        (sightings, addresses)
    }
}

/// Says who came and who went.
fn report(before: &View, after: &View) {
    let run = |record: &PeerRecord| (record.id, record.generation);
    let known: HashSet<_> = before.live.iter().map(run).collect();
    let now: HashSet<_> = after.live.iter().map(run).collect();
    for record in after.live.iter().filter(|record| !known.contains(&run(record))) {
        info!(id = %record.id, program = %record.program, peer = %record.peer, state = %record.state, "a member is there");
    }
    for record in before.live.iter().filter(|record| !now.contains(&run(record))) {
        info!(id = %record.id, program = %record.program, peer = %record.peer, state = %record.state, "a member is gone");
    }
}
