//! The page at `/queues`, in a real browser, through the balancer: a worker is killed, and a task is tried again and
//! another cancelled by hand.
//!
//! Screenshots are left in `target/tmp/page-queues-*.png`, to be looked at.

use std::time::Duration;

use serde_json::json;

use skep_kit::clients::browser::{self, Browser, Window};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::cluster::worker::{Script, Worker};
use skep_kit::effort::{left_out, machine_shared};
use skep_kit::wait::until;

use crate::page::{LIVE, TOKEN, look_at};
use crate::tasks::{agreed, post, put, task};

const PATIENCE: Duration = Duration::from_secs(30);

/// The payload says what becomes of it; what ends does at its second run.
const WORK: &str = "read payload\nruns=$(grep -c \"^$SKEP_TASK_ID .* begun\" \"$0.notes\")\nnote begun\n\
    case $payload in\n'\"stays\"') exec sleep 600 ;;\n\
    '\"dies\"') [ \"$runs\" != 0 ] || { echo 'no such <b>file</b>' >&2; exit 65; } ;;\nesac\necho '{\"n\":1}'";

/// Clicks the button, or follows the link, that an expression gives.
async fn click(window: &Window, which: &str) {
    window.value(&format!("({which}).click()")).await;
}

/// The row of a queue, or of a worker whose name begins so.
fn row(body: &str, name: &str) -> String {
    let of = if body == "queues" { "queue" } else { "worker" };
    format!("[...document.querySelectorAll('#{body} tr')].find(row => row.dataset.{of}.startsWith('{name}'))")
}

