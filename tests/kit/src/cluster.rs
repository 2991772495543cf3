//! The nodes of one test: numbered from 1, each at its own loopback address.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::clients::http::Client;
use crate::effort::say;
use crate::faults::Faults;
use crate::folders::scratch;
use crate::programs::logfile;
use crate::wait::until;

pub mod balancer;
pub mod handler;
pub mod node;
pub mod status;
pub mod subnet;
pub mod worker;

use node::{Node, READY_DEADLINE, Settings};
use status::Status;
use subnet::Subnet;

/// A cluster's nodes, their folder and their subnet. Dropping it ends every process.
pub struct Cluster {
    // Dropped in this order: processes before the folder they write to.
    nodes: BTreeMap<u8, Node>,
    folder: TempDir,
    subnet: Subnet,
    /// What a node gets that is started without further words.
    pub expect: u32,
    pub seeds: Vec<u8>,
    pub key_file: Option<PathBuf>,
    pub args: Vec<String>,
}

impl Cluster {
    /// Nothing runs yet. `seeds` are the nodes whose addresses every node is given.
    pub fn new(expect: u32, seeds: &[u8]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(scratch())
            .expect("a folder can be made under the target folder");
        Self {
            nodes: BTreeMap::new(),
            folder,
            subnet: Subnet::claim(),
            expect,
            seeds: seeds.to_vec(),
            key_file: None,
            args: Vec::new(),
        }
    }

    /// Nodes 1 to `count`, started at once, expecting each other; all ready on return.
    pub async fn ready(count: u8) -> Self {
        let mut cluster = Self::start_all(count);
        cluster.wait_all_ready().await;
        cluster
    }

    /// Nodes 1 to `count`, each with faults of its own that begin as `faults` says; all ready on return.
    pub async fn with_faults(
        count: u8,
        args: &[&str],
        faults: impl Fn(u8) -> Vec<&'static str>,
    ) -> (Self, Vec<Faults>) {
        let seeds: Vec<u8> = if count == 1 { Vec::new() } else { (1..=count.min(3)).collect() };
        let mut cluster = Self::new(u32::from(count), &seeds);
        cluster.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut all = Vec::new();
        for index in 1..=count {
            let own = Faults::new(cluster.folder(), &index.to_string());
            own.set(&faults(index));
            let settings = Settings { env: own.env(), ..cluster.settings(index) };
            cluster.add(index, settings);
            cluster.start(index);
            all.push(own);
        }
        cluster.wait_all_ready().await;
        (cluster, all)
    }

    /// Nodes 1 to `count`, started at once, expecting each other.
    pub fn start_all(count: u8) -> Self {
        let seeds: Vec<u8> = if count == 1 { Vec::new() } else { (1..=count.min(3)).collect() };
        let mut cluster = Self::new(u32::from(count), &seeds);
        for index in 1..=count {
            cluster.start(index);
        }
        cluster
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// The flags that node `index` gets if nothing else is said.
    pub fn settings(&self, index: u8) -> Settings {
        Settings {
            host: self.subnet.host(index),
            seeds: self.seeds.iter().map(|seed| self.subnet.peer(*seed)).collect(),
            expect: self.expect,
            data: self.folder.path().join(format!("data-{index}")),
            key_file: self.key_file.clone(),
            args: self.args.clone(),
            env: Vec::new(),
            limits: None,
            namespace: None,
        }
    }

    /// Adds a node that does not run yet.
    pub fn add(&mut self, index: u8, settings: Settings) -> &mut Node {
        let log = self.folder.path().join(format!("node-{index}.log"));
        let former = self.nodes.insert(index, Node::new(settings, log));
        assert!(former.is_none(), "node {index} is there already");
        self.node_mut(index)
    }

    /// Starts a node: a new one with the cluster's flags, or one that had been stopped.
    pub fn start(&mut self, index: u8) -> &mut Node {
        if !self.nodes.contains_key(&index) {
            let settings = self.settings(index);
            self.add(index, settings);
        }
        let node = self.node_mut(index);
        node.start();
        node
    }

    pub fn node(&self, index: u8) -> &Node {
        self.nodes.get(&index).expect("the test added this node")
    }

    pub fn node_mut(&mut self, index: u8) -> &mut Node {
        self.nodes.get_mut(&index).expect("the test added this node")
    }

    /// The nodes that run, by their numbers.
    pub fn running(&self) -> Vec<u8> {
        self.nodes.iter().filter(|(_, node)| node.is_running()).map(|(index, _)| *index).collect()
    }

    /// The HTTP clients of the nodes that run.
    pub fn clients(&self) -> Vec<Client> {
        self.nodes.values().filter(|node| node.is_running()).map(|node| node.http.clone()).collect()
    }

    pub async fn wait_all_ready(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.is_running()) {
            node.wait_ready().await;
        }
    }

    /// SIGKILL to all, as close together as one process can send it.
    pub fn kill_all(&mut self) {
        for node in self.nodes.values_mut() {
            node.kill_begin();
        }
        for node in self.nodes.values_mut() {
            node.kill();
        }
    }

    /// The running nodes' own views; nodes that do not answer are left out.
    pub async fn views(&self) -> Vec<(u8, Status)> {
        let running = self.nodes.iter().filter(|(_, node)| node.is_running());
        // All at once: one that hangs must not hide the others.
        let asked = running.map(async |(index, node)| Some((*index, node.status().await?)));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The node that leads, by its own word and in the newest term that any knows.
    pub async fn leader(&self) -> u8 {
        until("a running node leads", READY_DEADLINE, async || {
            let views = self.views().await;
            let term = views.iter().map(|(_, view)| view.term).max()?;
            views
                .iter()
                .find(|(_, view)| view.term == term && view.leader.as_ref() == Some(&view.node_id))
                .map(|(index, _)| *index)
        })
        .await
    }

    /// Waits until every running node's view satisfies `wanted`.
    pub async fn wait_views(&self, what: &str, deadline: Duration, wanted: impl Fn(&Status) -> bool) {
        until(what, deadline, async || {
            let views = self.views().await;
            (views.len() == self.running().len() && views.iter().all(|(_, view)| wanted(view))).then_some(())
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::env::var_os("SKEP_TEST_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            say(&format!("kept: {}", self.folder.path().display()));
        }
        if !std::thread::panicking() {
            return;
        }
        for (index, node) in &self.nodes {
            say(&format!("--- node {index} ({}), end of its log:", node.settings.host));
            say(&logfile::tail(&node.log));
        }
    }
}
