//! Pages of other origins read what the balancer itself answers by a route that is for them, over both protocols.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::net::TcpStream;

use crate::harness::*;
use crate::http2::{self, Body, full, h2};

const ROUTES: &str = r#"
    services.app.urls = ["http://127.0.0.1:1"]
    services.dead.urls = ["http://127.0.0.1:1"]
    services.none.urls = ["http://127.0.0.1:1"]
    services.lost.urls = ["http://127.0.0.1:1"]
    services.slow = {urls = ["http://127.0.0.1:1"], timeout = "200ms"}
    services.git.urls = ["http://127.0.0.1:2"]
    consumers.bob = {keys = ["bob-has-this-key-00001"]}
    defaults.cors = {origins = ["https://a.test"], expose = ["retry-after"], credentials = true}
    [routes]
    small = {match.path = "/small", service = "app", max_body = "4"}
    dead = {match.path = "/dead", service = "dead"}
    none = {match.path = "/none", service = "none"}
    lost = {match.path = "/lost", service = "lost"}
    slow = {match.path = "/slow", service = "slow"}
    shut = {match.path = "/shut", service = "app", maintenance = true}
    denied = {match.path = "/denied", service = "app", addresses.deny = ["127.0.0.1"]}
    keys = {match.path = "/keys", service = "app", auth = {keys = true, groups = ["staff"]}}
    often = {match.path = "/often", service = "app", limits = [{rate = 1, per = "hour", by = "route"}]}
    moved = {match.path = "/moved", redirect.path = "/there"}
    cut = {match.path = "/cut", service = "app", strip_prefix = true}
    git = {match = {path = "/git", raw = true}, service = "git"}
    any = {match.path = "/any", service = "none", cors.origins = ["*"]}
    own = {match.path = "/own", service = "none", cors = false}
"#;

/// A request, and the status of its answer.
struct Asked {
    method: &'static str,
    target: &'static str,
    key: Option<&'static str>,
    body: &'static str,
    /// Its length is said beforehand.
    told: bool,
    status: u16,
}

const fn asked(method: &'static str, target: &'static str, status: u16) -> Asked {
    Asked { method, target, key: None, body: "", told: true, status }
}

const BOB: Option<&str> = Some("bob-has-this-key-00001");

/// All that is answered by a route once it is known which one that is.
const ALL: [Asked; 16] = [
    Asked { body: "abcde", ..asked("POST", "/small", 413) },
    Asked { body: "abcde", told: false, ..asked("POST", "/small", 413) },
    asked("GET", "/dead", 503),
    asked("HEAD", "/dead", 503),
    asked("GET", "/none", 503),
    asked("POST", "/lost", 502),
    asked("GET", "/slow", 504),
    asked("GET", "/shut", 503),
    asked("GET", "/denied", 403),
    asked("GET", "/keys", 401),
    Asked { key: BOB, ..asked("GET", "/keys", 403) },
    asked("GET", "/often", 429),
    asked("GET", "/moved", 302),
    asked("GET", "/cut/-/gateway/watch", 404),
    asked("GET", "/cut/a%2Fb", 400),
    asked("GET", "/%67it/a", 400),
];

/// The balancer, and who answers behind it as they are to be seen to fail.
fn routed() -> (Balancer, [Scripted; 3]) {
    let app = Scripted::plain("app");
    let lost = Scripted::start(|served| drop(served.head()));
    // Takes the request, and says nothing until its client is gone.
    let slow = Scripted::start(|served| while served.head().is_some() {});
    let balancer = Balancer::start(&[]);
    let (dead, none) = (Scripted::refused(), []);
    balancer.route(
        ROUTES,
        &[
            ("app", &[app.address]),
            ("dead", &[dead]),
            ("none", &none),
            ("lost", &[lost.address]),
            ("slow", &[slow.address]),
            ("git", &[app.address]),
        ],
    );
    (balancer, [app, lost, slow])
}

/// The status and the fields of an answer, their names in lower case.
type Answer = (u16, Vec<(String, String)>);

fn http1(balancer: &Balancer, asked: &Asked, origin: &str) -> Answer {
    let Asked { method, target, key, body, told, .. } = asked;
    let key = key.map(|it| format!("x-api-key: {it}\r\n")).unwrap_or_default();
    let (framing, body) = match told {
        true => (format!("content-length: {}", body.len()), (*body).to_owned()),
        false => {
            ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
        }
    };
    let mut client = balancer.client();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\n{key}connection: close\r\n{framing}\r\n\r\n{body}"
    ));
    let answer = client.rest_or_reset();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert_eq!(*method == "HEAD", body.is_empty() && !head.contains("content-length: 0"), "{answer}");
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (answer[9..12].parse().unwrap(), fields.collect())
}

async fn over_http2(balancer: &Balancer, asked: &Asked, origin: &str) -> Answer {
    let mut sender = h2(TcpStream::connect(balancer.http).await.unwrap()).await;
    let body: Body = match asked.told {
        true => full(asked.body),
        false => {
            let frame = Frame::data(Bytes::from_static(asked.body.as_bytes()));
            BodyExt::boxed(StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(frame)])))
        }
    };
    let mut request = http2::request(asked.method, asked.target, body);
    request.headers_mut().insert("origin", origin.parse().unwrap());
    if let Some(key) = asked.key {
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
    }
    let answer = sender.send_request(request).await.unwrap();
    let fields = answer.headers().iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (answer.status().as_u16(), fields.collect())
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.1.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str()).collect()
}

/// What is said of pages: the allowed origin, credentials, what else is to be read, and for whom a cache may keep it.
fn said(answer: &Answer) -> [Vec<&str>; 4] {
    [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-expose-headers",
        "vary",
    ]
    .map(|name| values(answer, name))
}

fn check(asked: &Asked, origin: &str, answer: &Answer) {
    let what = format!("{} {} of {origin}: {answer:?}", asked.method, asked.target);
    assert_eq!(answer.0, asked.status, "{what}");
    let expected = match origin {
        "https://a.test" => [vec!["https://a.test"], vec!["true"], vec!["retry-after"], vec!["origin"]],
        _ => [vec![], vec![], vec![], vec!["origin"]],
    };
    assert_eq!(said(answer), expected, "{what}");
}

const ORIGINS: [&str; 2] = ["https://a.test", "https://evil.test"];

#[test]
fn a_page_that_may_reads_every_answer_of_the_balancers_own_over_http1() {
    let (balancer, _services) = routed();
    http1(&balancer, &asked("GET", "/often", 0), "https://a.test");
    for asked in &ALL {
        for origin in ORIGINS {
            check(asked, origin, &http1(&balancer, asked, origin));
        }
    }
    // Any page, and none that is told: as the service's own answers.
    let any = http1(&balancer, &asked("GET", "/any", 503), "https://b.test");
    assert_eq!(said(&any), [vec!["*"], vec![], vec![], vec![]]);
    let own = http1(&balancer, &asked("GET", "/own", 503), "https://a.test");
    assert_eq!((own.0, said(&own)), (503, [vec![], vec![], vec![], vec![]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_may_reads_every_answer_of_the_balancers_own_over_http2() {
    let (balancer, _services) = routed();
    over_http2(&balancer, &asked("GET", "/often", 0), "https://a.test").await;
    for asked in &ALL {
        for origin in ORIGINS {
            check(asked, origin, &over_http2(&balancer, asked, origin).await);
        }
    }
}
