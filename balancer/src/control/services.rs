//! The gateway's services: a pool each, by name, and where its servers are.
//!
//! Two tasks a service: one keeps its pool (`pools::registry`), one looks up names, again and again. Both end with
//! it. A pool outlives the document that it was made for, as long as the next one has a service of that name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_gateway::Table;
use skep_gateway::document::{Service, TargetHost};
use skep_members::seeds::{Seed, resolve_now};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::pools::source::{self, Question, Target};
use crate::pools::tls::BackendTls;
use crate::pools::{Pool, registry};

/// Between two look-ups of a name. What DNS says of how long it holds is not believed: orchestrators say minutes of
/// what changes in seconds.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(500);
/// Answers in a row without an address that it had, after which it is gone: some leave one out at times.
const MISSES_MAX: u32 = 3;
/// How long a service that is new is waited for, until one of its servers was seen to answer.
const NEW_MAX: Duration = Duration::from_secs(1);
/// How long one that stays is waited for, until its pool has the servers that it has now.
const KEPT_MAX: Duration = Duration::from_millis(250);

/// Those that run.
#[derive(Debug, Default)]
pub(super) struct Services {
    running: BTreeMap<String, Running>,
    /// Until no request is led to them any more.
    replaced: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    pool: Arc<Pool>,
    service: watch::Sender<Service>,
    names: Arc<Mutex<Names>>,
    /// They end when this is dropped.
    _tasks: JoinSet<()>,
}

impl Running {
    /// In the place of one whose servers were spoken to otherwise: what operators set of them, and what names were seen
    /// to mean, goes on.
    fn begin(name: &str, service: Service, before: Option<&Self>) -> Self {
        let tls = service.tls.as_ref().map(BackendTls::of_service);
        let (pool, names) = match before {
            Some(before) => (before.pool.replaced(tls), held(&before.names).clone()),
            None => (Pool::new(name, false, tls), Names::default()),
        };
        let names = Arc::new(Mutex::new(names));
        let (service, changes) = watch::channel(service);
        let (targets, source) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(registry::follow(pool.clone(), source));
        tasks.spawn(follow(changes, names.clone(), targets));
        Self { pool, service, names, _tasks: tasks }
    }
}

impl Services {
    /// The pools of a table, in its order, which begins with that of the nodes. Those of services that are new have
    /// been waited for a moment, before any that is kept has changed, and those have the servers that they are to have; none
    /// has ended yet.
    pub async fn pools(&mut self, nodes: &Arc<Pool>, table: &Table) -> Vec<Arc<Pool>> {
        let (mut pools, mut new, mut kept) = (vec![nodes.clone()], JoinSet::new(), JoinSet::new());
        for (name, service) in table.services.iter().skip(1) {
            // Connections that were made to whom another word was believed are not kept.
            let before = self.running.get(name);
            if before.is_none_or(|it| it.service.borrow().tls != service.tls) {
                let running = Running::begin(name, service.clone(), before);
                let pool = running.pool.clone();
                new.spawn(async move { pool.answers().await });
                self.replaced.extend(self.running.insert(name.clone(), running));
            }
        }
        // What does not answer is served from all the same, as any that probes speak against where there is no other.
        let _ = timeout(NEW_MAX, async { while new.join_next().await.is_some() {} }).await;
        for (name, service) in table.services.iter().skip(1) {
            let Some(running) = self.running.get(name) else { continue };
            let has_changed = running.service.send_if_modified(|before| {
                let changed = *before != *service;
                before.clone_from(service);
                changed
            });
            let servers: BTreeSet<SocketAddr> =
                of(service, &held(&running.names)).iter().map(|it| it.address).collect();
            // One whose names have no address yet keeps those that it has.
            if has_changed && !servers.is_empty() {
                let pool = running.pool.clone();
                kept.spawn(async move { pool.are(&servers).await });
            }
            let limits = &running.pool.limits;
            limits.in_flight_max.store(service.in_flight_max.unwrap_or_default(), Relaxed);
            limits.queue_max.store(service.queue_max.unwrap_or_default(), Relaxed);
            pools.push(running.pool.clone());
        }
        let _ = timeout(KEPT_MAX, async { while kept.join_next().await.is_some() {} }).await;
        pools
    }

