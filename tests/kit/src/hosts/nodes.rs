//! A cluster whose nodes are each on a host of its own, which can be cut off from the others.

use std::net::IpAddr;
use std::path::PathBuf;

use super::lan::{Lan, within};
use super::names::NameServer;
use super::program::KEY;
use crate::cluster::Cluster;
use crate::cluster::node::Settings;
use crate::cluster::subnet::PEER_PORT;
use crate::faults::Faults;

/// Where `ip netns exec` finds a namespace's own `resolv.conf`.
const NETNS_FOLDER: &str = "/etc/netns";

/// The nodes of a test, one a host.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    pub count: u8,
    pub args: Vec<String>,
    /// Their seeds where they are names: `node-1.test` and so on is the node's address, told by a name server
    /// that never answers for IPv6 addresses, nor for names that begin with `silent`. By default addresses.
    pub seeds: Option<String>,
    /// Each has faults of its own (`faults_of`), none at first.
    pub faults: bool,
}

/// Runs a test beside `count` nodes, numbered from 1, all ready: node 1 is on host 0 of the network. The
/// test itself is on the client's host, and what it opens is there.
pub fn on_hosts<T: Send + 'static>(
    count: u8,
    test: impl AsyncFnOnce(&Lan, &mut Cluster) -> T + Send + 'static,
) -> T {
    on(Hosts { count, ..Hosts::default() }, async |lan, cluster| {
        cluster.wait_all_ready().await;
        test(lan, cluster).await
    })
}

/// The same with what `hosts` says; the nodes have been started, and no more.
pub fn on<T: Send + 'static>(
    hosts: Hosts,
    test: impl AsyncFnOnce(&Lan, &mut Cluster) -> T + Send + 'static,
) -> T {
    let lan = Lan::new(usize::from(hosts.count));
    // A runtime of one thread, whose helpers come from that thread: all of it is in the namespace.
    within(&lan.client(), move || {
        let names: Vec<_> =
            (1..=hosts.count).map(|index| (format!("node-{index}.test"), address(index))).collect();
        let _resolvers = hosts.seeds.as_ref().map(|_| {
            NameServer::start("10.78.0.250:53", names);
            (0..usize::from(hosts.count)).map(|at| Resolver::of(&lan.host(at))).collect::<Vec<_>>()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let mut cluster = Cluster::new(u32::from(hosts.count), &[]);
            let key = cluster.folder().join("key");
            std::fs::write(&key, KEY).expect("the key can be written");
            cluster.key_file = Some(key);
            for index in 1..=hosts.count {
                let settings = settings(&cluster, &lan, index, &hosts);
                cluster.add(index, settings);
                cluster.start(index);
            }
            test(&lan, &mut cluster).await
        })
    })
}

/// The faults of a node that was started with such; whatever they were, there are none now.
pub fn faults_of(cluster: &Cluster, index: u8) -> Faults {
    Faults::new(cluster.folder(), &index.to_string())
}

fn address(index: u8) -> IpAddr {
    IpAddr::from([10, 78, 0, 10 + index])
}

fn settings(cluster: &Cluster, lan: &Lan, index: u8, hosts: &Hosts) -> Settings {
    let (seeds, args) = match &hosts.seeds {
        Some(names) => (Vec::new(), [&hosts.args[..], &["--seeds".to_owned(), names.clone()]].concat()),
        None => {
            let seeds = (1..=hosts.count).map(|seed| (address(seed), PEER_PORT).into()).collect();
            (seeds, hosts.args.clone())
        }
    };
    let env = if hosts.faults { faults_of(cluster, index).env() } else { Vec::new() };
    Settings {
        host: address(index),
        seeds,
        args,
        env,
        namespace: Some(lan.host(usize::from(index) - 1)),
        ..cluster.settings(index)
    }
}

/// A host's own `resolv.conf`; gone when it is dropped.
struct Resolver(PathBuf);

impl Resolver {
    fn of(namespace: &str) -> Self {
        let folder = PathBuf::from(NETNS_FOLDER).join(namespace);
        std::fs::create_dir_all(&folder).expect("root may write /etc/netns");
        std::fs::write(folder.join("resolv.conf"), "nameserver 10.78.0.250\n").expect("it can be written");
        Self(folder)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
