//! Who asks, by a password: who gets through, who does not and what that one is told, and what the service hears of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use skep_gateway::auth::jwt::encode;
use skep_gateway::auth::password::PasswordHash;

use crate::gateway_file::{Document, without_nodes};
use crate::harness::*;
use crate::http2_streams;
use crate::process::ask;

const KEY: &str = "alice-has-this-key-0001";
pub const PASSWORD: &str = "hidden: pässword of alice";
pub const BOBS: &str = "hidden password of bob";

pub fn kept(password: &str) -> String {
    PasswordHash::of(password.as_bytes(), [3; 16]).unwrap().kept()
}

pub static ALICE: LazyLock<String> = LazyLock::new(|| kept(PASSWORD));
pub static BOB: LazyLock<String> = LazyLock::new(|| kept(BOBS));

/// Routes for passwords alone, for keys as well, for a group, and for all; and one whose addresses are counted.
pub fn document() -> String {
    format!(
        r#"
        services.app.urls = ["http://127.0.0.1:1"]
        consumers.alice = {{groups = ["staff"], keys = ["{KEY}"], passwords = [{{user = "Alice A.", password = "{}"}}]}}
        consumers.bob = {{passwords = ["{}"]}}
        [routes.any]
        match.path = "/any"
        service = "app"
        auth.basic = true
        [routes.both]
        match.path = "/both"
        service = "app"
        auth = {{basic = true, keys = true}}
        [routes.staff]
        match.path = "/staff"
        service = "app"
        auth = {{basic = true, groups = ["staff"]}}
        [routes.guarded]
        match.path = "/guarded"
        service = "app"
        auth.basic = true
        limits = [{{rate = 1, per = "hour", by = "address", burst = 2}}]
        [routes.keys]
        match.path = "/keys"
        service = "app"
        auth.keys = true
        [routes.open]
        match.path = "/open"
        service = "app"
        "#,
        *ALICE, *BOB
    )
}

pub fn routed() -> (Scripted, Balancer) {
    let backend = Scripted::plain("app");
    let balancer = Balancer::start(&[]);
    balancer.route(&document(), &[("app", &[backend.address])]);
    (backend, balancer)
}

pub fn with(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
}

fn basic(user: &str, password: &str) -> String {
    let text = encode(format!("{user}:{password}").as_bytes()).replace('-', "+").replace('_', "/");
    let padding = "=".repeat(text.len().next_multiple_of(4) - text.len());
    format!("Basic {text}{padding}")
}

pub fn login(user: &str, password: &str) -> String {
    format!("authorization: {}\r\n", basic(user, password))
}

pub fn looks(balancer: &Balancer) -> [u64; 4] {
    let counts = balancer.shared.passwords.counts();
    let get = |it: &AtomicU64| it.load(Relaxed);
    [get(&counts.right), get(&counts.wrong), get(&counts.limited), get(&counts.full)]
}

#[test]
fn who_has_a_password_gets_there_and_the_service_is_told_who_it_is_and_not_the_password() {
    let (backend, balancer) = routed();
    for (target, fields, consumer) in [
        ("/any/x", login("Alice A.", PASSWORD), "alice"),
        ("/any/x", login("bob", BOBS), "bob"),
        ("/both", login("bob", BOBS).replace("Basic", "bAsIC"), "bob"),
        ("/both", format!("x-api-key: {KEY}\r\n"), "alice"),
        ("/both", format!("authorization: Bearer {KEY}\r\n"), "alice"),
        ("/staff", login("Alice A.", PASSWORD), "alice"),
    ] {
        let forged = "x-consumer-id: root\r\nX_Consumer_Id: root\r\n";
        let answer = balancer.ask(&with(target, &format!("{fields}{forged}")));
        assert!(answer.ends_with(&format!("app {target}")), "{target} {fields}: {answer}");
        let head = backend.heads().pop().unwrap().to_ascii_lowercase();
        assert!(head.contains(&format!("x-consumer-id: {consumer}\r\n")), "{head}");
        assert!(
            !head.contains("authorization") && !head.contains("root") && !head.contains("this-key"),
            "{head}"
        );
    }
    // Each was looked at once, and is known since.
    assert_eq!((looks(&balancer), balancer.shared.passwords.kept()), ([2, 0, 0, 0], 2));
    // Where a route takes none, it is none of the balancer's business.
    assert!(balancer.ask(&with("/open", &login("bob", BOBS))).contains(" 200 "));
    assert!(backend.heads().pop().unwrap().contains("Basic "));
    // A body that waits with its request gets there, and so does what comes behind it.
    let mut client = balancer.client();
    client.send(format!(
        "POST /any HTTP/1.1\r\nhost: a\r\n{0}content-length: 5\r\n\r\nhelloGET /any/2 HTTP/1.1\r\nhost: a\r\n{0}\r\n",
        login("nobody", "wrong password")
    ));
    for _ in 0..2 {
        assert!(client.answer().0.starts_with("HTTP/1.1 401 "));
    }
    balancer.route(&document().replace(&*BOB, &kept("another password of bob")), &[]);
    client.send(format!(
        "POST /any HTTP/1.1\r\nhost: a\r\n{0}content-length: 5\r\n\r\nhelloGET /any/2 HTTP/1.1\r\nhost: a\r\n{0}\r\n",
        login("bob", "another password of bob")
    ));
    assert_eq!((client.answer().1, client.answer().1), ("app /any".to_owned(), "app /any/2".to_owned()));
}

