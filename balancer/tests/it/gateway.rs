//! Routes: where requests go, what is sent of them, and what no route has.

use std::io::Read;
use std::net::Shutdown;
use std::sync::atomic::Ordering::SeqCst;

use crate::harness::*;
use crate::http2_streams;

/// Of R1: a reader and a writer, each below its path, as its gateway cut it.
const R1: &str = r#"
    services.reader.urls = ["http://127.0.0.1:1"]
    services.writer.urls = ["http://127.0.0.1:1"]
    [routes.read]
    match.path = "/read"
    service = "reader"
    strip_prefix = true
    [routes.write]
    match = {path = "/write", methods = ["POST", "PUT"]}
    service = "writer"
    strip_prefix = true
"#;

fn of_host(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn a_request_goes_where_its_route_says_and_what_no_route_has_to_the_nodes_as_it_came() {
    let (nodes, reader, writer) = (Scripted::plain("n"), Scripted::plain("r"), Scripted::plain("w"));
    let balancer = Balancer::start(&[nodes.address]);
    balancer.route(R1, &[("reader", &[reader.address]), ("writer", &[writer.address])]);
    for (target, expected) in [
        ("/read", "r /"),
        ("/read/", "r /"),
        ("/read/a/b?c=%2f..", "r /a/b?c=%2f.."),
        ("/re%61d/%7ea", "r /~a"),
        ("/reader", "n /reader"),
        ("/write", "n /write"),
        ("/messages/%41?x", "n /messages/%41?x"),
        ("/", "n /"),
    ] {
        assert_eq!(body(&balancer.ask(&get_and_close(target))), expected, "{target}");
    }
    let absolute = "GET http://a/read/x HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n";
    assert_eq!(body(&balancer.ask(absolute)), "r /x");
    let post = get_and_close("/write/x").replace("GET", "POST");
    assert_eq!(body(&balancer.ask(&post)), "w /x");
    assert!(balancer.ask("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ends_with("n *"));
}

#[test]
fn without_a_gateway_nothing_is_read_of_a_path() {
    let nodes = Scripted::plain("n");
    let balancer = Balancer::start(&[nodes.address]);
    for target in ["/a//b", "/a/../b", "/%2e%2e/a%2fb", "/..;/x"] {
        assert_eq!(body(&balancer.ask(&get_and_close(target))), format!("n {target}"));
    }
}

#[test]
fn hosts_are_told_apart_without_case_port_or_last_dot() {
    let (nodes, one, all) = (Scripted::plain("n"), Scripted::plain("one"), Scripted::plain("all"));
    let balancer = Balancer::start(&[nodes.address]);
    let document = r#"
        services.one.urls = ["http://127.0.0.1:1"]
        services.all.urls = ["http://127.0.0.1:1"]
        routes.one = {match.hosts = ["api.example.org"], service = "one"}
        routes.all = {match.hosts = ["*.example.org"], service = "all"}
    "#;
    balancer.route(document, &[("one", &[one.address]), ("all", &[all.address])]);
    for (host, expected) in [
        ("api.example.org", "one /"),
        ("API.Example.ORG:8080", "one /"),
        ("api.example.org.", "one /"),
        ("a.b.example.org", "all /"),
        ("example.org", "n /"),
        ("api.example.org.evil.test", "n /"),
    ] {
        assert_eq!(body(&balancer.ask(&of_host(host, "/"))), expected, "{host}");
    }
}

#[test]
fn a_share_of_the_requests_goes_to_each_service_by_its_weight() {
    let (blue, green) = (Scripted::plain("blue"), Scripted::plain("green"));
    let balancer = Balancer::start(&[]);
    let document = r#"
        services.blue.urls = ["http://127.0.0.1:1"]
        services.green.urls = ["http://127.0.0.1:1"]
        routes.r.services = {blue = 3, green = 1}
    "#;
    balancer.route(document, &[("blue", &[blue.address]), ("green", &[green.address])]);
    let mut client = balancer.client();
    let asks = 800;
    let mut greens = 0;
    for _ in 0..asks {
        client.send(get("/"));
        greens += usize::from(client.answer().1.starts_with("green"));
    }
    // Six deviations either way.
    assert!((127..273).contains(&greens), "{greens} of {asks}");
}

#[test]
fn a_head_is_edited_on_both_ways_and_what_is_set_comes_in_no_other_spelling() {
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            served.send("HTTP/1.1 200 OK\r\nserver: x\r\nX-Powered-By: y\r\nset-cookie: a=1\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let balancer = Balancer::start(&[]);
    let document = r#"
        services.app = {urls = ["http://app.test:8080"], host = "upstream"}
        [routes.app]
        match.path = "/app"
        service = "app"
        strip_prefix = true
        request_headers = {set = {x-forwarded-prefix = "/app", x-user = "nobody"}, add = {x-via = "gateway"}, remove = ["cookie"]}
        response_headers = {remove = ["server", "x-powered-by"], set = {cache-control = "no-store"}, add = {set-cookie = "b=2"}}
    "#;
    balancer.route(document, &[("app", &[backend.address])]);
    let answer = balancer.ask(
        "GET /app/x HTTP/1.1\r\nhost: a.test\r\nconnection: close, x-hop\r\nx-hop: 1\r\nX-User: root\r\nx_user: root\r\n\
         x-via: client\r\ncookie: c=3\r\nx-forwarded-prefix: /evil\r\nX-Consumer-Id: admin\r\nx_consumer_id: admin\r\n\
         x-consumer-groups: all\r\naccept: */*\r\n\r\n",
    );
    let head = backend.heads().remove(0);
    assert!(head.starts_with("GET /x HTTP/1.1\r\nhost: app.test:8080\r\n"), "{head}");
    assert!(head.contains("x-forwarded-host: a.test\r\n"), "{head}");
    assert_eq!(head.matches("x-via: ").count(), 2, "{head}");
    for (name, value) in [("x-user", "nobody"), ("x-forwarded-prefix", "/app"), ("accept", "*/*")] {
        let values: Vec<&str> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(it, _)| it.replace('_', "-").eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(values, [value], "{name} in {head}");
    }
    let folded = head.to_ascii_lowercase().replace('_', "-");
    for fallen in ["cookie", "x-consumer", "x-hop", "/evil", "root"] {
        assert!(!folded.contains(fallen), "{fallen} in {head}");
    }
    let lower = answer.to_ascii_lowercase();
    assert!(!lower.contains("server:") && !lower.contains("x-powered-by"), "{answer}");
    assert!(lower.contains("cache-control: no-store\r\n") && lower.ends_with("ok"), "{answer}");
    assert!(lower.contains("set-cookie: a=1\r\n") && lower.contains("set-cookie: b=2\r\n"), "{answer}");
}

#[test]
fn what_a_client_takes_off_by_connection_does_not_take_off_what_a_route_sets() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[]);
    let document = "services.app.urls = [\"http://127.0.0.1:1\"]\n\
                    [routes.app]\nservice = \"app\"\nrequest_headers.set = {x-user = \"nobody\"}\n";
    balancer.route(document, &[("app", &[backend.address])]);
    balancer.ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: close, x-user\r\nx-user: root\r\n\r\n");
    let head = backend.heads().remove(0);
    assert!(head.contains("x-user: nobody\r\n") && !head.contains("root"), "{head}");
}

#[tokio::test]
async fn http2_clients_go_by_routes_too() {
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            let target = head.split(' ').nth(1).unwrap();
            served.send(format!(
                "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: {}\r\n\r\n{target}",
                target.len()
            ));
        }
    });
    let balancer = Balancer::start(&[]);
    let document = r#"
        services.app.urls = ["http://127.0.0.1:1"]
        [routes.app]
        match = {hosts = ["a.test"], path = "/app"}
        service = "app"
        strip_prefix = true
        request_headers.set = {x-user = "nobody"}
        response_headers = {remove = ["server"], set = {x-frame-options = "DENY"}}
        [routes.closed]
        match.path = "/closed"
        service = "app"
        maintenance = {retry_after_s = 7}
    "#;
    balancer.route(document, &[("app", &[backend.address])]);
    let (sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(http2_streams::request("GET", "/app/x?y"), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-frame-options"], "DENY");
    assert!(!answer.headers().contains_key("server"));
    let head = backend.heads().remove(0);
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n") && head.contains("x-user: nobody\r\n"), "{head}");
    for (path, status) in [("/closed", 503), ("/app//x", 400), ("/app/%2e%2e/x", 400)] {
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(http2_streams::request("GET", path), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers().get("retry-after").is_some(), status == 503);
    }
}

/// Answers as a WebSocket's server would, and then says what it hears.
fn echoing() -> Scripted {
    Scripted::start(|served| {
        let head = served.head().unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        while let Ok(1..) = served.stream.read(&mut [0; 4]) {
            served.send(format!("{target};"));
        }
    })
}

#[test]
fn a_websocket_goes_by_a_route_and_lives_when_the_routes_change() {
    let (backend, other) = (echoing(), Scripted::plain("other"));
    let balancer = Balancer::start(&[]);
    balancer.route(R1, &[("reader", &[backend.address]), ("writer", &[backend.address])]);
    let mut client = balancer.client();
    client.send("GET /read/live HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    client.send("ping");
    client.until("/live;");
    // Neither its route nor its service is there any more.
    balancer.route(
        "services.other.urls = [\"http://127.0.0.1:1\"]\nroutes.other.service = \"other\"\n",
        &[("other", &[other.address])],
    );
    assert_eq!(body(&balancer.ask(&get_and_close("/read"))), "other /read");
    client.send("ping");
    client.until("/live;");
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "");
}

#[test]
fn a_service_that_keeps_its_name_keeps_its_connections_when_the_routes_change() {
    let backend = Scripted::plain("b");
    let balancer = Balancer::start(&[]);
    let document = "services.app.urls = [\"http://127.0.0.1:1\"]\nroutes.one.service = \"app\"\n";
    balancer.route(document, &[("app", &[backend.address])]);
    assert_eq!(body(&balancer.ask(&get_and_close("/"))), "b /");
    let other = document.replace("routes.one", "routes.two.strip_prefix = true\nroutes.two");
    balancer.route(&other, &[]);
    assert_eq!(body(&balancer.ask(&get_and_close("/"))), "b /");
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_websocket_over_http2_goes_by_a_route() {
    let backend = echoing();
    let balancer = Balancer::start(&[]);
    balancer.route(R1, &[("reader", &[backend.address]), ("writer", &[backend.address])]);
    let (sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut request = http2_streams::request("CONNECT", "/read/live");
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, mut send) = sender.send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    send.send_data("ping".into(), false).unwrap();
    let mut received = answer.into_body();
    assert_eq!(&received.data().await.unwrap().unwrap()[..], b"/live;");
}
