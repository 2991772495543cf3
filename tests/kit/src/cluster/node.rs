//! One `skep-node` process: started, signalled, awaited, and never left behind.

use std::fs::OpenOptions;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::status::{Status, status};
use super::subnet::{ADMIN_PORT, HTTP_PORT, PEER_PORT};
use crate::clients::http::Client;
use crate::programs::{self, logfile};
use crate::wait::until;

/// Long enough for a loaded machine; no test's bar.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The flags of one node.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: IpAddr,
    pub seeds: Vec<SocketAddr>,
    pub expect: u32,
    pub data: PathBuf,
    pub key_file: Option<PathBuf>,
    /// Further flags, as given on a command line.
    pub args: Vec<String>,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
    /// What `ulimit` is told before it starts, as in `-n 160`.
    pub limits: Option<&'static str>,
    /// The network namespace that it runs in; none is the test's own.
    pub namespace: Option<String>,
}

/// A node of a test's cluster, running or not.
pub struct Node {
    pub settings: Settings,
    pub http: Client,
    pub admin: Client,
    pub log: PathBuf,
    child: Option<Child>,
    /// When the process was last started.
    pub started: Instant,
}

impl Node {
    /// Describes a node; nothing runs yet.
    pub fn new(settings: Settings, log: PathBuf) -> Self {
        let http = Client::new(SocketAddr::new(settings.host, HTTP_PORT));
        let admin = Client::new(SocketAddr::new(settings.host, ADMIN_PORT));
        let admin = admin.with_timeout(Duration::from_secs(5));
        Self { settings, http, admin, log, child: None, started: Instant::now() }
    }

    pub fn http_text(&self) -> String {
        self.http.address.to_string()
    }

    pub fn peer_address(&self) -> SocketAddr {
        SocketAddr::new(self.settings.host, PEER_PORT)
    }

    /// The command that runs this node.
    pub fn command(&self) -> Command {
        let settings = &self.settings;
        let mut command = match (&settings.namespace, settings.limits) {
            (Some(namespace), _) => programs::node_in(namespace),
            (None, Some(limits)) => programs::node_with_limits(limits),
            (None, None) => programs::node(),
        };
        command
            .args(["--http", &self.http.address.to_string()])
            .args(["--peer", &self.peer_address().to_string()])
            .args(["--admin", &self.admin.address.to_string()])
            .arg("--data")
            .arg(&settings.data)
            .args(["--expect", &settings.expect.to_string()]);
        if !settings.seeds.is_empty() {
            let seeds: Vec<String> = settings.seeds.iter().map(SocketAddr::to_string).collect();
            command.args(["--seeds", &seeds.join(",")]);
        }
        if let Some(path) = &settings.key_file {
            command.arg("--cluster-key-file").arg(path);
        }
        command.args(&settings.args).envs(settings.env.iter().cloned());
        command
    }

    /// Starts the process; its log goes on where the last one ended.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.settings.host);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("the log file opens");
        let errors = log.try_clone().expect("a file handle can be copied");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.started = Instant::now();
        self.child = Some(command.spawn().expect("skep-node starts"));
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub fn process_id(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Child {
        self.child.as_ref().expect("the node runs")
    }

    /// SIGKILL, and gone on return.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be awaited");
        }
    }

    /// SIGKILL without waiting, so that several die at the same moment; `kill` or `wait_exit` follow.
    pub fn kill_begin(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("a child can be killed");
        }
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet, so its id is still its own.
        let sent = kill_process(Pid::from_child(self.running()), signal);
        sent.unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.settings.host));
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP: what can be read again is.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The exit status once the process has ended by itself.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be awaited")?;
        self.child = None;
        Some(status)
    }

    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.settings.host);
        until(&what, deadline, async || self.try_exit()).await
    }

    /// SIGTERM, and out in order within the promised 10 s and what a busy machine adds to them.
    pub async fn stop(&mut self) {
        self.terminate();
        let status = self.wait_exit(Duration::from_secs(15)).await;
        assert!(status.success(), "{} ended with {status}", self.settings.host);
    }

    pub async fn is_ready(&self) -> bool {
        matches!(self.admin.get("/readyz").await, Ok(answer) if answer.status == 200)
    }

    /// Waits for `/readyz`; a process that ends meanwhile fails the test at once.
    pub async fn wait_ready(&mut self) {
        let what = format!("{} is ready", self.settings.host);
        until(&what, READY_DEADLINE, async || {
            if let Some(status) = self.try_exit() {
                panic!("{} ended with {status}:\n{}", self.settings.host, logfile::tail(&self.log));
            }
            self.is_ready().await.then_some(())
        })
        .await;
    }

    pub async fn status(&self) -> Option<Status> {
        status(&self.admin).await
    }

    /// Waits for the admin address to answer, and asks it.
    pub async fn wait_status(&self) -> Status {
        let what = format!("{} answers /cluster", self.settings.host);
        until(&what, READY_DEADLINE, async || self.status().await).await
    }

    pub fn log_text(&self) -> String {
        logfile::text(&self.log)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        programs::resident_bytes(self.process_id())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already dead is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
