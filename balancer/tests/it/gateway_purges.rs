//! What is purged: by what nodes tell, by groups, and by what other balancers say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use skep_balancer::core::cache::purges::{Change, Rule, mark};
use skep_gateway::told::Told;

use crate::gateway_cache::{DOCUMENT, asking, body, with};
use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::*;

/// A service that counts its answers, which are stored for long, and say what `fields` does for a target.
fn counting(fields: impl Fn(&str) -> &'static str + Send + Sync + 'static) -> Scripted {
    let count = AtomicUsize::new(0);
    Scripted::start(move |served| {
        while let Some(head) = served.head() {
            let target = head.split(' ').nth(1).unwrap_or_default();
            let more = fields(target);
            let answer = with(&format!("cache-control: max-age=600\r\n{more}"), count.fetch_add(1, SeqCst));
            served.send(answer);
        }
    })
}

fn stored(balancer: &Balancer, target: &str) -> String {
    let first = body(&balancer.ask(&asking(target, ""))).to_owned();
    assert_eq!(body(&balancer.ask(&asking(target, ""))), first, "{target} is stored");
    first
}

fn is_kept(balancer: &Balancer, target: &str, first: &str) -> bool {
    body(&balancer.ask(&asking(target, ""))) == first
}

#[test]
fn a_rule_is_for_what_it_says_and_for_nothing_else() {
    let app = counting(|target| match target {
        "/groups" => "cache-groups: \"a\", \"b\"\r\n",
        _ => "",
    });
    let rules: [(Rule, &[&str]); 6] = [
        (Rule::Prefix { host: None, path: "/x/".into() }, &["/x/1", "/x/2?y"]),
        (Rule::Prefix { host: Some("other".into()), path: "/".into() }, &[]),
        (Rule::Group(mark(b"b")), &["/groups"]),
        (Rule::Group(mark(b"c")), &[]),
        (Rule::Route(mark(b"small")), &["/small"]),
        (Rule::Service(mark(b"app")), &["/x/1", "/x/2?y", "/xy", "/groups", "/small"]),
    ];
    for (rule, gone) in rules {
        let balancer = Balancer::start(&[]);
        balancer.route(DOCUMENT, &[("app", &[app.address])]);
        let all = ["/x/1", "/x/2?y", "/xy", "/groups", "/small"];
        let before: Vec<_> = all.iter().map(|target| (*target, stored(&balancer, target))).collect();
        balancer.shared.cache.purges.add(rule.clone());
        for (target, first) in before {
            assert_ne!(is_kept(&balancer, target, &first), gone.contains(&target), "{rule:?} {target}");
        }
    }
}

