//! The operator's verbs at a running cluster.

use serde_json::Value;

use skep_kit::clients::load::unique_text;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{Ended, verb};
use skep_kit::wait::{PATIENCE, until};
use skep_kit::{Cluster, Node};

fn succeeded(node: &Node, args: &[&str]) -> Ended {
    let ended = verb(node.admin.address, args);
    assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    ended
}

fn json(node: &Node, args: &[&str]) -> Value {
    let ended = succeeded(node, args);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {ended:?}"))
}

/// The entries of an answer that is a list, or an object around one.
fn entries<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    let list = if value.is_array() { value } else { &value[name] };
    list.as_array().unwrap_or_else(|| panic!("no list of {name} in {value}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_node() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.start(1);
    cluster.node(1).wait_status().await;
    let admin = cluster.node(1).admin.address;
    let waiting = verb(admin, &["health"]);
    assert_eq!(waiting.code, Some(1), "one of three expected nodes is not ready");
    assert!(waiting.stderr.contains("joining: ") && waiting.stderr.contains("1 of 3"), "{waiting:?}");
    assert_eq!(verb(admin, &["health", "--live"]).code, Some(0), "it is alive");
    cluster.start(2);
    cluster.start(3);
    cluster.wait_all_ready().await;
    until("it is healthy", PATIENCE, async || (verb(admin, &["health"]).code == Some(0)).then_some(())).await;
    cluster.node_mut(1).kill();
    assert_eq!(verb(admin, &["health"]).code, Some(1), "nobody listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_peers_list_the_cluster() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    cluster.wait_views("all three vote", PATIENCE, |view| view.voters() == 3).await;
    cluster.node(1).http.put("something to follow").await;
    for node in 1..=3 {
        let node = cluster.node(node);
        let members = json(node, &["members", "--json"]);
        let members = entries(&members, "members");
        assert_eq!(members.len(), 3, "{members:?}");
        let text = succeeded(node, &["members"]).stdout;
        let peers = json(node, &["peers", "--json"]);
        assert_eq!(entries(&peers, "peers").len(), 3, "{peers}");
        for member in members {
            let id = member["id"].as_str().expect("a member has an id");
            assert!(text.contains(id), "{id} is not in {text}");
            assert!(entries(&peers, "peers").iter().any(|peer| peer["id"] == id), "{id} is not in {peers}");
        }
    }
    until("the leader sees no lag", PATIENCE, async || {
        let peers = json(cluster.node(cluster.leader().await), &["peers", "--json"]);
        entries(&peers, "peers").iter().all(|peer| peer["lag"] == 0 && peer["matched"].is_u64()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_to_the_node_that_was_named() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    cluster.wait_views("all three vote", PATIENCE, |view| view.voters() == 3).await;
    let leader = cluster.leader().await;
    let heir = leader % 3 + 1;
    let id = cluster.node(heir).wait_status().await.node_id;
    succeeded(cluster.node(leader), &["transfer-leader", &id]);
    until("the heir leads", PATIENCE, async || (cluster.leader().await == heir).then_some(())).await;
    cluster.node(leader).http.put("under the heir").await;
    succeeded(cluster.node(heir), &["transfer-leader"]);
    until("another leads", PATIENCE, async || (cluster.leader().await != heir).then_some(())).await;

    let refused = verb(cluster.node(heir).admin.address, &["transfer-leader", "0000000000000001"]);
    assert_eq!(refused.code, Some(1), "a node that is not there: {refused:?}");
    let misread = verb(cluster.node(heir).admin.address, &["transfer-leader", "nobody"]);
    assert_eq!(misread.code, Some(2), "no id: {misread:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_removed_by_force() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    cluster.wait_views("all three vote", PATIENCE, |view| view.voters() == 3).await;
    let leader = cluster.leader().await;
    let dead = leader % 3 + 1;
    let id = cluster.node(dead).wait_status().await.node_id;
    cluster.node_mut(dead).kill();
    let leader = cluster.leader().await;
    succeeded(cluster.node(leader), &["force-leave", &id]);
    cluster
        .wait_views("it is in Raft's membership no more", PATIENCE, |view| {
            let member = view.members.iter().find(|member| member.id == id);
            member.is_none_or(|member| member.raft.as_deref() == Some("none"))
        })
        .await;
    cluster.node(leader).http.put("two go on").await;
    let unknown = verb(cluster.node(leader).admin.address, &["force-leave", "0000000000000001"]);
    assert_eq!(unknown.code, Some(1), "a node that is not there: {unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_would_cost_the_quorum_is_refused_and_the_cluster_goes_on_when_it_is_back() {
    let _machine = machine_shared();
    let mut cluster = Cluster::ready(3).await;
    cluster.wait_views("all three vote", PATIENCE, |view| view.voters() == 3).await;
    let leader = cluster.leader().await;
    let dead = [leader % 3 + 1, (leader + 1) % 3 + 1];
    let id = cluster.node(dead[0]).wait_status().await.node_id;
    for node in dead {
        cluster.node_mut(node).kill();
    }
    let refused = verb(cluster.node(leader).admin.address, &["force-leave", &id]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let words = ["1 of 3 voters", "no majority", "recover"];
    assert!(words.iter().all(|word| refused.stderr.contains(word)), "{refused:?}");
    cluster.start(dead[1]);
    cluster.node(leader).http.put("two of three go on").await;
    cluster.wait_views("nobody was removed", PATIENCE, |view| view.voters() == 3).await;
    succeeded(cluster.node(leader), &["force-leave", &id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_with_nobody_to_talk_to_fails_and_says_so() {
    let _machine = machine_shared();
    let cluster = Cluster::new(1, &[]);
    let admin = std::net::SocketAddr::new(cluster.subnet().host(1), skep_kit::cluster::subnet::ADMIN_PORT);
    for args in [&["members"][..], &["peers"], &["transfer-leader"], &["snapshot", "save", "/dev/null/x"]] {
        let ended = verb(admin, args);
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_at_a_follower_is_carried_out_or_names_the_leader() {
    let _machine = machine_shared();
    let cluster = Cluster::ready(3).await;
    cluster.wait_views("all three vote", PATIENCE, |view| view.voters() == 3).await;
    cluster.node(1).http.put(&unique_text(20)).await;
    let leader = cluster.leader().await;
    let follower = cluster.node(leader % 3 + 1);
    let ended = verb(follower.admin.address, &["transfer-leader"]);
    let names = ended.text().contains(&cluster.node(leader).admin.address.to_string());
    assert!(ended.code == Some(0) || (ended.code == Some(1) && names), "{ended:?}");
}
