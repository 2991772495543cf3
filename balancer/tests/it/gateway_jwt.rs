//! Who asks, by a token that an issuer signed: who gets through, who does not and what that one is told, and what the
//! service hears of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use skep_gateway::auth::jwt::encode;

use crate::gateway_file::{Document, without_nodes};
use crate::harness::*;
use crate::http2_streams;
use crate::process::ask;

const KEY: &str = "alice-has-this-key-0001";
const SECRET: &str = "a hidden secret of thirty-two bytes";
const OTHER: &str = "another hidden secret of the thirty-two";

/// Who signs by a secret, and who by a key of its own.
struct Issuers {
    pair: EcdsaKeyPair,
}

impl Issuers {
    fn new() -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn jwk(&self) -> String {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        format!(r#"{{kty = "EC", crv = "P-256", x = "{}", y = "{}", kid = "of-now"}}"#, encode(x), encode(y))
    }

    fn es256(&self, claims: &str) -> String {
        sign(r#"{"alg":"ES256","kid":"of-now"}"#, claims, |signed| {
            self.pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
        })
    }

    /// A route for tokens of each, one for a group, one for keys as well, one whose service gets the token.
    fn document(&self, secret: &str) -> String {
        format!(
            r#"
            services.app.urls = ["http://127.0.0.1:1"]
            consumers.alice = {{keys = ["{KEY}"]}}
            [issuers.inner]
            iss = "inner"
            aud = "app"
            groups = "roles"
            keys = [{{secret = "{secret}"}}]
            [issuers.corp]
            iss = "https://corp.test/"
            aud = ["app", "other"]
            groups = "scope"
            keys = [{}]
            [routes.inner]
            match.path = "/inner"
            service = "app"
            auth.jwt = ["inner"]
            [routes.both]
            match.path = "/both"
            service = "app"
            auth = {{keys = true, jwt = ["inner", "corp"]}}
            [routes.staff]
            match.path = "/staff"
            service = "app"
            auth = {{jwt = ["corp", "inner"], groups = ["staff"]}}
            [routes.sent]
            match.path = "/sent"
            service = "app"
            auth.jwt = {{issuers = ["inner"], forward = true}}
            [routes.limited]
            match.path = "/limited"
            service = "app"
            auth.jwt = ["inner"]
            limits = [{{rate = 1, per = "hour", by = "consumer"}}]
            [routes.guarded]
            match.path = "/guarded"
            service = "app"
            auth.jwt = ["inner"]
            limits = [{{rate = 1, per = "hour", by = "address", burst = 2}}]
            [routes.open]
            match.path = "/open"
            service = "app"
            "#,
            self.jwk()
        )
    }

    fn routed(&self) -> (Scripted, Balancer) {
        let backend = Scripted::plain("app");
        let balancer = Balancer::start(&[]);
        balancer.route(&self.document(SECRET), &[("app", &[backend.address])]);
        (backend, balancer)
    }
}

pub fn sign(head: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(head.as_bytes()), encode(claims.as_bytes()));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(&signature))
}

