//! What this balancer does, in numbers, for nodes that ask (`skep_gateway::figures`): operators see it there.
//!
//! Nothing is counted or kept for it while nobody asks. One task, which tells: to count takes a while where there are many
//! routes, and nothing waits for it. Who may be heard by it holds the edge key; an answer is hundreds of times as long as what
//! asks for it, so each node has one in a while ([`Pace`]), however often it asks, or somebody in its name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use skep_gateway::figures::{Ask, Counts, Figures, Rest, Servers, renumbered};
use skep_members::gossip::Gossip;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::core::shared::Shared;
use crate::core::stats::CoreStats;

/// Who asks within this time of another is told the same, so that rates are over no shorter one.
const AGAIN: Duration = Duration::from_millis(900);
/// What was counted longer ago says nothing of a rate.
const OLD: Duration = Duration::from_secs(60);

/// Most nodes that are told within [`AGAIN`]: what others ask meanwhile is passed over. That many answers wait at most.
const ASKERS_MAX: usize = 64;

/// Who was told of late.
#[derive(Debug, Default)]
struct Pace(HashMap<u64, Instant>);

impl Pace {
    /// Whether that node is told something now.
    fn admits(&mut self, node: u64, now: Instant) -> bool {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let is_due = self.0.len() < ASKERS_MAX && !self.0.contains_key(&node);
        if is_due {
            self.0.insert(node, now);
        }
        is_due
    }
}

/// Who is to be told.
pub(super) struct Teller {
    pace: Pace,
    asks: mpsc::Sender<(u64, SocketAddr)>,
}

impl Teller {
    /// Tells for as long as it is there, and there is gossip.
    pub fn begin(gossip: Gossip, told: Told) -> Self {
        let (asks, asked) = mpsc::channel(ASKERS_MAX);
        tokio::spawn(tell(gossip, told, asked));
        Self { pace: Pace::default(), asks }
    }

    /// Has a node told, at the address that gossip shows, whoever asked in its name: unless it was just now.
    pub fn asked(&mut self, ask: Ask, node: SocketAddr) {
        if self.pace.admits(ask.node, Instant::now()) {
            // What there is no room for is asked again.
            let _ = self.asks.try_send((ask.number, node));
        }
    }
}

async fn tell(gossip: Gossip, mut told: Told, mut asked: mpsc::Receiver<(u64, SocketAddr)>) {
    while let Some((number, node)) = asked.recv().await {
        let counting = spawn_blocking(move || {
            let parts = told.answer(number, Instant::now());
            (told, parts)
        });
        let Ok((again, parts)) = counting.await else { return };
        told = again;
        for part in parts {
            gossip.say(node, &part).await;
        }
    }
}

/// What is counted, and what was told of it last.
pub(super) struct Told {
    shared: Arc<Shared>,
    cores: Vec<Arc<CoreStats>>,
    last: Option<Last>,
}

struct Last {
    at: Instant,
    /// The datagrams that said it.
    parts: Vec<Vec<u8>>,
    /// How much of each route had been counted by then; of all by no name.
    counted: HashMap<String, u64>,
}

impl Told {
    pub fn new(shared: Arc<Shared>, cores: Vec<Arc<CoreStats>>) -> Self {
        Self { shared, cores, last: None }
    }

    /// The datagrams of an answer.
    fn answer(&mut self, number: u64, now: Instant) -> Vec<Vec<u8>> {
        let age = |last: &Last| now.saturating_duration_since(last.at);
        if let Some(last) = self.last.as_ref().filter(|it| age(it) < AGAIN) {
            return last.parts.iter().map(|part| renumbered(part, number)).collect();
        }
        let before = self.last.take().filter(|it| age(it) < OLD);
        let (figures, counted) = self.count(before.as_ref().map(|it| (age(it), &it.counted)));
        let parts = figures.parts(number);
        self.last = Some(Last { at: now, parts: parts.clone(), counted });
        parts
    }

