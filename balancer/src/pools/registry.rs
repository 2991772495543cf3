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
    let ordered = pool.orders.changes();
    registry.obey(&pool, &mut source, &results);
    pool.store(registry.publish(&pool.orders));
    registry.run(pool, source, ordered, results, incoming)
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
        mut ordered: watch::Receiver<()>,
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
                // The pool has what is told of.
                Ok(()) = ordered.changed() => {}
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
mod tests;
