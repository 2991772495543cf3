//! The stack on the lab, and what an operator does to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::{HOSTS, Lab, PATIENCE};
use crate::effort::count;
use crate::folders::root;
use crate::programs::output;
use crate::wait::{pause, wait_for};

pub const SERVICES: [&str; 3] = ["skep_node", "skep_balancer", "skep_vip"];
pub const IMAGE: &str = "skep:lab";
/// The Swarm waits no longer than it must to see that a task stays. All hosts share this machine's
/// cores, where whatever else runs may keep one from its advertisements for longer than hosts would.
const SETTINGS: [(&str, &str); 7] = [
    ("SKEP_ADVERT_INTERVAL", "200ms"),
    ("SKEP_UPDATE_DELAY", "1s"),
    ("SKEP_UPDATE_MONITOR", "3s"),
    ("SKEP_DRAIN", "8s"),
    ("SKEP_NODE_START_PERIOD", "20s"),
    ("SKEP_DEAD_GRACE", "5s"),
    ("SKEP_LOG", "info"),
];

/// A container of the stack.
#[derive(Debug, Clone)]
pub struct Container {
    pub host: usize,
    pub id: String,
    pub name: String,
}

impl Lab {
    /// All hosts there, the stack on them, three nodes in one cluster; whatever a test before, which
    /// may have failed, has left.
    pub fn with_stack(&self) {
        (1..=HOSTS).for_each(|host| self.heal(host));
        let manager = self.manager();
        for host in 1..=HOSTS {
            self.must_docker(manager, &["node", "update", "--availability", "active", &format!("h{host}")]);
        }
        if self.has_more() {
            self.clear();
        }
        if !self.has_stack() {
            self.deploy();
        }
        self.scale(HOSTS);
        // Swarm moves no task that runs, though its host may have got two of them in a bad time.
        if !self.is_spread() {
            self.update("skep_node", &["--force"]);
            self.settle(HOSTS);
            assert!(self.is_spread(), "each host has one node: {:?}", self.containers("skep_node"));
        }
    }

    fn is_spread(&self) -> bool {
        let nodes = self.containers("skep_node");
        (1..=HOSTS).all(|host| nodes.iter().filter(|node| node.host == host).count() == 1)
    }

    fn has_stack(&self) -> bool {
        self.docker(self.manager(), &["stack", "ls", "--format", "{{.Name}}"])
            .is_ok_and(|names| !names.is_empty())
    }

    /// `scripts/deploy`; waits until it serves.
    pub fn deploy(&self) {
        self.deploy_with(&[]);
    }

    /// Of the version before, which has one key for all.
    pub fn deploy_image(&self, image: &str) {
        self.deploy_with(&[("SKEP_IMAGE", image), ("SKEP_EDGE_SECRET", "skep_cluster_key")]);
    }

    pub fn deploy_with(&self, settings: &[(&str, &str)]) {
        let mut last = String::new();
        // A manager that was just healed may still be looking for the others.
        wait_for("the stack is deployed", PATIENCE, || {
            let result = self.try_deploy(settings);
            last = result.as_ref().err().cloned().unwrap_or_default();
            if !last.is_empty() {
                eprintln!("{last}");
            }
            result.is_ok()
        });
        self.settle(3);
    }

    fn try_deploy(&self, settings: &[(&str, &str)]) -> Result<String, String> {
        let mut deploy = self.command(&["deploy"]);
        let deploy = deploy.envs(SETTINGS).env("SKEP_IMAGE", IMAGE).env("SKEP_DEPLOY_SECONDS", "60");
        output(deploy.envs(settings.iter().copied()))
    }

    /// The image of the version before, built on every host: minutes.
    pub fn image_before(&self) -> String {
        let name = "skep:before";
        let folder = self.folder().join("before");
        let folder = folder.to_str().expect("its name is text");
        let script = root().join("scripts/image");
        let mut build = std::process::Command::new(&script);
        output(build.args(["--before", "--programs", folder])).unwrap_or_else(|error| panic!("{error}"));
        for host in 1..=HOSTS {
            let engine = format!("unix://{}/h{host}/sock", self.folder().display());
            let mut image = std::process::Command::new(&script);
            let image = image.args(["--rootfs", folder, "--tag", name]).env("DOCKER_HOST", engine);
            output(image).unwrap_or_else(|error| panic!("{error}"));
        }
        name.to_owned()
    }

