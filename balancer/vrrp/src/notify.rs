//! Runs the operator's command on each change of state.
//!
//! One task, which runs one command after another in the order of the changes; it ends with the
//! sender. A command that takes too long is killed.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;

/// Changes that wait for the command; beyond that they are left out, and the log says so.
const QUEUE_MAX: usize = 64;
/// Time for one run.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A change, as the command is told.
#[derive(Debug)]
pub struct Notice {
    pub state: &'static str,
    pub reason: String,
    pub vrid: u8,
    pub family: &'static str,
    pub interface: String,
    pub addresses: String,
    pub priority: u8,
}

/// Where changes are told.
#[derive(Debug, Clone)]
pub struct Notifier(Option<mpsc::Sender<Notice>>);

impl Notifier {
    /// Starts the task, where there is a command. Must be called within a runtime.
    pub fn start(command: Option<String>) -> Self {
        let Some(command) = command else { return Self(None) };
        let (sender, mut receiver) = mpsc::channel::<Notice>(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(notice) = receiver.recv().await {
                run(&command, &notice).await;
            }
        });
        Self(Some(sender))
    }

    pub fn tell(&self, notice: Notice) {
        let Some(sender) = &self.0 else { return };
        if sender.try_send(notice).is_err() {
            tracing::warn!("the notify command is too slow: a change was not told");
        }
    }
}

/// The words of the command, then state, VRID and family; the rest by environment.
async fn run(command: &str, notice: &Notice) {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return };
    let child = Command::new(program)
        .args(words)
        .args([notice.state, &notice.vrid.to_string(), notice.family])
        .env("SKEP_VRRP_STATE", notice.state)
        .env("SKEP_VRRP_REASON", &notice.reason)
        .env("SKEP_VRRP_VRID", notice.vrid.to_string())
        .env("SKEP_VRRP_FAMILY", notice.family)
        .env("SKEP_VRRP_INTERFACE", &notice.interface)
        .env("SKEP_VRRP_ADDRESSES", &notice.addresses)
        .env("SKEP_VRRP_PRIORITY", notice.priority.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(TIMEOUT, child).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(program, %status, "the notify command failed"),
        Ok(Err(error)) => tracing::error!(program, %error, "the notify command cannot be run"),
        Err(_) => tracing::warn!(program, seconds = TIMEOUT.as_secs(), "the notify command was killed"),
    }
}