/// Waits until the task that is shown is in this state.
async fn shows_state(window: &Window, state: &str) {
    let shown = "[...document.querySelectorAll('#found dt')].find(e => e.textContent === 'state')?.nextSibling.textContent";
    window.wait(&format!("a task that is {state} is shown"), &format!("{shown} === '{state}'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_a_worker_die_and_tries_and_cancels_tasks_by_hand_on_the_page_of_queues() {
    if !browser::is_there() {
        left_out("the page of queues in a browser", "no /usr/bin/chromium: apt-get install chromium");
        return;
    }
    let _machine = machine_shared();
    let file = skep_kit::folders::scratch().join("queues-page.token");
    std::fs::write(&file, TOKEN).expect("the token can be written");
    let cluster = agreed(3, &["--operator-token-file", file.to_str().expect("a plain path")]).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let client = &balancer.client;
    let browser = Browser::start().await;
    let window = browser.open(&format!("http://{}/queues", balancer.http), 1280, 1100).await;
    window.wait("the page is live", LIVE).await;
    window.wait("it says that there is none yet", "!document.querySelector('#empty').hidden").await;

    let script = Script::new(&cluster, "work", WORK);
    let args = |name| ["--exec", script.command(), "--slots", "3", "--name", name];
    let mut first = Worker::start(&cluster, 1, &[balancer.http], &args("first")).await;
    let stays = put(client, json!({"queue": "q", "payload": "stays", "kind": "a-stay"})).await;
    script.wait_noted("begun", 1).await;
    let second = Worker::start(&cluster, 2, &[balancer.http], &args("second")).await;
    let dies = put(client, json!({"queue": "q", "payload": "dies", "keep": "1h"})).await;
    let later = put(client, json!({"queue": "q", "delay": "1h"})).await;
    let batch = json!({"tasks": (0..20).map(|n| json!({"queue": "q", "payload": n})).collect::<Vec<_>>()});
    let batch = post(client, "/batches", batch).await.json()["id"].as_str().expect("an id").to_owned();
    post(client, "/tasks", json!({"queue": "nobody-works-here", "payload": 1})).await;
    let queue = row("queues", "q");
    let count =
        |name: &str, number: u32| format!("{queue}?.querySelector('.{name}').textContent === '{number}'");
    for (name, number) in [("done", 20), ("dead", 1), ("due", 1), ("active", 1)] {
        window.wait(&format!("{number} are {name}"), &count(name, number)).await;
    }
    let other = row("queues", "nobody");
    window
        .wait(
            "what waits has its age",
            &format!("/[0-9] s/.test({other}?.querySelector('.oldest').textContent)"),
        )
        .await;
    let graph = format!("{queue}.querySelectorAll('.in .spark polyline, .out .spark polyline').length === 2");
    window.wait("rates are graphs", &graph).await;
    assert_eq!(window.value("document.querySelector('#workers-section').hidden").await, true);
    assert_eq!(window.value("document.querySelectorAll('td button').length").await, 0);

    // Without the token there is nothing to be done by hand.
    let unlock = |token: &str| {
        format!(
            "document.querySelector('#token').value = '{token}'; document.querySelector('#unlock').requestSubmit()"
        )
    };
    window.value(&unlock("wrong")).await;
    window
        .wait(
            "a wrong token opens nothing",
            "document.querySelector('#unlocked').textContent.includes('token')",
        )
        .await;
    window.value(&unlock(TOKEN)).await;
    let worker = |name: &str| row("workers", name);
    let says = |name: &str, cell: &str, text: &str| {
        format!("{}?.querySelector('.{cell}').textContent.includes('{text}')", worker(name))
    };
    for name in ["first", "second"] {
        window.wait("a worker says its version", &says(name, "version", env!("CARGO_PKG_VERSION"))).await;
        window.wait("and when it was heard", &says(name, "beat", " s ago")).await;
    }
    window.wait("it says how many slots are busy", &says("first", "busy", "1 of 3")).await;
    window.wait("and with what", &says("first", "runs", &stays)).await;
    assert!(window.value(&says("first", "runs", "q/a-stay for ")).await == true);
    look_at(&window, "queues-unlocked").await;

    // The worker dies: its task is another's within seconds, and the page says both.
    first.kill();
    window.wait("its task is another's", &says("second", "runs", &stays)).await;
    window.wait("it is not heard", &format!("{}.classList.contains('silent')", worker("first"))).await;
    assert!(window.value(&says("second", "beat", " s ago")).await == true);
    let link = format!("{}.querySelector('.runs a')", worker("second"));
    click(&window, &link).await;
    shows_state(&window, "active").await;
    let history = "document.querySelector('#found .history').textContent";
    window.wait("its history tells of the loss", &format!("{history}.includes('1 worker was lost')")).await;
    assert!(window.value(&format!("{history}.includes('second-')")).await == true);
    look_at(&window, "queues-killed").await;

    // Cancelled by hand.
    click(&window, "document.querySelector('#cancel')").await;
    shows_state(&window, "cancelled").await;
    window.wait("it says so", "document.querySelector('#changed').textContent === 'it is cancelled'").await;
    window.wait("its worker is free", &says("second", "busy", "0 of 3")).await;

    // A dead one is found by its queue, and tried again.
    click(&window, &format!("{queue}.querySelector('th button')")).await;
    let dead = format!("[...document.querySelectorAll('#tasks a')].find(a => a.textContent === '{dies}')");
    window.wait("dead ones are listed", &format!("!!{dead}")).await;
    click(&window, &dead).await;
    shows_state(&window, "dead").await;
    window
        .wait("what it said is text", "document.querySelector('#found').textContent.includes('<b>file</b>')")
        .await;
    click(&window, "document.querySelector('#retry')").await;
    window
        .wait("it is tried again", "document.querySelector('#changed').textContent === 'it is tried again'")
        .await;
    shows_state(&window, "done").await;
    window.wait("none is dead", &count("dead", 0)).await;

    // Paused, and not.
    click(&window, &format!("{queue}.querySelector('.hand button')")).await;
    window.wait("it is paused", &format!("{queue}.querySelector('.paused').textContent === ' paused'")).await;
    click(&window, &format!("{queue}.querySelector('.hand button')")).await;
    window.wait("it is resumed", &format!("{queue}.querySelector('.paused').textContent === ''")).await;

    // The worker is to claim nothing, and does so with its next beat; then it goes on.
    let hand = format!("{}.querySelector('.hand button')", worker("second"));
    click(&window, &hand).await;
    window.wait("it is to be quiet", &format!("{hand}.textContent === 'Go on'")).await;
    until("the worker is quiet", PATIENCE, async || {
        let metrics = second.admin.get("/metrics").await.ok()?.text();
        metrics.contains("skep_worker_quiet 1").then_some(())
    })
    .await;
    let is_quiet = format!("{}.querySelector('.paused').textContent === ' quiet'", worker("second"));
    window.wait("the page says that it is quiet", &is_quiet).await;
    let waits = put(client, json!({"queue": "q", "payload": 1, "keep": "1h"})).await;
    look_at(&window, "queues-quiet").await;
    assert_eq!(task(client, &waits).await["state"], "ready");
    click(&window, &hand).await;
    until("it goes on", PATIENCE, async || (task(client, &waits).await["state"] == "done").then_some(()))
        .await;

    // A batch is shown by its id; one of its tasks, and one that is due, by theirs.
    for (id, state) in [(&later, "due"), (&batch, "")] {
        window.value(&format!("location.hash = '{id}'")).await;
        match state {
            "" => {
                let members = "document.querySelectorAll('#found .history a').length === 20";
                window.wait("a batch has its tasks", members).await;
                assert_eq!(window.value("document.querySelector('#found-by-hand').hidden").await, true);
            }
            state => shows_state(&window, state).await,
        }
    }
    look_at(&window, "queues-batch").await;
    let complaints: Vec<String> =
        browser.take_complaints().into_iter().filter(|text| !text.contains("401")).collect();
    assert_eq!(complaints, Vec::<String>::new());
}
