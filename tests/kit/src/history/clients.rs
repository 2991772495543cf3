//! Clients that ask real nodes, and remember it as histories: some use the register (`/write`, `/read`), some
//! the log (`/messages`). Each keeps to one node, over connections that it keeps, and asks one thing at a time.
//!
//! At each node one client mostly changes the object and one mostly looks at it, so that who can change nothing,
//! as at a leader that was deposed, still looks. Each request is an operation of its own. Some writes carry an
//! `Idempotency-Key` and some messages are sent again, to the next node, where no answer came: such a request is
//! one operation from its first call to its last answer, since it takes effect once.
//!
//! A task a client. Nothing here is cancel-safe: an operation under way would be missing from its history.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::log::{Act, Entry};
use super::recorder::{Operation, Recorder};
use super::register::Access;
use crate::clients::http::{Answer, Client, Failure};
use crate::clients::oracle::list;
use crate::random::Random;

/// Clients of the register at each node, and as many of the log.
const CLIENTS_PER_NODE: usize = 2;
/// The least time from one operation of a client to its next: 150 a second of twelve clients, so that a history
/// of half an hour is judged in seconds.
const PACE: Duration = Duration::from_millis(80);
/// Shorter than what most faults last, so that many changes are given up, and take effect later or never.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How often a request is sent that may be sent again.
const TRIES: usize = 3;
/// Of ten operations of a client that mostly changes the object, those that do.
const CHANGES_OF_TEN: u64 = 9;
/// A list begins so many messages before the last one that is known, at most.
const LOOK_BACK: u64 = 20;
/// Acknowledged messages that are looked up.
const RECENT_MAX: usize = 64;

/// What the clients share.
struct Shared {
    nodes: Vec<Client>,
    register: Recorder<Access>,
    log: Recorder<Act>,
    /// The highest number of a message that any answer told.
    known: AtomicU64,
    /// Acknowledged messages and their digests, the newest last.
    recent: Mutex<VecDeque<(u64, String)>>,
    stop: AtomicBool,
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What they saw.
pub struct Histories {
    pub register: Vec<Operation<Access>>,
    pub log: Vec<Operation<Act>>,
    /// Operations that certainly had no effect.
    pub refused: u64,
}

/// What may be sent again as the same operation.
struct Posted {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// How often it is sent, at most.
    tries: usize,
}

/// What is known of a request's effect.
enum Outcome {
    Done(Answer),
    /// It certainly has none.
    Refused,
    Unknown,
}

impl Clients {
    /// Starts them at these nodes; times are counted from `begun`.
    pub fn start(nodes: &[Client], begun: Instant, random: &mut Random) -> Self {
        let shared = Arc::new(Shared {
            nodes: nodes.iter().map(|node| node.with_timeout(PATIENCE)).collect(),
            register: Recorder::new(begun),
            log: Recorder::new(begun),
            known: AtomicU64::new(0),
            recent: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for client in 0..nodes.len() * CLIENTS_PER_NODE {
            tasks.spawn(use_register(shared.clone(), client, Random::with_seed(random.number())));
            tasks.spawn(use_log(shared.clone(), client, Random::with_seed(random.number())));
        }
        Self { shared, tasks }
    }

    /// Lets each client end its operation. Then nothing may fail any more: each node changes both objects, and
    /// then each shows them whole.
    pub async fn finish(mut self, nodes: &[Client]) -> Histories {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client does not panic");
        }
        let shared = self.shared;
        let last = nodes.len() * CLIENTS_PER_NODE;
        for node in 0..nodes.len() {
            assert!(write(&shared.register, nodes, (last, node), 1).await, "node {node} writes nothing");
            assert!(shared.put(last, node, TRIES).await, "node {node} takes no message");
        }
        for (node, client) in nodes.iter().enumerate() {
            assert!(read(&shared.register, client, (last, node)).await, "node {node} reads nothing");
            let called = shared.log.moment();
            let all = list(client).await.into_iter();
            let entries = all.map(|one| entry(one.seq, one.message.as_deref())).collect();
            let did = Act::List { after: 0, entries, more: false };
            let returned = Some(shared.log.moment());
            shared.log.add(Operation { client: last, node, called, returned, did });
        }
        let refused = shared.register.refused() + shared.log.refused();
        Histories { register: shared.register.take(), log: shared.log.take(), refused }
    }
}

impl Histories {
    pub fn operations(&self) -> usize {
        self.register.len() + self.log.len()
    }

    pub fn unknown(&self) -> usize {
        let register = self.register.iter().filter(|one| one.returned.is_none()).count();
        register + self.log.iter().filter(|one| one.returned.is_none()).count()
    }

