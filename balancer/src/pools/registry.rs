//! Keeps the set of backends that is served from: what the source says, held against probes.
//!
//! One task, on the control runtime. It owns a probe task for each backend; a change of either is
//! published at once, as a whole.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_base::id::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::pools::Pool;
use crate::pools::backends::{Backend, BackendSet, Known};
use crate::pools::choose;
use crate::pools::orders::Orders;
use crate::pools::outlier::Rates;
use crate::pools::probe::{self, Health};
use crate::pools::source::{Target, TargetState};
use crate::pools::standing::{Facts, Standing, standing};

/// Most probe results on their way.
const RESULTS_MAX: usize = 256;
/// Most backends that are known.
const BACKENDS_MAX: usize = 1024;
/// Backends that are gone and remembered as such, for the requests that still wait for them.
const GONE_MAX: usize = 64;
/// How often latencies and failures are compared: a round.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);

/// Tells backends apart: another run of a process is another backend.
type Key = (Option<NodeId>, SocketAddr, u64);

#[derive(Debug)]
struct Entry {
    backend: Arc<Backend>,
    target: Target,
    health: Health,
    serving: bool,
    probe: Option<AbortHandle>,
}

impl Entry {
    fn standing(&self) -> Standing {
        standing(Facts { state: self.target.state, health: self.health, ejected: false, held: false })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}

/// What is known of the backends.
#[derive(Debug, Default)]
struct Registry {
    /// Its name, for the log.
    pool: String,
    entries: HashMap<Key, Entry>,
    gone: VecDeque<u64>,
}

/// Fills the pool with what the source says now, before anything can be asked of it, and follows it until it ends.
pub fn follow(
    pool: Arc<Pool>,
    mut source: watch::Receiver<Vec<Target>>,
) -> impl Future<Output = ()> + Send + 'static {
    let (results, incoming) = mpsc::channel(RESULTS_MAX);
    let mut registry = Registry { pool: pool.name.clone(), ..Registry::default() };
    registry.obey(&pool, &mut source, &results);
    pool.store(registry.publish(&pool.orders));
    registry.run(pool, source, results, incoming)
}