#[test]
fn an_answer_to_an_unsafe_request_lets_groups_of_its_origin_go() {
    let app = counting(|target| match target {
        "/change" => "cache-group-invalidation: \"a\"\r\n",
        "/asked" => "cache-groups: \"a\"\r\ncache-group-invalidation: \"a\"\r\n",
        "/many" => "cache-groups: \"b\", \"a\"\r\n",
        _ => "cache-groups: \"b\"\r\n",
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let (asked, many, other) =
        (stored(&balancer, "/asked"), stored(&balancer, "/many"), stored(&balancer, "/other"));
    assert!(is_kept(&balancer, "/many", &many), "a safe request lets nothing go");
    balancer
        .ask("POST /change HTTP/1.1\r\nhost: elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(is_kept(&balancer, "/many", &many), "of another origin");
    balancer.ask("POST /change HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(!is_kept(&balancer, "/many", &many) && !is_kept(&balancer, "/asked", &asked));
    assert!(is_kept(&balancer, "/other", &other));
}

#[test]
fn what_was_fetched_before_a_purge_is_not_stored_after_it_nor_given_to_who_came_after_it() {
    let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Barrier::new(2)));
    let (counted, held) = (count.clone(), gate.clone());
    let app = Scripted::start(move |served| {
        while served.head().is_some() {
            let number = counted.fetch_add(1, SeqCst);
            if number == 0 {
                held.wait();
                held.wait();
            }
            served.send(with("cache-control: max-age=600\r\n", number));
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let mut first = balancer.client();
    first.send(get("/x"));
    gate.wait();
    balancer.shared.cache.purges.add(Rule::Prefix { host: None, path: "/x".into() });
    // It does not wait for what began before.
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body 1");
    gate.wait();
    assert_eq!(first.answer().1, "body 0");
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body 1");
}

#[test]
fn what_was_purged_is_not_served_where_the_service_fails() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let failing = fails.clone();
    let app = Scripted::start(move |served| {
        while served.head().is_some() {
            match failing.load(SeqCst) {
                true => served.send("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"),
                false => {
                    served.send(with("cache-control: max-age=0, stale-if-error=600\r\netag: \"a\"\r\n", 0))
                }
            }
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    balancer.ask(&asking("/x", ""));
    fails.store(true, SeqCst);
    assert_eq!(body(&balancer.ask(&asking("/x", ""))), "body 0", "it is served on error");
    balancer.shared.cache.purges.add(Rule::All);
    assert!(balancer.ask(&asking("/x", "")).starts_with("HTTP/1.1 500 "));
}

fn told(cluster: u128, since: u64, last: u64, purges: &[(u64, &str)]) -> Vec<u8> {
    let list = skep_gateway::purge::list(purges.iter().copied());
    Told::Purges { cluster, since, last, list: &list }.encode()
}

fn counted(process: &Process, of: &str, count: u64) -> bool {
    let line = format!("skep_balancer_cache_purges_total{{of=\"{of}\"}} {count}");
    metrics(process).lines().any(|it| it == line || it == format!("{line}.0"))
}

#[test]
fn what_nodes_tell_is_obeyed_and_what_was_missed_empties_the_cache() {
    let app = counting(|_| "");
    let address = app.address;
    let document = format!(
        r#"{{"services":{{"app":{{"urls":["http://{address}"]}}}},"routes":{{"app":{{"match":{{"path":"/app"}},"service":"app","cache":true}}}}}}"#
    );
    let first = [told(1, 5, 5, &[]), state(7, 1, Some(&document))].concat();
    let node = Node::alone(Does::Tells(first));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    wait("it is in force", || stands(&process, 7, 1));
    let text = |path: &str| body(&ask(process.http, path)).to_owned();
    let is_kept = |path: &str, before: &str| text(path) == before;
    let (one, two) = (text("/app/one"), text("/app/two"));
    assert!(is_kept("/app/one", &one) && is_kept("/app/two", &two), "they are stored");
    let url = r#"{"url":"http://a/app/one"}"#;
    // Of what it knows it obeys nothing again.
    node.now(Does::Tells(told(1, 4, 6, &[(5, r#"{"all":true}"#), (6, url)])));
    wait("it is obeyed", || counted(&process, "url", 1));
    assert!(!is_kept("/app/one", &one) && is_kept("/app/two", &two));
    assert!(counted(&process, "all", 0) && counted(&process, "missed", 0));
    // A node that lags tells of nothing new.
    node.now(Does::Tells(told(1, 3, 3, &[])));
    node.now(Does::Tells(told(1, 6, 7, &[(7, r#"{"prefix":"/app/t"}"#)])));
    wait("it is obeyed", || counted(&process, "prefix", 1));
    let two = text("/app/two");
    assert!(is_kept("/app/two", &two), "it is stored anew");
    // What a later version says is everything.
    node.now(Does::Tells(told(1, 7, 8, &[(8, r#"{"later":1}"#)])));
    wait("it is obeyed", || counted(&process, "all", 1));
    assert!(!is_kept("/app/two", &two));
    for (count, line) in [(1, told(1, 20, 20, &[])), (2, told(2, 0, 1, &[]))] {
        let two = text("/app/two");
        assert!(is_kept("/app/two", &two));
        node.now(Does::Tells(line));
        wait("that some were missed is seen", || counted(&process, "missed", count));
        assert!(!is_kept("/app/two", &two), "what was missed may have been of it");
    }
}

#[test]
fn a_message_that_was_taken_out_is_let_go_and_stored_no_more_by_whatever_node_says_it() {
    let app = counting(|target| match target {
        "/messages/1" => "skep-seq: 1\r\n",
        "/messages/2" => "skep-seq: 2\r\n",
        "/messages/3" => "skep-seq: 3\r\n",
        _ => "",
    });
    let balancer = Balancer::start(&[]);
    let document = r#"
        routes.all = {service = "skep", cache = true}
        services.app.urls = ["http://127.0.0.1:1"]
        routes.app = {match.path = "/app", service = "app", cache = true}
    "#;
    balancer.route(document, &[("app", &[app.address])]);
    balancer.set(&[app.address], None);
    let all = ["/messages/1", "/messages/2", "/messages/3", "/app/messages/1"];
    let before: Vec<_> = all.iter().map(|target| stored(&balancer, target)).collect();
    let purges = &balancer.shared.cache.purges;
    purges.add_all([Change::Message(2)]);
    let kept: Vec<bool> =
        all.iter().zip(&before).map(|(it, before)| is_kept(&balancer, it, before)).collect();
    assert_eq!(kept, [true, false, true, true]);
    purges.add_all([Change::Messages(1)]);
    let before: Vec<_> =
        all.iter().map(|target| body(&balancer.ask(&asking(target, ""))).to_owned()).collect();
    let kept: Vec<bool> =
        all.iter().zip(&before).map(|(it, before)| is_kept(&balancer, it, before)).collect();
    assert_eq!(kept, [false, false, true, true], "however late a node says them");
}

#[test]
fn what_an_unsafe_request_invalidates_is_told_to_another_balancer() {
    let app = counting(|target| match target {
        "/app/change" => "cache-group-invalidation: \"a\"\r\n",
        "/app/group" => "cache-groups: \"a\"\r\n",
        _ => "",
    });
    let address = app.address;
    let document = format!(
        r#"{{"services":{{"app":{{"urls":["http://{address}"]}}}},"routes":{{"app":{{"match":{{"path":"/app"}},"service":"app","cache":true}}}}}}"#
    );
    let node = Node::alone(Does::Tells(state(7, 1, Some(&document))));
    let [one, other] = [(); 2].map(|()| balancer(&[&node], &[]));
    for it in [&one, &other] {
        it.wait_ready();
        wait("it is in force", || stands(it, 7, 1));
    }
    let text = |path: &str| body(&ask(other.http, path)).to_owned();
    let (url, group, third) = (text("/app/url"), text("/app/group"), text("/app/third"));
    for (path, before) in [("/app/url", &url), ("/app/group", &group), ("/app/third", &third)] {
        assert_eq!(&text(path), before, "it is stored");
    }
    let post = |path: &str| {
        let mut client = Client::connect(one.http);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ));
        assert!(client.rest().starts_with("HTTP/1.1 200 "));
    };
    // Told once, and not before the one sees the other.
    wait("the other hears of the URL", || {
        post("/app/url");
        text("/app/url") != url
    });
    assert_eq!(text("/app/group"), group);
    wait("the other hears of the group", || {
        post("/app/change");
        text("/app/group") != group
    });
    assert_eq!(text("/app/third"), third);
    let counts = |process: &Process, event: &str| {
        let name = format!("skep_balancer_cache_invalidations_total{{event=\"{event}\"}} ");
        let all = metrics(process);
        let value = all.lines().find_map(|it| it.strip_prefix(&*name)).unwrap_or_default().to_owned();
        value.trim_end_matches(".0").parse::<u64>().unwrap()
    };
    assert!(counts(&one, "told") >= 2 && counts(&other, "heard") >= 2 && counts(&other, "told") == 0);
}