#[test]
fn who_proves_nothing_by_a_password_gets_nowhere_and_is_told_how_it_is_done() {
    let (backend, balancer) = routed();
    let said = "www-authenticate: Basic realm=\"skep\", charset=\"UTF-8\"\r\n";
    let whole = basic("bob", BOBS);
    for (target, fields) in [
        ("/any", String::new()),
        ("/any", login("bob", "hidden password of bop")),
        ("/any", login("bob", "hidden password of bo")),
        ("/any", login("bob", "")),
        ("/any", login("Bob", BOBS)),
        ("/any", login("nobody", BOBS)),
        ("/any", login("", BOBS)),
        ("/any", login("bob", &"x".repeat(9000))),
        ("/any", "authorization: Basic\r\n".into()),
        ("/any", "authorization: Basic Ym9i\r\n".into()),
        ("/any", "authorization: Basic \u{e4}\u{e4}\r\n".into()),
        ("/any", format!("authorization: {}\r\n", whole.trim_end_matches('='))),
        ("/any", format!("authorization: {}\r\n", whole.replace("Basic ", "Basic="))),
        ("/any", format!("authorization: {whole}\r\nauthorization: Basic Ym9i\r\n")),
        ("/any", format!("authorization: {whole}\r\nauthorization: Bearer x\r\n")),
        ("/any", format!("authorization: {whole}, {whole}\r\n")),
        ("/any", format!("proxy-authorization: {whole}\r\n")),
        ("/any", format!("x-api-key: {KEY}\r\n")),
        ("/both", format!("x-api-key: {KEY}\r\nauthorization: {whole}\r\n")),
        ("/any", format!("connection: authorization\r\nauthorization: {whole}\r\n")),
    ] {
        let answer = balancer.ask(&with(target, &fields));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{target} {fields:.80}: {answer}");
        assert!(
            answer.contains(said) && answer.contains("urn:skep:problem:unauthenticated"),
            "{fields:.80}: {answer}"
        );
        assert_eq!(answer.contains("Bearer realm"), target == "/both", "{answer}");
        assert!(!answer.contains("hidden") && !answer.contains("Ym9i"), "{answer}");
    }
    // What is no user's name and password is not looked at, and is no guess.
    assert_eq!(looks(&balancer), [0, 4, 0, 0]);
    let stats = &balancer.stats;
    assert_eq!(
        [&stats.auth_password, &stats.auth_missing, &stats.auth_several].map(|it| it.get()),
        [12, 5, 3]
    );
    let refused = balancer.ask(&with("/staff", &login("bob", BOBS)));
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("group-refused"), "{refused}");
    let elsewhere = balancer.ask(&with("/keys", &login("bob", BOBS)));
    assert!(elsewhere.starts_with("HTTP/1.1 401 ") && !elsewhere.contains("Basic"), "{elsewhere}");
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
}

#[test]
fn a_password_that_is_taken_away_or_becomes_anothers_opens_nothing_with_the_next_request() {
    let (backend, balancer) = routed();
    let mut client = balancer.client();
    let mut status = |user: &str, password: &str| {
        client.send(format!("GET /any HTTP/1.1\r\nhost: a\r\n{}\r\n", login(user, password)));
        client.answer().0[9..12].to_owned()
    };
    assert_eq!([status("bob", BOBS), status("bob", BOBS)], ["200", "200"]);
    balancer.route(&document().replace("\"/open\"", "\"/opened\""), &[]);
    assert_eq!(
        (status("bob", BOBS), looks(&balancer)[0]),
        ("200".to_owned(), 1),
        "a change of something else"
    );
    balancer.route(&document().replace(&*BOB, &kept("another password")), &[]);
    assert_eq!([status("bob", BOBS), status("bob", "another password")], ["401", "200"]);
    balancer.route(&document().replace("consumers.bob", "consumers.eve"), &[]);
    assert_eq!([status("bob", BOBS), status("eve", BOBS)], ["401", "200"]);
    assert!(backend.heads().pop().unwrap().contains("x-consumer-id: eve\r\n"));
}

