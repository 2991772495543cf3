//! Clients on threads of their own, beside the one of consensus.

use skep_kit::clients::oracle::verify;
use skep_kit::effort::machine_shared;
use skep_kit::wait::PATIENCE;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

/// Threads of a process by name.
fn threads(process: u32, name: &str) -> usize {
    let all = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let names = all.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|own| own.trim() == name).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_threads_for_clients_a_leader_dies_and_nothing_acknowledged_is_lost() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.args = vec!["--http-threads".into(), "2".into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=3 {
        assert_eq!(threads(cluster.node(node).process_id(), "skep-http"), 2);
    }
    let targets = Targets::new(cluster.clients());
    let load = Load::start(&targets, LoadOptions { writers: 8, ..LoadOptions::default() });
    load.wait_acked(200, PATIENCE).await;
    let leader = cluster.leader().await;
    targets.remove(&cluster.node(leader).http);
    cluster.node_mut(leader).kill();
    load.wait_acked(200, PATIENCE).await;
    cluster.start(leader);
    cluster.wait_all_ready().await;
    targets.add(&cluster.node(leader).http);
    load.wait_acked(200, PATIENCE).await;
    let ledger = load.stop().await;
    verify(&cluster.clients(), &ledger).await;
    // Its threads end with a node.
    cluster.node_mut(1).stop().await;
}
