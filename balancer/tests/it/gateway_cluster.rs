//! The gateway's configuration as nodes tell it: followed, and refused until there is one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use skep_balancer::core::routes::Routes;
use skep_members::key::KeyRing;

use crate::harness::*;
use crate::http2::{full, h2, request};
use crate::process::ask;
use crate::telling::*;

#[test]
fn what_nodes_tell_is_followed_forwards_and_never_back_and_another_history_at_once() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let node = Node::alone(Does::Tells(state(0, 0, None)));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    assert!(is_at(&process, "/app", "node /app"), "there are no routes yet");
    node.now(Does::Tells(state(7, 1, Some(&app(one.address)))));
    wait("the first is in force", || stands(&process, 7, 1));
    assert!(is_at(&process, "/app", "one /app") && is_at(&process, "/other", "node /other"));
    node.now(Does::Tells(state(7, 3, Some(&app(two.address)))));
    wait("the next is in force", || stands(&process, 7, 3));
    assert!(is_at(&process, "/app", "two /app"));
    // Of a node that lags: an older one, and none.
    for (lineage, revision, document) in [(7, 2, Some(app(one.address))), (0, 0, None)] {
        node.now(Does::Tells(state(lineage, revision, document.as_deref())));
        // It was left for it, and asked again.
        node.wait_asked(2);
        assert!(stands(&process, 7, 3) && is_at(&process, "/app", "two /app"), "{lineage} {revision}");
    }
    node.now(Does::Tells(state(8, 1, Some(&app(one.address)))));
    wait("another history is followed", || stands(&process, 8, 1));
    assert!(is_at(&process, "/app", "one /app"));
    let shown = shown(&process);
    assert_eq!(
        (&shown["cluster"]["word"], &shown["cluster"]["revision"]),
        (&"node".into(), &1.into()),
        "{shown}"
    );
    wait("its word is fresh", || self::shown(&process)["cluster"]["age_s"].as_f64().unwrap() < 3.0);
}

#[test]
fn until_a_node_has_told_it_nothing_is_served_and_that_there_is_none_counts() {
    // It takes the question, and says nothing.
    let node = Node::alone(Does::Says(vec![]));
    let process = balancer(&[&node], &[]);
    for path in ["/", "/-/ready"] {
        let answer = ask(process.http, path);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no node has told"), "{answer}");
    }
    assert!(ask(process.admin, "/readyz").contains("no node has told"));
    assert_eq!(shown(&process)["cluster"]["word"], "nobody");
    assert!(metrics(&process).lines().any(|it| it == "skep_balancer_gateway_told{} 0.0"));
    node.now(Does::Tells(state(0, 0, None)));
    process.wait_ready();
    assert!(is_at(&process, "/x", "node /x"));
    let private = ask(process.http, "/-/gateway/watch");
    assert!(private.starts_with("HTTP/1.1 404 "), "that is for no client: {private}");
    assert!(metrics(&process).lines().any(|it| it == "skep_balancer_gateway_told{} 1.0"));
}

#[test]
fn where_every_node_is_too_old_to_have_any_all_goes_to_them_until_one_is_not() {
    let app_server = Scripted::plain("app");
    for does in [Does::Answers(404), Does::Plain(404)] {
        let node = Node::alone(does);
        let process = balancer(&[&node], &[]);
        process.wait_ready();
        assert!(is_at(&process, "/app", "node /app"));
        assert_eq!(shown(&process)["cluster"]["word"], "older nodes");
        // The next to come is newer.
        let keys = KeyRing::insecure_loopback();
        let newer =
            Node::start(2, &keys, &[node.peer], Does::Tells(state(7, 1, Some(&app(app_server.address)))));
        wait("the newer one is heard", || stands(&process, 7, 1));
        assert!(is_at(&process, "/app", "app /app"));
        assert!(newer.asked.load(Ordering::SeqCst) > 0);
    }
}

#[test]
fn an_ill_node_keeps_nobody_closed_where_the_others_are_too_old() {
    let keys = KeyRing::insecure_loopback();
    let old = Node::alone(Does::Answers(404));
    // It would say nothing of its version for ever.
    let ill = Node::start(2, &keys, &[old.peer], Does::Says(vec![]));
    ill.is_ill(true);
    let process = balancer(&[&old, &ill], &[]);
    wait("all goes to the nodes", || shown(&process)["cluster"]["word"] == "older nodes");
    process.wait_ready();
    assert!(is_at(&process, "/app", "node /app"));
}

#[test]
fn a_node_that_is_old_by_gossip_and_says_nothing_keeps_nobody_closed() {
    let keys = KeyRing::insecure_loopback();
    let old = Node::alone(Does::Answers(404));
    let mute = Node::start(2, &keys, &[old.peer], Does::OldAndMute);
    let process = balancer(&[&old, &mute], &[]);
    wait("all goes to the nodes", || shown(&process)["cluster"]["word"] == "older nodes");
    process.wait_ready();
}

