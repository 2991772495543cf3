//! A node that is started on an old copy of its folder: its log went back.

use std::fs;
use std::path::Path;

use skep_kit::clients::oracle::verify;
use skep_kit::effort::machine_shared;
use skep_kit::programs::logfile;
use skep_kit::wait::PATIENCE;
use skep_kit::{Cluster, Ledger, Load, LoadOptions, Targets};

/// What a node says of itself then.
const WENT_BACK: [&str; 2] = ["ERROR", "log went back"];

async fn fill(cluster: &Cluster, messages: u64) -> Ledger {
    let options = LoadOptions { most: Some(messages), pace: None, ..LoadOptions::default() };
    let ledger = Load::start(&Targets::new(cluster.clients()), options).finish().await;
    ledger.expect_no_failure("a quiet cluster");
    ledger
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a file has a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a file can be copied")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_started_on_an_old_volume_says_so_and_is_no_voter_until_it_has_all_again() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let mut ledger = fill(&cluster, 100).await;
    let leader = cluster.leader().await;
    let node = leader % 3 + 1;
    let data = cluster.node(node).settings.data.clone();
    let volume = cluster.folder().join("old-volume");

    cluster.node_mut(node).kill();
    copy(&data, &volume);
    cluster.start(node).wait_ready().await;
    let log = cluster.node(node).log_text();
    assert!(logfile::line_with(&log, &WENT_BACK).is_none(), "a crash alone is no loss:\n{log}");
    ledger.merge(fill(&cluster, 200).await);

    cluster.node_mut(node).kill();
    fs::remove_dir_all(&data).expect("a folder can be removed");
    copy(&volume, &data);
    cluster.start(node).wait_ready().await;
    let log = cluster.node(node).log_text();
    assert!(logfile::line_with(&log, &WENT_BACK).is_some(), "it says so:\n{log}");

    let id = cluster.node(node).wait_status().await.node_id;
    // Whoever led by then.
    let log: String = (1..=3).map(|node| cluster.node(node).log_text()).collect();
    let demoted = log.lines().any(|line| line.contains("make the voters") && !line.contains(&id));
    assert!(demoted, "the leader makes it no voter:\n{log}");
    cluster.wait_views("it is a voter again", PATIENCE, |status| status.voters() == 3).await;
    verify(&cluster.clients(), &ledger).await;
    cluster.node(node).http.put("and it goes on").await;
}
