//! The programs as they were built, run as an operator or a mistaken configuration would.
//!
//! Nothing here builds: `scripts/test` and `cargo nextest run --workspace` do, before they run tests. A
//! program that is missing, or older than its sources, fails the test with the command that is wanted.
//! `SKEP_TEST_PROGRAM`, `SKEP_TEST_BALANCER` and `SKEP_TEST_WORKER` put another build to the same tests, such as
//! the release's.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, Rlimit};

use crate::effort::left_out;
use crate::folders;

pub mod logfile;

/// Folders that hold programs, whoever runs the tests.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program of ours.
struct Program {
    name: &'static str,
    /// Names another build.
    variable: &'static str,
    /// Where its sources are, from the repository's root.
    folders: [&'static str; 2],
}

const NODE: Program =
    Program { name: "skep-node", variable: "SKEP_TEST_PROGRAM", folders: ["proto", "node"] };
const BALANCER: Program =
    Program { name: "skep-balancer", variable: "SKEP_TEST_BALANCER", folders: ["proto", "balancer"] };
const WORKER: Program =
    Program { name: "skep-worker", variable: "SKEP_TEST_WORKER", folders: ["proto", "worker"] };

/// `skep-node` with nothing from the tests' own environment that it would read.
pub fn node() -> Command {
    with_log(without_settings(node_path()))
}

/// The same in a network namespace; its process id is the node's.
pub fn node_in(namespace: &str) -> Command {
    let mut command = without_settings(Path::new("ip"));
    command.args(["netns", "exec", namespace]).arg(node_path());
    with_log(command)
}

/// The same with what `ulimit` is told; its process id is the node's.
pub fn node_with_limits(limits: &str) -> Command {
    let mut command = without_settings(Path::new("sh"));
    command.args(["-c", &format!("ulimit {limits} && exec \"$0\" \"$@\"")]).arg(node_path());
    with_log(command)
}

fn node_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| NODE.path())
}

fn with_log(mut command: Command) -> Command {
    let level = std::env::var("SKEP_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
    command.env("SKEP_LOG", level).env("RUST_BACKTRACE", "1");
    command
}

/// `skep-balancer` with nothing from the tests' own environment that it would read.
pub fn balancer() -> Command {
    without_settings(balancer_path())
}

/// For what starts it by another program.
pub fn balancer_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| BALANCER.path())
}

/// `skep-worker` with nothing from the tests' own environment that it would read.
pub fn worker() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    without_settings(PATH.get_or_init(|| WORKER.path()))
}

/// `examples/worker/worker.rs`, which is built with the tests of `skep-worker`.
pub fn worker_example() -> Command {
    let path = folders::programs().join("examples/worker");
    assert!(path.exists(), "{} has not been built: cargo build -p skep-worker --examples", path.display());
    without_settings(&path)
}

fn without_settings(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SKEP_") {
            command.env_remove(name);
        }
    }
    command
}

