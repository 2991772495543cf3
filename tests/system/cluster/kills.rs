//! A queue whose nodes, leader, workers and balancer are killed again and again: no task is lost, each ends once, and
//! one that ran twice says why.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::cluster::handler::Handler;
use skep_kit::cluster::worker::Worker;
use skep_kit::effort::{count, figure, machine_shared};
use skep_kit::random::Random;
use skep_kit::wait::{tick, under_load_for, until};
use skep_kit::{Client, Cluster};
use tokio::task::JoinSet;

use crate::tasks::{ready, task};
use crate::worker::everywhere;

/// In the short form, in the long one.
const TASKS: (usize, usize) = (20_000, 1_000_000);
const KILLS: (usize, usize) = (40, 1_000);
const PRODUCERS: usize = 4;
const PUT_AT_ONCE: usize = 250;
const WORKERS: u8 = 4;
/// From one kill to the next, at most.
const PAUSE: Duration = Duration::from_millis(400);
/// An acknowledgement, whatever is killed meanwhile; and all that is left, once nothing is.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
const DONE_WITHIN: Duration = Duration::from_secs(300);

/// Puts its share, each array under a key until it is acknowledged; the ids.
async fn produce(targets: Vec<Client>, producer: usize, tasks: usize) -> Vec<String> {
    let (mut ids, mut targets) = (Vec::with_capacity(tasks), targets.iter().cycle().skip(producer));
    for first in (0..tasks).step_by(PUT_AT_ONCE) {
        let one = |number| json!({"queue": "q", "payload": {"n": number, "of": producer}, "keep": "1h"});
        let array: Vec<Value> = (first..tasks.min(first + PUT_AT_ONCE)).map(one).collect();
        let (body, key) = (Value::from(array).to_string(), format!("{producer}-{first}"));
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let end = Instant::now() + ANSWERED_WITHIN;
        let answer = loop {
            assert!(Instant::now() < end, "an array of tasks is not acknowledged within {ANSWERED_WITHIN:?}");
            let target = targets.next().expect("there are targets");
            match target.send(Method::POST, "/tasks", &headers, body.clone().into()).await {
                Ok(answer) if answer.status == 201 => break answer,
                Ok(answer) => assert!(matches!(answer.status, 502..=504), "{answer:?}"),
                Err(_) => {}
            }
            tick().await;
        };
        let given = answer.json()["ids"].as_array().expect("ids").clone();
        ids.extend(given.iter().map(|id| id.as_str().expect("an id").to_owned()));
    }
    ids
}

/// What queue `q` comes to, where a node says.
async fn queue(client: &Client) -> Option<Value> {
    let answer = client.get("/queues").await.ok().filter(|answer| answer.status == 200)?.json();
    answer["queues"].as_array()?.iter().find(|queue| queue["queue"] == "q").cloned()
}

/// What is killed, and began again at once.
struct Victims {
    cluster: Cluster,
    balancer: Option<Balancer>,
    workers: Vec<Worker>,
    urls: Vec<SocketAddr>,
    handler: String,
    killed: [(&'static str, usize); 4],
}

impl Victims {
    fn worker(&self, index: u8) -> Worker {
        let args = ["--forward", &self.handler, "--slots", "32"];
        Worker::begin(&self.cluster, index, &self.urls, &args)
    }

    async fn strike(&mut self, random: &mut Random) {
        let kind = match random.below(10) {
            0..2 => 0,
            2 => 1,
            3..9 => 2,
            _ => 3,
        };
        match kind {
            0 | 1 => {
                let node = if kind == 1 { self.cluster.leader().await } else { 1 + random.below(3) as u8 };
                self.cluster.node_mut(node).kill();
                self.cluster.start(node);
                // A second one of three at the same time would stop all, which is another test's subject.
                self.cluster.node_mut(node).wait_ready().await;
            }
            2 => {
                let index = random.below(WORKERS.into()) as u8;
                self.workers[usize::from(index)].kill();
                self.workers[usize::from(index)] = self.worker(index + 1);
            }
            _ => {
                drop(self.balancer.take());
                self.balancer = Some(Balancer::start(&self.cluster, &[]).await);
            }
        }
        self.killed[kind].1 += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_no_task_is_lost_each_ends_once_and_one_that_ran_twice_says_why() {
    let _machine = machine_shared();
    let mut random = Random::announced();
    let (tasks, kills) = (count(TASKS.0, TASKS.1), count(KILLS.0, KILLS.1));
    let cluster = ready().await;
    let handler = Handler::start(cluster.subnet().host(250)).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let urls: Vec<SocketAddr> = std::iter::once(balancer.http).chain(everywhere(&cluster)).collect();
    let killed = [("node", 0), ("leader", 0), ("worker", 0), ("balancer", 0)];
    let url = handler.url();
    let mut victims =
        Victims { cluster, balancer: Some(balancer), workers: Vec::new(), urls, handler: url, killed };
    victims.workers = (1..=WORKERS).map(|index| victims.worker(index)).collect();

    let begun = Instant::now();
    let targets: Vec<Client> =
        victims.urls.iter().map(|url| Client::new(*url).with_timeout(Duration::from_secs(15))).collect();
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        producers.spawn(produce(targets.clone(), producer, tasks / PRODUCERS));
    }
    for _ in 0..kills {
        victims.strike(&mut random).await;
        under_load_for(random.duration_up_to(PAUSE)).await;
    }
    let struck = begun.elapsed();
    victims.cluster.wait_all_ready().await;
    let ids: HashSet<String> = producers.join_all().await.into_iter().flatten().collect();
    let client = victims.cluster.node(1).http.clone();
    let total = ids.len();
    let seen = until("all tasks have ended", DONE_WITHIN, async || {
        let seen = queue(&client).await?;
        let left = ["ready", "aside", "due", "active"].map(|state| seen[state].as_u64());
        (left == [Some(0); 4]).then_some(seen)
    })
    .await;

    let runs = handler.runs();
    let again: Vec<_> = runs.iter().filter(|(_, times)| **times > 1).collect();
    let words: Vec<String> = victims.killed.iter().map(|(what, times)| format!("{what} {times}")).collect();
    figure("kills", format!("{} in {struck:.0?}; all ended after {:.0?}", words.join(", "), begun.elapsed()));
    figure("kills: tasks", format!("{total}; {} lost, {} that ran again", seen["lost"], again.len()));
    assert_eq!(total, tasks, "no two have one id");
    let ended = ["put", "done", "dead", "cancelled"].map(|state| seen[state].as_u64().unwrap_or(0) as usize);
    assert_eq!(ended, [tasks, tasks, 0, 0], "{seen}");
    assert_eq!(runs.len(), tasks, "each ran, and nothing else did");
    for (id, times) in again {
        let shown = task(&client, id).await;
        assert!(shown["lost"].as_u64().is_some_and(|lost| lost + 1 >= u64::from(*times)), "{times}: {shown}");
    }
}
