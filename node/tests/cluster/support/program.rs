//! The program run once, as an operator or a mistaken configuration would.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// `skep-node` with nothing from the tests' own environment that it would read.
pub fn command() -> Command {
    // Another build of the program, such as the release's, can be put to the same tests.
    let path = std::env::var_os("SKEP_TEST_PROGRAM").map_or_else(built, PathBuf::from);
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SKEP_") {
            command.env_remove(name);
        }
    }
    let level = std::env::var("SKEP_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
    command.env("SKEP_LOG", level).env("RUST_BACKTRACE", "1");
    command
}

/// The program as it was built: by cargo for the node's own tests; for others that use this harness,
/// from beside the folder of their own program.
fn built() -> PathBuf {
    if let Some(path) = option_env!("CARGO_BIN_EXE_skep-node") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a running program has a path");
    let path = own.ancestors().nth(2).map(|folder| folder.join("skep-node")).unwrap_or_default();
    assert!(path.exists(), "{} is missing: cargo build -p skep-node", path.display());
    path
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
        .expect("skep-node starts");
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
    let mut command = command();
    command.args(args).env("SKEP_ADMIN", admin.to_string());
    run_to_end(&mut command, "", Duration::from_secs(30))
}

/// Writes a fresh cluster key to `path`.
pub fn write_key(path: &Path) {
    let ended = run_to_end(command().arg("keygen"), "", Duration::from_secs(10));
    assert_eq!(ended.code, Some(0), "keygen: {ended:?}");
    std::fs::write(path, ended.stdout).expect("the key file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("the key file's mode can be set");
}

/// A helper program of the system, which must succeed.
pub fn system(program: &str, args: &[&str]) {
    let Output { status, stderr, .. } =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {args:?}: {status} {}", String::from_utf8_lossy(&stderr));
}
