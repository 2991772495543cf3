//! Which form, and that the plain one is what Prometheus's own tool takes.

use std::io::Write;
use std::process::{Command, Stdio};

use http::header::ACCEPT;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::CounterWithExemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::*;

fn wanted(accept: &str) -> Form {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
    Form::wanted(&headers)
}

#[test]
fn a_scraper_gets_the_form_that_it_prefers() {
    for (accept, form) in [
        // Prometheus 2, and 3.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Form::OpenMetrics,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            Form::OpenMetrics,
        ),
        ("application/openmetrics-text", Form::OpenMetrics),
        ("application/openmetrics-text; version=\"1.0.0\"; charset=utf-8", Form::OpenMetrics),
        ("application/openmetrics-text, text/plain", Form::OpenMetrics),
        ("application/*", Form::OpenMetrics),
        ("text/plain;q=0.3, application/openmetrics-text;q=0.9", Form::OpenMetrics),
        ("text/plain", Form::Plain),
        ("text/plain;version=0.0.4;charset=utf-8", Form::Plain),
        ("text/*, application/openmetrics-text;q=0.5", Form::Plain),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.3", Form::Plain),
        ("application/openmetrics-text;q=0.5, */*;q=0.8", Form::Plain),
        ("application/openmetrics-text;q=0, */*", Form::Plain),
        ("application/openmetrics-text;version=0.0.1", Form::Plain),
        ("*/*", Form::Plain),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Plain),
        ("application/json", Form::Plain),
        ("", Form::Plain),
    ] {
        assert_eq!(wanted(accept), form, "{accept}");
    }
    assert_eq!(Form::wanted(&HeaderMap::new()), Form::Plain);
}

/// One of each kind.
fn registry() -> Registry {
    let mut registry = Registry::with_prefix("p");
    let requests = Family::<Vec<(&str, &str)>, Counter>::default();
    requests.get_or_create(&vec![("path", "/a # \"b\\")]).inc();
    registry.register("requests", "Requests", requests);
    registry.register("open", "Open now", Gauge::<i64>::default());
    let latency = Histogram::new([0.5, 1.0]);
    latency.observe(0.7);
    registry.register_with_unit("latency", "Time", Unit::Seconds, latency);
    registry.register("version", "The version", Info::new(vec![("number", "1")]));
    let traced = CounterWithExemplar::<Vec<(&str, &str)>>::default();
    traced.inc_by(3, Some(vec![("trace", "x")]), None);
    registry.register("traced", "Traced", traced);
    registry.register_collector(Box::new(process::Process::new("1.2.3")));
    registry
}

#[test]
fn the_plain_form_names_counters_as_their_samples_and_has_no_unit_exemplar_or_end() {
    let text = encode(&registry(), Form::Plain).unwrap();
    for lines in [
        "# HELP p_requests_total Requests.\n# TYPE p_requests_total counter\n\
         p_requests_total{path=\"/a # \\\"b\\\\\"} 1\n",
        "# HELP p_open Open now.\n# TYPE p_open gauge\np_open 0\n",
        "# HELP p_latency_seconds Time.\n# TYPE p_latency_seconds histogram\np_latency_seconds_sum 0.7\n",
        "p_latency_seconds_bucket{le=\"+Inf\"} 1\n",
        "# HELP p_version_info The version.\n# TYPE p_version_info gauge\np_version_info{number=\"1\"} 1\n",
        "# TYPE p_traced_total counter\np_traced_total 3\n",
        "# TYPE p_process_cpu_seconds_total counter\np_process_cpu_seconds_total ",
    ] {
        assert!(text.contains(lines), "{lines} is not in:\n{text}");
    }
    assert!(!text.contains("# UNIT") && !text.contains("# EOF") && !text.contains("trace="), "{text}");
    let open = encode(&registry(), Form::OpenMetrics).unwrap();
    assert!(open.contains("# UNIT p_latency_seconds seconds\n") && open.ends_with("# EOF\n"), "{open}");
}

#[test]
fn promtool_has_nothing_to_say_of_the_plain_form() {
    let text = encode(&registry(), Form::Plain).unwrap();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("left out: metrics by promtool: it is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}
