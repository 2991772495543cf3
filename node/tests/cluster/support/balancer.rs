//! A `skep-balancer` in front of a test's nodes, where its program has been built beside the node's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cluster::Cluster;
use super::http::Client;
use super::wait::until;

/// A running balancer; it ends with the value.
pub struct Balancer {
    child: Child,
    pub http: Client,
}

fn program() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_skep-node")).with_file_name("skep-balancer");
    beside.exists().then_some(beside)
}

impl Balancer {
    /// None where the program is not there.
    pub async fn start(cluster: &Cluster) -> Option<Self> {
        let host = cluster.subnet().host(200);
        let address = |port| SocketAddr::new(host, port);
        let seeds: Vec<String> =
            cluster.seeds.iter().map(|seed| cluster.subnet().peer(*seed).to_string()).collect();
        let log = std::fs::File::create(cluster.folder().join("balancer.log")).expect("the log file opens");
        let child = Command::new(program()?)
            .args(["--http", &address(8000).to_string(), "--peer", &address(7401).to_string()])
            .args(["--admin", &address(9401).to_string(), "--seeds", &seeds.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("skep-balancer starts");
        let balancer = Self { child, http: Client::new(address(8000)) };
        let nodes = cluster.running().len();
        let admin = Client::new(address(9401));
        until("the balancer has its backends", Duration::from_secs(30), async || {
            let backends = admin.get("/backends").await.ok()?.text();
            (backends.matches("\"serving\":true").count() >= nodes).then_some(())
        })
        .await;
        Some(balancer)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