    /// Until so many nodes are one cluster with a leader, every service is whole, one host has the
    /// address, and nothing is being updated.
    pub fn settle(&self, nodes: usize) {
        let begun = Instant::now();
        while let Err(why) = self.is_settled(nodes) {
            assert!(begun.elapsed() < PATIENCE, "the stack does not settle: {why}");
            pause(Duration::from_millis(200));
        }
    }

    fn is_settled(&self, nodes: usize) -> Result<(), String> {
        let manager = self.manager();
        let services =
            self.docker(manager, &["stack", "services", "skep", "--format", "{{.Name}} {{.Replicas}}"])?;
        let whole = BTreeMap::from([("skep_node", nodes), ("skep_balancer", HOSTS), ("skep_vip", HOSTS)]);
        for (name, count) in whole {
            let line = format!("{name} {count}/{count}");
            if !services.lines().any(|it| it == line || it.starts_with(&format!("{line} "))) {
                return Err(format!("{name} is not {count}/{count}: {services}"));
            }
        }
        for service in SERVICES {
            let state = self.update_state(service);
            if state.ends_with("ing") {
                return Err(format!("{service} is {state}"));
            }
        }
        let holders = self.holders();
        if holders.len() != 1 {
            return Err(format!("the address is at {holders:?}"));
        }
        self.one_cluster(nodes).map(|_| ())
    }

    /// Fails unless all live nodes are ready members of one cluster and agree on its leader.
    pub fn one_cluster(&self, nodes: usize) -> Result<String, String> {
        let containers = self.containers("skep_node");
        if containers.len() != nodes {
            return Err(format!("{} nodes run", containers.len()));
        }
        let mut all = Vec::new();
        for container in &containers {
            let json = self.in_container(container, &["skep-node", "members", "--json"])?;
            let cluster: Value = serde_json::from_str(&json).map_err(|error| error.to_string())?;
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            let ready = members.iter().filter(|it| it["state"] == "ready" && it["raft"] != "none").count();
            let dead = members.iter().filter(|it| it["state"] == "dead" && it["raft"] != "none").count();
            if ready != nodes || dead > 0 {
                return Err(format!("{} sees {ready} ready, {dead} dead members", container.name));
            }
            all.push((cluster["cluster_id"].to_string(), cluster["leader"].to_string()));
        }
        all.dedup();
        match &all[..] {
            [(cluster, leader)] if leader != "null" => Ok(cluster.clone()),
            _ => Err(format!("clusters and leaders: {all:?}")),
        }
    }

    /// The same once it is so: on a busy machine a leader may change between two that are asked.
    pub fn the_cluster(&self, nodes: usize) -> String {
        let mut found = Err(String::new());
        wait_for("one cluster with one leader", PATIENCE, || {
            found = self.one_cluster(nodes);
            found.is_ok()
        });
        found.expect("it was found")
    }

    /// A host whose engine answers as a manager of a Swarm that has a leader.
    pub fn manager(&self) -> usize {
        let mut found = 0;
        wait_for("a manager answers", PATIENCE, || {
            found = (1..=HOSTS).find(|host| self.docker(*host, &["node", "ls", "-q"]).is_ok()).unwrap_or(0);
            found > 0
        });
        found
    }

    /// The running containers of a service, of the hosts whose engines answer.
    pub fn containers(&self, service: &str) -> Vec<Container> {
        let filter = format!("name={service}.");
        let of = |host: usize| {
            let args = ["ps", "-f", &filter, "--no-trunc", "--format", "{{.ID}} {{.Names}}"];
            let text = self.docker(host, &args).unwrap_or_default();
            let one = |line: &str| {
                let (id, name) = line.split_once(' ')?;
                Some(Container { host, id: id.to_owned(), name: name.to_owned() })
            };
            text.lines().filter_map(one).collect::<Vec<_>>()
        };
        (1..=HOSTS).flat_map(of).collect()
    }

