//! How often routes may be asked: by address, by consumer, all together; and what is said of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use skep_balancer::core::settings::{Network, Settings};

use crate::harness::*;
use crate::http2_streams;
use crate::process::{Process, ask};

const ALICE: &str = "alice-has-this-key-0001";
const BOB: &str = "bob-has-this-key-000002";

/// A route with a limit of each kind, and one with none. What they let in comes back in half an hour: no test sees it.
const LIMITED: &str = r#"
    services.app.urls = ["http://127.0.0.1:1"]
    consumers.alice = {keys = ["alice-has-this-key-0001"]}
    consumers.bob = {keys = ["bob-has-this-key-000002"]}
    [routes.open]
    match.path = "/open"
    service = "app"
    limits = [{rate = 2, per = "hour", burst = 2, by = "address"}]
    [routes.own]
    match.path = "/own"
    service = "app"
    auth.keys = true
    limits = [{rate = 2, per = "hour", burst = 2, by = "consumer"}, {rate = 5, per = "hour", burst = 5, by = "address"}]
    [routes.all]
    match.path = "/all"
    service = "app"
    limits = [{rate = 2, per = "minute", burst = 9, by = "route"}, {rate = 3, per = "hour", burst = 3, by = "route"}]
    [routes.moved]
    match.path = "/moved"
    redirect.path = "/elsewhere"
    limits = [{rate = 1, per = "hour", by = "route"}]
    [routes.free]
    match.path = "/free"
    service = "app"
"#;

fn routed() -> (Scripted, Balancer) {
    let backend = Scripted::plain("app");
    let balancer = Balancer::start(&[]);
    balancer.route(LIMITED, &[("app", &[backend.address])]);
    (backend, balancer)
}

fn with(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
}

fn keyed(key: &str) -> String {
    with("/own", &format!("x-api-key: {key}\r\n"))
}

fn status(answer: &str) -> &str {
    &answer[9..12]
}

fn value<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut fields = answer.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(its, _)| *its == name).map_or("", |(_, value)| value)
}

/// `r` and `t` of an item of `RateLimit`.
fn left(answer: &str, name: &str) -> (u64, u64) {
    let item =
        value(answer, "ratelimit").split(", ").find_map(|it| it.strip_prefix(&format!("\"{name}\";r=")));
    let (left, seconds) = item.unwrap_or_else(|| panic!("{name}: {answer}")).split_once(";t=").unwrap();
    (left.parse().unwrap(), seconds.parse().unwrap())
}

/// A test takes a while: what it says of time may be less by as much.
fn is_about(seconds: u64, expected: u64) -> bool {
    (expected.saturating_sub(60)..=expected).contains(&seconds)
}

#[test]
fn who_asks_too_often_from_an_address_is_told_when_to_come_again_and_reaches_nobody() {
    let (backend, balancer) = routed();
    for n in 0..2 {
        let answer = balancer.ask(&get_and_close("/open/x"));
        assert_eq!(status(&answer), "200", "{answer}");
        assert_eq!(value(&answer, "ratelimit-policy"), "\"address-hour\";q=2;w=3600;skep-rate=2");
        let (left, full_in) = left(&answer, "address-hour");
        assert!(left == 1 - n && is_about(full_in, 1800 * (n + 1)), "{answer}");
        assert_eq!(value(&answer, "retry-after"), "");
    }
    let answer = balancer.ask(&get_and_close("/open/x"));
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    assert!(answer.contains("\"type\":\"urn:skep:problem:rate-limited\""), "{answer}");
    assert_eq!(value(&answer, "content-type"), "application/problem+json");
    assert_eq!(value(&answer, "cache-control"), "no-store");
    assert_eq!(value(&answer, "ratelimit-policy"), "\"address-hour\";q=2;w=3600;skep-rate=2");
    let seconds: u64 = value(&answer, "retry-after").parse().unwrap();
    assert!(is_about(seconds, 1800), "{answer}");
    assert_eq!(left(&answer, "address-hour"), (0, seconds), "{answer}");
    assert_eq!(backend.heads().len(), 2, "{:?}", backend.heads());
    // Each route counts for itself.
    let free = balancer.ask(&get_and_close("/free"));
    assert!(status(&free) == "200" && !free.contains("ratelimit"), "{free}");
    let routes = balancer.shared.routes.load_full().unwrap();
    let at = routes.table.routes.iter().position(|it| it.name == "open").unwrap();
    assert_eq!(routes.counts[at].limited.each_ref().map(|it| it.load(Relaxed)), [1, 0, 0]);
}

