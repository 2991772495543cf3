//! Clients of a queue at real nodes, which remember what they asked and were answered as a history: some put tasks,
//! some claim them, and end most of them in this way or that.
//!
//! Each keeps to one node, and goes to the next where no answer comes. A put with an `Idempotency-Key`, a claim by its
//! number and an end by its fence may be sent again: such a request is one operation from its first call to its last
//! answer, since it takes effect once. A claim is sent until it is answered, so that no task is given to nobody.
//!
//! A task a client. Nothing here is cancel-safe: an operation under way would be missing from its history.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::recorder::{Operation, Recorder};
use super::tasks::{Act, Became, Given, How};
use crate::clients::http::{Answer, Client, Failure};
use crate::random::Random;
use crate::wait::until;

const QUEUE: &str = "history";
const WORKERS_PER_NODE: usize = 2;
/// From one put of a client to its next: of three, twelve a second.
const PACE: Duration = Duration::from_millis(250);
/// As those of the other objects have it; longer than a claim waits.
const PATIENCE: Duration = Duration::from_millis(1_500);
const CLAIM_WAITS: &str = "500ms";
const CLAIMED_MAX: u64 = 3;
/// From one try of a claim to the next, at least.
const AGAIN: Duration = Duration::from_millis(20);
/// How often a put is sent that may be sent again, and an end.
const TRIES: usize = 3;
/// What is left is done within this, once nothing fails any more: beyond a lease, and the longest rest of a retry.
const DONE_WITHIN: Duration = Duration::from_secs(60);

struct Shared {
    nodes: Vec<Client>,
    token: String,
    history: Recorder<Act>,
    /// Nothing more is put.
    over: AtomicBool,
    /// Nothing more is claimed.
    stop: AtomicBool,
}

/// Clients at work.
pub struct Workers {
    shared: Arc<Shared>,
    producers: JoinSet<()>,
    workers: JoinSet<()>,
}

/// What they saw.
pub struct Seen {
    pub history: Vec<Operation<Act>>,
    pub became: HashMap<String, Became>,
    /// Operations that certainly had no effect.
    pub refused: u64,
}

impl Workers {
    /// Starts them at these nodes, where workers have this token; times are counted from `begun`.
    pub fn start(nodes: &[Client], token: String, begun: Instant, random: &mut Random) -> Self {
        let shared = Arc::new(Shared {
            nodes: nodes.iter().map(|node| node.with_timeout(PATIENCE)).collect(),
            token,
            history: Recorder::new(begun),
            over: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (mut producers, mut workers) = (JoinSet::new(), JoinSet::new());
        for node in 0..nodes.len() {
            producers.spawn(produce(shared.clone(), node, Random::with_seed(random.number())));
        }
        for worker in 0..nodes.len() * WORKERS_PER_NODE {
            workers.spawn(work(shared.clone(), worker, Random::with_seed(random.number())));
        }
        Self { shared, producers, workers }
    }

    /// Nothing fails any more: nothing more is put, and all that was comes to its end.
    pub async fn finish(mut self, nodes: &[Client]) -> Seen {
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.producers.join_next().await {
            ended.expect("a client does not panic");
        }
        until("all tasks have ended", DONE_WITHIN, async || {
            let queues = nodes[0].get("/queues").await.ok()?.json();
            let mut queues = queues["queues"].as_array()?.iter();
            let queue = queues.find(|queue| queue["queue"] == QUEUE)?;
            let left = ["ready", "aside", "due", "active"].map(|state| queue[state].as_u64());
            (left == [Some(0); 4]).then_some(())
        })
        .await;
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("a worker does not panic");
        }
        let (history, refused) = (self.shared.history.take(), self.shared.history.refused());
        let mut became = HashMap::new();
        for (at, id) in ids(&history).enumerate() {
            if !became.contains_key(id) {
                let answer = nodes[at % nodes.len()].get(&format!("/tasks/{id}")).await.expect("an answer");
                became.insert(id.to_owned(), came(&answer));
            }
        }
        Seen { history, became, refused }
    }
}

fn ids(history: &[Operation<Act>]) -> impl Iterator<Item = &str> {
    history.iter().flat_map(|operation| match &operation.did {
        Act::Put { id, .. } => id.iter().map(String::as_str).collect(),
        Act::Claim { given } => given.iter().map(|one| one.id.as_str()).collect(),
        Act::End { .. } => Vec::new(),
    })
}

fn came(answer: &Answer) -> Became {
    match (answer.status == 200).then(|| answer.json()["state"].clone()) {
        Some(state) if state == "done" => Became::Done,
        Some(state) if state == "dead" => Became::Dead,
        _ => Became::Lost,
    }
}

impl Seen {
    pub fn completed(&self) -> usize {
        self.became.values().filter(|became| **became == Became::Done).count()
    }

    pub fn given_up(&self) -> usize {
        self.became.values().filter(|became| **became == Became::Dead).count()
    }

    /// How often a task was claimed that had been claimed before.
    pub fn claimed_again(&self) -> usize {
        let claims = self.history.iter().map(|operation| match &operation.did {
            Act::Claim { given } => given.len(),
            _ => 0,
        });
        let mut first: Vec<&str> = Vec::new();
        for operation in &self.history {
            if let Act::Claim { given } = &operation.did {
                first.extend(given.iter().map(|one| one.id.as_str()));
            }
        }
        first.sort_unstable();
        first.dedup();
        claims.sum::<usize>() - first.len()
    }

