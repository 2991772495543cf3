//! A task is done by a program: its payload on stdin, its result on stdout.
//!
//! The program has an environment of its own (PATH, HOME, LANG, TZ, and what it is told of the task), no
//! descriptor of this process, and a process group, which is ended as a whole: first by SIGTERM, then by
//! SIGKILL.

mod descriptors;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    ERROR_BYTES_MAX, LATER, Outcome, RESULT_BYTES_MAX, end_of, over, result, too_large, took_too_long,
};
use crate::api::Task;

/// Statuses that mean something, as in sysexits(3): EX_DATAERR, EX_TEMPFAIL.
const NO_TRY_WILL_HELP: i32 = 65;
const COME_BACK: i32 = 75;
/// Between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// What a program leaves behind may hold its output open for so long.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// What a program gets of this one's environment.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

pub use descriptors::keep as keep_descriptors;

pub async fn run(command: &[String], task: &Task, stop: &CancellationToken) -> Outcome {
    let mut group = match start(command, task) {
        Ok(child) => Group::of(child),
        Err(error) => return Outcome::failed(format!("{:?} cannot be started: {error}", command[0])),
    };
    let (stdin, stdout, stderr) =
        (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let give = async {
        // One that reads none of it, or ends early, may do so.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(task.payload.get().as_bytes()).await;
        }
    };
    // What is read is kept also where what reads it is given up.
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = {
        let read = async {
            tokio::join!(give, head_of(stdout, &mut out), tail_of(stderr, &mut err));
        };
        tokio::pin!(read);
        let time_is_over = over(task);
        tokio::pin!(time_is_over);
        let mut all_read = false;
        let ended = loop {
            tokio::select! {
                () = &mut read, if !all_read => all_read = true,
                ended = group.child.wait() => break Ended::Itself(ended),
                () = stop.cancelled() => break Ended::Stopped,
                () = &mut time_is_over => break Ended::OverTime,
            }
        };
        if !matches!(ended, Ended::Itself(_)) {
            group.end().await;
        }
        if !all_read {
            let _ = timeout(OUTPUT_GRACE, read).await;
        }
        ended
    };
    let said = String::from_utf8_lossy(&err).into_owned();
    let said = end_of(said.trim());
    match ended {
        Ended::Stopped => Outcome::Stopped,
        Ended::OverTime => Outcome::failed(format!("{}; {said}", took_too_long(task))),
        Ended::Itself(Err(error)) => Outcome::failed(format!("it is not known how it ended: {error}")),
        Ended::Itself(Ok(status)) => outcome(status, &out, said),
    }
}

/// How a program came to its end.
enum Ended {
    Itself(io::Result<ExitStatus>),
    Stopped,
    OverTime,
}

fn outcome(status: ExitStatus, out: &[u8], said: &str) -> Outcome {
    match status.code() {
        Some(0) if out.len() > RESULT_BYTES_MAX => too_large(),
        Some(0) => result(out),
        Some(COME_BACK) => Outcome::Later(LATER),
        code => {
            let why = if said.is_empty() { String::new() } else { format!(": {said}") };
            let error = end_of(&format!("{status}{why}")).to_owned();
            Outcome::Failed { error, is_final: code == Some(NO_TRY_WILL_HELP) }
        }
    }
}

fn start(command: &[String], task: &Task) -> io::Result<Child> {
    let mut program = Command::new(&command[0]);
    program
        .args(&command[1..])
        .env_clear()
        .envs(PASSED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("SKEP_TASK_ID", &task.id)
        .env("SKEP_TASK_QUEUE", &task.queue)
        .env("SKEP_TASK_KIND", &task.kind)
        .env("SKEP_TASK_TRY", task.try_number.to_string())
        .env("SKEP_TASK_LOST", task.lost.to_string())
        .env("SKEP_TASK_FENCE", task.fence.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// A program and what it started; dropping it ends them at once, also what has outlived the program.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
    }

    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if timeout(TERM_GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Reads all, and keeps as much as a result may have and a byte.
async fn head_of(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut source) = source else { return };
    let mut piece = vec![0; 8 * 1024];
    while let Ok(n @ 1..) = source.read(&mut piece).await {
        let room = (RESULT_BYTES_MAX + 1).saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..n.min(room)]);
    }
}

