//! A real Prometheus server on the shipped configuration, in this network or in a namespace.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::shipped;
use crate::hosts::lan::{command_in, within};
use crate::hosts::program::ask;
use crate::programs::{installed, logfile};

/// Longer than anything that is waited for takes.
pub const DEADLINE: Duration = Duration::from_secs(60);
const PORT: u16 = 9090;

/// A server; killed when dropped.
pub struct Prometheus {
    child: Child,
    namespace: Option<String>,
    ip: String,
    log: PathBuf,
}

impl Prometheus {
    /// Starts it on a configuration that [`shipped::lay_out`] made.
    pub fn start(namespace: Option<&str>, ip: &str, config: &Path) -> Self {
        let folder = config.parent().expect("a file lies in a folder");
        let log = folder.join("prometheus.log");
        let file = File::create(&log).expect("the log file opens");
        let mut command = match namespace {
            Some(namespace) => command_in(namespace, "prometheus"),
            None => Command::new("prometheus"),
        };
        let child = command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("series").display()))
            .arg(format!("--web.listen-address={ip}:{PORT}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("prometheus starts");
        Self { child, namespace: namespace.map(str::to_owned), ip: ip.to_owned(), log }
    }

    /// `data` of an answer of its API; none while it does not answer.
    fn get(&self, path: &str) -> Option<Value> {
        let (ip, path) = (self.ip.clone(), format!("/api/v1/{path}"));
        let body = match &self.namespace {
            Some(namespace) => within(namespace, move || ask(&ip, PORT, &path)),
            None => ask(&ip, PORT, &path),
        };
        let answer: Value = serde_json::from_str(&body?).ok()?;
        Some(answer["data"].clone())
    }

    /// Whether so many targets are there, and all were scraped well.
    pub fn scrapes(&self, targets: usize) -> bool {
        let Some(data) = self.get("targets?state=active") else { return false };
        let active = data["activeTargets"].as_array().cloned().unwrap_or_default();
        active.len() == targets && active.iter().all(|target| target["health"] == "up")
    }

    /// The values of an instant query that are numbers.
    pub fn query(&self, query: &str) -> Vec<f64> {
        let path = format!("query?query={}", percent_encoded(query));
        let data = self.get(&path).unwrap_or_default();
        let samples = data["result"].as_array().cloned().unwrap_or_default();
        let value = |sample: &Value| sample["value"][1].as_str()?.parse::<f64>().ok();
        samples.iter().filter_map(value).filter(|value| value.is_finite()).collect()
    }

    /// The dashboard's queries among these that have no answer with a number.
    pub fn unanswered<'q>(&self, queries: &'q [(String, String)]) -> Vec<&'q (String, String)> {
        queries.iter().filter(|(_, query)| self.query(query).is_empty()).collect()
    }

    /// The names of the alerts that fire.
    pub fn firing(&self) -> Vec<String> {
        self.alerts(&["firing"]).expect("a running server tells its alerts")
    }

    /// The names of the alerts that fire, or are to do so unless what they tell of ends.
    pub fn active(&self) -> Vec<String> {
        self.alerts(&["firing", "pending"]).expect("a running server tells its alerts")
    }

    fn alerts(&self, states: &[&str]) -> Option<Vec<String>> {
        let alerts = self.get("alerts")?["alerts"].as_array()?.clone();
        let those =
            alerts.iter().filter(|alert| alert["state"].as_str().is_some_and(|is| states.contains(&is)));
        let mut names: Vec<String> =
            those.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    pub fn fires(&self, alert: &str) -> bool {
        self.firing().iter().any(|name| name == alert)
    }

    /// Every rule with its query, once it has been evaluated; a rule that could not be fails the test.
    pub fn rules(&self) -> Vec<(String, String)> {
        let data = self.get("rules").unwrap_or_default();
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        rules
            .map(|rule| {
                assert_ne!(rule["health"], "err", "{rule}");
                let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
                (text("name"), text("query"))
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- alerts that fire: {:?}", self.alerts(&["firing"]));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- prometheus, end of its log:\n{}", logfile::tail(&self.log));
        }
    }
}

/// Has promtool look at a scrape in the plain text format; it must have nothing to say.
pub fn lint(scrape: &str) {
    if !installed("a scrape by promtool", &["promtool"]) {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin.write_all(scrape.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty() && !scrape.is_empty(), "{said}\n{scrape}");
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The shipped dashboard's queries that are about virtual addresses, or those that are not.
pub fn dashboard(of_addresses: bool) -> Vec<(String, String)> {
    let queries = shipped::dashboard_queries().into_iter();
    queries.filter(|(_, query)| shipped::is_of_addresses(query) == of_addresses).collect()
}