impl Program {
    fn path(&self) -> PathBuf {
        if let Some(path) = std::env::var_os(self.variable) {
            return path.into();
        }
        let path = folders::programs().join(self.name);
        if let Some(why) = self.stale(&path) {
            let profile = match folders::programs().file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => String::new(),
                Some(profile) => format!(" --profile {profile}"),
            };
            panic!("{why}: cargo build -p {}{profile}", self.name);
        }
        path
    }

    /// What is wrong with a program that was built.
    fn stale(&self, built: &Path) -> Option<String> {
        let Some(made) = changed(built) else {
            return Some(format!("{} has not been built", built.display()));
        };
        let newer = |source: &PathBuf| changed(source).is_some_and(|at| at > made);
        let newer = self.sources().into_iter().find(newer)?;
        Some(format!("{} is older than {}", built.display(), newer.display()))
    }

    /// What the compiler wrote down that the program's libraries were made of, and its own file. What is
    /// for tests alone is not among it: a change of that makes no other program.
    fn sources(&self) -> Vec<PathBuf> {
        let root = folders::root();
        let mut sources = vec![root.join(self.folders[1]).join("src/main.rs")];
        for entry in std::fs::read_dir(folders::programs().join("deps")).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let is_list = path.extension().is_some_and(|extension| extension == "d");
            if !is_list || !name.to_string_lossy().starts_with("skep_") {
                continue;
            }
            let list = std::fs::read_to_string(&path).unwrap_or_default();
            let made_of = list.lines().filter_map(|line| line.split_once(".rlib: "));
            let files = made_of.flat_map(|(_, files)| files.split(' ').map(Path::new));
            let own = files.filter(|file| self.folders.iter().any(|folder| file.starts_with(folder)));
            sources.extend(own.map(|file| root.join(file)));
        }
        sources
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Both outputs, for words that may stand in either.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end; one that does not end in time is killed and fails the test.
pub fn run_to_end(command: &mut Command, input: &str, deadline: Duration) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that asks nothing may be gone already.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let stdout = read_to_end(child.stdout.take().expect("stdout is piped"));
    let stderr = read_to_end(child.stderr.take().expect("stderr is piped"));
    let end = Instant::now() + deadline;
    // Both outputs end with the process.
    let rest = |output: &Receiver<String>| output.recv_timeout(end.saturating_duration_since(Instant::now()));
    match (rest(&stdout), rest(&stderr)) {
        (Ok(stdout), Ok(stderr)) => {
            let status = child.wait().expect("a child can be awaited");
            Ended { code: status.code(), stdout, stderr }
        }
        (out, err) => {
            let _ = child.kill();
            let _ = child.wait();
            let out = out.or_else(|_| stdout.recv()).unwrap_or_default();
            let err = err.or_else(|_| stderr.recv()).unwrap_or_default();
            panic!("{command:?} did not end within {deadline:?}:\n{out}{err}");
        }
    }
}

/// Gives all of an output once it has ended.
fn read_to_end(mut output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// An operator's verb at a node's admin address.
pub fn verb(admin: SocketAddr, args: &[&str]) -> Ended {
    run_to_end(node().args(args).env("SKEP_ADMIN", admin.to_string()), "", Duration::from_secs(30))
}

/// Writes a fresh cluster key to `path`.
pub fn write_key(path: &Path) {
    write_output(node().arg("keygen"), path);
}

/// Writes the edge key of the cluster key in `key` to `path`.
pub fn write_edge_key(key: &Path, path: &Path) {
    write_output(node().arg("edge-key").arg(key), path);
}

/// What workers show where nodes have this key.
pub fn worker_token(key: &Path) -> String {
    let mut command = node();
    let ended = run_to_end(command.arg("worker-token").arg(key), "", Duration::from_secs(30));
    assert_eq!(ended.code, Some(0), "{command:?}: {ended:?}");
    ended.stdout.trim().to_owned()
}

/// Writes what a command prints to a file for its user alone.
fn write_output(command: &mut Command, path: &Path) {
    let ended = run_to_end(command, "", Duration::from_secs(30));
    assert_eq!(ended.code, Some(0), "{command:?}: {ended:?}");
    std::fs::write(path, ended.stdout).expect("the key file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("the key file's mode can be set");
}

/// Runs a program to its end: its output, or what it said where it failed.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{command:?}: {out}{err}")) }
}

/// A helper program of the system, which must succeed; its output.
pub fn system(program: &str, args: &[&str]) -> String {
    output(Command::new(program).args(args)).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether these programs are installed; says what is left out where one is not.
pub fn installed(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)).collect();
    let missing = programs.iter().find(|program| !folders.iter().any(|folder| folder.join(program).exists()));
    if let Some(program) = missing {
        left_out(test, &format!("{program} is not installed"));
    }
    missing.is_none()
}

/// Whether tests may mount file systems and make network namespaces here.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"));
    let text = text.expect("a running process has a status");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is there");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("VmRSS is a number") * 1024
}

/// Lets this process, and those that it starts, open as many files as they may.
pub fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(Resource::Nofile, raised).expect("a soft limit may be raised to the hard one");
}