#[test]
fn who_comes_again_when_it_was_told_to_is_let_in() {
    let (_, balancer) = routed();
    balancer.route(
        &LIMITED.replace(
            "rate = 2, per = \"hour\", burst = 2, by = \"address\"",
            "rate = 1, per = \"second\", by = \"address\"",
        ),
        &[],
    );
    let refused = loop {
        let answer = balancer.ask(&get_and_close("/open"));
        if status(&answer) == "429" {
            break answer;
        }
    };
    // Never 0: that would have a client come again at once.
    assert_eq!(value(&refused, "retry-after"), "1");
    wait("it is let in", || status(&balancer.ask(&get_and_close("/open"))) == "200");
}

#[test]
fn each_consumer_has_its_own_and_who_guesses_keys_is_counted_by_its_address() {
    let (backend, balancer) = routed();
    for expected in ["200", "200", "429"] {
        let answer = balancer.ask(&keyed(ALICE));
        assert_eq!(status(&answer), expected, "{answer}");
        let names = ["\"address-hour\"", "\"consumer-hour\""];
        assert!(names.iter().all(|it| value(&answer, "ratelimit-policy").contains(it)), "{answer}");
    }
    // Who is refused by its own limit has spent nothing of its address; who guesses has.
    for (key, expected, spent) in
        [("nobody-has-this-key-1", "401", 3), (BOB, "200", 4), ("nobody-has-this-key-1", "401", 5)]
    {
        let answer = balancer.ask(&keyed(key));
        assert!(status(&answer) == expected && left(&answer, "address-hour").0 == 5 - spent, "{answer}");
    }
    // From here on no key is looked at, good or bad.
    for key in [BOB, "nobody-has-this-key-2"] {
        let answer = balancer.ask(&keyed(key));
        assert!(
            status(&answer) == "429" && value(&answer, "ratelimit").starts_with("\"address-hour\";r=0"),
            "{answer}"
        );
    }
    assert_eq!(balancer.stats.auth_unknown.get(), 2);
    assert_eq!(backend.heads().len(), 3);
}

#[test]
fn what_one_limit_refuses_the_other_does_not_count() {
    let (_, balancer) = routed();
    for _ in 0..3 {
        assert_eq!(status(&balancer.ask(&get_and_close("/all"))), "200");
    }
    // Refused by the hour: of the minute's nine, six are left however often it asks.
    for _ in 0..5 {
        let answer = balancer.ask(&get_and_close("/all"));
        assert!(
            status(&answer) == "429" && is_about(value(&answer, "retry-after").parse().unwrap(), 1200),
            "{answer}"
        );
    }
    let without = LIMITED.replace(", {rate = 3, per = \"hour\", burst = 3, by = \"route\"}", "");
    balancer.route(&without, &[]);
    let answer = balancer.ask(&get_and_close("/all"));
    assert!(status(&answer) == "200" && left(&answer, "route-minute").0 >= 5, "{answer}");
}

#[test]
fn a_redirect_is_limited_like_any_answer() {
    let (_, balancer) = routed();
    let answer = balancer.ask(&get_and_close("/moved"));
    assert!(
        status(&answer) == "302" && value(&answer, "ratelimit").starts_with("\"route-hour\";r=0;"),
        "{answer}"
    );
    assert_eq!(status(&balancer.ask(&get_and_close("/moved"))), "429");
}

