//! A full disk and a read-only one. Needs root, to mount; says so where it cannot.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use skep_kit::clients::load::unique_text;
use skep_kit::clients::oracle::verify;
use skep_kit::effort::{figure, machine_shared, say};
use skep_kit::faults;
use skep_kit::mount::{self, Mount};
use skep_kit::programs::logfile;
use skep_kit::wait::{PATIENCE, until};
use skep_kit::{Cluster, Ledger, Load, LoadOptions, Targets};

/// Room for preallocated log and segment files.
const SMALL_MIB: u64 = 320;
const ENLARGED_MIB: u64 = 640;
/// What the filler leaves free.
const LEFT_BYTES: u64 = 256 << 10;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BEARER: &str = "Bearer 0123456789abcdef0123456789abcdef";

/// Takes all but `LEFT_BYTES` of the file system's room.
fn fill_up(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let block = vec![1u8; 64 << 10];
    let mut file = std::fs::File::create(&path).expect("the filler can be made");
    let mut size = 0u64;
    while std::io::Write::write_all(&mut file, &block).is_ok() {
        size += block.len() as u64;
    }
    file.set_len(size.saturating_sub(LEFT_BYTES)).expect("the filler can be cut");
    path
}

/// Writes more than there is room for; every refusal must be one that a client can act on.
async fn overfill(targets: &Targets) -> Ledger {
    let options = LoadOptions { writers: 8, bytes: 100_000, most: Some(24), ..LoadOptions::default() };
    let ledger = Load::start(targets, options).finish().await;
    for failed in &ledger.failed {
        let refused = failed.why.starts_with("503 ") || failed.why.starts_with("507 ");
        assert!(refused, "a full disk is answered otherwise at {}: {}", failed.at, failed.why);
    }
    let last = ledger.failed.last().expect("a full disk refuses writes");
    say(&format!("measure: full disks: {} of 24 refused, the last with {}", ledger.failed.len(), last.why));
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_at_all_nodes_refuse_writes_lose_nothing_and_recover() {
    if !mount::possible("full disks at all nodes") {
        return;
    }
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let mut mounts = Vec::new();
    for node in 1..=3 {
        mounts.push(Mount::tmpfs(&cluster.settings(node).data, SMALL_MIB));
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let targets = Targets::new(cluster.clients());
    let mut ledger =
        Load::start(&targets, LoadOptions { most: Some(200), ..LoadOptions::default() }).finish().await;
    ledger.expect_no_failure("while there is room");

    for node in 1..=3 {
        fill_up(&cluster.node(node).settings.data);
    }
    ledger.merge(overfill(&targets).await);
    for node in 1..=3 {
        let node = cluster.node_mut(node);
        assert!(
            node.try_exit().is_none(),
            "a full disk must not end the process:\n{}",
            logfile::tail(&node.log)
        );
        until("it says that it is not ready", PATIENCE, async || (!node.is_ready().await).then_some(()))
            .await;
        // What alerts go by.
        let metrics = node.admin.get("/metrics").await.expect("an answer").text();
        for line in ["skep_ready 0.0", "skep_store_full 1.0"] {
            assert!(metrics.lines().any(|it| it == line), "{line} is not in:\n{metrics}");
        }
        let size = format!("skep_store_disk_size_bytes {:?}", (SMALL_MIB << 20) as f64);
        assert!(metrics.lines().any(|it| it == size), "{size} is not in:\n{metrics}");
    }
    for mount in &mounts {
        mount.resize(ENLARGED_MIB);
    }
    cluster.wait_all_ready().await;
    let after =
        Load::start(&targets, LoadOptions { most: Some(200), ..LoadOptions::default() }).finish().await;
    after.expect_no_failure("once there is room again");
    ledger.merge(after);
    verify(&cluster.clients(), &ledger).await;

    // And the disks hold what the answers said.
    cluster.kill_all();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    verify(&cluster.clients(), &ledger).await;
}

/// Takes messages until it is refused; how many it took.
async fn fill_with_messages(node: &skep_kit::Node) -> u64 {
    let mut taken = 0;
    loop {
        let message = format!("{}{}", unique_text(20), "x".repeat(900_000));
        let answer = node.http.post_message(&message).await.expect("an answer");
        match answer.status {
            201 => taken += 1,
            507 => return taken,
            // A follower may be a moment ahead of its leader.
            503 => {}
            other => panic!("a disk that gets full is answered with {other}: {}", answer.text()),
        }
    }
}

/// The way out: what takes messages out is done also where nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_gets_room_by_retention_and_by_removal() {
    if !mount::possible("a disk that gets room by retention") {
        return;
    }
    let _machine = machine_shared();
    for (nodes, others_take_the_rest) in [(1, false), (1, true), (3, false)] {
        let seeds: &[u8] = if nodes == 1 { &[] } else { &[1, 2, 3] };
        let mut cluster = Cluster::new(u32::from(nodes), seeds);
        let file = cluster.folder().join("token");
        std::fs::write(&file, TOKEN).expect("the token can be written");
        cluster.args = vec!["--operator-token-file".into(), file.to_str().expect("a plain path").into()];
        let mut mounts = Vec::new();
        for node in 1..=nodes {
            mounts.push(Mount::tmpfs(&cluster.settings(node).data, ENLARGED_MIB));
            cluster.start(node);
        }
        cluster.wait_all_ready().await;
        let (digest, _) = cluster.node(1).http.put("to be removed").await;
        let taken = fill_with_messages(cluster.node(1)).await;
        figure(&format!("messages of 900 kB until {nodes} disks of 640 MiB take no more"), taken);
        if others_take_the_rest {
            fill_up(&cluster.node(1).settings.data);
        }
        // One by one.
        until("a message is removed from a full disk", Duration::from_secs(20), async || {
            let path = format!("/messages/{digest}");
            let headers = [("authorization", BEARER)];
            let admin = &cluster.node(1).admin;
            let answer = admin.send(Method::DELETE, &path, &headers, Bytes::new()).await.ok()?;
            // Where an earlier try took longer than it was waited for.
            matches!(answer.status, 200 | 410).then_some(())
        })
        .await;
        // And by the hundred, also after a restart on full disks.
        cluster.kill_all();
        for node in 1..=nodes {
            cluster.node_mut(node).settings.args = vec!["--retain-bytes".into(), "128MiB".into()];
            cluster.start(node);
        }
        let begun = Instant::now();
        until("all are well again", Duration::from_secs(60), async || {
            for node in 1..=nodes {
                if !cluster.node(node).is_ready().await {
                    return None;
                }
            }
            Some(())
        })
        .await;
        figure("full disks: well again by retention after", format!("{:.1?}", begun.elapsed()));
        cluster.node(1).http.put("there is room again").await;
        cluster.kill_all();
        drop(mounts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_a_follower_hurts_no_write_at_the_others() {
    full_disk_at_one(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_leader_hurts_no_write_at_the_others() {
    full_disk_at_one(true).await;
}

async fn full_disk_at_one(full_leads: bool) {
    if !mount::possible("a full disk at one node") {
        return;
    }
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    // Unmounted before the cluster's folder is removed.
    let mut mounts = Vec::new();
    for node in 1..=3 {
        mounts.push(Mount::tmpfs(&cluster.settings(node).data, SMALL_MIB));
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let leader = cluster.leader().await;
    let full = if full_leads { leader } else { leader % 3 + 1 };
    let targets = Targets::new(cluster.clients());
    targets.remove(&cluster.node(full).http);
    let load = Load::start(&targets, LoadOptions { bytes: 10_000, ..LoadOptions::default() });
    load.wait_acked(50, PATIENCE).await;
    fill_up(&cluster.node(full).settings.data);
    let node = cluster.node(full);
    until("the full node says that it is not ready", PATIENCE, async || {
        (!node.is_ready().await).then_some(())
    })
    .await;
    // A leader that cannot write must give way to one that can.
    load.wait_acked(50, PATIENCE).await;
    mounts[usize::from(full) - 1].resize(ENLARGED_MIB);
    cluster.wait_all_ready().await;
    load.wait_acked(50, PATIENCE).await;
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
    ledger.expect_no_failure("writes at the nodes that had room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_a_moment_for_a_leader_that_has_room() {
    if !mount::possible("a disk that is full for a moment") {
        return;
    }
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let mount = Mount::tmpfs(&cluster.settings(1).data, SMALL_MIB);
    cluster.start(1).wait_ready().await;
    let node = cluster.node(1);
    let client = node.http.clone();
    fill_up(&node.settings.data);
    // What is on its way to the disk when it gets full waits there; only a later one is kept from it.
    let (first, text) = (client.clone(), "x".repeat(2 * LEFT_BYTES as usize));
    let stuck = tokio::spawn(async move { first.put(&text).await });
    until("the node says that its disk is full", PATIENCE, async || (!node.is_ready().await).then_some(()))
        .await;
    let (begun, second) = (Instant::now(), client.clone());
    let mut late = tokio::spawn(async move { second.post_message("late").await });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut late).await;
    assert!(early.is_err(), "it was answered while no leader had room, and soon: {early:?}");
    mount.resize(ENLARGED_MIB);
    let answer = late.await.expect("no panic").expect("an answer");
    // Where a busy machine takes longer for this than a write waits, it may be refused; no sooner.
    let waited = begun.elapsed() > Duration::from_secs(2);
    assert!(answer.status == 201 || (waited && answer.status == 507), "{answer:?}");
    until("it is written", PATIENCE, async || {
        let answer = client.post_message("late").await.ok()?;
        matches!(answer.status, 200 | 201).then_some(())
    })
    .await;
    stuck.await.expect("it is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_data_folder_is_refused_with_a_clear_error() {
    if !mount::possible("a read-only data folder") {
        return;
    }
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(1).await;
    let (digest, _) = cluster.node(1).http.put("kept").await;
    cluster.node_mut(1).kill();
    let mount = Mount::read_only(&cluster.node(1).settings.data);
    let node = cluster.start(1);
    let status = node.wait_exit(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "a read-only folder ends with 1");
    let log = node.log_text();
    assert!(logfile::line_with(&log, &["read-only"]).is_some(), "it is not said in\n{log}");
    drop(mount);
    cluster.start(1).wait_ready().await;
    let answer = cluster.node(1).http.get(&format!("/messages/{digest}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A disk that takes writes and cannot sync them, and says that it is full: trying again would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_anything_is_not_tried_again() {
    if !faults::possible("a disk that cannot sync") {
        return;
    }
    let _machine = machine_shared();
    // ENOSPC, EDQUOT, EROFS, of a message segment, of the checkpoint, of the messages' folder, of the keys' and of the
    // tasks'.
    let parts = [
        (28, "/messages/"),
        (122, "/checkpoint"),
        (30, "/messages"),
        (28, "/claims/"),
        (30, "/claims"),
        (28, "/payloads/"),
        (30, "/payloads"),
    ];
    for (error, part) in parts {
        let (mut cluster, faults) =
            Cluster::with_faults(1, &["--level-after", "100ms"], |_| Vec::new()).await;
        until("keys are in files", Duration::from_secs(20), async || {
            let metrics = cluster.node(1).admin.get("/metrics").await.ok()?.text();
            crate::tasks::has_tasks(&metrics).then_some(())
        })
        .await;
        let (digest, _) = cluster.node(1).http.put("it stays").await;
        faults[0].set(&[&format!("sync {error} {part}")]);
        // A checkpoint is made for it, where there is anything new.
        until("the node ends", Duration::from_secs(20), async || {
            let text = unique_text(20);
            let key = [("idempotency-key", text.as_str())];
            let _ = cluster.node(1).http.send(Method::POST, "/write", &key, text.clone().into()).await;
            let _ = cluster.node(1).http.post_message(&text).await;
            let task = format!(r#"{{"queue":"q","payload":"{text}"}}"#);
            let _ = cluster.node(1).http.send(Method::POST, "/tasks", &[], task.into()).await;
            let _ = cluster.node(1).admin.with_timeout(Duration::from_secs(1)).get("/snapshot").await;
            cluster.node_mut(1).try_exit()
        })
        .await;
        let log = cluster.node(1).log_text();
        assert!(log.contains("sync ") && log.contains(part), "{part}: {log}");
        faults[0].set(&[]);
        cluster.start(1).wait_ready().await;
        let there = cluster.node(1).http.get(&format!("/messages/{digest}")).await.expect("an answer");
        assert_eq!(there.status, 200, "{part}");
    }
}
