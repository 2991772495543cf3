//! A node that has no file descriptors left: as with a full disk, it waits, says so, and goes on.

use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::clients::load::unique_text;
use skep_kit::cluster::node::Settings;
use skep_kit::effort::{figure, machine_shared};
use skep_kit::programs::{logfile, raise_file_limit};
use skep_kit::wait::until;
use tokio::net::TcpStream;

const LIMITS: &str = "-n 160";
const IDLE: usize = 400;
/// Until it is well again once the idle connections are gone.
const WELL: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_take_no_descriptor_that_the_store_needs() {
    let _machine = machine_shared();
    raise_file_limit();
    let mut cluster = Cluster::new(1, &[]);
    let settings = Settings { limits: Some(LIMITS), ..cluster.settings(1) };
    cluster.add(1, settings);
    cluster.start(1).wait_ready().await;
    // A connection that is there before the idle ones come.
    let client = cluster.node(1).http.with_timeout(Duration::from_secs(30));
    let mut acked = vec![client.put("before").await];

    let mut idle = Vec::new();
    for _ in 0..IDLE {
        // What is not accepted waits in the kernel's backlog.
        let connected =
            tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(client.address)).await;
        idle.extend(connected.ok().and_then(Result::ok));
    }
    // The log rolls over, and messages take segments.
    let mut refused = 0;
    for _ in 0..90 {
        let message = format!("{}{}", unique_text(20), "x".repeat(200_000));
        match client.post_message(&message).await {
            Ok(answer) if matches!(answer.status, 200 | 201) => {
                acked.push((answer.json()["digest"].as_str().expect("a digest").to_owned(), 0));
            }
            Ok(answer) => {
                assert!(matches!(answer.status, 503 | 507), "{answer:?}");
                refused += 1;
            }
            Err(failure) => panic!("the connection that was there is lost: {failure:?}"),
        }
    }
    let node = cluster.node_mut(1);
    assert!(
        node.try_exit().is_none(),
        "no descriptors must not end the process:\n{}",
        logfile::tail(&node.log)
    );
    drop(idle);
    let begun = Instant::now();
    until("it is well again", WELL, async || node.is_ready().await.then_some(())).await;
    figure("no descriptors left: until it is well again", format!("{:.1?}", begun.elapsed()));
    figure("no descriptors left: writes that were refused", format!("{refused} of 90"));
    acked.push(client.put("after").await);
    for (digest, _) in acked {
        let there = client.get(&format!("/messages/{digest}")).await.expect("an answer");
        assert_eq!(there.status, 200, "{digest}");
    }
}

/// Whatever limit it is given, it takes as much as it may: a shell's soft limit is for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_soft_limit_of_files_is_raised() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let settings = Settings { limits: Some("-S -n 256"), ..cluster.settings(1) };
    cluster.add(1, settings);
    cluster.start(1).wait_ready().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", cluster.node(1).process_id()))
        .expect("Linux tells the limits of a process");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of files");
    let numbers: Vec<&str> = line.split_whitespace().rev().skip(1).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}
