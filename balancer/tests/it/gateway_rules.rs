//! What a route asks of a request, what has two readings, and what is promised for the nodes alone.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use skep_balancer::core::settings::{Network, Settings};

use crate::harness::*;
use crate::http2;

fn routed(document: &str) -> (Scripted, Balancer) {
    let backend = Scripted::plain("app");
    let balancer = Balancer::start(&[backend.address]);
    let services = "services.app.urls = [\"http://127.0.0.1:1\"]\n";
    balancer.route(&format!("{services}{document}"), &[("app", &[backend.address])]);
    (backend, balancer)
}

/// Whoever behind it reads a path otherwise would see another than was matched.
#[test]
fn a_path_with_two_readings_is_refused_once_there_are_routes() {
    let (backend, balancer) =
        routed("routes.app = {match.path = \"/app\", service = \"app\", strip_prefix = true}\n");
    for target in [
        "/app/../admin",
        "/app../admin/..",
        "/app/%2e%2e/admin",
        "/app/.%2E/admin",
        "/app%2f..%2fadmin",
        "/app%2Fx",
        "/app%5c..",
        "/app\\x",
        "/app/%00",
        "/app/%",
        "/app/%g0",
        "/app//x",
        "//app/x",
        "/app/..;/x",
        "/app/..%3b/x",
        "/./app",
        "/elsewhere/../app",
    ] {
        let answer = balancer.ask(&get_and_close(target));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(answer.contains("urn:skep:problem:ambiguous-path"), "{target}: {answer}");
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    // Whole segments alone are cut, and what is encoded for a reason stays so.
    for (target, sent) in
        [("/app..", "/app.."), ("/app/%3f%23%252e", "/%3F%23%252e"), ("/app?/../x", "/?/../x")]
    {
        let answer = balancer.ask(&get_and_close(target));
        assert!(answer.ends_with(&format!("app {sent}")), "{target}: {answer}");
    }
}

#[test]
fn who_is_denied_gets_403_and_only_a_trusted_proxy_says_who_asks() {
    let guard = "routes.app = {service = \"app\", addresses = {allow = [\"192.0.2.0/24\", \"127.0.0.0/8\"], deny = [\"192.0.2.66\"]}}\n";
    let (_, balancer) = routed(guard);
    let asks = |balancer: &Balancer, client: &str| {
        let answer = balancer.ask(&format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: {client}\r\n\r\n"
        ));
        answer[9..12].to_owned()
    };
    assert_eq!(asks(&balancer, "192.0.2.66"), "200", "a stranger says nothing of whom it is");
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    let settings = Settings { trusted, ..Settings::default() };
    balancer.shared.settings.store(Arc::new(settings));
    wait("the proxy is trusted", || asks(&balancer, "203.0.113.1") == "403");
    for (client, status) in [("192.0.2.1", "200"), ("192.0.2.66", "403"), ("192.0.2.1, 192.0.2.66", "403")] {
        assert_eq!(asks(&balancer, client), status, "{client}");
    }
}

#[test]
fn what_a_guarded_route_to_the_nodes_refuses_is_reached_by_no_other_path() {
    let backend = Scripted::plain("n");
    let balancer = Balancer::start(&[backend.address]);
    let guarded =
        "routes.r = {match.path = \"/api\", service = \"skep\", addresses.deny = [\"127.0.0.1\"]}\n";
    balancer.route(guarded, &[]);
    for (target, status) in [("/api", "403"), ("/%61pi/x", "403"), ("/", "404"), ("/apix", "404")] {
        let answer = balancer.ask(&get_and_close(target));
        assert_eq!(&answer[9..12], status, "{target}");
    }
    assert!(backend.heads().is_empty());
    balancer.route(&format!("unmatched = \"skep\"\n{guarded}"), &[]);
    assert!(balancer.ask(&get_and_close("/apix")).ends_with("n /apix"));
}

