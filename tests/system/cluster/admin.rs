//! The admin address of a running cluster.

use std::collections::BTreeSet;

use skep_kit::Cluster;
use skep_kit::clients::load::unique_text;
use skep_kit::effort::machine_shared;
use skep_kit::wait::{PATIENCE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_tells_the_same_cluster() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    cluster
        .wait_views("all three vote", PATIENCE, |view| {
            view.voters() == 3 && view.members.iter().filter(|member| member.is_ready()).count() == 3
        })
        .await;
    let views = cluster.views().await;
    let distinct = |texts: Vec<Option<String>>| texts.into_iter().collect::<BTreeSet<_>>();
    let ids = distinct(views.iter().map(|(_, view)| view.cluster_id.clone()).collect());
    assert!(ids.len() == 1 && !ids.contains(&None), "{ids:?}");
    let leaders = distinct(views.iter().map(|(_, view)| view.leader.clone()).collect());
    assert!(leaders.len() == 1 && !leaders.contains(&None), "{leaders:?}");
    for (index, view) in &views {
        assert_eq!(view.members.len(), 3, "{view:?}");
        assert_eq!(view.members.iter().filter(|member| member.raft.as_deref() == Some("leader")).count(), 1);
        assert!(view.members.iter().all(|member| member.role == "node"), "{view:?}");
        assert!(view.members.iter().all(|member| member.version.is_some()), "{view:?}");
        let own = view.member_at(&cluster.node(*index).http_text()).expect("a node lists itself");
        assert_eq!(own.id, view.node_id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_shows_as_applied_at_all_nodes() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    for _ in 0..10 {
        cluster.node(1).http.put(&unique_text(30)).await;
    }
    until("all have applied the same", PATIENCE, async || {
        let applied: BTreeSet<_> = cluster.views().await.into_iter().map(|(_, view)| view.applied).collect();
        (applied.len() == 1 && !applied.contains(&None)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_served_on_the_admin_address_alone() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    cluster.node(1).http.put("counted").await;
    for index in 1..=3 {
        let node = cluster.node(index);
        for path in ["/livez", "/readyz"] {
            until(path, PATIENCE, async || (node.admin.get(path).await.ok()?.status == 200).then_some(()))
                .await;
        }
        let answer = node.admin.get("/metrics").await.expect("an answer");
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let samples: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert!(samples.len() > 20, "{text}");
        for sample in samples {
            assert!(sample.starts_with("skep_") || sample.starts_with("process_"), "{sample}");
        }
        for word in ["term", "applied", "fsync", "gossip", "http_request", "store"] {
            assert!(text.contains(word), "no metric with {word}: {text}");
        }
        for path in ["/metrics", "/cluster", "/readyz"] {
            assert_eq!(node.http.get(path).await.expect("an answer").status, 404, "{path} on the HTTP port");
        }
    }
}

/// Leaves a node alone that leads, or one that follows.
async fn without_quorum(survivor_leads: bool) {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    let (digest, _) = cluster.node(1).http.put("read without a quorum").await;
    let leader = cluster.leader().await;
    let survivor = if survivor_leads { leader } else { leader % 3 + 1 };
    let path = format!("/messages/{digest}");
    assert_eq!(cluster.node(survivor).http.get(&path).await.expect("an answer").status, 200);
    let others: Vec<u8> = (1..=3).filter(|number| *number != survivor).collect();
    others.iter().for_each(|other| cluster.node_mut(*other).kill());
    let node = cluster.node(survivor);
    until("it is not ready", PATIENCE, async || (!node.is_ready().await).then_some(())).await;
    assert_eq!(node.admin.get("/livez").await.expect("an answer").status, 200);
    // Immutable and named by its content: present, it may be read.
    assert_eq!(node.http.get(&path).await.expect("an answer").status, 200);
    let answer = node.http.post_message("there is no quorum").await.expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    let answer = node.http.get("/messages?after=0&limit=1").await.expect("an answer");
    assert_eq!(answer.status, 503, "a list must not be stale: {answer:?}");
    for other in others {
        cluster.start(other);
    }
    cluster.wait_all_ready().await;
    cluster.node(1).http.put("the quorum is back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_quorum_is_alive_but_not_ready_and_recovers() {
    without_quorum(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_quorum_is_alive_but_not_ready_and_recovers() {
    without_quorum(false).await;
}
