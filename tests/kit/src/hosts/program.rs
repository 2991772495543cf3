//! A host's programs: a balancer of ours with a backend behind it, and what can be done to it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::lan::{Lan, command_in, spawn_in, within};
use crate::folders::scratch;
use crate::programs::{balancer_path, logfile};
use crate::wait::{PATIENCE, wait_for};

pub const HTTP: u16 = 8080;
const ADMIN: u16 = 9401;
const BACKEND: u16 = 9000;
/// What members of the mesh share in these tests.
pub const KEY: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Starts a backend in a namespace that answers with `name`; it lives as long as this process.
pub fn start_backend(namespace: &str, name: &str) {
    let listener = within(namespace, || TcpListener::bind(("127.0.0.1", BACKEND)).expect("the port is free"));
    let name = name.to_owned();
    spawn_in(namespace, move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || answer(stream, &name));
        }
    });
}

/// Until the other side closes.
fn answer(stream: TcpStream, name: &str) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if line == "\r\n" {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// A running program, killed when it is dropped.
pub struct Program {
    child: Child,
    pub namespace: String,
    log: PathBuf,
}

impl Program {
    /// A balancer of ours, or the holder in it.
    pub fn ours(namespace: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start(namespace, balancer_path(), args, env)
    }

    pub fn start(namespace: &str, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let log = scratch().join(format!("{namespace}-{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let child = command_in(namespace, program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be cloned"))
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Self { child, namespace: namespace.to_owned(), log }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(self.pid(), signal);
    }

    /// `kill -9`, and the end awaited.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and the end awaited; its exit status.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    pub fn wait(&mut self) -> Option<i32> {
        wait_for("a program's end", PATIENCE, || self.child.try_wait().is_ok_and(|status| status.is_some()));
        self.child.wait().ok().and_then(|status| status.code())
    }

    pub fn log(&self) -> String {
        logfile::text(&self.log)
    }

    /// An answer of its admin address.
    pub fn admin(&self, path: &str) -> Option<String> {
        self.admin_at(ADMIN, path)
    }

    pub fn admin_at(&self, port: u16, path: &str) -> Option<String> {
        let path = path.to_owned();
        within(&self.namespace, move || ask("127.0.0.1", port, &path))
    }

    /// What `/vrrp` says.
    pub fn vrrp(&self) -> Vec<serde_json::Value> {
        let text = self.admin("/vrrp").unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn state(&self) -> String {
        self.vrrp().first().and_then(|it| it["state"].as_str()).unwrap_or_default().to_owned()
    }

    pub fn wait_state(&self, state: &str) -> Duration {
        wait_for(&format!("{} is {state}", self.namespace), PATIENCE, || self.state() == state)
    }

    /// A metric's value, over all labels that contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.admin("/metrics").unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), logfile::tail(&self.log));
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// The body of an answer with status 200.
pub fn ask(ip: &str, port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((ip, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: a\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200").map(|_| body.to_owned())
}

/// A balancer of ours on a host of the network, with VRRP in its process.
pub struct Ours<'a> {
    pub lan: &'a Lan,
    pub at: usize,
    pub vip: &'a str,
    pub priority: u8,
    pub interval: &'a str,
    pub mesh: bool,
    pub more: &'a [&'a str],
}

impl Ours<'_> {
    pub fn start(&self) -> Program {
        let (http, backend) = (format!("[::]:{HTTP}"), format!("127.0.0.1:{BACKEND}"));
        let priority = self.priority.to_string();
        let mut args = vec![
            "--http",
            &http,
            "--backends",
            &backend,
            "--cores",
            "1",
            "--access-log",
            "off",
            "--log-format",
            "human",
            "--vip",
            self.vip,
            "--vrrp-interface",
            "eth0",
            "--priority",
            &priority,
            "--advert-interval",
            self.interval,
            "--drain",
            "3s",
        ];
        args.extend(self.more);
        let key = [("SKEP_CLUSTER_KEY", KEY)];
        let env = if self.mesh { &key[..] } else { &[] };
        Program::ours(&self.lan.host(self.at), &args, env)
    }
}

/// Where a holder without a proxy in its process shows itself: beside a proxy.
pub const HOLDER_ADMIN: u16 = 9402;
/// As it is told to.
pub const HOLDER_SHOWN: [&str; 2] = ["--admin", "127.0.0.1:9402"];
/// What it follows: that its host's proxy is ready.
pub const READY: &str = "http://127.0.0.1:8080/-/ready";

/// A holder of addresses without a proxy in its process.
pub fn start_holder(
    lan: &Lan,
    at: usize,
    vip: &str,
    priority: &str,
    more: &[&str],
    env: &[(&str, &str)],
) -> Program {
    let held = ["vrrp", "--vip", vip, "--vrrp-interface", "eth0", "--priority", priority];
    Program::ours(&lan.host(at), &[&held[..], &["--log-format", "human"], more].concat(), env)
}

/// A balancer of ours as nothing but a web server, for hosts where another holds the address.
pub fn start_server(lan: &Lan, at: usize) -> Program {
    let (http, backend) = (format!("[::]:{HTTP}"), format!("127.0.0.1:{BACKEND}"));
    let args = [
        "--http",
        &http,
        "--backends",
        &backend,
        "--cores",
        "1",
        "--access-log",
        "off",
        "--log-format",
        "human",
    ];
    Program::ours(&lan.host(at), &args, &[])
}