#[tokio::test]
async fn a_password_that_is_taken_away_ends_the_websockets_that_it_opened_and_no_others() {
    let backend = Scripted::start(|served| {
        served.head().unwrap();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        while let Ok(n @ 1..) = std::io::Read::read(&mut served.stream, &mut [0; 16]) {
            served.send(vec![b'x'; n]);
        }
    });
    let balancer = Balancer::start(&[]);
    balancer.route(&document(), &[("app", &[backend.address])]);
    let open = |user: &str, password: &str| {
        let mut client = balancer.client();
        let fields = login(user, password);
        client.send(format!(
            "GET /any HTTP/1.1\r\nhost: a\r\n{fields}connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ));
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        client
    };
    let (mut alice, mut bob) = (open("Alice A.", PASSWORD), open("bob", BOBS));
    let (sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    let mut connect = http2_streams::request("CONNECT", "/any");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    connect.headers_mut().insert("authorization", basic("bob", BOBS).parse().unwrap());
    let (answer, _stream) = sender.ready().await.unwrap().send_request(connect, false).unwrap();
    let mut over_http2 = answer.await.unwrap().into_body();
    balancer.route(&document().replace("\"/open\"", "\"/opened\""), &[]);
    pause(Duration::from_millis(1200));
    for client in [&mut alice, &mut bob] {
        client.send("ping");
        client.until("xxxx");
    }
    balancer.route(&document().replace(&*BOB, &kept("another password")), &[]);
    assert_eq!(bob.rest_or_reset(), "");
    let end = async { while let Some(Ok(_)) = over_http2.data().await {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("it ends");
    alice.send("ping");
    alice.until("xxxx");
}

/// What costs as much as may be, so that it takes its time.
pub fn slow() -> String {
    let hash = ALICE.split('$').nth(4).unwrap();
    let salt_and_hash = format!("{hash}${}", ALICE.split('$').nth(5).unwrap());
    format!("$argon2id$v=19$m=65536,t=4,p=1${salt_and_hash}")
}

#[tokio::test]
async fn http2_clients_prove_it_by_passwords_too_and_many_streams_wait_at_a_time() {
    let (backend, balancer) = routed();
    let (mut sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    let mut answers = Vec::new();
    let guess = basic("bob", "hidden guess");
    for (path, value, status) in [
        ("/any/1", basic("bob", BOBS), 200),
        ("/any/2", guess.clone(), 401),
        ("/both", guess, 401),
        ("/any/4", basic("Alice A.", PASSWORD), 200),
        ("/any/5", basic("bob", BOBS), 200),
    ] {
        let mut request = http2_streams::request("GET", path);
        request.headers_mut().append("authorization", value.parse().unwrap());
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        answers.push((path, status, answer));
    }
    for (path, status, answer) in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let said = answer.headers().get_all("www-authenticate").iter().count();
        let expected = match (status, path) {
            (401, "/both") => 2,
            (401, _) => 1,
            _ => 0,
        };
        assert_eq!(said, expected, "{path}");
    }
    // One that its client takes back is not looked at for nobody, and its connection goes on.
    balancer.route(&document().replace(&*BOB, &slow()), &[]);
    let mut request = http2_streams::request("GET", "/any/6");
    request.headers_mut().append("authorization", basic("bob", "hidden other").parse().unwrap());
    sender = sender.ready().await.unwrap();
    let (_, mut stream) = sender.send_request(request, true).unwrap();
    stream.send_reset(h2::Reason::CANCEL);
    sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(http2_streams::request("GET", "/open"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let heads = backend.heads();
    assert_eq!(heads.len(), 4, "{heads:?}");
    assert!(!heads.concat().contains("authorization"), "{heads:?}");
}

#[tokio::test]
async fn a_password_is_in_no_log_metric_or_answer_of_an_operators_address() {
    let backend = Scripted::plain("app");
    let file = Document::new(&document().replace("127.0.0.1:1\"", &format!("{}\"", backend.address)));
    let log = file.path().with_file_name("access.log");
    let process = without_nodes(&file.path(), &["--access-log", log.to_str().unwrap()]);
    let mut client = Client::connect(process.http);
    for (target, fields, status) in [
        ("/any/1", login("Alice A.", PASSWORD), 200),
        ("/any/2", login("Alice A.", "hidden guess"), 401),
        ("/staff/3", login("bob", BOBS), 403),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        let (head, body) = client.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}{body}");
    }
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait("all are logged", || lines().lines().count() == 3);
    let lines = lines();
    let metrics = ask(process.admin, "/metrics");
    let shown = [lines.clone(), metrics.clone(), ask(process.admin, "/gateway")].concat();
    let guess = basic("Alice A.", "hidden guess");
    for secret in ["hidden", "argon2", &guess[6..20], "QWxpY2Ug"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(lines.contains("\"consumer\":\"alice\"") && lines.contains("\"consumer\":\"bob\""), "{lines}");
    for line in [
        "skep_balancer_gateway_auth_refused_total{reason=\"password\"} 1",
        "skep_balancer_gateway_password_looks_total{result=\"right\"} 2",
        "skep_balancer_gateway_password_looks_total{result=\"wrong\"} 1",
        "skep_balancer_gateway_passwords_kept{} 2.0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // A file has what is kept of one, and not one as it is.
    std::fs::write(file.path(), "consumers.x.passwords = [\"hidden password\"]\n").unwrap();
    process.signal("HUP");
    let fault = process.logged("/consumers/x/passwords/0");
    assert!(fault.contains("config password") && !fault.contains("hidden"), "{fault}");
}
