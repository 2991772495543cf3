//! Clients that others wrote, started and judged: wrk and h2load.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A load that runs until its time is over.
pub struct Tool {
    name: &'static str,
    child: Option<Child>,
}

impl Tool {
    fn start(name: &'static str, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { name, child: Some(child.unwrap_or_else(|error| panic!("{name}: {error}"))) }
    }

    /// wrk with a script that says what is asked for.
    pub fn wrk(url: &str, connections: u32, duration: Duration, script: &Path) -> Self {
        // Longer than the balancer's own deadline, so that it is the balancer who gives up first.
        let (connections, duration) = (connections.to_string(), format!("{}s", duration.as_secs()));
        let args = ["-t", "1", "-c", &connections, "-d", &duration, "--timeout", "20s", "--latency"];
        Self::start("wrk", Command::new("wrk").args(args).arg("-s").arg(script).arg(url))
    }

    /// h2load over a few connections, 8 streams on each.
    pub fn h2load(urls: &[String], connections: u32, duration: Duration) -> Self {
        let (connections, duration) = (connections.to_string(), duration.as_secs().to_string());
        let args = ["-t", "1", "-c", &connections, "-m", "8", "-D", &duration];
        Self::start("h2load", Command::new("h2load").args(args).args(urls))
    }

    /// What it printed, once it is over.
    pub async fn finish(mut self) -> String {
        let child = self.child.take().expect("it is finished once");
        let output = tokio::task::spawn_blocking(move || child.wait_with_output());
        let output = output.await.expect("nobody panics").expect("a child can be awaited");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}{}", self.name, String::from_utf8_lossy(&output.stderr));
        text
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Requests that wrk had answered, and what went wrong with others in its words.
pub fn wrk_result(text: &str) -> (u64, Vec<String>) {
    let requests = text.lines().find_map(|line| line.trim().split(" requests in ").next()?.parse().ok());
    let wrong = |line: &&str| line.contains("Non-2xx or 3xx") || line.contains("Socket errors");
    let wrong = text.lines().filter(wrong).map(|line| line.trim().to_owned()).collect();
    (requests.unwrap_or_default(), wrong)
}

/// wrk's 99th percentile.
pub fn wrk_p99(text: &str) -> Duration {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("99%")).expect("wrk printed its p99");
    let text = line.trim();
    let number: f64 = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().expect("a number");
    Duration::from_secs_f64(match text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        _ => number,
    })
}

/// Requests that h2load had answered, and whether each was with 2xx.
pub fn h2load_result(text: &str) -> (u64, Vec<String>) {
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let requests = line("requests:");
    let number = |text: &str, name: &str| {
        let part = text.split(", ").find_map(|part| part.trim().strip_suffix(name))?;
        part.split_whitespace().last()?.parse::<u64>().ok()
    };
    let mut wrong = Vec::new();
    for name in [" failed", " errored", " timeout"] {
        match number(requests, name) {
            Some(0) => {}
            _ => wrong.push(requests.to_owned()),
        }
    }
    let codes = line("status codes:").trim_start_matches("status codes:").to_owned();
    for name in [" 3xx", " 4xx", " 5xx"] {
        if number(&codes, name) != Some(0) {
            wrong.push(codes.clone());
        }
    }
    (number(requests, " succeeded").unwrap_or_default(), wrong)
}
