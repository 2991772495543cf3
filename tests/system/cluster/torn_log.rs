//! What a crash or a bad disk did to the log: a torn tail is cut off, anything else is refused.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_kit::clients::oracle::verify;
use skep_kit::effort::machine_shared;
use skep_kit::programs::logfile;
use skep_kit::{Cluster, Ledger, Load, LoadOptions, Node, Targets};

/// The log's files, oldest first.
fn log_files(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(data.join("log"))
        .expect("the log's folder is there")
        .map(|entry| entry.expect("the log's folder can be read").path())
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no log files in {}", data.display());
    files
}

/// Bytes before the first record of a log file, before a record's body, and what records are padded to.
const HEADER_BYTES: usize = 32;
const HEAD_BYTES: usize = 16;
const ALIGN: usize = 8;

/// Where each record of a log file begins, and where the last one ends: behind that a file may be
/// preallocated with zeros.
fn record_bounds(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).expect("a log file can be read");
    let mut offset = HEADER_BYTES;
    let mut bounds = vec![offset as u64];
    while let Some(head) = bytes.get(offset..offset + HEAD_BYTES) {
        if head.iter().all(|byte| *byte == 0) {
            break;
        }
        let body = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
        offset += (HEAD_BYTES + body as usize).next_multiple_of(ALIGN);
        bounds.push(offset as u64);
    }
    assert!(offset <= bytes.len() && offset > HEADER_BYTES, "no records in {}", path.display());
    bounds
}

fn records_end(path: &Path) -> u64 {
    *record_bounds(path).last().expect("a file has a beginning")
}

async fn fill(cluster: &Cluster, messages: u64) -> Ledger {
    let options = LoadOptions { most: Some(messages), pace: None, ..LoadOptions::default() };
    let ledger = Load::start(&Targets::new(cluster.clients()), options).finish().await;
    ledger.expect_no_failure("a quiet cluster");
    ledger
}

fn expect_warning(node: &Node, words: &[&str]) {
    let log = node.log_text();
    let line = logfile::line_with(&log, words);
    assert!(
        line.is_some_and(|line| line.to_lowercase().contains("warn")),
        "no warning with {words:?} in\n{log}"
    );
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("log files have plain names")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_the_last_record_is_cut_off_and_nothing_acknowledged_is_lost() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(1).await;
    let ledger = fill(&cluster, 200).await;
    cluster.node_mut(1).kill();
    let last = log_files(&cluster.node(1).settings.data).pop().expect("there is a file");
    let file = OpenOptions::new().write(true).open(&last).expect("the log file opens");
    file.write_all_at(&[0xa5; 777], records_end(&last)).expect("the log file can be written");
    drop(file);

    cluster.start(1).wait_ready().await;
    verify(&cluster.clients(), &ledger).await;
    expect_warning(cluster.node(1), &[name(&last)]);
    cluster.node(1).http.put("writable again").await;
    cluster.node_mut(1).kill();
    cluster.start(1).wait_ready().await;
    verify(&cluster.clients(), &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_crash_tore_is_cut_off_and_nothing_acknowledged_is_lost() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let ledger = fill(&cluster, 200).await;
    cluster.kill_all();
    for node in 1..=3 {
        let last = log_files(&cluster.node(node).settings.data).pop().expect("there is a file");
        let end = records_end(&last);
        // The beginning of a record whose rest never came: it was acknowledged to nobody.
        let file = OpenOptions::new().read(true).write(true).open(&last).expect("the log file opens");
        let mut torn = vec![0; 3 * HEAD_BYTES];
        file.read_exact_at(&mut torn, HEADER_BYTES as u64).expect("the log file can be read");
        file.write_all_at(&torn, end).expect("the log file can be written");
        file.set_len(end + torn.len() as u64 - 3).expect("the log file can be cut");
    }
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    verify(&cluster.clients(), &ledger).await;
    for node in 1..=3 {
        expect_warning(cluster.node(node), &[".wal", "cut off"]);
    }
    cluster.node(2).http.put("and it goes on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_an_older_record_is_refused_with_file_and_offset() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(1).await;
    fill(&cluster, 200).await;
    cluster.node_mut(1).kill();
    let oldest = log_files(&cluster.node(1).settings.data).remove(0);
    let middle = records_end(&oldest) / 2;
    let file = OpenOptions::new().read(true).write(true).open(&oldest).expect("the log file opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("the log file can be read");
    file.write_all_at(&[byte[0] ^ 0x20], middle).expect("the log file can be written");
    drop(file);

    let node = cluster.start(1);
    let status = node.wait_exit(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(1), "a corrupt log ends with 1");
    let log = node.log_text();
    let line = logfile::line_with(&log, &["corrupt at byte", name(&oldest)]);
    assert!(line.is_some(), "file and offset are not named in\n{log}");
}

/// A disk that says "synced" and forgets: the follower's log ends before what it had acknowledged,
/// and nothing in the folder shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_lost_synced_records_is_named_and_ends_nobody() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let mut ledger = fill(&cluster, 200).await;
    let leader = cluster.leader().await;
    let follower = leader % 3 + 1;
    let term = cluster.node(leader).wait_status().await.term;
    cluster.node_mut(follower).kill();
    let last = log_files(&cluster.node(follower).settings.data).pop().expect("there is a file");
    let bounds = record_bounds(&last);
    // Far enough back that the leader knew these to be there, and behind the vote.
    let cut = bounds[bounds.len() - 1 - 50.min(bounds.len() / 2)];
    OpenOptions::new()
        .write(true)
        .open(&last)
        .and_then(|file| file.set_len(cut))
        .expect("the log file can be cut");

    cluster.start(follower).wait_ready().await;
    ledger.merge(fill(&cluster, 50).await);
    verify(&cluster.clients(), &ledger).await;
    let node = cluster.node_mut(leader);
    assert!(node.try_exit().is_none(), "the leader lives");
    let view = node.wait_status().await;
    // A busy machine may have had another one elected: then it follows, and is well.
    let leads_on = (view.term, view.leader.as_ref()) == (term, Some(&view.node_id));
    assert!(leads_on || (view.term > term && node.is_ready().await), "and leads on: {view:?}");
    let id = cluster.node(follower).wait_status().await.node_id;
    let others = (1..=3).filter(|node| *node != follower);
    let logs: Vec<String> = others.map(|node| cluster.node(node).log_text()).collect();
    let named = logs.iter().any(|log| logfile::line_with(log, &["disk cannot be trusted", &id]).is_some());
    assert!(named, "the follower's disk is not named in\n{}", logs.join("\n"));
}
