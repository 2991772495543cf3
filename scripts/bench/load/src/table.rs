//! Medians of many reports as a Markdown table, skep beside etcd.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::args::Mode;
use crate::report::Report;

/// What stands in a row, and the two modes that are compared in it.
const ROWS: [(&str, Mode, Mode); 4] = [
    ("put", Mode::SkepPut, Mode::EtcdPut),
    ("get, present digest", Mode::SkepGetPresent, Mode::EtcdRange),
    ("`/read`", Mode::SkepRead, Mode::EtcdRange),
    ("get, absent digest", Mode::SkepGetAbsent, Mode::EtcdRange),
];

/// The medians of one mode at one number of connections; errors are summed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Medians {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    client_us: f64,
    errors: u64,
}

/// Reads one JSON report a line.
pub fn table_of_file(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let reports = text
        .lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}, line {}: no report", path.display(), number + 1))
        })
        .collect::<anyhow::Result<Vec<Report>>>()?;
    Ok(table(&reports))
}

/// The table.
pub fn table(reports: &[Report]) -> String {
    let mut groups: BTreeMap<(Mode, usize), Vec<&Report>> = BTreeMap::new();
    for report in reports {
        groups.entry((report.mode, report.connections)).or_default().push(report);
    }
    let medians: BTreeMap<_, _> = groups.into_iter().map(|(key, group)| (key, medians(&group))).collect();
    let mut connections: Vec<usize> = medians.keys().map(|(_, connections)| *connections).collect();
    connections.sort_unstable();
    connections.dedup();

    let mut out = String::from(
        "| request | connections | skep /s | etcd /s | ratio | skep p50 / p99 ms | etcd p50 / p99 ms | p99 ratio \
         | client µs skep / etcd | errors skep / etcd |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (name, skep, etcd) in ROWS {
        for &connections in &connections {
            let (skep, etcd) = (medians.get(&(skep, connections)), medians.get(&(etcd, connections)));
            if skep.is_some() || (etcd.is_some() && name == "put") {
                row(&mut out, name, connections, skep, etcd);
            }
        }
    }
    // Where skep was not measured, etcd's reads still have a row.
    if !medians.keys().any(|(mode, _)| ROWS[1..].iter().any(|row| row.1 == *mode)) {
        for &connections in &connections {
            if let Some(etcd) = medians.get(&(Mode::EtcdRange, connections)) {
                row(&mut out, "range", connections, None, Some(etcd));
            }
        }
    }
    out
}

fn row(out: &mut String, name: &str, connections: usize, skep: Option<&Medians>, etcd: Option<&Medians>) {
    let one = |of: Option<&Medians>, show: &dyn Fn(&Medians) -> String| of.map_or("–".into(), show);
    let both = |value: &dyn Fn(&Medians) -> f64, unit: &str| match (skep, etcd) {
        (Some(skep), Some(etcd)) if value(etcd) > 0.0 => format!("{:.2}{unit}", value(skep) / value(etcd)),
        _ => "–".into(),
    };
    let rate = |m: &Medians| format!("{:.0}", m.per_second);
    let latency = |m: &Medians| format!("{:.2} / {:.2}", m.p50_ms, m.p99_ms);
    let client = |m: &Medians| format!("{:.0}", m.client_us);
    let errors = |m: &Medians| m.errors.to_string();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "| {name} | {connections} | {} | {} | {} | {} | {} | {} | {} / {} | {} / {} |",
        one(skep, &rate),
        one(etcd, &rate),
        both(&|m| m.per_second, " ×"),
        one(skep, &latency),
        one(etcd, &latency),
        both(&|m| m.p99_ms, ""),
        one(skep, &client),
        one(etcd, &client),
        one(skep, &errors),
        one(etcd, &errors),
    );
}

fn medians(group: &[&Report]) -> Medians {
    let of = |value: fn(&Report) -> f64| median(group.iter().map(|report| value(report)).collect());
    Medians {
        per_second: of(|report| report.per_second),
        p50_ms: of(|report| report.p50_ms),
        p99_ms: of(|report| report.p99_ms),
        client_us: of(|report| report.client_us),
        errors: group.iter().map(|report| report.error_count()).sum(),
    }
}

/// The middle value, or the mean of the two in the middle; zero of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 1) => values[middle],
        (middle, _) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(mode: Mode, per_second: f64, p99_ms: f64) -> Report {
        Report {
            mode,
            connections: 64,
            targets: 3,
            message_bytes: 100,
            rate: None,
            seconds: 5.0,
            requests: 1,
            per_second,
            p50_ms: 1.0,
            p99_ms,
            max_ms: 9.0,
            errors: [("timeout".to_owned(), 1)].into(),
            client_us: 7.0,
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_row_has_medians_ratios_and_the_sum_of_errors() {
        let reports = [
            report(Mode::SkepPut, 500.0, 2.0),
            report(Mode::SkepPut, 400.0, 4.0),
            report(Mode::SkepPut, 300.0, 9.0),
            report(Mode::EtcdPut, 100.0, 8.0),
        ];
        let table = table(&reports);
        let row = table.lines().nth(2).unwrap();
        assert_eq!(
            row,
            "| put | 64 | 400 | 100 | 4.00 × | 1.00 / 4.00 | 1.00 / 8.00 | 0.50 | 7 / 7 | 3 / 1 |"
        );
    }

    #[test]
    fn one_system_alone_still_has_its_rows() {
        let table = table(&[report(Mode::EtcdPut, 100.0, 8.0), report(Mode::EtcdRange, 200.0, 8.0)]);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("| range | 64 | – | 200 |"), "{table}");
    }
}
