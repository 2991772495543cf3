//! Clients that are slow on purpose (slowhttptest), while honest ones go on being served.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::interval;

use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{count, expect_under, machine_alone, measured, quantile, say};
use skep_kit::programs::installed;

/// An honest client may wait this long, at the 99th percentile.
const HONEST_P99_MAX: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_are_served_while_slow_ones_hold_what_they_can() {
    if !installed("slow clients", &["slowhttptest"]) {
        return;
    }
    let _machine = machine_alone();
    skep_kit::programs::raise_file_limit();
    let connections = count("500", "2000");
    let seconds = count(8, 40).to_string();
    let cluster = Cluster::ready(3).await;
    // Large enough for a slow reader to be slow at.
    let (digest, _) = cluster.node(1).http.put(&"x".repeat(200_000)).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let url = format!("http://{}/messages/{digest}", balancer.http);
    for (what, args) in [
        ("slow headers", &["-H", "-i", "5", "-t", "GET"][..]),
        ("slow body", &["-B", "-i", "5", "-s", "8192", "-t", "POST"]),
        ("slow read", &["-X", "-w", "1", "-y", "16", "-n", "2", "-z", "8", "-k", "3"]),
    ] {
        let mut tool = Command::new("slowhttptest")
            .args(args)
            .args(["-c", connections, "-r", "500", "-l", &seconds, "-p", "3", "-u", &url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("slowhttptest starts");
        let honest = balancer.client.with_timeout(Duration::from_secs(20));
        let (mut times, mut open) = (Vec::new(), 0);
        let mut pace = interval(Duration::from_millis(20));
        while tool.try_wait().expect("a child can be awaited").is_none() {
            pace.tick().await;
            let begun = Instant::now();
            let answer =
                honest.get(&format!("/messages/{digest}")).await.expect("an honest client is served");
            assert_eq!(answer.status, 200, "{what}");
            times.push(begun.elapsed());
            // A new connection, too: those that are held must not keep it out.
            let begun = Instant::now();
            let fresh = honest.with_timeout(Duration::from_secs(20));
            assert_eq!(fresh.get("/-/ready").await.expect("a new client is served").status, 200, "{what}");
            times.push(begun.elapsed());
            open = open.max(open_connections(&balancer).await);
        }
        let p99 = quantile(&times, 0.99);
        say(&format!("measure: {what}: {open} connections at most, honest p99 {p99:.1?} of {}", times.len()));
        measured(&format!("an honest request beside {what}"), &times);
        expect_under(what, p99, HONEST_P99_MAX);
    }
}

async fn open_connections(balancer: &Balancer) -> u64 {
    let text = balancer.admin.get("/metrics").await.map(|answer| answer.text()).unwrap_or_default();
    let open = text.lines().find_map(|line| line.strip_prefix("skep_balancer_connections "));
    open.and_then(|number| number.trim().parse::<f64>().ok()).unwrap_or_default() as u64
}
