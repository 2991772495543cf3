//! Schedules of tasks: each time fires once or is counted as missed, whoever leads and whatever dies.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::clients::http::Answer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::{PATIENCE, holds_for, until};
use skep_kit::{Client, Cluster};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::gateway::{TOKEN, cluster};

const EVERY_MS: i64 = 1_000;

async fn ask(client: &Client, method: Method, path: &str, body: &Value) -> Option<Answer> {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let answer = client.send(method, path, &headers, body.to_string().into()).await.ok()?;
    (answer.status != 503).then_some(answer)
}

/// The same, of whichever node answers.
async fn answered(cluster: &Cluster, method: Method, path: &str, body: &Value) -> Answer {
    until("a node answers", PATIENCE, async || {
        for client in cluster.clients() {
            if let Some(answer) = ask(&client, method.clone(), path, body).await {
                return Some(answer);
            }
        }
        None
    })
    .await
}

fn each_second() -> Value {
    json!({"every": "1s", "task": {"queue": "q", "payload": "again", "retries": 0}})
}

async fn set(cluster: &Cluster, name: &str, schedule: &Value) -> Value {
    let answer = answered(cluster, Method::PUT, &format!("/schedules/{name}"), schedule).await;
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    answer.json()
}

async fn look(cluster: &Cluster, name: &str) -> Value {
    let answer = answered(cluster, Method::GET, &format!("/schedules/{name}"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn fired(cluster: &Cluster, name: &str, count: u64) -> Value {
    until("it has fired so often", PATIENCE, async || {
        let shown = look(cluster, name).await;
        (number(&shown, "fired") >= count).then_some(shown)
    })
    .await
}

fn number(shown: &Value, name: &str) -> u64 {
    shown[name].as_u64().expect("a count")
}

fn ms(shown: &Value, name: &str) -> i64 {
    let time = OffsetDateTime::parse(shown[name].as_str().expect("a time"), &Rfc3339).expect("a time");
    (time.unix_timestamp_nanos() / 1_000_000) as i64
}

/// The tasks of its queue.
async fn put(cluster: &Cluster) -> usize {
    let answer = answered(cluster, Method::GET, "/queues/q/tasks?limit=1000", &Value::Null).await;
    answer.json()["tasks"].as_array().expect("tasks").len()
}

/// Stops a schedule of every second, and sees that each of its times fired once or was missed.
async fn each_time_counts_once(cluster: &Cluster, name: &str) -> Value {
    let mut paused = each_second();
    paused["paused"] = true.into();
    set(cluster, name, &paused).await;
    let shown = look(cluster, name).await;
    let times = (ms(&shown, "last") - ms(&shown, "since")) / EVERY_MS;
    let [fired, missed] = ["fired", "missed"].map(|count| number(&shown, count));
    assert_eq!(fired + missed, times as u64, "{shown}");
    assert_eq!(put(cluster).await as u64, fired, "{shown}");
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_fires_once_a_time_though_leaders_die() {
    let _machine = machine_shared();
    let mut cluster = cluster(3).await;
    let shown = set(&cluster, "a", &each_second()).await;
    assert_eq!((&shown["fired"], &shown["last"]), (&0.into(), &Value::Null), "{shown}");
    let mut count = 2;
    for _ in 0..3 {
        let before = fired(&cluster, "a", count).await;
        let leader = cluster.leader().await;
        cluster.node_mut(leader).kill();
        // It goes on under another leader.
        let after = fired(&cluster, "a", number(&before, "fired") + 3).await;
        count = number(&after, "fired") + 1;
        cluster.start(leader);
        cluster.wait_all_ready().await;
    }
    let shown = each_time_counts_once(&cluster, "a").await;
    println!("measure: {} fired and {} missed over three deaths of leaders", shown["fired"], shown["missed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missed_while_all_nodes_are_gone_runs_once_or_not_at_all() {
    let _machine = machine_shared();
    let mut cluster = cluster(3).await;
    set(&cluster, "a", &each_second()).await;
    let before = fired(&cluster, "a", 2).await;
    cluster.kill_all();
    holds_for("nobody is there for four of its times", Duration::from_secs(4), async || {
        cluster.running().is_empty().then_some(()).ok_or_else(|| "a node runs".to_owned())
    })
    .await;
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let goes_on = fired(&cluster, "a", number(&before, "fired") + 3).await;
    assert!(number(&goes_on, "missed") >= number(&before, "missed") + 3, "{before}, {goes_on}");
    assert_eq!(goes_on["task"], before["task"], "it is as it was set");
    each_time_counts_once(&cluster, "a").await;
    let answer = answered(&cluster, Method::DELETE, "/schedules/a", &Value::Null).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"removed": "a"})));
    let count = put(&cluster).await;
    set(&cluster, "b", &each_second()).await;
    fired(&cluster, "b", 1).await;
    let answer = answered(&cluster, Method::DELETE, "/schedules/b", &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let stays = put(&cluster).await;
    assert!(stays > count, "{stays}");
    holds_for("nothing fires that is deleted", Duration::from_secs(3), async || match put(&cluster).await {
        now if now == stays => Ok(()),
        now => Err(format!("{now} tasks, there were {stays}")),
    })
    .await;
    let answer = answered(&cluster, Method::GET, "/schedules/b", &Value::Null).await;
    assert_eq!((answer.status, &answer.json()["type"]), (404, &"urn:skep:problem:schedule-not-found".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_answered_as_it_was_set_whichever_node_is_asked() {
    let _machine = machine_shared();
    let cluster = cluster(3).await;
    set(&cluster, "first", &each_second()).await;
    for round in 0..8 {
        for (node, client) in cluster.clients().iter().enumerate() {
            let path = format!("/schedules/of-{node}");
            let schedule = json!({"cron": "0 0 29 2 *", "task": {"queue": "r", "payload": round}});
            let answer = ask(client, Method::PUT, &path, &schedule).await.expect("an answer");
            assert_eq!(answer.status, if round == 0 { 201 } else { 200 }, "{answer:?}");
            assert_eq!(answer.json()["task"]["payload"], round, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fire_waits_for_room_in_its_queue_and_a_task_is_put_by_hand_all_the_same() {
    let _machine = machine_shared();
    let cluster = cluster(1).await;
    let schedule = json!({"every": "1s", "task": {"queue": "q", "kind": "report", "payload": {"of": "all"}}});
    set(&cluster, "a", &schedule).await;
    answered(&cluster, Method::PUT, "/queues/q", &json!({"length_max": 0})).await;
    let refused = until("a fire is refused", PATIENCE, async || {
        let shown = look(&cluster, "a").await;
        (number(&shown, "refused") >= 2).then_some(shown)
    })
    .await;
    let full = answered(&cluster, Method::POST, "/schedules/a/run", &Value::Null).await;
    assert_eq!((full.status, &full.json()["type"]), (429, &"urn:skep:problem:queue-full".into()));
    answered(&cluster, Method::PUT, "/queues/q", &json!({})).await;
    let shown = fired(&cluster, "a", number(&refused, "fired") + 1).await;
    assert!(number(&shown, "missed") >= 1, "once for all that waited: {shown}");
    let run = answered(&cluster, Method::POST, "/schedules/a/run", &Value::Null).await;
    assert_eq!(run.status, 201, "{run:?}");
    let id = run.json()["id"].as_str().expect("an id").to_owned();
    let task = answered(&cluster, Method::GET, &format!("/tasks/{id}"), &Value::Null).await.json();
    assert_eq!(
        (&task["queue"], &task["kind"], &task["state"]),
        (&"q".into(), &"report".into(), &"ready".into())
    );
    let claim = json!({"worker": "w", "number": 1, "queues": ["q"], "wait": "0s"});
    let claimed = answered(&cluster, Method::POST, "/claim", &claim).await.json();
    assert_eq!(claimed["tasks"][0]["payload"], json!({"of": "all"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_schedules_back_and_what_fired_does_not_fire_again() {
    let _machine = machine_shared();
    let former = cluster(1).await;
    set(&former, "a", &each_second()).await;
    let nightly = json!({"cron": "0 0 29 2 *", "timezone": "Europe/Berlin", "catch_up": false,
        "task": {"queue": "r", "unique": "night", "delay": "5s"}});
    let nightly = set(&former, "nightly", &nightly).await;
    fired(&former, "a", 2).await;
    let before = each_time_counts_once(&former, "a").await;
    let snapshot = former.node(1).admin.get("/snapshot").await.expect("a snapshot");
    assert_eq!(snapshot.status, 200);
    drop(former);

    let cluster = cluster(1).await;
    // One that is given up, and done all the same, would find itself there.
    let admin = cluster.node(1).admin.with_timeout(PATIENCE);
    let headers = [("content-type", "application/octet-stream")];
    let restored = until("the members agree, and it is restored", PATIENCE, async || {
        let body = snapshot.body.clone();
        let answer = admin.send(Method::POST, "/snapshot", &headers, body).await.ok()?;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert_eq!(restored.status, 200, "{restored:?}");
    holds_for("nothing fires that is paused", Duration::from_secs(3), async || {
        let shown = look(&cluster, "a").await;
        (shown == before).then_some(()).ok_or_else(|| format!("{shown}, it was {before}"))
    })
    .await;
    assert_eq!(look(&cluster, "nightly").await, nightly);
    let unpaused = set(&cluster, "a", &each_second()).await;
    assert!(
        ms(&unpaused, "next") > ms(&before, "last") + EVERY_MS,
        "nothing was to fire meanwhile: {unpaused}"
    );
    let goes_on = fired(&cluster, "a", number(&before, "fired") + 1).await;
    assert_eq!(goes_on["since"], before["since"]);
    let again = admin.send(Method::POST, "/snapshot", &headers, snapshot.body).await.expect("an answer");
    assert_eq!(again.status, 409, "it is not empty: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_schedule_is_taken_before_the_members_have_agreed_to_schedules() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let file = cluster.folder().join("token");
    std::fs::write(&file, TOKEN).expect("the token's file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("its mode can be set");
    let file = file.to_str().expect("a plain path");
    cluster.args = ["--operator-token-file", file].map(Into::into).into();
    cluster.start(1);
    cluster.wait_all_ready().await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let body = each_second().to_string();
    let client = &cluster.node(1).http;
    let answer = client.send(Method::PUT, "/schedules/a", &headers, body.into()).await.expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text().contains("--level-after"), "{answer:?}");
}
