//! The program run once, as an operator or a mistaken configuration would.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
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
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let read_stdout = std::thread::spawn(move || read_all(&mut stdout));
    let read_stderr = std::thread::spawn(move || read_all(&mut stderr));
    let end = Instant::now() + deadline;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be awaited") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            let text = format!("{}{}", join(read_stdout), join(read_stderr));
            panic!("{command:?} did not end within {deadline:?}:\n{text}");
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the tick of waiting for another process, with a deadline"
        )]
        std::thread::sleep(super::wait::TICK);
    };
    Ended { code: status.code(), stdout: join(read_stdout), stderr: join(read_stderr) }
}

fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn join(thread: std::thread::JoinHandle<String>) -> String {
    thread.join().expect("a reader does not panic")
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
