//! The ways of a question whether a request may go on: servers that are away, clients that leave, circles, other protocols.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use skep_balancer::core::settings::{Network, Settings};

use crate::gateway_cache::status;
use crate::gateway_forward_auth::{DOCUMENT, answer, asking, serving, values};
use crate::harness::*;
use crate::http2::{full, h2, request, tls};

#[test]
fn the_question_of_a_client_that_leaves_is_taken_back() {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    let login = Scripted::start(move |served| {
        served.head();
        // Its end, and nothing else.
        seen.store(served.head().is_none(), SeqCst);
    });
    let balancer = Balancer::start(&[]);
    let document = DOCUMENT.replace("500ms", "30s");
    balancer.route(&document, &[("app", &[]), ("login", &[login.address])]);
    let client = balancer.client();
    {
        let mut client = client;
        client.send(asking("/app", ""));
        wait("the service is asked", || !login.heads().is_empty());
        // A reset: one that says no more may still listen.
        socket2::SockRef::from(&client.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    wait("the question is taken back", || ended.load(SeqCst));
    let routes = balancer.shared.routes.load_full().unwrap();
    let pool = routes.pools.iter().find(|it| it.name == "login").unwrap();
    let busy = || pool.load().serving[0].stats.outstanding.load(SeqCst);
    wait("nothing is held", || busy() == 0);
}

#[test]
fn another_server_is_asked_where_one_cannot_be_reached_and_again_where_a_connection_ends() {
    let (balancer, login, _) = serving();
    balancer.route(DOCUMENT, &[("login", &[Scripted::refused(), login.address])]);
    for _ in 0..8 {
        assert_eq!(status(&balancer.ask(&asking("/app", ""))), "200");
    }
    // One that ends each connection after its first answer, as if it had idled for too long.
    let short = Scripted::start(|served| {
        if let Some(head) = served.head() {
            served.send(answer(&head));
            served.head();
        }
    });
    balancer.route(DOCUMENT, &[("login", &[short.address])]);
    for _ in 0..4 {
        assert_eq!(status(&balancer.ask(&asking("/app", ""))), "200");
    }
}

#[test]
fn a_question_that_comes_to_who_would_ask_in_turn_goes_round_once() {
    let (balancer, _, app) = serving();
    // The service that is asked is the balancer itself, by a route that asks, too.
    let document = DOCUMENT
        .replace("[routes.bare]", "[routes.auth]\nmatch.path = \"/auth\"\nservice = \"app\"\n[routes.bare]");
    let itself: &[SocketAddr] = &[balancer.http];
    balancer.route(&document, &[("login", itself)]);
    let answer = balancer.ask(&asking("/app", ""));
    assert_eq!(status(&answer), "503", "{answer}");
    assert_eq!(balancer.stats.asks_failed.get(), 1);
    assert!(app.heads().is_empty());
    let forged = balancer.ask(&asking("/app", "x-skep-ask: 1\r\n"));
    assert!(status(&forged) == "503" && forged.contains("round in circles"), "{forged}");
}

#[test]
fn a_request_that_waits_is_asked_for_anew_where_the_document_changes_what_is_asked() {
    let open = Arc::new(AtomicBool::new(false));
    let may = open.clone();
    let login = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            wait("the document has changed", || may.load(SeqCst));
            served.send(answer(&head));
        }
    });
    let app = Scripted::plain("app");
    let balancer = Balancer::start(&[]);
    let document = DOCUMENT.replace("500ms", "20s");
    balancer.route(&document, &[("app", &[app.address]), ("login", &[login.address])]);
    let mut client = balancer.client();
    client.send(asking("/app", ""));
    wait("the service is asked", || !login.heads().is_empty());
    balancer.route(&document.replace("/auth?for=app", "/other"), &[]);
    open.store(true, SeqCst);
    assert_eq!(status(&client.rest()), "200");
    let targets: Vec<String> =
        login.heads().iter().map(|it| it.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(targets, ["/auth?for=app", "/other"], "what was said of another question says nothing");
}

