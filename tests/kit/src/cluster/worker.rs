//! A `skep-worker` process before a test's cluster, and the program that it has do its tasks.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Cluster;
use crate::clients::http::Client;
use crate::programs::{self, logfile};
use crate::wait::until;

/// The first worker's address in the subnet, less one; nodes count from 1, the balancer is 200.
const HOST: u8 = 210;
const DEADLINE: Duration = Duration::from_secs(60);

/// A worker, on queue `q` where its arguments name none; killed when dropped.
pub struct Worker {
    child: Option<Child>,
    pub admin: Client,
    log: PathBuf,
}

impl Worker {
    /// Number `index`, which asks these; it hears of the cluster on return.
    pub async fn start(cluster: &Cluster, index: u8, urls: &[SocketAddr], args: &[&str]) -> Self {
        let mut worker = Self::begin(cluster, index, urls, args);
        until("the worker is heard of", DEADLINE, async || {
            if let Some(status) = worker.try_exit() {
                panic!("the worker ended with {status}:\n{}", logfile::tail(&worker.log));
            }
            let ready = worker.admin.get("/readyz").await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
        worker
    }

    /// The same without waiting.
    pub fn begin(cluster: &Cluster, index: u8, urls: &[SocketAddr], args: &[&str]) -> Self {
        let admin = SocketAddr::new(cluster.subnet().host(HOST + index), 9403);
        let log = cluster.folder().join(format!("worker-{index}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log).expect("the log file opens");
        let urls: Vec<String> = urls.iter().map(|url| format!("http://{url}")).collect();
        // The crawler has a queue of its own.
        let queues = if args.contains(&"--queues") { &[][..] } else { &["--queues", "q"] };
        let child = programs::worker()
            .args(["--url", &urls.join(","), "--admin", &admin.to_string()])
            .args(queues)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be copied"))
            .stderr(file)
            .spawn()
            .expect("skep-worker starts");
        let admin = Client::new(admin).with_timeout(Duration::from_secs(5));
        Self { child: Some(child), admin, log }
    }

    fn running(&self) -> &Child {
        self.child.as_ref().expect("the worker runs")
    }

    /// SIGKILL, and gone on return.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be awaited");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.running()), signal).expect("it has not been awaited");
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be awaited")?;
        self.child = None;
        Some(status)
    }

    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        until("the end of the worker", deadline, async || self.try_exit()).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- a worker, end of its log:\n{}", logfile::tail(&self.log));
        }
    }
}

/// A shell script that does tasks in the cluster's folder, and notes what it does in a file there.
pub struct Script {
    path: PathBuf,
    notes: PathBuf,
}

impl Script {
    /// `note WORD` appends a line: the task's id, its fence and the word.
    pub fn new(cluster: &Cluster, name: &str, text: &str) -> Self {
        let (path, notes) = (cluster.folder().join(name), cluster.folder().join(format!("{name}.notes")));
        let note =
            format!("note() {{ echo \"$SKEP_TASK_ID $SKEP_TASK_FENCE $1\" >>'{}'; }}", notes.display());
        std::fs::write(&path, format!("#!/bin/sh\n{note}\n{text}\n")).expect("the script can be written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode can be set");
        std::fs::write(&notes, "").expect("the notes can be written");
        Self { path, notes }
    }

    pub fn command(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }

    /// Those with the word: tasks and fences.
    pub fn noted(&self, word: &str) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(&self.notes).expect("the notes are there");
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let note = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            (words.next() == Some(word)).then_some(note)
        };
        text.lines().filter_map(parse).collect()
    }

    /// Waits until there are so many with the word.
    pub async fn wait_noted(&self, word: &str, count: usize) {
        let what = format!("{count} are noted as {word}");
        until(&what, DEADLINE, async || (self.noted(word).len() >= count).then_some(())).await;
    }
}