#[test]
fn a_change_of_the_document_lets_nobody_in_again() {
    let (backend, balancer) = routed();
    let asks = || status(&balancer.ask(&get_and_close("/open"))).to_owned();
    assert_eq!([(); 3].map(|()| asks()), ["200", "200", "429"]);
    // Another route, another service's server, a policy of the route itself: its limit says what it said.
    let other = LIMITED
        .replace("[routes.free]", "[routes.new]\nmatch.path = \"/new\"\nservice = \"app\"\n[routes.free]");
    let other = other.replace("match.path = \"/open\"", "match.path = \"/open\"\nmax_body = \"4\"");
    balancer.route(&other, &[]);
    assert_eq!(asks(), "429");
    // Away, and back.
    balancer.route("unmatched = \"not-found\"", &[]);
    assert_eq!(asks(), "404");
    balancer.route(LIMITED, &[("app", &[backend.address])]);
    assert_eq!(asks(), "429");
    let changed = LIMITED.replace(
        "rate = 2, per = \"hour\", burst = 2, by = \"address\"",
        "rate = 2, per = \"hour\", burst = 3, by = \"address\"",
    );
    balancer.route(&changed, &[]);
    // By what the limit says now there is room for one more, and no whole burst.
    assert_eq!([(); 2].map(|()| asks()), ["200", "429"]);
}

#[test]
fn whom_a_trusted_proxy_stands_for_is_counted_and_of_ipv6_all_that_one_client_has() {
    let (_, balancer) = routed();
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    balancer.shared.settings.store(Arc::new(Settings { trusted, ..Settings::default() }));
    // From when on is seen by a route that is not for everybody.
    let guarded =
        "[routes.guard]\nmatch.path = \"/guard\"\nservice = \"app\"\naddresses.allow = [\"192.0.2.9\"]\n";
    balancer.route(&format!("{LIMITED}{guarded}"), &[]);
    let is_trusted = || balancer.ask(&with("/guard", "x-forwarded-for: 192.0.2.9\r\n"));
    wait("the proxy is trusted", || status(&is_trusted()) == "200");
    let asks = |client: &str| {
        let answer = balancer.ask(&with("/open", &format!("x-forwarded-for: {client}\r\n")));
        status(&answer).to_owned()
    };
    for (client, expected) in [
        ("2001:db8:0:1::1", "200"),
        ("2001:db8:0:1:ffff::2", "200"),
        ("2001:db8:0:1::3", "429"),
        ("2001:db8:0:2::1", "200"),
        ("192.0.2.1", "200"),
        ("::ffff:192.0.2.1", "200"),
        ("192.0.2.1", "429"),
        ("192.0.2.2", "200"),
    ] {
        assert_eq!(asks(client), expected, "{client}");
    }
}

