//! A leader whose disk is slow to give and to take messages: it holds up whoever asks for old ones, and nobody
//! else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use skep_kit::clients::http::Client;
use skep_kit::clients::load::unique_text;
use skep_kit::effort::{count, expect_under, figure, left_out, machine_alone, measured, quantile};
use skep_kit::random::Random;
use skep_kit::{Cluster, faults};
use tokio::task::JoinSet;
use tokio::time::interval;

/// Messages that are asked for; they lie in a segment that is full.
const OLD: usize = 2_000;
/// What fills the rest of it: 64 MiB in all.
const FILL: usize = 76;
const FILL_BYTES: usize = 900_000;
/// Clients that ask for old messages, as fast as they are answered, but no faster than this.
const READERS: usize = 16;
const READ_PACE: Duration = Duration::from_millis(25);
/// What the shim adds to each read that has to come from the disk.
const DELAY: Duration = Duration::from_millis(20);
const SLOW_READS: &str = "read 20 /messages/";
/// Longer than a follower waits for a heartbeat.
const SLOW_WRITES: &str = "write 700 /messages/";
const WRITERS: usize = 2;
const WRITE_PACE: Duration = Duration::from_millis(10);
/// How often the kernel is told to forget what was read.
const FORGET_PACE: Duration = Duration::from_millis(5);

/// How long requests took, in one phase.
struct Took {
    puts: Vec<Duration>,
    reads: Vec<Duration>,
}

/// Asks at one node for old messages at random, and puts new ones, for so long.
async fn asked(node: &Client, old: &Arc<Vec<String>>, seconds: u64) -> Took {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut reads = JoinSet::new();
    for reader in 0..READERS {
        let (client, old) = (node.clone(), old.clone());
        reads.spawn(async move {
            let mut random = Random::with_seed(reader as u64);
            let (mut took, mut pace) = (Vec::new(), interval(READ_PACE));
            while Instant::now() < until {
                pace.tick().await;
                let digest = &old[random.below(old.len() as u64) as usize];
                let begun = Instant::now();
                let answer = client.get(&format!("/messages/{digest}")).await.expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
                took.push(begun.elapsed());
            }
            took
        });
    }
    let puts = puts(node, seconds).await;
    Took { puts, reads: reads.join_all().await.concat() }
}

/// Puts new messages, for so long.
async fn puts(node: &Client, seconds: u64) -> Vec<Duration> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut puts = JoinSet::new();
    for _ in 0..WRITERS {
        let client = node.clone();
        puts.spawn(async move {
            let (mut took, mut pace) = (Vec::new(), interval(WRITE_PACE));
            while Instant::now() < until {
                pace.tick().await;
                let begun = Instant::now();
                client.put(&unique_text(100)).await;
                took.push(begun.elapsed());
            }
            took
        });
    }
    puts.join_all().await.concat()
}

async fn put_all(node: &Client, texts: Vec<String>) -> Vec<String> {
    let puts = texts.into_iter().map(async |text| node.put(&text).await.0);
    futures_util::stream::iter(puts).buffered(32).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_messages_on_a_slow_disk_hold_up_neither_consensus_nor_writes() {
    if !faults::possible("reads of a slow disk") {
        return;
    }
    let _machine = machine_alone();
    let (cluster, faults) = Cluster::with_faults(3, &[], |_| Vec::new()).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let old = put_all(&node.http, (0..OLD).map(|_| unique_text(200)).collect()).await;
    let fill = || format!("{}{}", unique_text(20), "x".repeat(FILL_BYTES));
    for _ in 0..FILL / 4 {
        put_all(&node.http, (0..4).map(|_| fill()).collect()).await;
    }
    // Only what is on the disk can be forgotten.
    let saved = node.admin.with_timeout(Duration::from_secs(30)).get("/snapshot").await;
    assert_eq!(saved.expect("a snapshot").status, 200);
    let old = Arc::new(old);
    let seconds = count(5, 20);
    let before = node.wait_status().await;
    let warm = asked(&node.http, &old, seconds).await;

    faults[usize::from(leader) - 1].set(&[SLOW_READS]);
    let messages = node.settings.data.join("messages");
    let forgets = Arc::new(AtomicBool::new(true));
    let forgetting = {
        let forgets = forgets.clone();
        tokio::spawn(async move {
            let mut pace = interval(FORGET_PACE);
            while forgets.load(Ordering::Relaxed) {
                pace.tick().await;
                let folder = messages.clone();
                let _ = tokio::task::spawn_blocking(move || faults::forget(&folder)).await;
            }
        })
    };
    let cold = asked(&node.http, &old, seconds).await;
    forgets.store(false, Ordering::Relaxed);
    forgetting.await.expect("it ends");

    let after = node.wait_status().await;
    assert_eq!((after.term, after.leader), (before.term, before.leader), "another was elected");
    measured("a read from memory", &warm.reads);
    let slow = measured("a read from a disk that takes 20 ms", &cold.reads);
    if slow < DELAY {
        left_out("reads of a slow disk", "this file system does not forget what it has read");
        return;
    }
    compare("puts beside reads from a slow disk", &warm.puts, &cold.puts);
}

/// Holds the slowest of a hundred against three times what it usually is.
fn compare(what: &str, usual: &[Duration], now: &[Duration]) {
    let (usual, now) = (quantile(usual, 0.99), quantile(now, 0.99));
    figure(&format!("p99 of {what}, usually and now"), format!("{usual:.1?}, {now:.1?}"));
    expect_under(&format!("p99 of {what}"), now, 3 * usual);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_slow_to_take_messages_holds_up_neither_consensus_nor_writes() {
    if !faults::possible("writes to a slow disk") {
        return;
    }
    let _machine = machine_alone();
    let (cluster, faults) = Cluster::with_faults(3, &[], |_| Vec::new()).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let seconds = count(4, 20);
    let before = node.wait_status().await;
    let usual = puts(&node.http, seconds).await;
    faults[usize::from(leader) - 1].set(&[SLOW_WRITES]);
    let slow = puts(&node.http, seconds).await;
    let after = node.wait_status().await;
    assert_eq!((after.term, after.leader), (before.term, before.leader), "another was elected");
    // They are read from memory meanwhile.
    let newest = unique_text(100);
    let (digest, _) = node.http.put(&newest).await;
    let answer = node.http.get(&format!("/messages/{digest}")).await.expect("an answer");
    assert_eq!(answer.json()["message"], newest);
    compare("puts to a slow disk", &usual, &slow);
}
