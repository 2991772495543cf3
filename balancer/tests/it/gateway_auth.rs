//! Who asks: routes that want a key, what is said to who has none, and what a service is told of who has.

use std::time::{Duration, Instant};

use crate::gateway_file::{Document, without_nodes};
use crate::harness::*;
use crate::http2_streams;
use crate::process::ask;

const ALICE: &str = "alice-has-this-key-0001";
const BOB: &str = "bob-has-this-key-000002";

/// A route that any consumer may ask, one for a group, one that takes keys in its own places, and one for all.
fn document() -> String {
    format!(
        r#"
        services.app.urls = ["http://127.0.0.1:1"]
        consumers.alice = {{groups = ["staff", "ops"], keys = ["{ALICE}"]}}
        consumers.bob = {{keys = ["{BOB}"]}}
        [routes.any]
        match.path = "/any"
        service = "app"
        auth.keys = true
        max_body = "4"
        [routes.staff]
        match.path = "/staff"
        service = "app"
        auth = {{keys = true, groups = ["staff"]}}
        cors = {{origins = ["https://a.test"], methods = ["GET"], headers = ["x-api-key"]}}
        [routes.own]
        match.path = "/own"
        service = "app"
        auth.keys = {{header = "x-token", authorization = false, query = "token"}}
        [routes.moved]
        match.path = "/moved"
        redirect.path = "/elsewhere"
        auth.keys = true
        [routes.away]
        match.path = "/away"
        redirect.host = "b.test"
        auth.keys.query = "token"
        [routes.open]
        match.path = "/open"
        service = "app"
        "#
    )
}

fn routed() -> (Scripted, Balancer) {
    let backend = Scripted::plain("app");
    let balancer = Balancer::start(&[]);
    balancer.route(&document(), &[("app", &[backend.address])]);
    (backend, balancer)
}

fn with(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
}

/// Values of the fields that a server of CGI's kind reads under that name.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let is_it = |its: &str| its.replace(['_', '.', '+', '~'], "-").eq_ignore_ascii_case(name);
    fields.filter(|(its, _)| is_it(its)).map(|(_, value)| value).collect()
}

