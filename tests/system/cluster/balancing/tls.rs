//! What testssl.sh has to say of the HTTPS port.

use std::process::{Command, Stdio};

use serde_json::Value;

use skep_kit::cluster::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{long, machine_alone, say};
use skep_kit::programs::installed;

/// What comes of the certificate that the balancer made for itself, where it is given none.
const SELF_SIGNED: &[&str] = &[
    "cert_chain_of_trust",
    "cert_trust",
    "cert_crlDistributionPoints",
    "cert_notAfter",
    "cert_revocation",
    "cert_validityPeriod",
    "cert_extlifeSpan",
    "OCSP_stapling",
    "DNS_CAArecord",
    "cert_caIssuers",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testssl_finds_nothing_above_low_but_the_self_signed_certificate() {
    if !long() || !installed("testssl", &["testssl"]) {
        say("left out: testssl takes minutes; it runs with SKEP_TEST_LONG=1 where it is installed");
        return;
    }
    let _machine = machine_alone();
    let cluster = Cluster::ready(3).await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let report = cluster.folder().join("testssl.json");
    let status = Command::new("testssl")
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "min", "--jsonfile"])
        .arg(&report)
        .arg(balancer.https.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("testssl runs");
    let text = std::fs::read_to_string(&report).unwrap_or_else(|error| panic!("{status}: {error}"));
    let findings: Vec<Value> = serde_json::from_str(&text).expect("testssl writes JSON");
    assert!(findings.len() > 100, "{text}");
    // WARN is what testssl could not look at on this machine.
    let severe = findings
        .iter()
        .filter(|it| matches!(it["severity"].as_str(), Some("MEDIUM" | "HIGH" | "CRITICAL" | "FATAL")));
    let text = |it: &&Value| format!("{} {}: {}", it["severity"], it["id"], it["finding"]);
    let (expected, severe): (Vec<&Value>, Vec<&Value>) = severe.partition(|it| {
        it["id"].as_str().is_some_and(|id| SELF_SIGNED.iter().any(|known| id.starts_with(known)))
    });
    let (expected, severe): (Vec<_>, Vec<_>) =
        (expected.iter().map(text).collect(), severe.iter().map(text).collect());
    say(&format!(
        "measure: testssl: {} findings, above LOW: {severe:?}; of the self-signed certificate: {expected:?}",
        findings.len()
    ));
    assert!(severe.is_empty(), "{severe:#?}");
}
