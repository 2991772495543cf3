//! A real Prometheus on a network with two holders of a virtual address.

use skep_kit::effort::machine_alone;
use skep_kit::folders::scratch;
use skep_kit::hosts::lan::Lan;
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::program::{Program, start_holder};
use skep_kit::monitoring::prometheus::{Prometheus, dashboard, lint};
use skep_kit::monitoring::shipped;
use skep_kit::programs::installed;
use skep_kit::wait::{PATIENCE, wait_for};

/// The client host's address.
const CLIENT: &str = "10.78.0.250";
const ADMIN: u16 = 9402;

fn holder(lan: &Lan, at: usize, more: &[&str]) -> Program {
    let (admin, priority) = (format!("10.78.0.{}:{ADMIN}", 11 + at), (200 - at).to_string());
    // Prometheus is on another host.
    let key = [("SKEP_CLUSTER_KEY", skep_kit::hosts::program::KEY)];
    let more = [&["--admin", &*admin][..], more].concat();
    start_holder(lan, at, "10.78.0.100/24", &priority, &more, &key)
}

fn scrape(holder: &Program, at: usize) -> String {
    let ip = format!("10.78.0.{}", 11 + at);
    let text = skep_kit::hosts::lan::within(&holder.namespace, move || {
        skep_kit::hosts::program::ask(&ip, ADMIN, "/metrics")
    });
    text.unwrap_or_default()
}

#[test]
fn an_address_that_nobody_or_that_two_hold_fires_and_one_that_is_held_gives_data_and_no_alert() {
    const WHAT: &str = "alerts of virtual addresses";
    if !installed(WHAT, &["prometheus"]) || !possible(WHAT, &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let folder = tempfile::Builder::new().prefix("alerts-").tempdir_in(scratch());
    let folder = folder.expect("a folder can be made");
    let admins: Vec<String> = (0..2).map(|at| format!("10.78.0.{}:{ADMIN}", 11 + at)).collect();
    let config = shipped::lay_out(folder.path(), &[], &[], &admins);
    let mut holders = [holder(&lan, 0, &[]), holder(&lan, 1, &[])];
    let prometheus = Prometheus::start(Some(&lan.client()), CLIENT, &config);
    wait_for("both are scraped", PATIENCE, || prometheus.scrapes(2));

    let queries = dashboard(true);
    wait_for("each query has an answer", PATIENCE, || prometheus.unanswered(&queries).is_empty());
    let text = scrape(&holders[0], 0);
    lint(&text);
    let there = shipped::samples_of(&text);
    for (name, query) in prometheus.rules().iter().chain(&queries) {
        if shipped::is_of_addresses(query) {
            let missing: Vec<_> = shipped::metrics_of(query).difference(&there).cloned().collect();
            assert!(missing.is_empty(), "{name} asks for {missing:?}, which the holder does not have");
        }
    }
    let of_addresses = ["SkepNoActive", "SkepSeveralActive"];
    wait_for("one holds it", PATIENCE, || !of_addresses.iter().any(|alert| prometheus.fires(alert)));
    assert_eq!(prometheus.query("sum(skep_balancer_vrrp_active)"), [1.0]);

    // Each speaks to somebody who is not there.
    for (at, place) in holders.iter_mut().enumerate() {
        place.stop();
        *place = holder(&lan, at, &["--vrrp-peers", "10.78.0.99"]);
    }
    wait_for("SkepSeveralActive fires", PATIENCE, || prometheus.fires("SkepSeveralActive"));

    // What each follows is not there.
    for (at, place) in holders.iter_mut().enumerate() {
        place.stop();
        *place = holder(&lan, at, &["--track", "tcp://127.0.0.1:1"]);
    }
    wait_for("SkepNoActive fires", PATIENCE, || prometheus.fires("SkepNoActive"));
    assert!(!prometheus.fires("SkepSeveralActive"));
}
