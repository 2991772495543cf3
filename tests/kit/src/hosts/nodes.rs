//! A cluster whose nodes are each on a host of its own, which can be cut off from the others.

use std::net::IpAddr;

use super::lan::{Lan, within};
use super::program::KEY;
use crate::cluster::Cluster;
use crate::cluster::node::Settings;
use crate::cluster::subnet::PEER_PORT;

/// Runs a test beside `count` nodes, numbered from 1, all ready: node 1 is on host 0 of the network. The
/// test itself is on the client's host, and what it opens is there.
pub fn on_hosts<T: Send + 'static>(
    count: u8,
    args: &[&str],
    test: impl AsyncFnOnce(&Lan, &mut Cluster) -> T + Send + 'static,
) -> T {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let lan = Lan::new(usize::from(count));
    // A runtime of one thread, whose helpers come from that thread: all of it is in the namespace.
    within(&lan.client(), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async move {
            let mut cluster = Cluster::new(u32::from(count), &[]);
            let key = cluster.folder().join("key");
            std::fs::write(&key, KEY).expect("the key can be written");
            cluster.key_file = Some(key);
            for index in 1..=count {
                let settings = settings(&cluster, &lan, index, count, &args);
                cluster.add(index, settings);
                cluster.start(index);
            }
            cluster.wait_all_ready().await;
            test(&lan, &mut cluster).await
        })
    })
}

fn settings(cluster: &Cluster, lan: &Lan, index: u8, count: u8, args: &[String]) -> Settings {
    let host = |index: u8| IpAddr::from([10, 78, 0, 10 + index]);
    Settings {
        host: host(index),
        seeds: (1..=count).map(|seed| (host(seed), PEER_PORT).into()).collect(),
        args: args.to_vec(),
        namespace: Some(lan.host(usize::from(index) - 1)),
        ..cluster.settings(index)
    }
}
