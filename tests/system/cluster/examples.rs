//! The workers in `examples/worker`: each does all that is put, while the leader dies.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use skep_kit::effort::machine_shared;
use skep_kit::folders::root;
use skep_kit::programs::{installed, worker_example};
use skep_kit::wait::until;

use crate::tasks::{ready, task};
use crate::worker::{everywhere, put_numbers, wait_done};

/// As the documents say: the loop is short.
const LINES_MAX: usize = 60;
const PATIENCE: Duration = Duration::from_secs(30);

/// Killed when dropped, with what it has started.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

fn script(interpreter: &str, file: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(root().join("examples/worker").join(file));
    command
}

async fn does_all_while_the_leader_dies(file: &str, command: impl Fn() -> Command) {
    let text = std::fs::read_to_string(root().join("examples/worker").join(file)).expect("it is there");
    assert!(text.lines().count() < LINES_MAX, "{file} has {} lines", text.lines().count());
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let urls: Vec<String> = everywhere(&cluster).iter().map(|url| format!("http://{url}")).collect();
    let start = || {
        let mut command = command();
        command.env("SKEP_URL", urls.join(",")).env("SKEP_QUEUES", "q").env("SKEP_WORKER_TOKEN", "none");
        Example(command.stdin(Stdio::null()).process_group(0).spawn().expect("it starts"))
    };
    let mut examples = [start(), start()];
    let leader = cluster.leader().await;
    let other = if leader == 1 { 2 } else { 1 };
    let client = cluster.node(other).http.clone();
    let mut ids = put_numbers(&client, 20).await;
    until("half of them are done", PATIENCE, async || {
        let queues = client.get("/queues").await.ok()?.json();
        (queues["queues"][0]["done"].as_u64()? >= 10).then_some(())
    })
    .await;
    cluster.node_mut(leader).kill();
    let more = until("more is put", PATIENCE, async || {
        let tasks: Vec<_> = (20..40).map(|n| json!({"queue": "q", "payload": n, "keep": "1h"})).collect();
        let answer = crate::tasks::try_post(&client, "/tasks", &tasks.into()).await?;
        (answer.status == 201).then(|| answer.json()["ids"].as_array().expect("ids").clone())
    })
    .await;
    ids.extend(more.iter().map(|id| id.as_str().expect("an id").to_owned()));
    wait_done(&client, ids.len()).await;
    for (number, id) in ids.iter().enumerate() {
        let shown = task(&client, id).await;
        assert_eq!((&shown["state"], &shown["result"]["did"]), (&"done".into(), &number.into()), "{shown}");
    }
    for example in &mut examples {
        assert!(example.0.try_wait().expect("it is ours").is_none(), "{file} goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_in_python_does_all_while_the_leader_dies() {
    if installed("the worker in Python", &["python3"]) {
        does_all_while_the_leader_dies("worker.py", || script("python3", "worker.py")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_in_javascript_does_all_while_the_leader_dies() {
    if installed("the worker in JavaScript", &["node"]) {
        does_all_while_the_leader_dies("worker.mjs", || script("node", "worker.mjs")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_in_shell_does_all_while_the_leader_dies() {
    if installed("the worker in shell", &["curl", "jq", "shuf"]) {
        does_all_while_the_leader_dies("worker.sh", || script("sh", "worker.sh")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_in_rust_does_all_while_the_leader_dies() {
    does_all_while_the_leader_dies("worker.rs", worker_example).await;
}
