//! The files of `ops/`, and what of them is asked of a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::folders::root;

/// What stands for the dashboard's `$__rate_interval`: several scrapes of [`PACE`].
const RATE_INTERVAL: Duration = Duration::from_secs(4);
/// Between two scrapes, and between two looks at the rules.
const PACE: &str = "500ms";

/// A file or folder of `ops/`.
pub fn path(name: &str) -> PathBuf {
    root().join("ops").join(name)
}

pub fn text(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lays out the configuration for bare hosts, as it is shipped but for its pace and its targets, in
/// `folder`; the rules too, so that what lasts is told after a second.
pub fn lay_out(folder: &Path, nodes: &[String], balancers: &[String], holders: &[String]) -> PathBuf {
    std::fs::create_dir_all(folder.join("targets")).expect("a folder can be made");
    let write =
        |name: &str, text: String| std::fs::write(folder.join(name), text).expect("a file is written");
    let config = replaced(
        &text("prometheus/prometheus-hosts.yml"),
        &["scrape_interval:", "evaluation_interval:"],
        PACE,
    );
    write("prometheus.yml", config);
    write("skep.rules.yml", replaced(&text("prometheus/skep.rules.yml"), &["for:"], "1s"));
    for (name, targets) in [("nodes", nodes), ("balancers", balancers), ("vrrp", holders)] {
        // JSON is YAML.
        write(&format!("targets/{name}.yml"), serde_json::json!([{ "targets": targets }]).to_string());
    }
    folder.join("prometheus.yml")
}

/// Gives every setting of these names this value.
fn replaced(text: &str, names: &[&str], value: &str) -> String {
    let mut count = 0;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        for name in names {
            if line.trim_start().starts_with(name) {
                let indent = line.len() - line.trim_start().len();
                *line = format!("{}{name} {value}", " ".repeat(indent));
                count += 1;
            }
        }
    }
    assert!(count >= names.len(), "{names:?} do not stand in the file");
    lines.join("\n") + "\n"
}

/// Every query of the dashboard with its panel's title, as Grafana would send it.
pub fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("grafana/skep.json")).expect("the dashboard is JSON");
    let rate_interval = format!("{}s", RATE_INTERVAL.as_secs());
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a target has a query");
            let query = query.replace("$cluster", ".*").replace("$__rate_interval", &rate_interval);
            assert!(!query.contains('$'), "a variable that the dashboard does not have: {query}");
            queries.push((panel["title"].as_str().expect("a panel has a title").to_owned(), query));
        }
    }
    assert!(!queries.is_empty());
    queries
}

/// Whether a query is about virtual addresses.
pub fn is_of_addresses(query: &str) -> bool {
    query.contains("skep_balancer_vrrp_")
}

/// Whether a query is about keys that issuers publish, of which no cluster has any that is not told to.
pub fn is_of_issuers(query: &str) -> bool {
    query.contains("skep_balancer_gateway_issuer_")
}

/// The metrics of ours that a query names.
pub fn metrics_of(query: &str) -> BTreeSet<String> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("skep_"))
        .map(str::to_owned)
        .collect()
}

/// The names of all samples of a scrape.
pub fn samples_of(scrape: &str) -> BTreeSet<String> {
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    scrape.lines().filter(|line| !line.starts_with('#')).map(name).collect()
}