    /// How many changes of unknown end were seen to have taken effect.
    pub fn unknown_that_showed(&self) -> usize {
        let read: HashSet<u64> = self
            .register
            .iter()
            .filter_map(|one| match one.did {
                Access::Read { value } => value,
                Access::Write { .. } => None,
            })
            .collect();
        let lists = self.log.iter().filter_map(|one| match &one.did {
            Act::List { entries, .. } => Some(entries),
            _ => None,
        });
        let listed: HashSet<u64> = lists.flatten().map(|entry| entry.value).collect();
        let writes = self.register.iter().filter(|one| {
            matches!(one.did, Access::Write { value, .. } if one.returned.is_none() && read.contains(&value))
        });
        let puts = self.log.iter().filter(|one| {
            matches!(one.did, Act::Put { value, .. } if one.returned.is_none() && listed.contains(&value))
        });
        writes.count() + puts.count()
    }

    /// When changes were acknowledged, in order.
    pub fn acknowledged(&self) -> Vec<Duration> {
        let writes = self.register.iter().filter(|one| matches!(one.did, Access::Write { .. }));
        let puts = self.log.iter().filter(|one| matches!(one.did, Act::Put { .. }));
        let returns = writes.map(|one| one.returned).chain(puts.map(|one| one.returned));
        let mut times: Vec<Duration> = returns.flatten().map(|moment| moment.time).collect();
        times.sort_unstable();
        times
    }
}

fn pace() -> Interval {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Half of the changes are sent again, at other nodes, where no answer comes.
fn tries(random: &mut Random) -> usize {
    if random.below(2) == 0 { 1 } else { TRIES }
}

async fn use_register(shared: Arc<Shared>, client: usize, mut random: Random) {
    let node = client % shared.nodes.len();
    let mut pace = pace();
    while !shared.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        if changes(&shared, client, &mut random) {
            write(&shared.register, &shared.nodes, (client, node), tries(&mut random)).await;
        } else {
            read(&shared.register, &shared.nodes[node], (client, node)).await;
        }
    }
}

async fn use_log(shared: Arc<Shared>, client: usize, mut random: Random) {
    let node = client % shared.nodes.len();
    let mut pace = pace();
    while !shared.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        if changes(&shared, client, &mut random) {
            shared.put(client, node, tries(&mut random)).await;
            continue;
        }
        match random.below(8) {
            0 => shared.count(client, node).await,
            1 => shared.look_up(client, node, &mut random).await,
            // Anywhere, a page that need not reach the end.
            2 => {
                let after = random.below(shared.known.load(Ordering::SeqCst) + 1);
                shared.list(client, node, after, 1 + random.below(100)).await;
            }
            _ => {
                let known = shared.known.load(Ordering::SeqCst);
                shared.list(client, node, known.saturating_sub(1 + random.below(LOOK_BACK)), 1000).await;
            }
        }
    }
}

/// Whether a client's next operation changes the object.
fn changes(shared: &Shared, client: usize, random: &mut Random) -> bool {
    let mostly = client >= shared.nodes.len();
    (random.below(10) < CHANGES_OF_TEN) == mostly
}

/// Writes a new value to the register, at the client's node; whether that was acknowledged. With more than one
/// try it has a key, and is sent to the next node where no answer came.
pub async fn write(
    register: &Recorder<Access>,
    nodes: &[Client],
    (client, node): (usize, usize),
    tries: usize,
) -> bool {
    let value = register.fresh();
    let key = (tries > 1).then(|| ("idempotency-key", format!("write-{value}")));
    let headers = key.into_iter().collect();
    let posted = Posted { path: "/write", headers, body: value.to_string().into(), tries };
    let called = register.moment();
    let outcome = post(nodes, node, posted).await;
    let (returned, version) = match outcome {
        Outcome::Done(answer) => {
            let version = answer.json()["version"].as_u64().expect("a write has a version");
            (Some(register.moment()), Some(version))
        }
        Outcome::Unknown => (None, None),
        Outcome::Refused => {
            register.add_refused();
            return false;
        }
    };
    register.add(Operation { client, node, called, returned, did: Access::Write { value, version } });
    returned.is_some()
}

/// Reads the register; whether that was answered.
pub async fn read(register: &Recorder<Access>, at: &Client, (client, node): (usize, usize)) -> bool {
    let called = register.moment();
    let Outcome::Done(answer) = outcome(at.get("/read").await) else {
        register.add_refused();
        return false;
    };
    let returned = Some(register.moment());
    let value = (answer.status != 404).then(|| number(&answer.text()));
    register.add(Operation { client, node, called, returned, did: Access::Read { value } });
    true
}

impl Shared {
    /// Puts a new message; whether that was acknowledged.
    async fn put(&self, client: usize, node: usize, tries: usize) -> bool {
        let value = self.log.fresh();
        let headers = vec![("content-type", "text/plain".to_owned())];
        let posted = Posted { path: "/messages", headers, body: value.to_string().into(), tries };
        let called = self.log.moment();
        let (returned, seq) = match post(&self.nodes, node, posted).await {
            Outcome::Done(answer) => {
                let json = answer.json();
                let seq = json["seq"].as_u64().expect("a message has a number");
                let digest = json["digest"].as_str().expect("a message has a digest").to_owned();
                let returned = self.log.moment();
                self.known.fetch_max(seq, Ordering::SeqCst);
                let mut recent = self.recent.lock().expect("no holder panics");
                recent.push_back((value, digest));
                if recent.len() > RECENT_MAX {
                    recent.pop_front();
                }
                (Some(returned), Some(seq))
            }
            Outcome::Unknown => (None, None),
            Outcome::Refused => {
                self.log.add_refused();
                return false;
            }
        };
        self.log.add(Operation { client, node, called, returned, did: Act::Put { value, seq } });
        returned.is_some()
    }