#[test]
fn a_trusted_proxy_says_for_whom_it_asks_and_not_about_what() {
    let login = Scripted::plain("login");
    let app = Scripted::plain("app");
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    let balancer = Balancer::with(&[], Settings { trusted, ..Settings::default() });
    balancer.route(DOCUMENT, &[("app", &[app.address]), ("login", &[login.address])]);
    let said = "x-forwarded-host: open.test\r\nx-forwarded-uri: /open\r\nx-forwarded-method: HEAD\r\n\
                x-original-url: https://open.test/open\r\nx-original-method: HEAD\r\nremote-user: root\r\n\
                x-forwarded-user: root\r\nforwarded: host=open.test\r\nx-forwarded-for: 192.0.2.7\r\n\
                x-forwarded-proto: https\r\n";
    assert_eq!(status(&balancer.ask(&asking("/app/x", said))), "200");
    let question = &login.heads()[0];
    for (name, expected) in [
        ("x-forwarded-host", &["a"][..]),
        ("x-forwarded-uri", &["/app/x"]),
        ("x-forwarded-method", &["GET"]),
        ("x-forwarded-for", &["192.0.2.7", "127.0.0.1"]),
        ("x-forwarded-proto", &["https"]),
    ] {
        assert_eq!(values(question, name), expected, "{name}: {question}");
    }
    assert!(!question.contains("open") && !question.contains("root"), "{question}");
}

#[test]
fn what_is_beyond_its_time_is_validated_for_who_may_have_it() {
    let (balancer, _, _) = serving();
    let app = Scripted::start(|served| {
        while served.head().is_some() {
            let control = "cache-control: public, max-age=0, stale-while-revalidate=60";
            served
                .send(format!("HTTP/1.1 200 OK\r\n{control}\r\netag: \"a\"\r\ncontent-length: 2\r\n\r\nhi"));
        }
    });
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    for number in 1..=3 {
        let answer = balancer.ask(&asking("/stored", ""));
        assert!(answer.ends_with("hi") && !answer.contains("revalidating"), "{answer}");
        assert_eq!(app.heads().len(), number, "nobody else would ask for it anew");
    }
}

#[test]
fn a_websocket_waits_for_the_word_like_any_request() {
    let (balancer, login, _) = serving();
    let app = Scripted::start(|served| {
        let head = served.head().unwrap();
        assert!(head.contains("x-user: ann"), "{head}");
        served.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let text = served.body(2);
        served.send(text);
    });
    balancer.route(DOCUMENT, &[("app", &[app.address])]);
    let upgrade = |cookie: &str| {
        format!(
            "GET /app HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
    };
    assert_eq!(
        status(&balancer.ask(&upgrade("no").replace("upgrade\r\nupgrade", "upgrade, close\r\nupgrade"))),
        "401"
    );
    let mut client = balancer.client();
    client.send(upgrade("ok"));
    assert_eq!(status(&client.until("\r\n\r\n")), "101");
    client.send("hi");
    assert_eq!(client.until("hi"), "hi");
    assert!(login.heads().iter().all(|it| values(it, "upgrade").is_empty()));
}

#[tokio::test]
async fn http2_clients_wait_for_the_word_too() {
    let (balancer, login, app) = serving();
    let mut client = h2(tls(balancer.https, b"h2").await).await;
    let ask = |method: &str, cookie: &'static str, body| {
        let mut request = request(method, "/app/x", body);
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("x-user", "root".parse().unwrap());
        request
    };
    let answer = client.send_request(ask("GET", "ok", full(""))).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(values(&app.heads()[0], "x-user"), ["ann"]);
    let [question, head] = [&login, &app].map(|it| it.heads()[0].clone());
    assert_eq!(values(&question, "x-request-id"), values(&head, "x-request-id"));
    let answer = client.send_request(ask("GET", "no", full(""))).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
        (401, &"Login".parse().unwrap())
    );
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "login");
    let answer = client.send_request(ask("GET", "page", full(""))).await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x".repeat(60000));
    for method in ["GET", "OPTIONS", "POST", "DELETE"] {
        let answer = client.send_request(ask(method, "failed", full("hello"))).await.unwrap();
        assert_eq!(answer.status(), 503, "{method}");
    }
    let trailers = [("x-user", "root")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let frames =
        [Frame::data(Bytes::from_static(b"hi")), Frame::trailers(http::HeaderMap::from_iter(trailers))];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
    let answer = client.send_request(ask("POST", "ok", StreamBody::new(frames).boxed())).await;
    assert!(answer.is_err() || answer.unwrap().status() == 400, "no field comes behind a body");
    assert_eq!(app.heads().len(), 1);
}
