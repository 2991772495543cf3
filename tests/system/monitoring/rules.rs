//! promtool's word on the configuration and the rules.

use std::process::Command;

use skep_kit::monitoring::shipped;
use skep_kit::programs::installed;

fn promtool(args: &[&str]) {
    // Rules and targets are named relative to the files.
    let output = Command::new("promtool").args(args).current_dir(shipped::path("prometheus")).output();
    let output = output.expect("promtool runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}: {out}{err}");
}

#[test]
fn prometheus_takes_the_shipped_configurations() {
    if installed("the scrape configurations", &["promtool"]) {
        promtool(&["check", "config", "prometheus.yml", "prometheus-hosts.yml"]);
    }
}

#[test]
fn each_alert_fires_where_it_should_and_nowhere_else() {
    if installed("the alert rules", &["promtool"]) {
        promtool(&["check", "rules", "skep.rules.yml"]);
        promtool(&["test", "rules", "skep.rules.test.yml"]);
    }
}

#[test]
fn no_alert_is_without_a_test() {
    let (rules, tests) =
        (shipped::text("prometheus/skep.rules.yml"), shipped::text("prometheus/skep.rules.test.yml"));
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!names.is_empty());
    for name in names {
        let fires = tests.lines().any(|line| line.trim() == format!("alertname: {name}"));
        let rests = tests.contains(&format!("alertname: {name}, exp_alerts: []"));
        assert!(fires && rests, "{name}: fires in a test: {fires}, does not in another: {rests}");
    }
}