#[test]
fn who_proves_nothing_gets_nowhere_and_is_told_how() {
    let (backend, balancer) = routed();
    let bearer = "www-authenticate: Bearer realm=\"skep\"";
    for (target, fields, status, said) in [
        ("/any", String::new(), "401", format!("{bearer}\r\n")),
        ("/any", format!("x-api-key: {ALICE}x\r\n"), "401", format!("{bearer}, error=\"invalid_token\"\r\n")),
        ("/any", format!("x_api_key: {ALICE}\r\n"), "401", format!("{bearer}\r\n")),
        ("/any", format!("authorization: Basic {ALICE}\r\n"), "401", format!("{bearer}\r\n")),
        (
            "/any",
            format!("x-api-key: {ALICE}\r\nauthorization: Bearer {BOB}\r\n"),
            "401",
            format!("{bearer}, error=\"invalid_request\"\r\n"),
        ),
        ("/any", format!("x-api-key: {ALICE}\r\nX-Api-Key: {BOB}\r\n"), "401", "several keys".into()),
        ("/any", format!("connection: x-api-key\r\nx-api-key: {ALICE}\r\n"), "401", format!("{bearer}\r\n")),
        ("/any?apikey=alice-has-this-key-0001", String::new(), "401", format!("{bearer}\r\n")),
        ("/an%79/x", String::new(), "401", "urn:skep:problem:unauthenticated".into()),
        (
            "/own",
            format!("x-api-key: {ALICE}\r\n"),
            "401",
            "ApiKey realm=\"skep\", header=\"x-token\"".into(),
        ),
        ("/staff", format!("x-api-key: {BOB}\r\n"), "403", "urn:skep:problem:group-refused".into()),
        ("/moved", String::new(), "401", "urn:skep:problem:unauthenticated".into()),
    ] {
        let answer = balancer.ask(&with(target, &fields));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {fields}: {answer}");
        assert!(answer.contains(&said) && answer.contains("application/problem+json"), "{said}: {answer}");
        assert!(!answer.contains("this-key"), "{answer}");
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    let counts = [&balancer.stats.auth_missing, &balancer.stats.auth_several, &balancer.stats.auth_unknown];
    assert_eq!(counts.map(|it| it.get()), [8, 2, 1]);
    assert_eq!(balancer.stats.auth_group.get(), 1);
}

#[test]
fn who_has_a_key_gets_there_and_the_service_is_told_who_it_is_and_not_the_key() {
    let (backend, balancer) = routed();
    for (target, fields, consumer, groups) in [
        ("/any/x", format!("x-api-key: {ALICE}\r\n"), "alice", &["ops,staff"][..]),
        ("/any/x", format!("X-API-KEY: {BOB}\r\n"), "bob", &[]),
        ("/any/x", format!("Authorization: bearer {BOB}\r\n"), "bob", &[]),
        ("/any/x", format!("authorization: ApiKey {BOB}\r\nx-api-key: {BOB}\r\n"), "bob", &[]),
        ("/staff", format!("x-api-key: {ALICE}\r\n"), "alice", &["ops,staff"]),
        (
            "/own",
            format!("x-token: {ALICE}\r\nauthorization: Bearer of-the-service\r\n"),
            "alice",
            &["ops,staff"],
        ),
    ] {
        let answer = balancer.ask(&with(target, &fields));
        assert!(answer.ends_with(&format!("app {target}")), "{target} {fields}: {answer}");
        let head = backend.heads().pop().unwrap();
        assert_eq!(values(&head, "x-consumer-id"), [consumer], "{head}");
        assert_eq!(values(&head, "x-consumer-groups"), groups, "{head}");
        assert!(!head.contains("this-key"), "{head}");
        assert_eq!(head.contains("of-the-service"), target == "/own", "{head}");
    }
    let moved = balancer.ask(&with("/moved", &format!("x-api-key: {ALICE}\r\n")));
    assert!(moved.starts_with("HTTP/1.1 302 "), "{moved}");
}

/// In every spelling that some server reads as theirs.
#[test]
fn who_was_authenticated_is_said_by_no_client() {
    let (backend, balancer) = routed();
    let forged = "x-consumer-id: root\r\nX_Consumer_Id: root\r\nx-consumer_id: root\r\nX-CONSUMER-GROUPS: root\r\n\
                  x_consumer_groups: root\r\nx-consumer.id: root\r\nX+Consumer~Groups: root\r\nx_user: root\r\nx-other: kept\r\n";
    for (target, consumer) in [("/any", Some("bob")), ("/open", None)] {
        let fields = format!("{forged}x-api-key: {BOB}\r\n");
        assert!(balancer.ask(&with(target, &fields)).contains("200 OK"));
        let head = backend.heads().pop().unwrap();
        assert_eq!(values(&head, "x-consumer-id"), Vec::from_iter(consumer), "{head}");
        assert!(values(&head, "x-consumer-groups").is_empty(), "{head}");
        assert_eq!(values(&head, "x-other"), ["kept"], "{head}");
        // Where nobody is asked, names with `_` are the client's own business.
        assert_eq!(values(&head, "x-user").len(), usize::from(consumer.is_none()), "{head}");
    }
    // Nor can a client take off what is said of it.
    let fields = format!("connection: x-consumer-id, x-consumer-groups\r\nx-api-key: {ALICE}\r\n");
    balancer.ask(&format!("GET /any HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n"));
    let head = backend.heads().pop().unwrap();
    assert_eq!(values(&head, "x-consumer-id"), ["alice"], "{head}");
    assert_eq!(values(&head, "x-consumer-groups"), ["ops,staff"], "{head}");
}

#[test]
fn a_key_in_the_query_is_taken_where_the_route_says_so_and_goes_no_further() {
    let (backend, balancer) = routed();
    for (query, sent) in [
        (format!("?token={ALICE}"), ""),
        (format!("?a=1&token={ALICE}&b=2"), "?a=1&b=2"),
        (format!("?a=1;TOK%45N={ALICE}"), "?a=1"),
        (format!("?token={}", ALICE.replace('-', "%2d")), ""),
    ] {
        let answer = balancer.ask(&get_and_close(&format!("/own/x{query}")));
        assert!(answer.ends_with(&format!("app /own/x{sent}")), "{query}: {answer}");
        let head = backend.heads().pop().unwrap();
        assert_eq!(values(&head, "x-consumer-id"), ["alice"], "{head}");
        assert!(!head.contains("this"), "{head}");
    }
    // Nor to where the client is sent.
    let moved = balancer.ask(&get_and_close(&format!("/away?a=1&token={ALICE}")));
    assert!(moved.contains("\r\nlocation: http://b.test/away?a=1\r\n"), "{moved}");
    let several = balancer.ask(&get_and_close(&format!("/own?token={ALICE}&token={BOB}")));
    assert!(several.starts_with("HTTP/1.1 401 "), "{several}");
}

#[test]
fn a_page_asks_beforehand_without_a_key_and_then_with_one() {
    let (backend, balancer) = routed();
    let preflight = "OPTIONS /staff HTTP/1.1\r\nhost: a\r\nconnection: close\r\norigin: https://a.test\r\n\
                     access-control-request-method: GET\r\naccess-control-request-headers: x-api-key\r\n\r\n";
    let answer = balancer.ask(preflight);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("access-control-allow-headers: x-api-key\r\n"), "{answer}");
    // What only looks like it is a request like any: by a route without such pages, or without an origin.
    for other in [
        preflight.replace("/staff", "/any"),
        preflight.replace("origin: https://a.test\r\n", ""),
        preflight.replace("access-control-request-method: GET\r\n", ""),
        preflight.replace("OPTIONS", "GET"),
    ] {
        let answer = balancer.ask(&other);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{other}: {answer}");
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
}

#[test]
fn who_waits_to_be_asked_for_a_body_is_refused_before_that() {
    let (backend, balancer) = routed();
    let post = "POST /any HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    let answer = balancer.ask(post);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
    // Who it is matters before how much it sends.
    let large = balancer.ask(&post.replace("expect: 100-continue\r\n", "").replace(": 4", ": 5"));
    assert!(large.starts_with("HTTP/1.1 401 "), "{large}");
    assert!(backend.heads().is_empty());
}

#[test]
fn a_websocket_wants_a_key_like_any_request() {
    let backend = Scripted::start(|served| {
        served.head().unwrap();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello");
    });
    let balancer = Balancer::start(&[]);
    balancer.route(&document(), &[("app", &[backend.address])]);
    let ask = |fields: &str| {
        let mut client = balancer.client();
        client.send(format!(
            "GET /any HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n{fields}\r\n"
        ));
        client.until("\r\n\r\n")
    };
    assert!(ask("").starts_with("HTTP/1.1 401 "));
    assert!(backend.heads().is_empty());
    assert!(ask(&format!("x-api-key: {ALICE}\r\n")).starts_with("HTTP/1.1 101 "));
    let head = backend.heads().pop().unwrap();
    assert!(head.contains("x-consumer-id: alice\r\n") && !head.contains(ALICE), "{head}");
}

#[test]
fn what_a_route_to_the_nodes_asks_for_is_got_round_by_no_other_path() {
    let nodes = Scripted::plain("n");
    let balancer = Balancer::start(&[nodes.address]);
    let document = format!(
        "consumers.alice.keys = [\"{ALICE}\"]\n\
         routes.r = {{match.path = \"/api\", service = \"skep\", strip_prefix = true, auth.keys = true}}\n"
    );
    balancer.route(&document, &[]);
    for (target, status) in [("/api", "401"), ("/%61pi/x", "401"), ("/", "404"), ("/messages", "404")] {
        let answer = balancer.ask(&get_and_close(target));
        assert_eq!(&answer[9..12], status, "{target}");
    }
    assert!(nodes.heads().is_empty());
    let answer = balancer.ask(&with("/api/messages", &format!("x-api-key: {ALICE}\r\n")));
    assert!(answer.ends_with("n /messages"), "{answer}");
}

#[test]
fn a_key_that_is_taken_away_opens_nothing_with_the_next_request() {
    let (_, balancer) = routed();
    let mut client = balancer.client();
    let ask = format!("GET /any HTTP/1.1\r\nhost: a\r\nx-api-key: {BOB}\r\n\r\n");
    client.send(&ask);
    assert!(client.answer().0.starts_with("HTTP/1.1 200 "));
    balancer.route(&document().replace(BOB, "another-key-0000001"), &[]);
    client.send(&ask);
    assert!(client.answer().0.starts_with("HTTP/1.1 401 "));
}

/// Says what it hears.
fn echoing() -> Scripted {
    Scripted::start(|served| {
        served.head().unwrap();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        while let Ok(n @ 1..) = std::io::Read::read(&mut served.stream, &mut [0; 16]) {
            served.send(vec![b'x'; n]);
        }
    })
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_the_websockets_that_it_opened_and_no_others() {
    let backend = echoing();
    let balancer = Balancer::start(&[]);
    balancer.route(&document(), &[("app", &[backend.address])]);
    let open = |target: &str, key: &str| {
        let mut client = balancer.client();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ));
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        client
    };
    let (mut alice, mut bob) = (open("/any", ALICE), open("/any", BOB));
    let (mut staff, mut stranger) = (open("/staff", ALICE), open("/open", BOB));
    let (sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    let mut connect = http2_streams::request("CONNECT", "/any");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    connect.headers_mut().insert("x-api-key", BOB.parse().unwrap());
    let (answer, _stream) = sender.ready().await.unwrap().send_request(connect, false).unwrap();
    let mut over_http2 = answer.await.unwrap().into_body();
    // A change that takes nothing from them ends none of them, however often it is looked.
    balancer.route(&document().replace("max_body = \"4\"", "max_body = \"5\""), &[]);
    pause(Duration::from_millis(1200));
    for client in [&mut alice, &mut bob, &mut staff, &mut stranger] {
        client.send("ping");
        client.until("xxxx");
    }
    let begun = Instant::now();
    let without = document().replace(BOB, "another-key-0000001").replace("\"staff\", \"ops\"", "\"ops\"");
    balancer.route(&without, &[]);
    assert_eq!((bob.rest_or_reset(), staff.rest_or_reset()), (String::new(), String::new()));
    let end = async { while let Some(Ok(_)) = over_http2.data().await {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for client in [&mut alice, &mut stranger] {
        client.send("ping");
        client.until("xxxx");
    }
}

#[tokio::test]
async fn http2_clients_prove_who_they_are_too() {
    let (backend, balancer) = routed();
    let (sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    let bearer = format!("Bearer {BOB}");
    let mut sender = sender;
    for (path, fields, status) in [
        ("/any", vec![], 401),
        ("/any", vec![("x-api-key", "0123456789abcdef")], 401),
        ("/any", vec![("x-api-key", ALICE), ("authorization", &bearer)], 401),
        ("/any", vec![("x-api-key", ALICE), ("x-api-key", BOB)], 401),
        ("/staff", vec![("x-api-key", BOB)], 403),
        ("/any", vec![("x_consumer_id", "root"), ("x-consumer-id", "root"), ("x-api-key", ALICE)], 200),
        ("/own?a=1&token=bob-has-this-key-000002", vec![], 200),
    ] {
        let mut request = http2_streams::request("GET", path);
        for (name, value) in fields {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers().get("www-authenticate").is_some(), status == 401, "{path}");
    }
    let mut connect = http2_streams::request("CONNECT", "/any");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    sender = sender.ready().await.unwrap();
    let (answer, _stream) = sender.send_request(connect, false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 401);
    let heads = backend.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert_eq!(values(&heads[0], "x-consumer-id"), ["alice"], "{heads:?}");
    assert!(heads[1].starts_with("GET /own?a=1 HTTP/1.1\r\n"), "{heads:?}");
    assert_eq!(values(&heads[1], "x-consumer-id"), ["bob"], "{heads:?}");
    assert!(!heads.concat().contains("this-key") && !heads.concat().contains("root"), "{heads:?}");
}

#[tokio::test]
async fn a_key_is_in_no_log_metric_or_answer_of_an_operators_address() {
    let backend = Scripted::plain("app");
    let file = Document::new(&document().replace("127.0.0.1:1\"", &format!("{}\"", backend.address)));
    let log = file.path().with_file_name("access.log");
    let process = without_nodes(&file.path(), &["--access-log", log.to_str().unwrap()]);
    let mut client = Client::connect(process.http);
    for (target, fields, status) in [
        ("/any/1", format!("x-api-key: {ALICE}\r\n"), 200),
        ("/any/2", format!("authorization: Bearer {ALICE}x\r\n"), 401),
        ("/staff/3", format!("x-api-key: {BOB}\r\n"), 403),
        ("/own/4?a=1&token=bob-has-this-key-000002", String::new(), 200),
        ("/own/5?token=nobody-has-this-key-001&b=2", String::new(), 401),
        // Where it means nothing it is one all the same.
        ("/open/6?%74oken=bob-has-this-key-000002", String::new(), 200),
        ("/none/7?token=bob-has-this-key-000002", String::new(), 404),
        ("/own//8?token=bob-has-this-key-000002", String::new(), 400),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        let (head, body) = client.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}{body}");
    }
    let (sender, connection) = http2_streams::connect(process.http).await;
    tokio::spawn(connection);
    let request = http2_streams::request("GET", "/own/9?c=1&token=bob-has-this-key-000002");
    let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // What is wrong with a file is logged, and not what stands there.
    std::fs::write(file.path(), "consumers.x.keys = [\"wrong-has-this-key-01\"\n").unwrap();
    process.signal("HUP");
    let fault = process.logged("it is no TOML");
    assert!(fault.contains("in line 1") && !fault.contains("this-key"), "{fault}");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait("all are logged", || lines().lines().count() == 9);
    let lines = lines();
    for shown in [
        "/any/1\",\"status\":200",
        "/own/4?a=1\"",
        "/own/5?b=2\"",
        "/open/6\"",
        "/none/7\"",
        "/own//8\"",
        "/own/9?c=1\"",
        "\"route\":\"any\",\"service\":\"app\",\"consumer\":\"alice\"",
        "\"route\":\"staff\",\"service\":null,\"consumer\":\"bob\"",
        "\"error\":\"unauthenticated\"",
        "\"error\":\"group-refused\"",
    ] {
        assert!(lines.contains(shown), "{shown}: {lines}");
    }
    assert!(!lines.contains("this-key"), "{lines}");
    let metrics = ask(process.admin, "/metrics");
    assert!(metrics.contains("skep_balancer_gateway_auth_refused_total{reason=\"unknown\"} 2"), "{metrics}");
    assert!(metrics.contains("skep_balancer_gateway_consumers{} 2.0"), "{metrics}");
    for path in ["/metrics", "/gateway", "/backends"] {
        assert!(!ask(process.admin, path).contains("this-key"), "{path}");
    }
}

#[test]
fn a_page_that_may_ask_reads_why_it_is_refused() {
    let (backend, balancer) = routed();
    let allowed = "access-control-allow-origin: https://a.test\r\n";
    for (key, status) in [(String::new(), "401"), (format!("x-api-key: {BOB}\r\n"), "403")] {
        let answer = balancer.ask(&with("/staff", &format!("origin: https://a.test\r\n{key}")));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(allowed) && answer.contains("vary: origin\r\n"), "{answer}");
        let answer = balancer.ask(&with("/staff", &format!("origin: https://evil.test\r\n{key}")));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(!answer.contains("access-control-"), "{answer}");
    }
    let answer = balancer.ask(&with("/any", "origin: https://a.test\r\n"));
    assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("access-control-"), "{answer}");
    assert!(backend.heads().is_empty());
}