#[test]
fn a_node_that_is_not_well_or_behind_is_left_and_its_word_does_not_count() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let keys = KeyRing::insecure_loopback();
    let first = Node::start(1, &keys, &[], Does::Tells(state(7, 1, Some(&app(one.address)))));
    let process = balancer(&[&first], &[]);
    process.wait_ready();
    wait("it is in force", || stands(&process, 7, 1));
    // It goes on to tell what it knows, though it is cut off from the others, who know more.
    let second = Node::start(2, &keys, &[first.peer], Does::Tells(state(7, 2, Some(&app(two.address)))));
    first.is_ill(true);
    wait("the other is heard", || stands(&process, 7, 2));
    assert!(is_at(&process, "/app", "two /app"));
    // It is well again, and alone so, and still behind.
    first.is_ill(false);
    second.is_ill(true);
    let age_s = || shown(&process)["cluster"]["age_s"].as_f64().unwrap();
    // By then the other was left.
    first.wait_asked(2);
    wait("its word does not count", || age_s() > 4.0 * BEAT.as_secs_f64());
    first.wait_asked(2);
    assert!(stands(&process, 7, 2) && age_s() > 4.0 * BEAT.as_secs_f64());
    first.now(Does::Tells(state(7, 2, Some(&app(two.address)))));
    wait("its word counts", || age_s() < 2.0 * BEAT.as_secs_f64());
}

#[test]
fn what_a_later_version_says_beside_is_passed_over() {
    let one = Scripted::plain("one");
    let later = [b"{\"later\":[1]}\n".to_vec(), state(7, 1, Some(&app(one.address)))].concat();
    let node = Node::alone(Does::Tells([later, b"{\"later\":{}}\n".to_vec()].concat()));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    assert!(stands(&process, 7, 1) && is_at(&process, "/app", "one /app"));
}

#[tokio::test]
async fn what_is_refused_for_no_configuration_was_certainly_not_done() {
    let balancer = Balancer::start(&[]);
    let nodes = balancer.shared.pools.skep().clone();
    balancer.shared.routes.store(Some(Arc::new(Routes::closed(nodes))));
    let answer = balancer.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("skep-unprocessed: 1\r\n"), "{answer}");
    let mut sender = h2(tokio::net::TcpStream::connect(balancer.http).await.unwrap()).await;
    let answer = sender.send_request(request("POST", "/", full(""))).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["skep-unprocessed"]),
        (503, &"1".parse().unwrap())
    );
}

#[test]
fn a_node_that_says_anything_else_in_plain_text_is_not_believed() {
    let node = Node::alone(Does::Plain(200));
    let process = balancer(&[&node], &[]);
    let is_asked = |node: &Node| node.asked.load(Ordering::SeqCst) >= 2;
    wait("it was asked, and asked again", || is_asked(&node));
    assert!(ask(process.http, "/").contains("no node has told"));
    // Where nodes prove themselves by the cluster's keys, not even that it is too old.
    let node = Node::alone(Does::Plain(404));
    let process = balancer(&[&node], &["--backend-tls", "cluster"]);
    wait("it was asked, and asked again", || is_asked(&node));
    assert!(ask(process.http, "/").contains("no node has told"));
}

#[test]
fn who_is_silent_or_says_what_is_no_line_is_left_for_another() {
    let (one, two) = (Scripted::plain("one"), Scripted::plain("two"));
    let keys = KeyRing::insecure_loopback();
    let first = Node::start(1, &keys, &[], Does::Tells(state(7, 1, Some(&app(one.address)))));
    let process = balancer(&[&first], &[]);
    process.wait_ready();
    wait("it is in force", || stands(&process, 7, 1));
    let second = Node::start(2, &keys, &[first.peer], Does::Tells(state(7, 1, Some(&app(one.address)))));
    let (mut revision, mut nodes) = (1, [&first, &second]);
    let mut long = b"{\"beat\":1,\"x\":\"".to_vec();
    long.resize(skep_gateway::told::LINE_MAX + 100_000, b'x');
    for (bad, why) in [
        (b"no line\n".to_vec(), "it answers what is none"),
        (b"{\"lineage\":\"7\",\"revision\":9,\"document\":{}}\n".to_vec(), "it answers what is none"),
        (long, "a line has more than"),
        (b"{\"beat\":9}\n".to_vec(), "a beat of a state that it did not tell"),
        // It is there, and says nothing more.
        (vec![], "it was silent"),
    ] {
        // Who tells now goes wrong, and the other has news.
        nodes[0].now(Does::Says(bad));
        revision += 1;
        nodes[1].now(Does::Tells(state(7, revision, Some(&app(two.address)))));
        wait("the other is heard", || stands(&process, 7, revision));
        assert!(is_at(&process, "/app", "two /app"), "{why}");
        process.logged(why);
        nodes.swap(0, 1);
    }
}

#[test]
fn a_document_that_cannot_be_read_leaves_the_last_or_nothing_and_is_told() {
    let one = Scripted::plain("one");
    let node = Node::alone(Does::Tells(state(7, 1, Some(&app(one.address)))));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    let later = state(7, 2, Some(r#"{"routes":{"r":{"service":"skep","later":1}}}"#));
    node.now(Does::Tells(later.clone()));
    let fault: serde_json::Value = serde_json::from_str(&process.logged("\"/routes/r/later\"")).unwrap();
    assert_eq!(fault["pointer"], "/routes/r/later");
    assert!(stands(&process, 7, 1) && is_at(&process, "/app", "one /app"));
    assert!(metrics(&process).lines().any(|it| it == "skep_balancer_gateway_faults{} 1.0"));
    assert_eq!(shown(&process)["cluster"]["refused"], 2);
    // One that starts now has none that it could keep.
    let process = balancer(&[&node], &[]);
    wait("it has heard of it", || shown(&process)["cluster"]["refused"] == 2);
    let answer = ask(process.http, "/app");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    node.now(Does::Tells(state(7, 3, Some(&app(one.address)))));
    process.wait_ready();
    assert!(is_at(&process, "/app", "one /app"));
}
