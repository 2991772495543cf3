//! A time that a wrong clock has lifted for all, as a leader of a version before would, and that an operator
//! sets back.

use serde_json::Value;

use skep_kit::clients::feed::FeedReader;
use skep_kit::cluster::node::Node;
use skep_kit::programs::Ended;

use super::*;

/// How far the clock was ahead.
const AHEAD: &str = "clock 5184000000";
const AHEAD_MS: i64 = 60 * DAY_MS;
const HOUR_MS: i64 = 3600 * 1000;

/// `seq` and time of all messages of a list.
async fn times_of(client: &Client, query: &str) -> Vec<(u64, i64)> {
    let page = client.get(&format!("/messages?limit=1000{query}")).await.expect("an answer").json();
    let time = |message: &Value| {
        (message["seq"].as_u64().expect("a seq"), unix_ms(message["time"].as_str().expect("a time")))
    };
    page["messages"].as_array().expect("a page has messages").iter().map(time).collect()
}

async fn put_far_ahead(client: &Client) {
    let (_, seq) = client.put(&unique_text(20)).await;
    let times = times_of(client, &format!("&after={}", seq - 1)).await;
    assert!(times[0].1 > now_ms() + AHEAD_MS - HOUR_MS, "the time goes on: {times:?}");
}

/// A time of RFC 3339 so many hours from now.
fn hours_from_now(hours: i64) -> String {
    let seconds = now_ms() / 1000 + hours * 3600;
    skep_kit::programs::system("date", &["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .trim()
        .to_owned()
}

async fn gauge(node: &Node, name: &str) -> Option<f64> {
    let metrics = node.admin.get("/metrics").await.ok()?.text();
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn mend(node: &Node, args: &[&str]) -> Ended {
    verb(node.admin.address, &[&["clock", "mend"][..], args].concat())
}

/// The time that an operator is told to set it back to.
fn shown(told: &Ended) -> String {
    let rest = told.stdout.split_once("--yes --agreed ").unwrap_or_else(|| panic!("{told:?}")).1;
    rest.split(' ').next().expect("a first word").to_owned()
}

/// Of a clock that was ahead, when this node was alone: what it has then believed stays, also when the clock is
/// right, and others are there.
async fn poisoned() -> Cluster {
    let args = ["--level-after", "300ms"];
    let (mut cluster, faults) = Cluster::with_faults(1, &args, |_| vec![AHEAD]).await;
    until("the members agree to newer formats", PATIENCE, async || {
        (gauge(cluster.node(1), "skep_store_level ").await? >= 6.0).then_some(())
    })
    .await;
    for _ in 0..20 {
        put_far_ahead(&cluster.node(1).http).await;
    }
    assert!(!written_once(&cluster.node(1).http, "a key").await);
    faults[0].set(&[]);
    cluster.node_mut(1).kill();
    cluster.start(1).wait_ready().await;
    (cluster.expect, cluster.seeds) = (2, vec![1]);
    cluster.start(2).wait_ready().await;
    cluster.start(3).wait_ready().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_a_wrong_clock_has_lifted_for_good_is_set_back_by_an_operator() {
    if !faults::possible("a clock that was ahead") {
        return;
    }
    let _machine = machine_shared();
    let mut cluster = poisoned().await;
    for client in cluster.clients() {
        put_far_ahead(&client).await;
    }
    let clocks = until("the voters' clocks agree", PATIENCE, async || {
        let told = verb(cluster.node(2).admin.address, &["clock", "--json"]).stdout;
        let clocks: Value = serde_json::from_str(&told).ok()?;
        (clocks["agreed"] == true && clocks["members"].as_array()?.len() == 3).then_some(clocks)
    })
    .await;
    assert!(clocks["newest_ms"].as_i64().expect("a time") > now_ms() + AHEAD_MS - HOUR_MS, "{clocks}");

    // Unless it is confirmed, nothing is changed, whichever node is asked.
    for node in 1..=3 {
        let told = mend(cluster.node(node), &[]);
        assert_eq!(told.code, Some(0), "{told:?}");
        let shown = unix_ms(&shown(&told));
        assert!((now_ms() - NEAR_MS..now_ms() + NEAR_MS).contains(&shown), "{told:?}");
        let told: Value = serde_json::from_str(&mend(cluster.node(node), &["--json"]).stdout).expect("JSON");
        assert_eq!((&told["ahead"], &told["mended"]), (&Value::Bool(true), &Value::Bool(false)), "{told}");
        assert_eq!(told["messages"].as_u64(), Some(22 + u64::from(node)), "{told}");
        put_far_ahead(&cluster.node(node).http).await;
    }
    let before = left(&cluster.node(1).http).await;
    let began = now_ms();
    let agreed = shown(&mend(cluster.node(2), &[]));
    let other = mend(cluster.node(2), &["--yes", "--agreed", &hours_from_now(-12)]);
    assert!(other.code == Some(1) && other.stderr.contains("look again"), "{other:?}");
    let told = mend(cluster.node(2), &["--yes", "--agreed", &agreed]);
    assert!(told.code == Some(0) && told.stdout.contains("was set back"), "{told:?}");
    let again = mend(cluster.node(3), &["--yes", "--agreed", &agreed]);
    assert!(again.code == Some(1) && again.stderr.contains("not ahead"), "{again:?}");
    assert!(mend(cluster.node(3), &[]).stdout.contains("nothing to mend"));

    for client in cluster.clients() {
        put_at_its_time(&client, "once the time was set back").await;
        assert!(written_once(&client, "a key").await, "the key is remembered");
    }
    let shown = times_of(&cluster.node(1).http, "").await;
    assert_eq!(shown.len(), before + 3, "none is lost");
    assert!(shown.is_sorted_by_key(|(_, time)| *time), "{shown:?}");
    assert!((began - NEAR_MS..now_ms() + NEAR_MS).contains(&shown[0].1), "{shown:?}");
    assert_same_everywhere(&cluster, &shown).await;

    // Who comes later, and all after a start, from the log and from a snapshot.
    cluster.start(4).wait_ready().await;
    assert_same_everywhere(&cluster, &shown).await;
    let file = cluster.folder().join("mended.snapshot");
    let path = file.to_str().expect("a path of ASCII");
    assert_eq!(verb(cluster.node(3).admin.address, &["snapshot", "save", path]).code, Some(0));
    cluster.kill_all();
    for node in 1..=4 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    assert_same_everywhere(&cluster, &shown).await;
    put_at_its_time(&cluster.node(1).http, "after all were started anew").await;
    assert!(written_once(&cluster.node(4).http, "a key").await, "the key is remembered");

    let restored = Cluster::ready(1).await;
    assert_eq!(verb(restored.node(1).admin.address, &["snapshot", "restore", path]).code, Some(0));
    assert_eq!(times_of(&restored.node(1).http, "").await, shown, "restored");
    put_at_its_time(&restored.node(1).http, "in the cluster that was restored").await;
}

/// Lists, counts, filters and the live feed tell the same at each node, and the metrics that all is well.
async fn assert_same_everywhere(cluster: &Cluster, shown: &[(u64, i64)]) {
    let (last, count) = (shown.last().expect("there are messages").0, shown.len());
    for node in cluster.running() {
        let node = cluster.node(node);
        let client = &node.http;
        assert_eq!(times_of(client, "").await[..count], *shown, "at {}", client.address);
        let since = |hours: i64| format!("&since={}", hours_from_now(hours));
        assert_eq!(times_of(client, &since(-1)).await[..count], *shown, "at {}", client.address);
        assert!(times_of(client, &since(1)).await.is_empty(), "at {}", client.address);
        let until = format!("&until={}", hours_from_now(1));
        assert_eq!(times_of(client, &until).await[..count], *shown, "at {}", client.address);
        let reader = FeedReader::start(vec![client.address], 0);
        reader.wait_for(last, PATIENCE).await;
        let heard: Vec<_> = reader.messages().iter().map(|heard| (heard.seq, unix_ms(&heard.time))).collect();
        assert_eq!(heard[..count], *shown, "followed at {}", client.address);
        let ahead = gauge(node, "skep_clock_newest_ahead_seconds ").await;
        assert!(ahead.is_none_or(|ahead| ahead < 5.0), "{ahead:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_members_have_agreed_to_its_format_no_time_is_set_back() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(1).await;
    for args in [&[][..], &["--yes", "--agreed", &hours_from_now(0)]] {
        let told = mend(cluster.node(1), args);
        assert!(told.code == Some(1) && told.stderr.contains("--level-after"), "{told:?}");
    }
}
