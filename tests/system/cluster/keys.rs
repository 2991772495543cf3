//! Keys by need: nodes with the cluster key, a balancer with the edge key alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::clients::http::Client;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, run_to_end, write_edge_key, write_key};
use skep_kit::wait::until;
use skep_members::gossip::wire::{self, Body, ChitchatId, Delta, Digest, Digests, Key, Message, Status};
use skep_members::key::{Form, KeyRing};
use skep_members::seal::Sealer;

const PATIENCE: Duration = Duration::from_secs(20);

/// A key's file in the cluster's folder.
fn key_in(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.folder().join(name);
    write_key(&path);
    path
}

fn edge_key_of(key: &Path) -> PathBuf {
    let path = key.with_extension("edge");
    write_edge_key(key, &path);
    path
}

/// Datagrams that a program took for a stranger's.
async fn strangers(admin: &Client, program: &str) -> u64 {
    let metrics = admin.get("/metrics").await.expect("an answer").text();
    let name = format!("{program}_gossip_datagrams_dropped_total{{reason=\"unknown_key\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_with_the_edge_key_alone_follows_the_nodes() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let key = key_in(&cluster, "cluster.key");
    let edge = edge_key_of(&key);
    cluster.key_file = Some(key);
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let balancer = Balancer::start(&cluster, &["--cluster-key-file", edge.to_str().unwrap()]).await;
    balancer.client.put("through the edge").await;
    assert!(!balancer.log_text().contains("the cluster key itself"), "{}", balancer.log_text());

    // What a node says of itself comes from it at once: it serves no more before it is gone.
    let leaver = cluster.node(3).http.address;
    cluster.node_mut(3).stop().await;
    until("the balancer has heard of it", PATIENCE, async || {
        let backend = balancer.backend(leaver).await;
        backend.is_none_or(|backend| backend["serving"] == false).then_some(())
    })
    .await;
    // One that starts again speaks to the edge before it has heard from it.
    cluster.start(3).wait_ready().await;
    until("the balancer serves from it again", PATIENCE, async || {
        balancer.backend(leaver).await.filter(|backend| backend["serving"] == true).map(drop)
    })
    .await;
    balancer.client.put("through all again").await;
    for node in 1..=3 {
        assert_eq!(strangers(&cluster.node(node).admin, "skep").await, 0, "node {node}");
    }
    assert_eq!(strangers(&balancer.admin, "skep_balancer").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_with_the_edge_key_alone_is_let_in_where_nodes_take_tls_alone() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let key = key_in(&cluster, "cluster.key");
    let edge = edge_key_of(&key);
    cluster.key_file = Some(key.clone());
    cluster.args = vec!["--http-tls".into(), "only".into()];
    cluster.start(1).wait_ready().await;
    for (file, words) in [(&edge, "with the edge key"), (&key, "with the cluster key")] {
        let tls = ["--backend-tls", "cluster", "--cluster-key-file", file.to_str().unwrap()];
        let balancer = Balancer::start(&cluster, &tls).await;
        balancer.client.put(words).await;
        until("its checks go through as well", PATIENCE, async || {
            let backend = balancer.backend(cluster.node(1).http.address).await?;
            (backend["probe"] == "up").then_some(())
        })
        .await;
    }
}

/// What the library that gossips would end the process by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_an_edge_says_in_gossip_ends_a_node() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let key = key_in(&cluster, "cluster.key");
    let edge = std::fs::read_to_string(edge_key_of(&key)).unwrap();
    cluster.key_file = Some(key);
    cluster.start(1).wait_ready().await;
    let node = cluster.node(1);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sealer = Sealer::new(&KeyRing::parse(&edge).unwrap()).unwrap();
    let mut say = |body| {
        let message = wire::write(&Message { digests: Digests::Streamed, body });
        socket.send_to(&sealer.seal(Form::Edge, &message).unwrap(), node.peer_address()).unwrap();
    };
    // Of others an edge says nothing that is taken.
    let here = socket.local_addr().unwrap();
    let invented = || ChitchatId::new("00000000000000ab", 1, here);
    until("the node has left out what was said", PATIENCE, async || {
        let digest = vec![Digest { id: invented(), heartbeat: 1, floor: 0, version: 0 }];
        say(Body::Syn { digest, gossip: "skep".into() });
        let draining = Key { key: "t".into(), value: "draining".into(), version: 9, status: Status::Set };
        // One that falls behind its own keys, and one that counts beyond the last number.
        say(Body::Ack { delta: vec![delta(invented(), vec![draining.clone()], Some(3))] });
        say(Body::Ack { delta: vec![delta(invented(), vec![Key { version: u64::MAX, ..draining }], None)] });
        let metrics = node.admin.get("/metrics").await.ok()?.text();
        let of =
            |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let dropped = of("skep_gossip_datagrams_dropped_total{reason=\"undecodable\"} ")?;
        (of("skep_gossip_left_out_total ")? >= 1.0 && dropped >= 1.0).then_some(())
    })
    .await;
    node.http.put("still there").await;
}

fn delta(id: ChitchatId, keys: Vec<Key>, version: Option<u64>) -> Delta {
    Delta { id, floor: 0, from: 0, keys, version }
}

/// It has heard no proof yet: who is a member it has in its folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_again_takes_nothing_from_an_edge_in_the_name_of_a_member() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let key = key_in(&cluster, "cluster.key");
    let edge = KeyRing::parse(&std::fs::read_to_string(edge_key_of(&key)).unwrap()).unwrap();
    cluster.key_file = Some(key);
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let member = cluster.node(2).wait_status().await.node_id;
    cluster.kill_all();
    cluster.start(1);
    let node = cluster.node(1);
    node.wait_status().await;
    let counted = async |name: &str| {
        let metrics = node.admin.get("/metrics").await.expect("an answer").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sealer = Sealer::new(&edge).unwrap();
    // One who may be an edge, then one who says that it is a member.
    for says_to_be in ["00000000000000ab", member.as_str()] {
        let id = ChitchatId::new(says_to_be, u64::MAX, socket.local_addr().unwrap());
        let digest = vec![Digest { id, heartbeat: 1 << 39, floor: 0, version: 0 }];
        let body = Body::Syn { digest, gossip: "skep".into() };
        let message = wire::write(&Message { digests: Digests::Streamed, body });
        socket.send_to(&sealer.seal(Form::Edge, &message).unwrap(), node.peer_address()).unwrap();
    }
    until("both were heard", PATIENCE, async || {
        let both = counted("skep_gossip_datagrams_received_total ").await >= 2.0;
        (both && counted("skep_gossip_left_out_total ").await >= 1.0).then_some(())
    })
    .await;
    assert!(counted("skep_gossip_left_out_total ").await < 2.0, "who may be an edge was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_for_all_works_and_the_balancer_says_what_would_be_enough() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let key = key_in(&cluster, "cluster.key");
    cluster.key_file = Some(key.clone());
    cluster.start(1).wait_ready().await;
    let balancer = Balancer::start(&cluster, &["--cluster-key-file", key.to_str().unwrap()]).await;
    balancer.client.put("with one key").await;
    let log = balancer.log_text();
    assert!(log.contains("the cluster key itself") && log.contains("skep-node edge-key"), "{log}");
    let key = std::fs::read_to_string(&key).unwrap();
    assert!(!log.contains(key.trim().trim_start_matches("skep1:")));
}

#[test]
fn a_node_that_has_the_edge_key_alone_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("cluster.key");
    write_key(&key);
    let edge = edge_key_of(&key);
    let data = folder.path().join("data");
    let mut node = programs::node();
    node.arg("--cluster-key-file").arg(&edge).arg("--data").arg(&data);
    let ended = run_to_end(&mut node, "", PATIENCE);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--cluster-key-file") && ended.stderr.contains("edge key"), "{ended:?}");
    assert!(!data.exists());
}

#[test]
fn the_edge_key_is_the_same_from_a_file_standard_input_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("cluster.key");
    write_key(&key);
    let text = std::fs::read_to_string(&key).unwrap();
    let by_file = run_to_end(programs::node().arg("edge-key").arg(&key), "", PATIENCE);
    let by_input = run_to_end(programs::node().args(["edge-key", "-"]), &text, PATIENCE);
    let by_env =
        run_to_end(programs::node().arg("edge-key").env("SKEP_CLUSTER_KEY_FILE", &key), "", PATIENCE);
    assert!(by_file.code == Some(0) && by_file.stdout.starts_with("skep1-edge:"), "{by_file:?}");
    for other in [by_input, by_env] {
        assert_eq!((other.code, &other.stdout), (Some(0), &by_file.stdout), "{other:?}");
    }
}
