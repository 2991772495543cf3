//! Clocks that are wrong: of one node of three, whoever leads, and of one that is alone.

mod mend;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;

use skep_kit::clients::load::unique_text;
use skep_kit::effort::{count, machine_shared};
use skep_kit::faults::{self, Faults};
use skep_kit::programs::verb;
use skep_kit::wait::{under_load_for, until};
use skep_kit::{Client, Cluster};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// What a time may be off.
const NEAR_MS: i64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Of `2026-11-28T21:20:45.123Z` (RFC 3339), in milliseconds since the Unix epoch.
fn unix_ms(text: &str) -> i64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect("a time of RFC 3339");
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days by the civil calendar, from a year that begins in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    seconds * 1000 + text.get(20..23).and_then(|ms| ms.parse::<i64>().ok()).unwrap_or(0)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock is set").as_millis() as i64
}

/// Puts a message; its time must be that of now.
async fn put_at_its_time(client: &Client, when: &str) {
    let (digest, seq) = client.put(&unique_text(20)).await;
    let page = client.get(&format!("/messages?after={}&limit=1", seq - 1)).await.expect("an answer").json();
    let message = &page["messages"][0];
    assert_eq!(message["digest"].as_str(), Some(digest.as_str()));
    let off = unix_ms(message["time"].as_str().expect("a message has a time")) - now_ms();
    assert!(off.abs() < NEAR_MS, "{when}: a message at {} is {off} ms off: {message}", client.address);
}

async fn written_once(client: &Client, key: &str) -> bool {
    let headers = [("idempotency-key", key)];
    let answer =
        client.send(Method::POST, "/write", &headers, key.to_owned().into()).await.expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("idempotent-replayed") == "true"
}

async fn left(client: &Client) -> usize {
    client.get("/messages?after=0&limit=1000").await.expect("an answer").json()["messages"]
        .as_array()
        .expect("a page has messages")
        .len()
}

async fn make_lead(cluster: &Cluster, index: u8) {
    let id = cluster.node(index).status().await.expect("an answer").node_id;
    until("the node leads", PATIENCE, async || {
        let leader = cluster.leader().await;
        if leader != index {
            verb(cluster.node(leader).admin.address, &["transfer-leader", &id]);
        }
        (leader == index).then_some(())
    })
    .await;
}

/// Messages come in through every node while one clock is wrong, and that node is made the leader.
async fn one_wrong_clock(rule: &'static str) {
    let _machine = machine_shared();
    let faults = |index| if index == 3 { vec![rule] } else { Vec::new() };
    let (mut cluster, _faults) = Cluster::with_faults(3, &["--retain-age", "30days"], faults).await;
    let clients = cluster.clients();
    for (at, client) in clients.iter().cycle().take(9).enumerate() {
        put_at_its_time(client, &format!("{rule}, before it leads, {at}")).await;
    }
    assert!(!written_once(&clients[2], "a key").await);
    for round in 0..count(2, 5) {
        make_lead(&cluster, 3).await;
        for client in &clients {
            put_at_its_time(client, &format!("{rule}, when it leads, {round}")).await;
            assert!(written_once(client, "a key").await, "{rule}: the key was forgotten before its time");
        }
        until("it hands over", PATIENCE, async || (cluster.leader().await != 3).then_some(())).await;
        for client in &clients {
            put_at_its_time(client, &format!("{rule}, after it led, {round}")).await;
        }
        // It does so once a minute.
        if count(true, false) {
            break;
        }
        under_load_for(Duration::from_secs(61)).await;
    }
    let mut messages = 9 + 6 * count(1, 5);

    // All at once, the wrong one first: nobody is there to be asked when it starts.
    cluster.kill_all();
    cluster.start(3);
    cluster.node(3).wait_status().await;
    cluster.start(1);
    cluster.start(2);
    cluster.wait_all_ready().await;
    for client in &clients {
        put_at_its_time(client, &format!("{rule}, after all were started anew")).await;
    }
    // One of the right ones is away, the wrong one is started anew and leads: no majority agrees.
    cluster.node_mut(1).kill();
    cluster.node_mut(3).kill();
    cluster.start(3).wait_ready().await;
    make_lead(&cluster, 3).await;
    for client in &clients[1..] {
        put_at_its_time(client, &format!("{rule}, with one other")).await;
    }
    cluster.start(1).wait_ready().await;
    messages += 5;
    for client in &clients {
        assert_eq!(left(client).await, messages, "{rule}: dropped at {}", client.address);
    }
    let clocks = until("the clocks are known again", PATIENCE, async || {
        let told = verb(cluster.node(1).admin.address, &["clock", "--json"]).stdout;
        let clocks: serde_json::Value = serde_json::from_str(&told).ok()?;
        (clocks["agreed"] == true && clocks["members"].as_array()?.len() == 3).then_some(clocks)
    })
    .await;
    assert_eq!(clocks["agreed"], true, "{clocks}");
    let wrong = cluster.node(3).status().await.expect("an answer").node_id;
    let offset = |id: &str| {
        let members = clocks["members"].as_array().expect("members");
        members.iter().find(|it| it["id"] == id).and_then(|it| it["offset_ms"].as_i64()).expect("an offset")
    };
    assert!(offset(&wrong).abs() > NEAR_MS, "{clocks}");
    assert!(cluster.node(3).log_text().contains("handing over leadership"), "it says so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_sixty_days_ahead_harms_nobody() {
    if faults::possible("a clock that is ahead") {
        one_wrong_clock("clock 5184000000").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_sixty_days_behind_harms_nobody() {
    if faults::possible("a clock that is behind") {
        one_wrong_clock("clock -5184000000").await;
    }
}

/// 40 s a second: each look at it finds it somewhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_each_second_harms_nobody() {
    if faults::possible("a clock that steps") {
        one_wrong_clock("drift 40000").await;
    }
}

/// All is as it should be, and then the host's clock jumps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_jump_of_the_clock_drops_nothing_and_moves_no_time() {
    if !faults::possible("a clock that jumps") {
        return;
    }
    let _machine = machine_shared();
    let args = ["--retain-age", "60s"];
    let (cluster, faults) = Cluster::with_faults(1, &args, |_| Vec::new()).await;
    let faults: &Faults = &faults[0];
    let client = &cluster.node(1).http;
    // Past the wait of a leader that begins: from here on what is too old is dropped.
    until("retention acts", PATIENCE, async || {
        (cluster.node(1).started.elapsed() > Duration::from_secs(16)).then_some(())
    })
    .await;
    for _ in 0..20 {
        put_at_its_time(client, "before the jump").await;
    }
    for jump in [60 * DAY_MS, -60 * DAY_MS] {
        faults.set(&[&format!("clock {jump}")]);
        // Two looks of retention, which come every ten seconds.
        under_load_for(Duration::from_secs(12)).await;
        assert_eq!(left(client).await, 20, "after a jump of {jump} ms");
    }
    put_at_its_time(client, "after the jumps").await;
}
