//! One `skep-balancer` process before a test's cluster.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Cluster;
use crate::clients::http::Client;
use crate::programs::{self, logfile};
use crate::wait::until;

/// The first balancer's address in the subnet; nodes count from 1.
const HOST: u8 = 200;
const DEADLINE: Duration = Duration::from_secs(60);

/// A balancer that found its nodes by gossip; killed when dropped.
pub struct Balancer {
    child: Child,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub client: Client,
    pub admin: Client,
    log: std::path::PathBuf,
}

impl Balancer {
    /// Serves from all nodes that run, on return.
    pub async fn start(cluster: &Cluster, more: &[&str]) -> Self {
        Self::start_nth(cluster, 0, more).await
    }

    /// One of several, which have hosts of their own.
    pub async fn start_nth(cluster: &Cluster, nth: u8, more: &[&str]) -> Self {
        let ip = cluster.subnet().host(HOST + nth);
        let (http, https) = (SocketAddr::new(ip, 8000), SocketAddr::new(ip, 8443));
        let admin = SocketAddr::new(ip, 9401);
        let named = |name: &str| match nth {
            0 => format!("{name}.log"),
            _ => format!("{name}-{nth}.log"),
        };
        let log = cluster.folder().join(named("balancer"));
        let file = File::create(&log).expect("the log file opens");
        let seeds: Vec<String> = (1..=3).map(|seed| cluster.subnet().peer(seed).to_string()).collect();
        let child = programs::balancer()
            .args(["--http", &http.to_string(), "--https", &https.to_string()])
            .args(["--admin", &admin.to_string(), "--peer", &SocketAddr::new(ip, 7401).to_string()])
            .args(["--seeds", &seeds.join(","), "--log", "info"])
            .arg("--access-log")
            .arg(cluster.folder().join(named("access")))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("skep-balancer starts");
        let client = Client::new(http);
        let admin = Client::new(admin);
        let balancer = Self { child, http, https, client, admin, log };
        let running = cluster.running().len();
        until("the balancer serves from all nodes", DEADLINE, async || {
            let is_serving = |it: &&Value| it["service"] == "skep" && it["serving"] == true;
            let serving = balancer.backends().await.iter().filter(is_serving).count();
            (serving == running).then_some(())
        })
        .await;
        balancer
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// SIGHUP: what can be read again is.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// It does nothing and hears nothing, until it is thawed.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn log_text(&self) -> String {
        logfile::text(&self.log)
    }

    /// `/backends`; empty while it does not answer.
    pub async fn backends(&self) -> Vec<Value> {
        match self.admin.get("/backends").await {
            Ok(answer) if answer.status == 200 => answer.json().as_array().cloned().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The backend at `address`, where it is known.
    pub async fn backend(&self, address: SocketAddr) -> Option<Value> {
        let address = address.to_string();
        self.backends().await.into_iter().find(|it| it["address"] == address.as_str())
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        programs::resident_bytes(self.child.id())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the balancer, end of its log:\n{}", logfile::tail(&self.log));
        }
    }
}
