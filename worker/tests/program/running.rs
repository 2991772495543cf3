//! The program as it was built, run for a test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(40);

/// The program with nothing from the tests' own environment that it would read.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep-worker"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKEP_")) {
        command.env_remove(name);
    }
    command
}

/// A shell script, in a folder of its own.
pub struct Script {
    folder: TempDir,
}

impl Script {
    pub fn new(text: &str) -> Self {
        let script = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(script.path("run"), format!("#!/bin/sh\ncd \"${{0%/*}}\"\n{text}\n")).expect("a file");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(script.path("run"), mode).expect("a mode");
        script
    }

    /// Of a file in its folder, which is its working directory.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a plain path").to_owned()
    }

    pub fn command(&self) -> String {
        self.path("run")
    }
}

/// A worker; killed when dropped.
pub struct Running {
    child: Child,
    log: Receiver<String>,
    pub admin: SocketAddr,
}

impl Running {
    /// On queue `q`; it works on return.
    pub fn start(args: &[&str]) -> Self {
        Self::start_by(command().env("SKEP_WORKER_TOKEN", "the-token"), args)
    }

    /// With the token in a file.
    pub fn start_with_token_in(file: &str, args: &[&str]) -> Self {
        Self::start_by(command().args(["--worker-token-file", file]), args)
    }

    fn start_by(command: &mut Command, args: &[&str]) -> Self {
        let mut child = command
            .args(["--queues", "q", "--name", "w", "--admin", "127.0.0.1:0", "--log-format", "json"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("skep-worker starts");
        let (sender, log) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut running = Self { child, log, admin: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let line = running.wait_log("\"working\"");
        let line: Value = serde_json::from_str(&line).expect("a line of the log is JSON");
        let admin = ["admin"].iter().find_map(|key| line.get(key).or_else(|| line["fields"].get(key)));
        running.admin =
            admin.and_then(Value::as_str).and_then(|text| text.parse().ok()).expect("the log says where");
        running
    }

    /// The next line of the log that has this.
    pub fn wait_log(&self, part: &str) -> String {
        let mut lines = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => lines.push(line),
                Err(_) => panic!("no line with {part}: {lines:#?}"),
            }
        }
    }

    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("it runs");
    }

    /// Once it has ended by itself.
    pub fn ended(mut self) -> ExitStatus {
        // Its outputs end with it.
        let mut lines = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {lines:#?}"),
            }
        }
        self.child.wait().expect("a child can be awaited")
    }

    /// A page of its admin address.
    pub fn admin(&self, path: &str) -> String {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.admin).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