    fn count(&self, before: Option<(Duration, &HashMap<String, u64>)>) -> (Figures, HashMap<String, u64>) {
        let over_ms = before.map_or(0, |(age, _)| age.as_millis() as u64);
        let mut counted = HashMap::new();
        let mut count = |name: &str, mut counts: Counts| {
            let total = counts.total();
            // A route that was not there before has begun since.
            let then = before.map(|(_, then)| then.get(name).copied().unwrap_or_default());
            counts.recent = then.map_or(0, |then| total.saturating_sub(then));
            counted.insert(name.to_owned(), total);
            counts
        };
        let mut all = Counts { refused: read(&self.shared.refused), ..Counts::default() };
        for (class, sum) in all.answers.iter_mut().enumerate() {
            *sum = self.cores.iter().map(|core| core.answers[class].get()).fold(0, u64::wrapping_add);
        }
        let all = count("", all);
        let mut routes = Vec::new();
        if let Some(in_force) = self.shared.routes.load().as_ref() {
            for (entry, of) in in_force.table.routes.iter().zip(&in_force.counts) {
                let (answers, refused) = (read(&of.answers), read(&of.refused));
                routes.push((entry.name.clone(), count(&entry.name, Counts { recent: 0, answers, refused })));
            }
        }
        routes.sort_by_cached_key(|(_, it)| std::cmp::Reverse((it.recent, it.total())));
        let mut services: Vec<Servers> = self
            .shared
            .each_pool()
            .iter()
            .map(|pool| {
                let set = pool.load();
                Servers { name: pool.name.clone(), known: set.known.len() as u64, able: set.able() as u64 }
            })
            .collect();
        // What is amiss is told first.
        services.sort_by_key(|it| (it.able > 0, it.able == it.known));
        (Figures { over_ms, all, routes, services, rest: Rest::default() }, counted)
    }
}

fn read<const N: usize>(counts: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|at| counts[at].load(Relaxed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use skep_gateway::figures::{Gathering, Part};
    use skep_gateway::{Document, Table};

    use super::*;
    use crate::core::routes::{RouteCounts, Routes};

    const TWO: &str = r#"{"routes":{"a":{"match":{"path":"/a"},"service":"skep"},"b":{"match":{"path":"/b"},"service":"skep"}}}"#;

    fn heard(told: &mut Told, now: Instant) -> Figures {
        let mut gathering = Gathering::default();
        let number = told.last.as_ref().map_or(7, |it| it.counted.len() as u64 + 1);
        let parts = told.answer(number, now);
        assert!(parts.iter().all(|it| Part::decode(it).unwrap().number == number));
        parts.iter().find_map(|it| gathering.add(Part::decode(it).unwrap())).unwrap()
    }

    #[test]
    fn a_node_is_told_once_in_a_while_and_so_many_nodes_at_most() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let late = start + AGAIN;
        assert!(pace.admits(1, start) && !pace.admits(1, start) && pace.admits(2, start));
        assert!(!pace.admits(1, late - Duration::from_millis(1)) && pace.admits(1, late));
        // The others of a moment ago are over.
        let more = (100..).take(ASKERS_MAX - 1).filter(|node| pace.admits(*node, late)).count();
        assert_eq!(more, ASKERS_MAX - 1);
        assert!(!pace.admits(3, late) && pace.0.len() == ASKERS_MAX);
        assert!(pace.admits(3, late + AGAIN) && pace.0.len() == 1);
    }

    #[test]
    fn rates_are_over_the_time_since_somebody_asked_before() {
        let shared = Arc::<Shared>::default();
        let core = Arc::<CoreStats>::default();
        let counts: Vec<Arc<RouteCounts>> = vec![Arc::default(), Arc::default()];
        let table = Table::compile(Document::read(TWO).unwrap()).unwrap();
        let routes = Routes::new(table, vec![shared.pools.skep().clone()], counts.clone(), BTreeMap::new());
        shared.routes.store(Some(Arc::new(routes)));
        let mut told = Told::new(shared.clone(), vec![core.clone()]);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let names =
            |it: &Figures| it.routes.iter().map(|(name, it)| (name.clone(), it.recent)).collect::<Vec<_>>();

        counts[0].answers[2].fetch_add(100, Relaxed);
        counts[0].refused[3].fetch_add(2, Relaxed);
        shared.refused[3].fetch_add(5, Relaxed);
        core.answers[2].add(103);
        let first = heard(&mut told, start);
        assert_eq!(
            (first.over_ms, first.all.recent, first.all.answers[2], first.all.refused[3]),
            (0, 0, 103, 5)
        );
        assert_eq!(names(&first), [("a".into(), 0), ("b".into(), 0)], "the one with more is first");
        assert_eq!((first.routes[0].1.answers[2], first.routes[0].1.refused[3]), (100, 2));
        assert_eq!(first.services, [Servers { name: "skep".into(), known: 0, able: 0 }]);

        counts[1].answers[5].fetch_add(9, Relaxed);
        core.answers[5].add(9);
        assert_eq!(heard(&mut told, at(899)), first, "another who asks at once");
        let second = heard(&mut told, at(2000));
        assert_eq!((second.over_ms, second.all.recent), (2000, 9));
        assert_eq!(names(&second), [("b".into(), 9), ("a".into(), 0)]);
        let third = heard(&mut told, at(3000));
        assert_eq!((third.over_ms, third.all.recent, third.routes[0].1.total()), (1000, 0, 100));
        assert_eq!(heard(&mut told, at(63_001)).over_ms, 0, "it was too long ago");
    }
}