/// Waits for the end of an ejection, where one has a time.
async fn over(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

impl Registry {
    async fn run(
        mut self,
        pool: Arc<Pool>,
        mut source: watch::Receiver<Vec<Target>>,
        results: mpsc::Sender<(u64, Health)>,
        mut incoming: mpsc::Receiver<(u64, Health)>,
    ) {
        let mut compare = tokio::time::interval(COMPARE_INTERVAL);
        let mut rates = Rates::default();
        loop {
            tokio::select! {
                changed = source.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.obey(&pool, &mut source, &results);
                }
                Some((serial, health)) = incoming.recv() => {
                    if !self.probed(serial, health) {
                        continue;
                    }
                }
                () = pool.orders.changed.notified() => {}
                () = over(pool.orders.next_end()) => {}
                _ = compare.tick() => {
                    pool.load().eject_outliers(&mut rates, Instant::now());
                    continue;
                }
            }
            for backend in pool.orders.expire(Instant::now()) {
                tracing::warn!(pool = pool.name, backend, "the time of an operator's ejection is over");
            }
            pool.store(self.publish(&pool.orders));
        }
    }

    fn obey(
        &mut self,
        pool: &Pool,
        source: &mut watch::Receiver<Vec<Target>>,
        results: &mpsc::Sender<(u64, Health)>,
    ) {
        let targets = source.borrow_and_update().clone();
        self.update(targets, |serial, target| {
            Some(probe::start(serial, target, pool.tls.clone(), results.clone()))
        });
    }

    /// What waits for it waits in vain, though it is not known any more.
    fn forget(&mut self, serial: u64) {
        self.gone.push_back(serial);
        if self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    fn update(&mut self, targets: Vec<Target>, start: impl Fn(u64, &Target) -> Option<AbortHandle>) {
        use TargetState::{Draining, Ended, Left, Static};
        let mut targets: HashMap<Key, Target> = targets
            .into_iter()
            .take(BACKENDS_MAX)
            .map(|it| ((it.node, it.address, it.generation), it))
            .collect();
        // What is gone from the source goes on under probes, unless its place is taken.
        let mut gone = Vec::new();
        self.entries.retain(|key, entry| {
            let same_node = |other: &Key| other.0 == key.0 && key.0.is_some();
            // By a later run alone: what was there before may be shown for a while yet.
            let taken = targets.iter().any(|(other, target)| {
                let is_there =
                    !matches!(target.state, TargetState::Dead | TargetState::Left | TargetState::Ended);
                other.2 > key.2 && is_there && (other.1 == key.1 || same_node(other))
            });
            match targets.remove(key) {
                _ if taken => {}
                Some(target) => {
                    // It has become ready since it was asked last.
                    let became = target.state == TargetState::Ready && entry.target.state != target.state;
                    if became && entry.health == Health::Unready {
                        entry.health = Health::Unknown;
                    }
                    if entry.target.probe != target.probe {
                        if let Some(probe) = entry.probe.take() {
                            probe.abort();
                        }
                        entry.probe = start(entry.backend.serial, &target);
                    }
                    entry.target = target;
                }
                // What has left, or was taken from a list, finishes what it has, where it is still there.
                None if matches!(entry.target.state, Left | Draining | Ended | Static) => {
                    if entry.health == Health::Silent {
                        gone.push(entry.backend.serial);
                    }
                    return false;
                }
                None => entry.target.state = TargetState::Dead,
            }
            let stays =
                !taken && (entry.target.state != TargetState::Dead || entry.standing() != Standing::Gone);
            if !stays {
                gone.push(entry.backend.serial);
            }
            stays
        });
        gone.into_iter().for_each(|serial| self.forget(serial));
        for (key, target) in targets {
            // A stranger that is dead already, or has left, is nothing to begin with.
            if matches!(target.state, TargetState::Dead | TargetState::Left | TargetState::Ended) {
                continue;
            }
            let backend = Arc::new(Backend::new(target.address, target.node));
            let probe = start(backend.serial, &target);
            tracing::info!(pool = self.pool, backend = backend.name, address = %target.address, "backend found");
            let entry = Entry { backend, target, health: Health::Unknown, serving: false, probe };
            self.entries.insert(key, entry);
        }
    }

    /// Says whether that changed anything.
    fn probed(&mut self, serial: u64, health: Health) -> bool {
        let Some(entry) = self.entries.values_mut().find(|it| it.backend.serial == serial) else {
            return false;
        };
        if entry.health == health {
            return false;
        }
        tracing::info!(
            backend = entry.backend.name,
            from = entry.health.as_str(),
            to = health.as_str(),
            "probe"
        );
        entry.health = health;
        if entry.standing() == Standing::Gone && entry.target.state == TargetState::Dead {
            self.entries.retain(|_, it| it.backend.serial != serial);
            self.forget(serial);
        }
        true
    }

    fn publish(&mut self, orders: &Orders) -> BackendSet {
        let mut entries: Vec<&mut Entry> = self.entries.values_mut().collect();
        entries.sort_by_key(|it| it.backend.serial);
        let known = |it: &&mut Entry| {
            let order = orders.of(&it.backend.name);
            Known {
                backend: it.backend.clone(),
                state: it.target.state,
                health: it.health,
                is_leader: it.target.is_leader,
                role: if it.target.is_leader { "leader" } else { it.target.role.as_str() },
                serving: false,
                weight: order.weight * it.target.weight,
                order,
                version: it.target.version.clone(),
            }
        };
        let set = BackendSet::of(entries.iter().map(known).collect(), self.gone.iter().copied());
        let unit = choose::unit(set.known.iter().filter(|it| it.serving).map(|it| it.weight));
        for (entry, known) in entries.into_iter().zip(&set.known) {
            entry.backend.weigh(known.weight / unit);
            if known.serving != entry.serving {
                let (backend, state) = (&entry.backend, known.state.as_str());
                tracing::info!(backend = backend.name, state, serving = known.serving, "backend");
                if known.serving {
                    backend.returned();
                }
            }
            entry.serving = known.serving;
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use skep_members::gossip::RaftRole;

    use super::*;
    use crate::pools::backends::Kind;
    use crate::pools::source::Probe;

    fn target(id: u64, state: TargetState) -> Target {
        let address = ([127, 0, 0, id as u8], 80).into();
        Target {
            node: Some(NodeId(id)),
            generation: 1,
            address,
            probe: Probe::Connects(address),
            state,
            role: RaftRole::Follower,
            is_leader: id == 2,
            version: String::new(),
            weight: 1.0,
        }
    }

    fn serving(registry: &mut Registry) -> Vec<u64> {
        registry.publish(&Orders::default()).serving.iter().filter_map(|it| it.node.map(|id| id.0)).collect()
    }

    fn with(targets: Vec<Target>) -> Registry {
        let mut registry = Registry::default();
        registry.update(targets, |_, _| None);
        registry
    }

    #[tokio::test]
    async fn a_pool_has_what_its_source_says_before_anything_else_runs() {
        let pool = Pool::new("p", false, None);
        let (_source, targets) = watch::channel(vec![target(1, TargetState::Static)]);
        let following = follow(pool.clone(), targets);
        assert_eq!(pool.load().serving.len(), 1);
        drop(following);
    }

    #[test]
    fn parts_of_a_hundred_weigh_what_the_same_parts_of_less_do() {
        for (weights, expected) in [
            ([70.0, 30.0], [70.0 / 30.0, 1.0]),
            ([50.0, 50.0], [1.0, 1.0]),
            ([100.0, 1.0], [100.0, 1.0]),
            ([0.1, 1.0], [0.1, 1.0]),
        ] {
            let weighing = |at: usize| Target { weight: weights[at], ..target(at as u64 + 1, Ready) };
            let mut registry = with(vec![weighing(0), weighing(1)]);
            let set = registry.publish(&Orders::default());
            for it in &set.known {
                let at = usize::from(it.backend.node == Some(NodeId(2)));
                let seen = it.backend.candidate(std::time::Instant::now(), Kind::Safe, false, 1, false);
                assert_eq!((it.weight, seen.weight), (weights[at], expected[at]), "{weights:?}");
            }
        }
    }

    fn serial(registry: &Registry, id: u64) -> u64 {
        registry.entries.values().find(|it| it.target.node == Some(NodeId(id))).unwrap().backend.serial
    }

    use TargetState::*;

    #[test]
    fn ready_nodes_are_served_from_at_once_and_draining_ones_at_once_no_more() {
        let mut registry = with(vec![target(1, Ready), target(2, Ready), target(3, Joining)]);
        let mut now = serving(&mut registry);
        now.sort();
        assert_eq!(now, [1, 2]);
        let set = registry.publish(&Orders::default());
        assert_eq!(set.leader.map(|at| set.serving[at].node), Some(Some(NodeId(2))));
        // Whatever its last probe says.
        let one = serial(&registry, 1);
        registry.probed(one, Health::Up);
        registry.update(vec![target(1, Draining), target(2, Ready), target(3, Ready)], |_, _| None);
        let mut now = serving(&mut registry);
        now.sort();
        assert_eq!(now, [2, 3]);
    }

    #[test]
    fn a_probe_takes_a_node_out_and_brings_it_back() {
        let mut registry = with(vec![target(1, Ready), target(2, Ready)]);
        let two = serial(&registry, 2);
        assert!(registry.probed(two, Health::Silent));
        assert!(!registry.probed(two, Health::Silent));
        let set = registry.publish(&Orders::default());
        assert_eq!((set.serving.len(), set.gone.as_slice(), set.leader), (1, &[two][..], None));
        for health in [Health::Unready, Health::Refused] {
            registry.probed(two, health);
            let set = registry.publish(&Orders::default());
            assert_eq!((set.serving.len(), set.gone.len()), (1, 0), "{health:?}: it finishes what it has");
        }
        registry.probed(two, Health::Up);
        assert_eq!(serving(&mut registry).len(), 2);
    }

    #[test]
    fn a_node_that_becomes_ready_does_not_wait_for_its_next_probe() {
        let mut registry = with(vec![target(1, Joining), target(2, Ready)]);
        let one = serial(&registry, 1);
        registry.probed(one, Health::Unready);
        assert_eq!(serving(&mut registry), [2]);
        registry.update(vec![target(1, Ready), target(2, Ready)], |_, _| None);
        assert_eq!(serving(&mut registry).len(), 2);
    }

    #[test]
    fn where_gossip_is_lost_the_last_known_set_goes_on_under_probes() {
        let mut registry = with(vec![target(1, Ready), target(2, Ready)]);
        for id in [1, 2] {
            let serial = serial(&registry, id);
            registry.probed(serial, Health::Up);
        }
        registry.update(vec![target(1, Dead), target(2, Dead)], |_, _| None);
        assert_eq!(serving(&mut registry).len(), 2);
        registry.update(vec![], |_, _| None);
        assert_eq!(serving(&mut registry).len(), 2);
        let two = serial(&registry, 2);
        registry.probed(two, Health::Refused);
        assert_eq!(serving(&mut registry), [1]);
        assert_eq!(registry.entries.len(), 1);
        assert_eq!(registry.publish(&Orders::default()).gone, [two], "what still waits for it is told");
    }

    #[test]
    fn a_node_that_stops_in_order_finishes_what_it_has_whatever_its_probes_say() {
        let mut registry = with(vec![target(1, Ready), target(2, Ready)]);
        let two = serial(&registry, 2);
        for state in [Draining, Left] {
            registry.update(vec![target(1, Ready), target(2, state)], |_, _| None);
            for health in [Health::Refused, Health::Silent] {
                registry.probed(two, health);
                let set = registry.publish(&Orders::default());
                assert_eq!((set.serving.len(), set.gone.len()), (1, 0), "{state:?} {health:?}");
            }
        }
        registry.probed(two, Health::Refused);
        registry.update(vec![target(1, Ready)], |_, _| None);
        assert!(registry.publish(&Orders::default()).gone.is_empty());
    }

    #[test]
    fn what_is_taken_from_a_list_gets_nothing_more_and_another_probe_begins_anew() {
        let began = std::cell::Cell::new(0);
        let start = |_, _: &Target| {
            began.set(began.get() + 1);
            None
        };
        let mut registry = Registry::default();
        registry.update(vec![target(1, Static), target(2, Static)], start);
        let one = serial(&registry, 1);
        registry.probed(one, Health::Up);
        let asked =
            Target { probe: Probe::Check(([127, 0, 0, 1], 80).into(), "/up".into()), ..target(1, Static) };
        registry.update(vec![asked.clone(), target(2, Static)], start);
        assert_eq!((began.get(), serial(&registry, 1)), (3, one));
        registry.update(vec![target(2, Static)], start);
        assert_eq!(serving(&mut registry), [2]);
        assert!(registry.publish(&Orders::default()).gone.is_empty(), "it finishes what it has");
    }

    #[test]
    fn a_node_whose_host_goes_while_it_drains_is_gone_once_neither_gossip_nor_a_probe_hears_of_it() {
        for forgotten in [false, true] {
            let mut registry = with(vec![target(1, Ready), target(2, Draining)]);
            let two = serial(&registry, 2);
            registry.probed(two, Health::Silent);
            assert!(registry.publish(&Orders::default()).gone.is_empty(), "gossip hears of it");
            let mut targets = vec![target(1, Ready), target(2, Ended)];
            targets.truncate(if forgotten { 1 } else { 2 });
            registry.update(targets, |_, _| None);
            assert_eq!(registry.publish(&Orders::default()).gone, [two], "{forgotten}");
        }
    }

    #[test]
    fn another_run_at_the_same_address_is_another_backend() {
        let mut registry = with(vec![target(1, Ready)]);
        let before = serial(&registry, 1);
        registry.probed(before, Health::Up);
        let next = Target { generation: 2, ..target(1, Ready) };
        registry.update(vec![next], |_, _| None);
        assert_eq!(registry.entries.len(), 1);
        assert_ne!(serial(&registry, 1), before);
    }

    #[test]
    fn a_new_node_at_the_address_of_one_that_is_gone_is_served_from_while_that_is_still_shown() {
        for state in [Left, Dead, Ready, Draining] {
            let before = target(1, state);
            let next = Target { node: Some(NodeId(9)), generation: 2, ..target(1, Ready) };
            let mut registry = with(vec![before.clone()]);
            for _ in 0..3 {
                registry.update(vec![before.clone(), next.clone()], |_, _| None);
                assert!(serving(&mut registry).contains(&9), "{state:?}");
            }
            let nine = serial(&registry, 9);
            registry.update(vec![before, next], |_, _| None);
            assert_eq!(serial(&registry, 9), nine, "it stays the same backend");
        }
    }

    #[test]
    fn where_every_probe_fails_the_ready_are_served_from_all_the_same() {
        let mut registry = with(vec![target(1, Ready)]);
        let one = serial(&registry, 1);
        registry.probed(one, Health::Silent);
        let set = registry.publish(&Orders::default());
        assert_eq!((set.serving.len(), set.gone.len(), set.able()), (1, 0, 0));
    }
}