/// Reads all, and keeps the end.
async fn tail_of(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut source) = source else { return };
    let mut piece = vec![0; ERROR_BYTES_MAX];
    while let Ok(n @ 1..) = source.read(&mut piece).await {
        kept.extend_from_slice(&piece[..n]);
        let over = kept.len().saturating_sub(ERROR_BYTES_MAX);
        kept.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::value::RawValue;

    use super::*;

    fn task(payload: &str, timeout: f64) -> Task {
        Task {
            id: "an-id".into(),
            fence: 7,
            queue: "q".into(),
            kind: "k".into(),
            payload: RawValue::from_string(payload.into()).unwrap(),
            try_number: 2,
            lost: 1,
            timeout: Some(timeout),
        }
    }

    async fn sh(script: &str, timeout: f64) -> Outcome {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, &task("{\"n\":1}", timeout), &CancellationToken::new()).await
    }

    fn done(outcome: Outcome) -> String {
        match outcome {
            Outcome::Done(raw) => raw.get().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn failed(outcome: Outcome) -> (String, bool) {
        match outcome {
            Outcome::Failed { error, is_final } => (error, is_final),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_payload_comes_on_stdin_and_the_result_goes_to_stdout() {
        assert_eq!(done(sh("cat", 0.0).await), "{\"n\":1}");
        let told = "echo $SKEP_TASK_ID $SKEP_TASK_QUEUE $SKEP_TASK_KIND $SKEP_TASK_TRY $SKEP_TASK_LOST $SKEP_TASK_FENCE";
        assert_eq!(done(sh(told, 0.0).await), "\"an-id q k 2 1 7\"");
        assert_eq!(done(sh("exit 0", 0.0).await), "null");
    }

    #[tokio::test]
    async fn a_program_has_nothing_of_this_processs_environment_but_its_path_and_place() {
        let names = done(sh("env | cut -d= -f1 | grep -v SKEP_TASK | tr '\\n' ' '", 0.0).await);
        for name in names.trim_matches('"').split_whitespace() {
            // A shell sets the last three itself.
            let known = ["PATH", "HOME", "LANG", "TZ", "PWD", "SHLVL", "_", "OLDPWD"];
            assert!(known.contains(&name), "{name}");
        }
        // stdin, stdout, stderr, and the folder that is read; and what this process was itself started with.
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let count = "ls /proc/self/fd | wc -l";
        let mut plain = std::process::Command::new("sh");
        let plain = plain.args(["-c", count]).stdin(std::process::Stdio::null()).output().unwrap();
        let plain = String::from_utf8(plain.stdout).unwrap();
        let open = done(sh(count, 0.0).await);
        assert_eq!(open.trim(), plain.trim());
        drop(file);
    }

    #[tokio::test]
    async fn statuses_tell_whether_another_try_helps() {
        let (error, is_final) = failed(sh("echo no luck >&2; exit 1", 0.0).await);
        assert!(error.contains("no luck") && !is_final, "{error}");
        assert!(failed(sh("exit 65", 0.0).await).1);
        assert!(matches!(sh("exit 75", 0.0).await, Outcome::Later(_)));
        assert!(failed(sh("kill -9 $$", 0.0).await).0.contains("signal"));
        let missing = run(&["/does/not/exist".to_owned()], &task("1", 0.0), &CancellationToken::new()).await;
        assert!(failed(missing).0.contains("/does/not/exist"));
        let large = failed(sh("head -c 300000 /dev/zero | tr '\\0' x", 0.0).await).0;
        assert!(large.contains("larger"), "{large}");
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_or_is_stopped_ends_with_all_that_it_started() {
        let begun = Instant::now();
        // What it starts holds its output open.
        let (error, _) = failed(sh("sleep 600 & echo begun >&2; sleep 600", 2.5).await);
        assert!(error.contains("longer than 2.5 s") && error.contains("begun"), "{error}");
        assert!(begun.elapsed() < TERM_GRACE + Duration::from_secs(2), "{:?}", begun.elapsed());
        let stop = CancellationToken::new();
        let command = ["sh", "-c", "trap '' TERM; sleep 600"].map(str::to_owned);
        let task = task("1", 0.0);
        let (outcome, ()) = tokio::join!(run(&command, &task, &stop), async { stop.cancel() });
        assert!(matches!(outcome, Outcome::Stopped));
    }
}