#[test]
fn who_sends_a_body_too_often_is_refused_before_it_is_asked_for() {
    let (backend, balancer) = routed();
    for _ in 0..2 {
        balancer.ask(&get_and_close("/open"));
    }
    let expects = "POST /open HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    let answer = balancer.ask(expects);
    assert!(status(&answer) == "429" && !answer.contains("100 Continue"), "{answer}");
    assert_eq!(value(&answer, "connection"), "close");
    // One that is here already leaves the connection as it was.
    let mut client = balancer.client();
    for _ in 0..2 {
        client.send("POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
        let (head, _) = client.answer();
        assert!(status(&head) == "429" && value(&head, "connection").is_empty(), "{head}");
    }
    assert_eq!(backend.heads().len(), 2);
}

#[test]
fn a_websocket_is_counted_like_any_request_and_goes_on_once_it_is_there() {
    let backend = Scripted::start(|served| {
        served.head().unwrap();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        served.until("ping");
        served.send("pong");
    });
    let balancer = Balancer::start(&[]);
    balancer.route(LIMITED, &[("app", &[backend.address])]);
    let open = || {
        let mut client = balancer.client();
        client.send("GET /open HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let head = client.until("\r\n\r\n");
        (client, head)
    };
    let (mut first, head) = open();
    assert!(status(&head) == "101" && left(&head, "address-hour").0 == 1, "{head}");
    assert_eq!(status(&open().1), "101");
    assert_eq!(status(&open().1), "429");
    first.send("ping");
    first.until("pong");
}

#[tokio::test]
async fn http2_clients_are_counted_with_the_others() {
    let (backend, balancer) = routed();
    assert_eq!(status(&balancer.ask(&get_and_close("/open"))), "200");
    let (mut sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    for (expected, left) in [(200, "r=0;"), (429, "r=0;")] {
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(http2_streams::request("GET", "/open"), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), expected);
        let field = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(field("ratelimit-policy"), "\"address-hour\";q=2;w=3600;skep-rate=2");
        assert!(field("ratelimit").contains(left), "{answer:?}");
        assert_eq!(answer.headers().contains_key("retry-after"), expected == 429);
    }
    let mut connect = http2_streams::request("CONNECT", "/open");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, _stream) = sender.ready().await.unwrap().send_request(connect, false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 429);
    assert_eq!(backend.heads().len(), 2);
}

#[test]
fn who_was_refused_and_how_full_tables_are_is_seen_by_operators() {
    let backend = Scripted::plain("app");
    let folder = tempfile::tempdir().unwrap();
    let [file, log] = ["gateway.toml", "access.log"].map(|it| folder.path().join(it));
    std::fs::write(&file, LIMITED.replace("127.0.0.1:1\"", &format!("{}\"", backend.address))).unwrap();
    let any = "127.0.0.1:0";
    let [gateway, access] = [&file, &log].map(|it| it.to_str().unwrap());
    let process =
        Process::start(&["--http", any, "--admin", any, "--gateway", gateway, "--access-log", access]);
    process.wait_ready();
    for (request, expected) in [(get_and_close("/open"), 2), (keyed(ALICE), 2)] {
        for n in 0..3 {
            let mut client = Client::connect(process.http);
            client.send(&request);
            let answer = client.rest();
            assert_eq!(status(&answer), if n < expected { "200" } else { "429" }, "{answer}");
        }
    }
    // Read again, it is as it was.
    process.signal("HUP");
    let taken = "skep_balancer_gateway_readings_total{result=\"taken\"} 2";
    wait("it is read again", || ask(process.admin, "/metrics").contains(taken));
    let mut client = Client::connect(process.http);
    client.send(get_and_close("/open"));
    assert_eq!(status(&client.rest()), "429");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait("all are logged", || lines().lines().count() == 7);
    let lines = lines();
    let refused: Vec<&str> = lines.lines().filter(|it| it.contains("\"error\":\"rate-limited\"")).collect();
    assert_eq!(refused.len(), 3, "{lines}");
    assert!(refused.iter().all(|it| it.contains("\"status\":429")), "{lines}");
    // Each core writes its own lines.
    let has = |what: &str| refused.iter().filter(|it| it.contains(what)).count();
    let counts = ["\"route\":\"open\"", "\"route\":\"own\",\"service\":null,\"consumer\":\"alice\""].map(has);
    assert_eq!(counts, [2, 1], "{lines}");
    let metrics = ask(process.admin, "/metrics");
    for shown in [
        "skep_balancer_route_limited_total{route=\"open\",by=\"address\"} 2",
        "skep_balancer_route_limited_total{route=\"own\",by=\"consumer\"} 1",
        "skep_balancer_route_requests_total{route=\"open\",code=\"4xx\"} 2",
        "skep_balancer_limit_keys{table=\"addresses\"} 2.0",
        "skep_balancer_limit_keys{table=\"consumers\"} 1.0",
        "skep_balancer_limit_keys_forgotten_total{table=\"addresses\"} 0",
        "skep_balancer_limit_keys_max{} 65536.0",
    ] {
        assert!(metrics.contains(shown), "{shown}: {metrics}");
    }
    assert!(!metrics.contains("route_limited_total{route=\"all\""), "{metrics}");
    let shown = ask(process.admin, "/gateway");
    assert!(shown.contains("\"2 per hour, 2 at once, by address\""), "{shown}");
    assert!(shown.contains("\"limited\":{\"address\":2}"), "{shown}");
}