#[test]
fn plain_http_is_sent_to_https_and_https_is_served() {
    let (_, balancer) = routed("routes.app = {service = \"app\", https_only = true}\n");
    let answer = balancer
        .ask("POST /x?y HTTP/1.1\r\nhost: A.test:80\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
    assert!(answer.contains("\r\nlocation: https://a.test/x?y\r\n"), "{answer}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = http2::tls(balancer.https, b"http/1.1").await;
        stream.write_all(get_and_close("/x").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.ends_with("app /x"), "{answer}");
}

#[test]
fn a_route_in_maintenance_says_when_to_come_again_and_lets_its_testers_in() {
    let (_, balancer) = routed(
        "routes.closed = {match.path = \"/a\", service = \"app\", maintenance = {retry_after_s = 120}}\n\
         routes.open = {match.path = \"/b\", service = \"app\", maintenance = {allow = [\"127.0.0.1\"]}}\n",
    );
    let answer = balancer.ask(&get_and_close("/a"));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 120\r\n"), "{answer}");
    assert!(answer.contains("urn:skep:problem:maintenance"), "{answer}");
    assert!(balancer.ask(&get_and_close("/b")).ends_with("app /b"));
}

#[test]
fn a_redirect_leads_to_where_the_document_says() {
    let (_, balancer) = routed(
        "routes.old = {match.exact_path = \"/old\", redirect = {path = \"/new\", status = 301}}\n\
         routes.host = {match.path = \"/docs\", redirect = {scheme = \"https\", host = \"docs.test\", status = 307}}\n",
    );
    let answer = balancer.ask(&get_and_close("/old"));
    assert!(answer.starts_with("HTTP/1.1 301 ") && answer.contains("\r\nlocation: /new\r\n"), "{answer}");
    let answer = balancer.ask(&get_and_close("/docs/a?b"));
    assert!(answer.contains("\r\nlocation: https://docs.test/docs/a?b\r\n"), "{answer}");
    // The connection goes on behind it.
    let mut client = balancer.client();
    for _ in 0..2 {
        client.send(get("/old"));
        assert!(client.answer().0.starts_with("HTTP/1.1 301 "));
    }
}

#[test]
fn a_body_that_is_larger_than_a_route_admits_is_refused_however_it_is_framed() {
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.contains("content-length: 4") {
                served.body(4);
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let balancer = Balancer::start(&[]);
    let document = "services.app.urls = [\"http://127.0.0.1:1\"]\n\
                    routes.app = {service = \"app\", max_body = \"4\"}\n";
    balancer.route(document, &[("app", &[backend.address])]);
    let post = |framing: &str, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{framing}\r\n\r\n");
        balancer.ask(&format!("{head}{body}"))
    };
    assert!(post("content-length: 4", "abcd").starts_with("HTTP/1.1 200 "));
    assert!(post("content-length: 5", "abcde").starts_with("HTTP/1.1 413 "));
    assert!(post("transfer-encoding: chunked", "5\r\nabcde\r\n0\r\n\r\n").starts_with("HTTP/1.1 413 "));
}

/// Their API says that storing a message twice is storing it once; nobody else's does.
#[test]
fn what_the_nodes_promise_is_believed_of_no_other_service() {
    // Takes the request, and is gone.
    let lost = || Scripted::start(|served| drop(served.head()));
    let (one, two) = (lost(), lost());
    let balancer = Balancer::start(&[]);
    let document = "services.app.urls = [\"http://127.0.0.1:1\"]\nroutes.app.service = \"app\"\n";
    balancer.route(document, &[("app", &[one.address, two.address])]);
    let post = "POST /messages HTTP/1.1\r\nhost: a\r\nidempotency-key: 1\r\ncontent-length: 2\r\n\r\nhi";
    let mut client = balancer.client();
    client.send(post);
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 502 "));
    assert_eq!(one.heads().len() + two.heads().len(), 1, "it is not sent again");
    // Nor does its word that it did nothing count: any server may say that.
    let decline = || {
        Scripted::start(|served| {
            while served.head().is_some() {
                served.body(2);
                served.send("HTTP/1.1 503 X\r\nskep-unprocessed: 1\r\ncontent-length: 0\r\n\r\n");
            }
        })
    };
    let (one, two) = (decline(), decline());
    balancer.route(document, &[("app", &[one.address, two.address])]);
    let mut client = balancer.client();
    client.send(post);
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 503 "));
    assert_eq!(one.heads().len() + two.heads().len(), 1);
}

#[test]
fn by_a_route_to_them_the_nodes_promises_hold() {
    let lost = Scripted::start(|served| drop(served.head()));
    let well = Scripted::start(|served| {
        while served.head().is_some() {
            served.body(2);
            served.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route("routes.api = {match.path = \"/api\", service = \"skep\", strip_prefix = true}\n", &[]);
    balancer.set(&[lost.address, well.address], Some(0));
    let mut client = balancer.client();
    client.send("POST /api/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 201 "));
    assert_eq!(well.heads().len(), 1);
    assert!(well.heads()[0].starts_with("POST /messages "), "{:?}", well.heads());
}

#[test]
fn a_service_has_a_limit_of_its_own_and_what_waits_for_it_holds_up_no_other() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let slow = Scripted::start(move |served| {
        while served.head().is_some() {
            let _ = gate.lock().unwrap().recv();
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let fast = Scripted::plain("fast");
    // Longer than a busy machine takes for what comes beside it.
    let queue_timeout = std::time::Duration::from_secs(15);
    let balancer = Balancer::with(&[], Settings { queue_timeout, ..Settings::default() });
    let document = "services.slow.urls = [\"http://127.0.0.1:1\"]\nservices.fast.urls = [\"http://127.0.0.1:1\"]\n\
                    routes.slow = {match.path = \"/slow\", service = \"slow\"}\nroutes.fast.service = \"fast\"\n";
    balancer.route(document, &[("slow", &[slow.address]), ("fast", &[fast.address])]);
    let pools = balancer.shared.each_pool();
    let pool = pools.iter().find(|it| it.name == "slow").unwrap();
    pool.limits.in_flight_max.store(1, Relaxed);
    pool.limits.queue_max.store(1, Relaxed);
    let (mut first, mut second) = (balancer.client(), balancer.client());
    first.send(get("/slow"));
    wait("it is there", || slow.heads().len() == 1);
    second.send(get("/slow"));
    wait("another waits", || pool.waiting.load(Relaxed) == 1);
    assert!(balancer.ask(&get_and_close("/slow")).starts_with("HTTP/1.1 503 "), "the queue is full");
    assert!(balancer.ask(&get_and_close("/x")).ends_with("fast /x"));
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert!(first.answer().0.starts_with("HTTP/1.1 200 ") && second.answer().0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_page_of_an_origin_that_is_named_may_ask_and_read_and_no_other() {
    let backend = Scripted::start(|served| {
        while served.head().is_some() {
            served.send("HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nx-sum: 1\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let balancer = Balancer::start(&[]);
    let document = r#"
        services.app.urls = ["http://127.0.0.1:1"]
        [routes.app]
        match = {path = "/app", methods = ["PUT"]}
        service = "app"
        cors = {origins = ["https://a.test"], methods = ["PUT"], headers = ["x-key"], expose = ["x-sum"], credentials = true}
        [routes.other]
        match.path = "/app"
        service = "app"
    "#;
    balancer.route(document, &[("app", &[backend.address])]);
    let ask = |method: &str, fields: &str| {
        balancer.ask(&format!("{method} /app HTTP/1.1\r\nhost: b\r\nconnection: close\r\n{fields}\r\n"))
    };
    let preflight = |origin: &str, method: &str| {
        ask("OPTIONS", &format!("origin: {origin}\r\naccess-control-request-method: {method}\r\n"))
    };
    let answer = preflight("https://a.test", "PUT");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for field in [
        "access-control-allow-origin: https://a.test\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-allow-methods: PUT\r\n",
        "access-control-allow-headers: x-key\r\n",
        "vary: origin\r\n",
    ] {
        assert!(answer.contains(field), "{field} in {answer}");
    }
    let answer = preflight("https://evil.test", "PUT");
    assert!(answer.contains("vary: origin") && !answer.contains("access-control-"), "{answer}");
    assert!(backend.heads().is_empty(), "what is asked beforehand is answered here");
    let answer = ask("PUT", "origin: https://a.test\r\n");
    assert_eq!(answer.matches("access-control-allow-origin").count(), 1, "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://a.test\r\n"), "{answer}");
    assert!(
        answer.contains("access-control-expose-headers: x-sum\r\n") && answer.ends_with("ok"),
        "{answer}"
    );
    let answer = ask("PUT", "origin: https://evil.test\r\n");
    assert!(!answer.contains("access-control-") && answer.ends_with("ok"), "{answer}");
    // By a route that says nothing of origins, the service's own word stands.
    assert!(preflight("https://a.test", "GET").contains("access-control-allow-origin: *\r\n"));
}
