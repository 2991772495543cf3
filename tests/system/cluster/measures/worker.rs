//! How soon the tasks of a worker that is lost run again.

use std::time::{Duration, Instant};

use skep_kit::cluster::balancer::Balancer;
use skep_kit::cluster::worker::{Script, Worker};
use skep_kit::effort::{expect_under, figure, machine_alone};

use crate::tasks::{LEASE, ready, task};
use crate::worker::{everywhere, put_numbers, wait_done};

/// A worker that has a stream is known to be dead before that.
const SOON: Duration = Duration::from_secs(3);
/// Beyond the lease: the leader's look, a commit, and who is given it.
const SLACK: Duration = Duration::from_secs(1);

async fn tasks_run_again_after(lose: impl Fn(&mut Worker), through_balancer: bool) -> Duration {
    let cluster = ready().await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let urls = if through_balancer { vec![balancer.http] } else { everywhere(&cluster) };
    let client = cluster.node(1).http.clone();
    let text = "[ \"$SKEP_TASK_LOST\" = 0 ] || { note again; exit 0; }\nnote begun\nexec sleep 60";
    let script = Script::new(&cluster, "lost", text);
    let args = ["--exec", script.command(), "--slots", "3"];
    let mut first = Worker::start(&cluster, 1, &urls, &args).await;
    let ids = put_numbers(&client, 3).await;
    script.wait_noted("begun", 3).await;
    let _second = Worker::start(&cluster, 2, &urls, &args).await;
    lose(&mut first);
    let began = Instant::now();
    script.wait_noted("again", 1).await;
    let after = began.elapsed();
    wait_done(&client, 3).await;
    for id in &ids {
        let shown = task(&client, id).await;
        assert_eq!((&shown["lost"], &shown["tries"]), (&1.into(), &0.into()), "{shown}");
    }
    after
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_killed_worker_run_again_within_seconds() {
    let _machine = machine_alone();
    for (what, through_balancer) in [("at the nodes", false), ("through a balancer", true)] {
        let after = tasks_run_again_after(Worker::kill, through_balancer).await;
        let what = format!("a killed worker's task runs again, {what}");
        figure(&what, format!("{after:.2?}"));
        expect_under(&what, after, SOON);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_frozen_worker_run_again_within_its_lease() {
    let _machine = machine_alone();
    let after = tasks_run_again_after(|worker| worker.pause(), false).await;
    expect_under("a frozen worker's task runs again", after, LEASE + SLACK);
}
