//! The lab: made by the first test that needs it, and gone when the test runner ends.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::LinkNameSpaceType;

use crate::effort::{asked_for, left_out, say};
use crate::folders::{root, scratch};
use crate::programs::{installed, is_root, output};

pub const HOSTS: usize = 3;
/// Where the client finds the service.
pub const ADDRESS: &str = "10.77.0.100";

fn possible(test: &str) -> bool {
    if !is_root() {
        left_out(test, "network namespaces and engines need root");
        return false;
    }
    installed(test, &["ip", "nsenter", "dockerd", "docker", "setsid"])
}

/// Held by one test at a time.
pub struct Lab {
    name: String,
    _lock: File,
}

impl Lab {
    /// None where there can be no lab; that is said.
    pub fn take(test: &str) -> Option<Self> {
        if !possible(test) {
            return None;
        }
        // nextest runs each test in a process of its own, whose parent it is; cargo runs all in one.
        let owner = match std::env::var_os("NEXTEST") {
            Some(_) => std::os::unix::process::parent_id(),
            None => std::process::id(),
        };
        let name = std::env::var("SKEP_TEST_LAB").unwrap_or_else(|_| format!("t{owner}"));
        let lock = File::create(scratch().join("swarm.lock"));
        let lock = lock.expect("the target folder is writable");
        lock.lock().expect("the lab's lock file can be locked");
        let lab = Self { name, _lock: lock };
        if !lab.folder().join("ready").exists() {
            lab.make(owner);
        }
        Some(lab)
    }

    /// For tests of the long form alone; None, and said, where it was not asked for.
    pub fn take_for_long(test: &str) -> Option<Self> {
        asked_for(test).then(|| Self::take(test)).flatten()
    }

    fn make(&self, owner: u32) {
        let count = HOSTS.to_string();
        // What an earlier run left behind.
        let _ = self.run(&["down"]);
        self.must(&["up", &count, "--owner", &owner.to_string()]);
        if std::env::var_os("SKEP_TEST_IMAGE").is_none() {
            say("building the image; SKEP_TEST_IMAGE names one that is there already");
        }
        self.must(&["image"]);
        File::create(self.folder().join("ready")).expect("the lab's folder is writable");
    }

    pub fn folder(&self) -> PathBuf {
        std::env::temp_dir().join(format!("skep-swarm-{}", self.name))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(root().join("scripts/swarm-lab"));
        command.args(args).env("SKEP_LAB", &self.name).stdin(Stdio::null());
        command
    }

    /// `scripts/swarm-lab` with these arguments.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        output(&mut self.command(args))
    }

    fn must(&self, args: &[&str]) -> String {
        self.run(args).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `docker` at a host, counted from 1.
    pub fn docker(&self, host: usize, args: &[&str]) -> Result<String, String> {
        self.run(&[&["docker", &host.to_string()], args].concat())
    }

    pub fn must_docker(&self, host: usize, args: &[&str]) -> String {
        self.docker(host, args).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The host that has the virtual address.
    pub fn holders(&self) -> Vec<usize> {
        let has = |host: &usize| {
            let args = ["host", &host.to_string(), "ip", "-o", "addr", "show", "dev", "eth0"];
            self.run(&args).is_ok_and(|text| text.contains(&format!(" {ADDRESS}/")))
        };
        (1..=HOSTS).filter(has).collect()
    }

    pub fn kill(&self, host: usize) {
        self.must(&["kill", &host.to_string()]);
    }

    pub fn cut(&self, host: usize) {
        self.must(&["cut", &host.to_string()]);
    }

    pub fn heal(&self, host: usize) {
        self.must(&["heal", &host.to_string()]);
    }

    /// Runs a closure on a thread of its own, in a host's network; 0 is the client's.
    pub fn spawn_at<T: Send + 'static>(
        &self,
        host: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let host = if host == 0 { "client".to_owned() } else { format!("h{host}") };
        let file =
            File::open(format!("/run/netns/skl-{}-{host}", self.name)).expect("the namespace is there");
        std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter the lab's namespaces");
            body()
        })
    }
}

/// For what takes as long as Swarm takes.
pub const PATIENCE: Duration = Duration::from_secs(120);
