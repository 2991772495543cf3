//! How soon every node knows who came, who drains and who died, and that nobody is thought dead who lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::interval;

use skep_kit::Cluster;
use skep_kit::cluster::status::{Member, status};
use skep_kit::effort::{count, expect_under, machine_alone, measured, say};
use skep_kit::wait::{TICK, holds_for, until};

const SEEN_DEADLINE: Duration = Duration::from_secs(20);
const BUSY_THREADS: usize = 8;

/// For each of `watchers`, how long after `since` its view of the node at `http` first was as wanted.
async fn seen_by(
    cluster: &Cluster,
    watchers: &[u8],
    http: &str,
    since: Instant,
    wanted: fn(Option<&Member>) -> bool,
) -> Vec<Duration> {
    let mut watches = JoinSet::new();
    for watcher in watchers {
        let (admin, http) = (cluster.node(*watcher).admin.clone(), http.to_owned());
        watches.spawn(async move {
            let mut looks = interval(TICK);
            loop {
                looks.tick().await;
                if status(&admin).await.is_some_and(|view| wanted(view.member_at(&http))) {
                    return since.elapsed();
                }
                assert!(since.elapsed() < SEEN_DEADLINE, "{} never saw it at {http}", admin.address);
            }
        });
    }
    watches.join_all().await
}

/// Keeps the processors busy until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn begin() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..BUSY_THREADS {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Nodes 1 to `count`, all ready and all in each other's view.
async fn large_cluster(nodes: u8) -> Cluster {
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    for node in 1..=nodes {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    cluster
        .wait_views("each sees all", Duration::from_secs(10), |view| {
            view.members.iter().filter(|member| member.is_live()).count() == usize::from(nodes)
        })
        .await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_soon_see_who_joins_who_drains_and_who_dies() {
    let _machine = machine_alone();
    let nodes: u8 = count(7, 20);
    let mut cluster = large_cluster(nodes - 1).await;
    let (mut joins, mut drains, mut deaths) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count(1, 5) {
        let others: Vec<u8> = (1..nodes).collect();
        cluster.start(nodes);
        let http = cluster.node(nodes).http_text();
        let began = cluster.node(nodes).started;
        joins.extend(
            seen_by(&cluster, &others, &http, began, |member| member.is_some_and(Member::is_live)).await,
        );
        cluster.node_mut(nodes).wait_ready().await;
        seen_by(&cluster, &others, &http, began, |member| member.is_some_and(Member::is_ready)).await;

        let signalled = Instant::now();
        cluster.node(nodes).terminate();
        drains.extend(
            seen_by(&cluster, &others, &http, signalled, |member| !member.is_some_and(Member::is_ready))
                .await,
        );
        cluster.node_mut(nodes).wait_exit(Duration::from_secs(10)).await;

        cluster.start(nodes).wait_ready().await;
        seen_by(&cluster, &others, &http, signalled, |member| member.is_some_and(Member::is_ready)).await;
        cluster.node_mut(nodes).kill();
        let killed = Instant::now();
        deaths.extend(
            seen_by(&cluster, &others, &http, killed, |member| !member.is_some_and(Member::is_live)).await,
        );
    }
    for (what, times, bar) in [
        ("join seen by all", &joins, Duration::from_millis(500)),
        ("draining seen by all", &drains, Duration::from_millis(300)),
        ("death seen by all", &deaths, Duration::from_secs(2)),
    ] {
        measured(what, times);
        expect_under(what, times.iter().max().copied().unwrap_or_default(), bar);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_thought_dead_while_the_processors_are_busy() {
    let _machine = machine_alone();
    let nodes: u8 = count(7, 20);
    let cluster = large_cluster(nodes).await;
    let _busy = Busy::begin();
    let time = count(Duration::from_secs(15), Duration::from_secs(300));
    let mut views = 0;
    holds_for("all are seen alive", time, async || {
        for (node, view) in cluster.views().await {
            if let Some(dead) = view.members.iter().find(|member| !member.is_live()) {
                return Err(format!("node {node} thinks {dead:?} dead"));
            }
            if view.members.len() != usize::from(nodes) {
                return Err(format!("node {node} sees {} of {nodes}", view.members.len()));
            }
            views += 1;
        }
        Ok(())
    })
    .await;
    assert!(views > usize::from(nodes), "the nodes showed their views {views} times");
    say(&format!("measure: {nodes} nodes, processors busy for {time:?}: false deaths 0 in {views} views"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_paused_is_taken_back() {
    let _machine = machine_alone();
    let mut cluster = large_cluster(3).await;
    let http = cluster.node(3).http_text();
    cluster.node(3).pause();
    let paused = Instant::now();
    seen_by(&cluster, &[1, 2], &http, paused, |member| !member.is_some_and(Member::is_live)).await;
    cluster.node(3).resume();
    seen_by(&cluster, &[1, 2], &http, Instant::now(), |member| member.is_some_and(Member::is_ready)).await;
    cluster.node_mut(3).wait_ready().await;
    until("it sees the others again", SEEN_DEADLINE, async || {
        let view = cluster.node(3).status().await?;
        (view.members.iter().filter(|member| member.is_live()).count() == 3).then_some(())
    })
    .await;
}