    async fn list(&self, client: usize, node: usize, after: u64, limit: u64) {
        let path = format!("/messages?after={after}&limit={limit}");
        self.look(client, node, Method::GET, &path, |answer| {
            let page = answer.json();
            let messages = page["messages"].as_array().expect("a page has messages");
            let number_of = |one: &Value| one["seq"].as_u64().expect("a message has a number");
            let entries: Vec<Entry> =
                messages.iter().map(|one| entry(number_of(one), one["message"].as_str())).collect();
            let last = entries.last().map_or(0, |entry| entry.seq);
            self.known.fetch_max(last, Ordering::SeqCst);
            Act::List { after, entries, more: !page["next"].is_null() }
        })
        .await;
    }

    async fn count(&self, client: usize, node: usize) {
        self.look(client, node, Method::HEAD, "/messages", |answer| {
            let (count, last) = (answer.header("skep-count"), answer.header("skep-last-seq"));
            assert_eq!(count, last, "nothing is removed");
            Act::Count { last: number(last) }
        })
        .await;
    }

    /// Looks for a message that was acknowledged of late.
    async fn look_up(&self, client: usize, node: usize, random: &mut Random) {
        let drawn = {
            let recent = self.recent.lock().expect("no holder panics");
            let at = random.below(recent.len().max(1) as u64) as usize;
            recent.get(at).cloned()
        };
        let Some((value, digest)) = drawn else { return };
        let path = format!("/messages/{digest}");
        self.look(client, node, Method::GET, &path, |answer| Act::Look {
            value,
            found: match answer.status {
                404 => false,
                _ => {
                    assert_eq!(answer.json()["message"].as_str(), Some(value.to_string().as_str()));
                    true
                }
            },
        })
        .await;
    }

    /// One request that changes nothing.
    async fn look(
        &self,
        client: usize,
        node: usize,
        method: Method,
        path: &str,
        what: impl FnOnce(&Answer) -> Act + Send,
    ) {
        let called = self.log.moment();
        let result = self.nodes[node].send(method, path, &[], Bytes::new()).await;
        let Outcome::Done(answer) = outcome(result) else { return self.log.add_refused() };
        let returned = Some(self.log.moment());
        self.log.add(Operation { client, node, called, returned, did: what(&answer) });
    }
}

/// Posts to a node, and where no answer came to those after it, as often as it may be sent.
async fn post(nodes: &[Client], node: usize, posted: Posted) -> Outcome {
    let Posted { path, headers, body, tries } = posted;
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut maybe_done = false;
    for turn in 0..tries {
        let client = &nodes[(node + turn) % nodes.len()];
        match outcome(client.send(Method::POST, path, &headers, body.clone()).await) {
            Outcome::Done(answer) => return Outcome::Done(answer),
            Outcome::Unknown => maybe_done = true,
            Outcome::Refused => {}
        }
    }
    if maybe_done { Outcome::Unknown } else { Outcome::Refused }
}

/// What an answer, or the lack of one, says of a request's effect.
fn outcome(result: Result<Answer, Failure>) -> Outcome {
    match result {
        Ok(answer) if matches!(answer.status, 200 | 201 | 404) => Outcome::Done(answer),
        Ok(answer) if answer.header("skep-unprocessed") == "1" => Outcome::Refused,
        Ok(answer) => {
            // A request that was held up on its way is 408; any other of these is a fault.
            assert!(!(400..500).contains(&answer.status) || answer.status == 408, "{answer:?}");
            Outcome::Unknown
        }
        Err(Failure::NotSent(_)) => Outcome::Refused,
        Err(Failure::Unknown(_)) => Outcome::Unknown,
    }
}

fn entry(seq: u64, message: Option<&str>) -> Entry {
    Entry { seq, value: number(message.expect("a text is listed as text")) }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no value that a client wrote"))
}