    /// Ends what the table has not.
    pub fn end_others(&mut self, table: &Table) {
        let names: HashSet<&str> = table.services.iter().map(|(name, _)| name.as_str()).collect();
        self.running.retain(|name, _| names.contains(name.as_str()));
        self.replaced.clear();
    }
}

/// Keeps a pool's source at what a service says and its names' answers show.
async fn follow(
    mut service: watch::Receiver<Service>,
    names: Arc<Mutex<Names>>,
    targets: watch::Sender<Vec<Target>>,
) {
    let mut pause = Duration::ZERO;
    loop {
        let now = service.borrow_and_update().clone();
        let seeds = seeds(&now);
        held(&names).known.retain(|seed, _| seeds.contains(seed));
        let mut found = of(&now, &held(&names));
        if found.is_empty() {
            // Until one of its names has an address: a name that is new, or mistyped, takes nobody's servers away.
            found.clone_from(&targets.borrow());
        }
        targets.send_if_modified(|before| {
            let changed = *before != found;
            *before = found;
            changed
        });
        tokio::select! {
            changed = service.changed() => {
                if changed.is_err() {
                    return;
                }
                pause = Duration::ZERO;
            }
            answers = look_up(seeds.clone(), pause), if !seeds.is_empty() => {
                for (seed, answer) in answers {
                    held(&names).note(&seed, &answer);
                }
                pause = LOOKUP_INTERVAL;
            }
        }
    }
}

/// The names that a service has.
fn seeds(service: &Service) -> Vec<Seed> {
    let name = |it: &skep_gateway::document::Target| match &it.host {
        TargetHost::Name(host) => Some(Seed::Name { host: host.clone(), port: it.port }),
        TargetHost::Address(_) => None,
    };
    service.targets.iter().filter_map(name).collect()
}

async fn look_up(seeds: Vec<Seed>, pause: Duration) -> Vec<(Seed, Vec<SocketAddr>)> {
    sleep(pause).await;
    let mut asked = JoinSet::new();
    for seed in seeds {
        asked.spawn(async move {
            let answer = resolve_now(std::slice::from_ref(&seed)).await;
            (seed, answer)
        });
    }
    asked.join_all().await
}

