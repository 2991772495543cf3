//! Certificates of the gateway's document: at all balancers at once, and their keys nowhere in clear.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;
use skep_kit::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{write_edge_key, write_key};
use skep_kit::wait::until;
use skep_state::level::Level;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::gateway::{change, first};
use crate::sealed::{backup, figure, files_with, has, is_level, see, token_file};

const NODES: u8 = 3;
/// Longer than anything takes that a test waits for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the answer to a change until it is in force at the last balancer.
const SPREAD_MAX: Duration = Duration::from_secs(5);
const HOST: &str = "shop.test";

struct Made {
    object: String,
    /// A line of the key.
    line: String,
    der: CertificateDer<'static>,
}

fn made() -> Made {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).expect("a certificate can be made");
    let key = made.signing_key.serialize_pem();
    let line = key.lines().nth(1).expect("a key has lines").to_owned();
    let object = json!({ "certificate": made.cert.pem(), "key": key }).to_string();
    Made { object, line, der: made.cert.der().clone() }
}

/// Whether who trusts that certificate alone gets to the shop there.
async fn trusts(https: SocketAddr, it: &Made) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(it.der.clone()).expect("it is a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let Ok(stream) = TcpStream::connect(https).await else { return false };
    let name = ServerName::try_from(HOST).expect("it is a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_shown_by_all_balancers_at_once_its_key_is_in_no_file_and_it_outlives_all() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(u32::from(NODES), &[1, 2, 3]);
    let [nodes, edges] = ["cluster.key", "edge.key"].map(|name| cluster.folder().join(name));
    write_key(&nodes);
    write_edge_key(&nodes, &edges);
    cluster.key_file = Some(nodes);
    let token = token_file(&cluster);
    cluster.args = ["--http-tls", "also", "--level-after", "200ms", "--operator-token-file", &token]
        .map(Into::into)
        .into();
    for node in 1..=NODES {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=NODES {
        is_level(cluster.node(node), Level::CERTIFICATES).await;
    }
    let edges = edges.to_str().expect("a plain path");
    let flags = ["--backend-tls", "cluster", "--cluster-key-file", edges];
    let balancers = [Balancer::start(&cluster, &flags).await, Balancer::start_nth(&cluster, 1, &flags).await];
    let (one, next) = (made(), made());
    first(&cluster, &json!({ "certificates": {} }).to_string()).await;
    for it in [&one, &next] {
        let put = until("it is put", PATIENCE, async || {
            let admin = &cluster.node(2).admin;
            let answer = change(admin, "/gateway/certificates/shop", ("x-any", "1"), &it.object).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        assert!([200, 201].contains(&put.status), "{put:?}");
        let begun = Instant::now();
        for balancer in &balancers {
            until("it is shown", PATIENCE, async || trusts(balancer.https, it).await.then_some(())).await;
        }
        assert!(begun.elapsed() < SPREAD_MAX, "{:?}", begun.elapsed());
    }
    assert!(!trusts(balancers[0].https, &one).await);

    let shown = until("it is seen", PATIENCE, async || see(cluster.node(3), "/gateway").await).await.text();
    assert!(shown.contains("\"sealed:") && shown.contains("BEGIN CERTIFICATE"), "{shown}");
    let lines = [&*one.line, &*next.line];
    for node in 1..=NODES {
        let backup = backup(cluster.node(node)).await;
        assert!(has(&backup, "sealed1:") && lines.iter().all(|line| !has(&backup, line)), "node {node}");
        let data = &cluster.node(node).settings.data;
        assert!(files_with(data, &lines).is_empty(), "{:?}", files_with(data, &lines));
        assert_eq!(figure(cluster.node(node), "skep_gateway_secrets_open").await, Some(0.0));
        assert!(lines.iter().all(|line| !cluster.node(node).log_text().contains(line)));
    }
    for balancer in &balancers {
        assert!(lines.iter().all(|line| !balancer.log_text().contains(line)));
        let told = balancer.admin.send(Method::GET, "/metrics", &[], "".into()).await.expect("it answers");
        assert!(told.text().contains("{certificate=\"document:shop\"}"), "{}", told.text());
    }

    drop(balancers);
    cluster.kill_all();
    for node in 1..=NODES {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let balancers = [Balancer::start(&cluster, &flags).await, Balancer::start_nth(&cluster, 1, &flags).await];
    for balancer in &balancers {
        until("it is shown", PATIENCE, async || trusts(balancer.https, &next).await.then_some(())).await;
    }
}