    fn in_container(&self, container: &Container, command: &[&str]) -> Result<String, String> {
        self.docker(container.host, &[&["exec", &container.id], command].concat())
    }

    /// The node that leads.
    pub fn leader(&self) -> Container {
        let mut found = None;
        wait_for("a leader is known", PATIENCE, || {
            found = self.containers("skep_node").into_iter().find(|container| {
                let json =
                    self.in_container(container, &["skep-node", "members", "--json"]).unwrap_or_default();
                let cluster: Value = serde_json::from_str(&json).unwrap_or_default();
                cluster["leader"].is_string() && cluster["leader"] == cluster["node_id"]
            });
            found.is_some()
        });
        found.expect("it was waited for")
    }

    fn update_state(&self, service: &str) -> String {
        let format = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
        let args = ["service", "inspect", "--format", format, service];
        self.docker(self.manager(), &args).unwrap_or_default().trim().to_owned()
    }

    /// `docker service update`, waited for; how it ended.
    pub fn update(&self, service: &str, args: &[&str]) -> String {
        let manager = self.manager();
        let command = [&["service", "update", "--detach", "--no-resolve-image"], args, &[service]].concat();
        self.must_docker(manager, &command);
        let mut state = String::new();
        wait_for(&format!("the update of {service} ends"), PATIENCE * count(2, 4), || {
            state = self.update_state(service);
            ["completed", "rollback_completed", "paused", "rollback_paused"].contains(&state.as_str())
        });
        state
    }

    pub fn scale(&self, nodes: usize) {
        let to = format!("skep_node={nodes}");
        self.must_docker(self.manager(), &["service", "scale", "--detach", &to]);
        self.settle(nodes);
    }

    /// The image that a service runs.
    pub fn image_of(&self, service: &str) -> String {
        let format = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
        let args = ["service", "inspect", "--format", format, service];
        self.must_docker(self.manager(), &args).trim().to_owned()
    }

    /// An image like the one that is tested but for some lines of a Dockerfile, on every host.
    pub fn image_like(&self, tag: &str, lines: &str) -> String {
        let name = format!("skep:{tag}");
        let folder = self.folder().join(tag);
        std::fs::create_dir_all(&folder).expect("the lab's folder is writable");
        std::fs::write(folder.join("Dockerfile"), format!("FROM {IMAGE}\n{lines}\n"))
            .expect("and so is this");
        for host in 1..=HOSTS {
            let host = host.to_string();
            let folder = folder.to_str().expect("its name is text");
            let mut build = self.command(&["docker", &host, "build", "-q", "-t", &name, folder]);
            output(build.env("DOCKER_BUILDKIT", "0")).unwrap_or_else(|error| panic!("{error}"));
        }
        name
    }

    /// `docker stack rm`, until nothing of it runs.
    pub fn remove_stack(&self) {
        if !self.has_stack() {
            return;
        }
        self.must_docker(self.manager(), &["stack", "rm", "skep"]);
        wait_for("the stack is gone", PATIENCE, || {
            let left = |host| {
                let run = |args: &[&str]| self.docker(host, args).unwrap_or_else(|error| error);
                run(&["ps", "-q", "-f", "name=skep_"])
                    + &run(&["network", "ls", "-q", "-f", "name=skep_skep"])
            };
            (1..=HOSTS).all(|host| left(host).trim().is_empty())
        });
    }

    /// The nodes' data on a host.
    pub fn lose_volumes(&self, host: usize) {
        wait_for("the volume is free", PATIENCE, || {
            // Containers that have ended keep it.
            let _ = self.docker(host, &["container", "prune", "-f"]);
            let left = self.docker(host, &["volume", "ls", "-q", "-f", "name=skep_data"]).unwrap_or_default();
            left.trim().is_empty() || self.docker(host, &["volume", "rm", "-f", "skep_data"]).is_ok()
        });
    }
}