fn held(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What names were seen to mean.
#[derive(Debug, Clone, Default)]
struct Names {
    /// Each address with how many answers in a row have left it out.
    known: HashMap<Seed, Vec<(SocketAddr, u32)>>,
}

impl Names {
    /// No answer says nothing: what was known stays, under probes.
    fn note(&mut self, seed: &Seed, answer: &[SocketAddr]) {
        let is_new = !self.known.contains_key(seed);
        let known = self.known.entry(seed.clone()).or_default();
        if answer.is_empty() {
            if is_new {
                tracing::warn!(name = %seed, "this name has no address yet; it is looked up again and again");
            }
            return;
        }
        for (address, misses) in known.iter_mut() {
            *misses = if answer.contains(address) { 0 } else { *misses + 1 };
        }
        known.retain(|(_, misses)| *misses < MISSES_MAX);
        for address in answer {
            if !known.iter().any(|(it, _)| it == address) {
                known.push((*address, 0));
            }
        }
    }

    fn of(&self, seed: &Seed) -> impl Iterator<Item = SocketAddr> {
        self.known.get(seed).into_iter().flatten().map(|(address, _)| *address)
    }
}

/// A service's servers.
fn of(service: &Service, names: &Names) -> Vec<Target> {
    let probe = &service.probe;
    let mut targets: Vec<Target> = Vec::new();
    for it in &service.targets {
        let addresses: Vec<SocketAddr> = match &it.host {
            TargetHost::Address(ip) => vec![SocketAddr::new(*ip, it.port)],
            TargetHost::Name(host) => names.of(&Seed::Name { host: host.clone(), port: it.port }).collect(),
        };
        let question = Question {
            host: it.authority().into(),
            path: probe.path.as_deref().map(Arc::from),
            statuses: probe.statuses.clone(),
            interval: probe.interval,
        };
        for address in addresses {
            // Two names may mean one server.
            if !targets.iter().any(|other| other.address == address) {
                targets.push(source::of_service(address, &question, it.weight));
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_answers_leave_out_is_gone_after_some_of_them_and_no_answer_takes_none_away() {
        let seed = Seed::parse("tasks.web:80").unwrap();
        let address = |n: u8| SocketAddr::from(([10, 0, 0, n], 80));
        let mut names = Names::default();
        for (answer, known) in [
            (vec![], vec![]),
            (vec![address(1), address(2)], vec![1, 2]),
            (vec![], vec![1, 2]),
            (vec![address(1)], vec![1, 2]),
            (vec![address(1)], vec![1, 2]),
            (vec![address(1), address(2)], vec![1, 2]),
            (vec![address(1), address(3)], vec![1, 2, 3]),
            (vec![address(1), address(3)], vec![1, 2, 3]),
            (vec![address(3)], vec![1, 3]),
        ] {
            names.note(&seed, &answer);
            let known: Vec<SocketAddr> = known.into_iter().map(address).collect();
            assert_eq!(names.of(&seed).collect::<Vec<_>>(), known, "{answer:?}");
        }
    }

    fn service(urls: &str) -> Service {
        let document = format!("[services.s]\nurls = [{urls}]\n[routes.r]\nservice = \"s\"\n");
        skep_gateway::Document::read(&document).unwrap().services.remove("s").unwrap()
    }

    #[tokio::test]
    async fn what_names_were_seen_to_mean_outlives_a_change_of_who_is_believed() {
        let https = |more: &str| service(&format!("\"https://nobody.invalid\"]\ntls = {{{more}}}\n#"));
        let (seed, address) = (Seed::parse("nobody.invalid:443").unwrap(), ([10, 0, 0, 1], 443).into());
        let before = Running::begin("s", https("name = \"a.test\""), None);
        held(&before.names).note(&seed, &[address]);
        let after = Running::begin("s", https("name = \"b.test\""), Some(&before));
        assert_eq!(held(&after.names).of(&seed).collect::<Vec<_>>(), [address]);
        let has_it = async {
            while after.pool.load().known.is_empty() {
                after.pool.changed.notified().await
            }
        };
        timeout(Duration::from_secs(20), has_it).await.expect("it is one of its servers");
    }

    #[tokio::test]
    async fn a_service_that_stays_has_its_other_servers_before_the_document_is_in_force() {
        let (mut all, nodes) = (Services::default(), Pool::new("skep", true, None));
        for address in ["127.0.0.1:9", "127.0.0.2:9"] {
            let text = format!("[services.s]\nurls = [\"http://{address}\"]\n[routes.r]\nservice = \"s\"\n");
            let table = Table::compile(skep_gateway::Document::read(&text).unwrap()).unwrap();
            let pools = all.pools(&nodes, &table).await;
            let set = pools[1].load();
            let known: Vec<String> = set.known.iter().map(|it| it.backend.address.to_string()).collect();
            assert_eq!(known, [address]);
        }
    }

    #[tokio::test]
    async fn a_name_that_has_no_address_takes_no_server_away() {
        let (tell, changes) = watch::channel(service("\"http://127.0.0.1:9\""));
        let (targets, mut source) = watch::channel(Vec::new());
        let follows = tokio::spawn(follow(changes, Arc::default(), targets));
        let wait = Duration::from_secs(20);
        timeout(wait, source.wait_for(|it| it.len() == 1)).await.unwrap().unwrap();
        tell.send(service("\"http://nobody.invalid\"")).unwrap();
        let is_gone = timeout(Duration::from_millis(300), source.wait_for(|it| it.is_empty())).await.is_ok();
        assert!(!is_gone, "there is no other yet");
        // Another one is there, whatever becomes of the name.
        tell.send(service("\"http://nobody.invalid\", \"http://127.0.0.2:9\"")).unwrap();
        let is_other = |it: &Vec<Target>| it.len() == 1 && it[0].address.to_string() == "127.0.0.2:9";
        timeout(wait, source.wait_for(is_other)).await.unwrap().unwrap();
        drop(tell);
        timeout(wait, follows).await.unwrap().unwrap();
    }
}