    pub fn operations(&self) -> usize {
        self.history.len()
    }
}

async fn produce(shared: Arc<Shared>, node: usize, mut random: Random) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.over.load(Ordering::Relaxed) {
        pace.tick().await;
        // Half of them are sent again, at other nodes, where no answer comes.
        let tries = if random.below(2) == 0 { 1 } else { TRIES };
        shared.put(node, tries).await;
    }
}

async fn work(shared: Arc<Shared>, worker: usize, mut random: Random) {
    let (name, client) = (format!("worker-{worker}"), shared.nodes.len() + worker);
    let mut node = worker % shared.nodes.len();
    let mut again = interval(AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // What was given before has been ended, or is given back by not being named.
        let claim = json!({"worker": name, "number": number, "queues": [QUEUE], "max": CLAIMED_MAX,
            "wait": CLAIM_WAITS, "holds": []});
        let called = shared.history.moment();
        let answer = loop {
            match shared.post(node, "/claim", &[], &claim).await {
                Reply::Answer(answer) if matches!(answer.status, 200 | 204) => break answer,
                Reply::Answer(answer) => panic!("a claim: {answer:?}"),
                Reply::Refused | Reply::Unknown => {
                    node = (node + 1) % shared.nodes.len();
                    again.tick().await;
                }
            }
        };
        let returned = Some(shared.history.moment());
        let tasks = if answer.status == 204 { Vec::new() } else { tasks(&answer.json()) };
        let given = tasks.iter().map(|(given, _)| given.clone()).collect();
        shared.history.add(Operation { client, node, called, returned, did: Act::Claim { given } });
        for (given, lost) in tasks {
            let how = match random.below(10) {
                0 if lost == 0 => continue,
                1 => How::Fail,
                2 => How::Release,
                _ => How::Complete,
            };
            shared.end((client, node), &given, how).await;
        }
    }
}

/// What a claim gave, with how often it was lost before.
fn tasks(answer: &Value) -> Vec<(Given, u64)> {
    let tasks = answer["tasks"].as_array().expect("tasks");
    let given = |task: &Value| {
        let number = |name: &str| task[name].as_u64().unwrap_or_else(|| panic!("{name} of {task}"));
        let id = task["id"].as_str().expect("an id").to_owned();
        (Given { id, value: number("payload"), fence: number("fence") }, number("lost"))
    };
    tasks.iter().map(given).collect()
}

/// What is known of a request's effect.
enum Reply {
    Answer(Answer),
    /// It certainly has none.
    Refused,
    Unknown,
}

impl Shared {
    async fn put(&self, node: usize, tries: usize) {
        let value = self.history.fresh();
        let task =
            json!({"queue": QUEUE, "payload": value, "retries": 1000, "backoff": "100ms", "keep": "5h"});
        let key = format!("task-{value}");
        let headers = if tries > 1 { vec![("idempotency-key", key.as_str())] } else { Vec::new() };
        let called = self.history.moment();
        let mut maybe_done = false;
        for turn in 0..tries {
            match self.post((node + turn) % self.nodes.len(), "/tasks", &headers, &task).await {
                Reply::Answer(answer) => {
                    assert!(matches!(answer.status, 200 | 201), "a put: {answer:?}");
                    let id = Some(answer.json()["id"].as_str().expect("an id").to_owned());
                    let returned = Some(self.history.moment());
                    let did = Act::Put { value, id };
                    return self.history.add(Operation { client: node, node, called, returned, did });
                }
                Reply::Unknown => maybe_done = true,
                Reply::Refused => {}
            }
        }
        if maybe_done {
            let did = Act::Put { value, id: None };
            self.history.add(Operation { client: node, node, called, returned: None, did });
        } else {
            self.history.add_refused();
        }
    }

    async fn end(&self, (client, node): (usize, usize), given: &Given, how: How) {
        let (verb, body) = match how {
            How::Complete => ("complete", json!({"fence": given.fence, "result": given.value})),
            How::Fail => ("fail", json!({"fence": given.fence, "error": "on purpose"})),
            How::Release => ("release", json!({"fence": given.fence})),
        };
        let path = format!("/tasks/{}/{verb}", given.id);
        let called = self.history.moment();
        let (mut counted, mut maybe_done) = (None, false);
        for turn in 0..TRIES {
            match self.post((node + turn) % self.nodes.len(), &path, &[], &body).await {
                Reply::Answer(answer) => {
                    assert!(matches!(answer.status, 200 | 409), "an end: {answer:?}");
                    counted = Some(answer.status == 200);
                    break;
                }
                Reply::Unknown => maybe_done = true,
                Reply::Refused => {}
            }
        }
        if counted.is_none() && !maybe_done {
            return self.history.add_refused();
        }
        let returned = counted.map(|_| self.history.moment());
        let did = Act::End { id: given.id.clone(), fence: given.fence, how, counted };
        self.history.add(Operation { client, node, called, returned, did });
    }

    async fn post(&self, node: usize, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let token = format!("Bearer {}", self.token);
        let own = [("content-type", "application/json"), ("authorization", token.as_str())];
        let headers = [&own[..], headers].concat();
        match self.nodes[node].send(Method::POST, path, &headers, body.to_string().into()).await {
            Ok(answer) if answer.header("skep-unprocessed") == "1" => Reply::Refused,
            // A request that was held up on its way is 408.
            Ok(answer) if answer.status >= 500 || answer.status == 408 => Reply::Unknown,
            Ok(answer) => Reply::Answer(answer),
            Err(Failure::NotSent(_)) => Reply::Refused,
            Err(Failure::Unknown(_)) => Reply::Unknown,
        }
    }
}