fn hs256(secret: &str, claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    sign(r#"{"alg":"HS256","typ":"JWT"}"#, claims, |signed| hmac::sign(&key, signed).as_ref().to_vec())
}

pub fn in_s(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + seconds
}

fn claims(sub: &str) -> String {
    format!(r#"{{"iss":"inner","aud":"app","sub":"{sub}","exp":{},"roles":["staff","ops"]}}"#, in_s(600))
}

fn of_corp(sub: &str, scope: &str) -> String {
    let exp = in_s(600);
    format!(r#"{{"iss":"https://corp.test/","aud":["app"],"sub":"{sub}","exp":{exp},"scope":"{scope}"}}"#)
}

fn with(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
}

pub fn bearer(target: &str, token: &str) -> String {
    with(target, &format!("authorization: Bearer {token}\r\n"))
}

/// Values of the fields that a server of CGI's kind reads under that name.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(its, _)| its.replace('_', "-").eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn who_has_a_token_gets_there_and_the_service_is_told_who_it_is_and_gets_no_token() {
    let issuers = Issuers::new();
    let (backend, balancer) = issuers.routed();
    let (inner, corp) = (hs256(SECRET, &claims("bob")), issuers.es256(&of_corp("auth0|7", "read staff")));
    for (target, token, consumer, groups) in [
        ("/inner/x", &inner, "inner/bob", "ops,staff"),
        ("/both", &inner, "inner/bob", "ops,staff"),
        ("/both", &corp, "corp/auth0|7", "read,staff"),
        ("/staff", &corp, "corp/auth0|7", "read,staff"),
        ("/sent", &inner, "inner/bob", "ops,staff"),
    ] {
        let forged = "x-consumer-id: root\r\nX_Consumer_Groups: root\r\n";
        // The second time it was seen before.
        for _ in 0..2 {
            let answer = balancer.ask(&with(target, &format!("authorization: Bearer {token}\r\n{forged}")));
            assert!(answer.ends_with(&format!("app {target}")), "{target}: {answer}");
            let head = backend.heads().pop().unwrap();
            assert_eq!(values(&head, "x-consumer-id"), [consumer], "{head}");
            assert_eq!(values(&head, "x-consumer-groups"), [groups], "{head}");
            assert_eq!(head.contains(token.as_str()), target == "/sent", "{head}");
        }
    }
    assert_eq!(balancer.stats.tokens_kept.get(), 2);
    // A key is one beside it.
    assert!(balancer.ask(&with("/both", &format!("x-api-key: {KEY}\r\n"))).contains(" 200 "));
    assert!(balancer.ask(&bearer("/both", KEY)).contains(" 200 "));
    assert_eq!(values(&backend.heads().pop().unwrap(), "x-consumer-id"), ["alice"]);
}

#[test]
fn who_proves_nothing_by_a_token_gets_nowhere_and_is_told_why() {
    let issuers = Issuers::new();
    let (backend, balancer) = issuers.routed();
    let usual = claims("bob");
    let whole = hs256(SECRET, &usual);
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let unsigned = format!("{}.{payload}.", encode(br#"{"alg":"none"}"#));
    let said = |claims: &str| hs256(SECRET, claims);
    let exp = |seconds: i64| format!(r#"{{"iss":"inner","aud":"app","sub":"bob","exp":{}}}"#, in_s(seconds));
    let none = "Bearer realm=\"skep\"\r\n";
    let invalid = "Bearer realm=\"skep\", error=\"invalid_token\", error_description=\"";
    for (target, fields, challenge, why) in [
        ("/inner", String::new(), none, "proves by a token"),
        ("/inner", format!("x-api-key: {KEY}\r\n"), none, "proves by a token"),
        ("/inner", format!("authorization: Basic {whole}\r\n"), none, "proves by a token"),
        ("/inner", format!("cookie: token={whole}\r\n"), none, "proves by a token"),
        (
            "/both",
            format!("authorization: Bearer {whole}\r\nx-api-key: {KEY}\r\n"),
            "error=\"invalid_request\"",
            "several",
        ),
        ("/inner", format!("authorization: Bearer {unsigned}\r\n"), invalid, "none of the issuer's keys"),
        ("/inner", format!("authorization: Bearer {signed}.\r\n"), invalid, "signature does not hold"),
        (
            "/inner",
            format!("authorization: Bearer {}\r\n", hs256(OTHER, &usual)),
            invalid,
            "signature does not hold",
        ),
        (
            "/inner",
            format!("authorization: Bearer {}\r\n", issuers.es256(&usual)),
            invalid,
            "none of the issuer's keys",
        ),
        (
            "/inner",
            format!("authorization: Bearer {}\r\n", issuers.es256(&of_corp("c", ""))),
            invalid,
            "another issuer",
        ),
        (
            "/both",
            format!("authorization: Bearer {}\r\n", hs256(SECRET, &of_corp("c", ""))),
            invalid,
            "none of the issuer's keys",
        ),
        ("/inner", format!("authorization: Bearer {}\r\n", said(&exp(-31))), invalid, "its time is over"),
        (
            "/inner",
            format!("authorization: Bearer {}\r\n", said(&usual.replace("\"app\"", "\"web\""))),
            invalid,
            "for others",
        ),
        (
            "/inner",
            format!("authorization: Bearer {}\r\n", said(&usual.replace("\"bob\"", "7"))),
            invalid,
            "a claim that is needed",
        ),
        ("/inner", format!("authorization: Bearer {whole}=\r\n"), invalid, "no token that is understood"),
        (
            "/inner",
            format!("authorization: Bearer {payload}.{signature}\r\n"),
            invalid,
            "no token that is understood",
        ),
        (
            "/inner",
            format!("authorization: Bearer {}\r\n", "x".repeat(9000)),
            invalid,
            "no token that is understood",
        ),
    ] {
        let answer = balancer.ask(&with(target, &fields));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{target} {fields:.80}: {answer}");
        assert!(answer.contains(challenge) && answer.contains(why), "{target} {fields:.80}: {answer}");
        assert!(answer.contains("urn:skep:problem:unauthenticated") && !answer.contains(payload), "{answer}");
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    assert_eq!((balancer.stats.auth_token.get(), balancer.stats.auth_missing.get()), (12, 4));
    let lately = balancer.ask(&bearer("/inner", &said(&exp(-20))));
    assert!(lately.starts_with("HTTP/1.1 200 "), "clocks may be 30 s apart: {lately}");
    let refused = balancer.ask(&bearer("/staff", &issuers.es256(&of_corp("c", "read write"))));
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("group-refused"), "{refused}");
    assert!(
        refused.contains("www-authenticate: Bearer realm=\"skep\", error=\"insufficient_scope\""),
        "{refused}"
    );
}

#[test]
fn a_key_of_an_issuer_that_is_taken_away_opens_nothing_with_the_next_request() {
    let issuers = Issuers::new();
    let (_, balancer) = issuers.routed();
    let mut client = balancer.client();
    let (old, new) = (hs256(SECRET, &claims("bob")), hs256(OTHER, &claims("bob")));
    let mut status = |token: &str| {
        client.send(format!("GET /inner HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"));
        client.answer().0[9..12].to_owned()
    };
    // It is known by then.
    assert_eq!([&old, &old, &new].map(|it| status(it)), ["200", "200", "401"]);
    balancer.route(&issuers.document(SECRET).replace("\"/open\"", "\"/opened\""), &[]);
    assert_eq!([&old, &new].map(|it| status(it)), ["200", "401"], "a change of something else");
    let both = format!("{{secret = \"{SECRET}\"}}, {{secret = \"{OTHER}\"}}");
    balancer.route(&issuers.document(SECRET).replace(&format!("{{secret = \"{SECRET}\"}}"), &both), &[]);
    assert_eq!([&old, &new].map(|it| status(it)), ["200", "200"]);
    balancer.route(&issuers.document(OTHER), &[]);
    assert_eq!([&old, &new].map(|it| status(it)), ["401", "200"]);
    balancer.route(&issuers.document(OTHER).replace("aud = \"app\"", "aud = \"web\""), &[]);
    assert_eq!([&old, &new].map(|it| status(it)), ["401", "401"]);
}

#[tokio::test]
async fn a_websocket_ends_with_the_key_or_the_time_of_the_token_that_opened_it() {
    let backend = Scripted::start(|served| {
        served.head().unwrap();
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        while let Ok(n @ 1..) = std::io::Read::read(&mut served.stream, &mut [0; 16]) {
            served.send(vec![b'x'; n]);
        }
    });
    let issuers = Issuers::new();
    let balancer = Balancer::start(&[]);
    balancer.route(&issuers.document(SECRET), &[("app", &[backend.address])]);
    let open = |token: &str| {
        let mut client = balancer.client();
        client.send(format!(
            "GET /both HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ));
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        client
    };
    // 30 s are the leeway.
    let short = claims("short").replace(&in_s(600).to_string(), &in_s(-28).to_string());
    let mut corp = open(&issuers.es256(&of_corp("c", "")));
    let (mut bob, mut short) = (open(&hs256(SECRET, &claims("bob"))), open(&hs256(SECRET, &short)));
    let begun = Instant::now();
    assert_eq!(short.rest_or_reset(), "");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for client in [&mut corp, &mut bob] {
        client.send("ping");
        client.until("xxxx");
    }
    balancer.route(&issuers.document(OTHER), &[]);
    assert_eq!(bob.rest_or_reset(), "");
    corp.send("ping");
    corp.until("xxxx");
}

#[test]
fn limits_count_who_a_token_is_of_and_those_by_address_come_before_any_signature() {
    let issuers = Issuers::new();
    let (backend, balancer) = issuers.routed();
    // One more token of the same one is no other one.
    let again = claims("bob").replace("ops", "other");
    for (claims, status) in [(claims("bob"), "200"), (again, "429"), (claims("eve"), "200")] {
        assert_eq!(&balancer.ask(&bearer("/limited", &hs256(SECRET, &claims)))[9..12], status, "{claims}");
    }
    let wrong = hs256(OTHER, &claims("bob"));
    for (token, status) in
        [(&wrong, "401"), (&wrong, "401"), (&wrong, "429"), (&hs256(SECRET, &claims("bob")), "429")]
    {
        assert_eq!(&balancer.ask(&bearer("/guarded", token))[9..12], status);
    }
    assert_eq!((backend.heads().len(), balancer.stats.auth_token.get()), (2, 2));
}

#[tokio::test]
async fn http2_clients_prove_by_tokens_who_they_are_too() {
    let issuers = Issuers::new();
    let (backend, balancer) = issuers.routed();
    let (mut sender, connection) = http2_streams::connect(balancer.http).await;
    tokio::spawn(connection);
    for (token, status) in [(hs256(SECRET, &claims("bob")), 200), (hs256(OTHER, &claims("bob")), 401)] {
        let mut request = http2_streams::request("GET", "/inner");
        request.headers_mut().append("authorization", format!("Bearer {token}").parse().unwrap());
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().get("www-authenticate").is_some(), status == 401);
    }
    let head = backend.heads().pop().unwrap();
    assert_eq!(values(&head, "x-consumer-id"), ["inner/bob"], "{head}");
    assert!(!head.contains("Bearer"), "{head}");
}

#[test]
fn a_secret_and_a_token_are_in_no_log_metric_or_answer_of_an_operators_address() {
    let (backend, issuers) = (Scripted::plain("app"), Issuers::new());
    let document = issuers.document(SECRET).replace("127.0.0.1:1\"", &format!("{}\"", backend.address));
    let file = Document::new(&document);
    let log = file.path().with_file_name("access.log");
    let process = without_nodes(&file.path(), &["--access-log", log.to_str().unwrap()]);
    let mut client = Client::connect(process.http);
    let whole = hs256(SECRET, &claims("bob"));
    let payload = whole.split('.').nth(1).unwrap();
    let other = issuers.es256(&of_corp("c", "read"));
    for (target, token, status) in
        [("/inner/1", &whole, 200), ("/inner/2", &other, 401), ("/staff/3", &other, 403)]
    {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"));
        assert!(client.answer().0.starts_with(&format!("HTTP/1.1 {status} ")), "{target}");
    }
    // What is wrong with a file is logged, and not what stands there.
    std::fs::write(file.path(), document.replace(SECRET, "hidden")).unwrap();
    process.signal("HUP");
    let fault = process.logged("/issuers/inner/keys/0");
    assert!(!fault.contains("hidden"), "{fault}");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait("all are logged", || lines().lines().count() == 3);
    let lines = lines();
    for shown in ["\"consumer\":\"inner/bob\"", "\"error\":\"unauthenticated\"", "\"consumer\":\"corp/c\""] {
        assert!(lines.contains(shown), "{shown}: {lines}");
    }
    assert!(!lines.contains("hidden") && !lines.contains(payload), "{lines}");
    let metrics = ask(process.admin, "/metrics");
    for shown in [
        "skep_balancer_gateway_auth_refused_total{reason=\"token\"} 1",
        "skep_balancer_gateway_issuers{} 2.0",
        "skep_balancer_gateway_tokens_kept{}",
        "skep_balancer_gateway_tokens_kept_bytes{}",
    ] {
        assert!(metrics.contains(shown), "{shown}: {metrics}");
    }
    for path in ["/metrics", "/gateway", "/backends"] {
        assert!(!ask(process.admin, path).contains("hidden"), "{path}");
    }
}
