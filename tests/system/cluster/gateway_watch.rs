//! The watch of the gateway's document, as balancers have it: at nodes with no more flags than they need, through the death of a
//! leader and a lost quorum; and what a client gets of it by way of a balancer.

use std::io;
use std::time::Duration;

use skep_gateway::told::{Told, WATCH_PATH};
use skep_kit::Cluster;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::{PATIENCE, until};
use skep_members::key::KeyRing;
use skep_members::tls::nodes_tls;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::{READER, change, cluster, first};

/// For the head of an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

struct Watch(BufReader<TlsStream<TcpStream>>);

/// Asks for a watch; the answer's status line and what follows.
async fn ask(cluster: &Cluster, node: u8) -> io::Result<(String, Watch)> {
    let tls = nodes_tls(&KeyRing::insecure_loopback()).expect("the key makes certificates").for_http();
    let stream = TcpStream::connect(cluster.node(node).http.address).await?;
    let stream = TlsConnector::from(tls.client).connect(tls.server_name, stream).await?;
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("GET {WATCH_PATH} HTTP/1.1\r\nhost: node\r\n\r\n").as_bytes()).await?;
    let mut status = String::new();
    stream.read_line(&mut status).await?;
    let mut field = String::new();
    while stream.read_line(&mut field).await? > 2 {
        field.clear();
    }
    Ok((status, Watch(stream)))
}

/// A watch, once the node takes one.
async fn listening(cluster: &Cluster, node: u8) -> Watch {
    until("the node takes a watch", PATIENCE, async || {
        match timeout(HEAD_TIMEOUT, ask(cluster, node)).await {
            Ok(Ok((status, watch))) if status.starts_with("HTTP/1.1 200 ") => Some(watch),
            _ => None,
        }
    })
    .await
}

impl Watch {
    /// The next line; none at its end.
    async fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut size = String::new();
            self.0.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk).await.ok()?;
            line.extend_from_slice(&chunk[..size]);
        }
        Some(line)
    }

    /// Reads until this document is told; none where it ends before.
    async fn told(&mut self, wanted: &str) -> Option<u64> {
        loop {
            let line = self.line().await?;
            match Told::decode(&line).expect("a line of the watch") {
                Told::State { revision, document: Some(document), .. } if document == wanted => {
                    return Some(revision);
                }
                Told::State { .. }
                | Told::Beat { .. }
                | Told::Shifts { .. }
                | Told::Purges { .. }
                | Told::Other => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_through_the_death_of_the_leader() {
    let _machine = machine_shared();
    let mut cluster = cluster(3).await;
    first(&cluster, READER).await;
    let leader = cluster.leader().await;
    let node = (1..=3).find(|node| *node != leader).expect("there are three");
    let mut watch = listening(&cluster, node).await;
    assert_eq!(timeout(PATIENCE, watch.told(READER)).await, Ok(Some(1)));

    cluster.node_mut(leader).kill();
    let changed = READER.replace("/read", "/changed");
    let admin = &cluster.node(node).admin;
    until("it is changed", PATIENCE, async || {
        let answer = change(admin, "/gateway", ("if-match", "*"), &changed).await;
        assert!(matches!(answer.status, 200 | 412 | 503), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    // Where the election took longer than a watch goes on without a leader, it is asked for again.
    let telling = async {
        loop {
            match watch.told(&changed).await {
                Some(revision) => break revision,
                None => watch = listening(&cluster, node).await,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, telling).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_quorum_ends_its_watches_and_takes_none_until_there_is_one() {
    let _machine = machine_shared();
    let mut cluster = cluster(3).await;
    first(&cluster, READER).await;
    let mut watch = listening(&cluster, 1).await;
    assert_eq!(timeout(PATIENCE, watch.told(READER)).await, Ok(Some(1)));

    for node in [2, 3] {
        cluster.node_mut(node).kill();
    }
    let ending = async { while watch.line().await.is_some() {} };
    timeout(PATIENCE, ending).await.expect("it is told for ever that a node without a quorum is there");
    let (status, _) = timeout(PATIENCE, ask(&cluster, 1)).await.expect("in time").expect("an answer");
    assert!(status.starts_with("HTTP/1.1 503 "), "{status}");

    for node in [2, 3] {
        cluster.start(node);
    }
    let mut watch = listening(&cluster, 1).await;
    assert_eq!(timeout(PATIENCE, watch.told(READER)).await, Ok(Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gets_no_watch_by_way_of_a_balancer_that_has_a_key() {
    let _machine = machine_shared();
    let cluster = cluster(1).await;
    first(&cluster, READER).await;
    let balancer = Balancer::start(&cluster, &["--backend-tls", "cluster"]).await;
    let answer = until("it answers", PATIENCE, async || {
        let answer = balancer.client.get(WATCH_PATH).await.ok()?;
        (answer.status != 503).then_some(answer)
    })
    .await;
    // The balancer's own word, or the node's.
    assert!(matches!(answer.status, 403 | 404) && !answer.text().contains("lineage"), "{answer:?}");
}
