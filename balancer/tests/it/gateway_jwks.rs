//! Issuers that publish their keys: whose tokens get through, from when on and until when, and what of an issuer's
//! answers is taken.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use skep_gateway::auth::jwt::encode;

use crate::backend_tls::certified;
use crate::gateway_file::{Document, without_nodes};
use crate::gateway_jwt::{bearer, in_s, sign};
use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::shown;

/// Who signs by a key of a name.
pub struct Signer {
    /// None: its tokens and its keys have no name.
    kid: Option<&'static str>,
    pair: EcdsaKeyPair,
}

impl Signer {
    pub fn new(kid: &'static str) -> Self {
        Self { kid: Some(kid), ..Self::unnamed() }
    }

    pub fn unnamed() -> Self {
        Self { kid: None, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    pub fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "use": "sig"});
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// One of alice's, of the issuer that says that it is this one.
    pub fn token(&self, iss: &str) -> String {
        let claims = format!(r#"{{"iss":"{iss}","aud":"app","sub":"alice","exp":{}}}"#, in_s(600));
        let kid = self.kid.map(|it| format!(r#","kid":"{it}""#)).unwrap_or_default();
        sign(&format!(r#"{{"alg":"ES256"{kid}}}"#), &claims, |signed| {
            self.pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
        })
    }
}

pub fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Where one issuer publishes its keys: it answers what it is told to.
pub struct Corp {
    server: Scripted,
    answer: Arc<Mutex<String>>,
}

impl Corp {
    pub fn publishing(signers: &[&Signer]) -> Self {
        let answer = Arc::<Mutex<String>>::default();
        let says = answer.clone();
        let server = Scripted::start(move |served| {
            if served.head().is_some() {
                served.send(says.lock().unwrap().clone());
            }
        });
        let corp = Self { server, answer };
        corp.publish(signers);
        corp
    }

    fn publish(&self, signers: &[&Signer]) {
        self.answers(&ok(&set(&signers.iter().map(|it| it.jwk()).collect::<Vec<_>>())));
    }

    pub fn answers(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.to_owned();
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.server.heads().len()
    }

    pub fn jwks(&self) -> String {
        format!("http://{}/keys?v=1", self.server.address)
    }
}

/// A route below the name of each issuer, for its tokens. As JSON, which is TOML's as well.
fn document(backend: SocketAddr, issuers: &[(&str, Value)]) -> String {
    let mut document = json!({"services": {"app": {"urls": [format!("http://{backend}")]}}});
    for (name, more) in issuers {
        let mut issuer = json!({"iss": name, "aud": "app"});
        for (member, value) in more.as_object().unwrap() {
            issuer[member] = value.clone();
        }
        document["issuers"][*name] = issuer;
        document["routes"][*name] =
            json!({"match": {"path": format!("/{name}")}, "service": "app", "auth": {"jwt": [name]}});
    }
    document.to_string()
}

pub fn of_corp(backend: SocketAddr, jwks: &str) -> String {
    document(backend, &[("corp", json!({ "jwks": jwks }))])
}

fn answer(http: SocketAddr, issuer: &str, token: &str) -> String {
    let mut client = Client::connect(http);
    client.send(bearer(&format!("/{issuer}"), token));
    client.rest()
}

pub fn status(http: SocketAddr, issuer: &str, token: &str) -> String {
    answer(http, issuer, token)[9..12].to_owned()
}

/// What is told of one issuer.
pub fn told(process: &Process, issuer: &str) -> Value {
    let all = shown(process);
    let published = all["published"].as_array().unwrap();
    published.iter().find(|it| it["issuer"] == issuer).unwrap().clone()
}

/// Waits until so many of the issuer's are in force, without asking by a token: that would have them fetched.
fn has_keys(process: &Process, count: usize) {
    wait("its keys are there", || told(process, "corp")["keys"] == count);
}

#[test]
fn a_token_of_a_key_that_is_new_has_the_keys_fetched_at_once_and_nobody_has_them_fetched_again_and_again() {
    let (backend, a, b) = (Scripted::plain("app"), Signer::new("a"), Signer::new("b"));
    let corp = Corp::publishing(&[&a]);
    let file = Document::new(&of_corp(backend.address, &corp.jwks()));
    let process = without_nodes(&file.path(), &[]);
    has_keys(&process, 1);
    assert_eq!(status(process.http, "corp", &a.token("corp")), "200");
    let head = corp.server.heads().pop().unwrap();
    assert!(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", corp.server.address)), "{head}");
    let asked = corp.asked();
    corp.publish(&[&b]);
    let refused = answer(process.http, "corp", &b.token("corp"));
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert!(refused.contains("none that its issuer was seen to publish"), "{refused}");
    wait("the new key opens", || status(process.http, "corp", &b.token("corp")) == "200");
    assert_eq!(status(process.http, "corp", &a.token("corp")), "401", "it is published no more");
    for other in [Signer::new("c"), Signer::new("b"), Signer::unnamed()] {
        for _ in 0..10 {
            assert_eq!(status(process.http, "corp", &other.token("corp")), "401");
        }
    }
    // Time in which it would be asked.
    pause(Duration::from_millis(300));
    assert_eq!(corp.asked(), asked + 1);
    let told = told(&process, "corp");
    assert_eq!((&told["keys"], &told["failures"], &told["failure"]), (&json!(1), &json!(0), &Value::Null));
    assert!(told["age_s"].as_f64().unwrap() < 60.0, "{told}");
    let metrics = ask(process.admin, "/metrics");
    for line in [
        "skep_balancer_gateway_issuer_keys{issuer=\"corp\"} 1.0",
        "skep_balancer_gateway_issuer_fetch_failures_total{issuer=\"corp\"} 0",
        "skep_balancer_gateway_issuer_fetched_timestamp_seconds{issuer=\"corp\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn a_key_in_anothers_place_opens_by_its_first_token_also_where_it_has_no_name_or_that_of_the_other() {
    for (old, new) in [
        (Signer::new("a"), Signer::new("a")),
        (Signer::unnamed(), Signer::unnamed()),
        (Signer::new("a"), Signer::unnamed()),
    ] {
        let (backend, corp) = (Scripted::plain("app"), Corp::publishing(&[&old]));
        let file = Document::new(&of_corp(backend.address, &corp.jwks()));
        let process = without_nodes(&file.path(), &[]);
        has_keys(&process, 1);
        assert_eq!(status(process.http, "corp", &old.token("corp")), "200");
        let asked = corp.asked();
        corp.publish(&[&new]);
        // What is refused for something else asks for nothing.
        assert_eq!(status(process.http, "corp", &new.token("other")), "401");
        assert_eq!(status(process.http, "corp", &format!("{}x", new.token("corp"))), "401");
        pause(Duration::from_millis(100));
        assert_eq!(corp.asked(), asked);
        let refused = answer(process.http, "corp", &new.token("corp"));
        assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
        assert!(refused.contains("seen to publish has signed it"), "{refused}");
        wait("the new key opens", || status(process.http, "corp", &new.token("corp")) == "200");
        assert_eq!(status(process.http, "corp", &old.token("corp")), "401", "it is published no more");
        pause(Duration::from_millis(100));
        assert_eq!(corp.asked(), asked + 1);
    }
}

#[test]
fn what_is_no_set_of_keys_is_not_taken_and_until_there_is_one_tokens_are_answered_503() {
    let (backend, a) = (Scripted::plain("app"), Signer::new("a"));
    let (good, mut private) = (ok(&set(&[a.jwk()])), a.jwk());
    private["d"] = json!(encode(b"hidden-hidden-hidden-hidden-hidden"));
    let oct =
        json!({"kty": "oct", "kid": "a", "alg": "HS256", "k": encode(b"hidden-hidden-hidden-hidden-hidden")});
    let many = (0..33).map(|n| {
        let mut key = a.jwk();
        key["kid"] = json!(n.to_string());
        key
    });
    let many: Vec<Value> = many.collect();
    let body = set(&[a.jwk()]);
    let padding = " ".repeat(256 * 1024);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked =
        |text: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(text));
    let bad: Vec<(&'static str, String, &str)> = vec![
        ("status", good.replacen("200 OK", "500 no", 1), "answers 500"),
        ("empty", "HTTP/1.1 204 none\r\n\r\n".to_owned(), "answers 204"),
        (
            "moved",
            "HTTP/1.1 302 there\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "answers 302",
        ),
        ("partial", good.replacen("200 OK", "206 part", 1), "answers 206"),
        ("page", ok("<html>"), "no JSON"),
        ("list", ok("[]"), "no set of keys"),
        ("none", ok(&set(&[])), "none of its keys"),
        ("private", ok(&set(&[private])), "1 are private"),
        ("secret", ok(&set(&[oct])), "1 are private"),
        ("many", ok(&set(&many)), "more than 32 keys"),
        ("large", ok(&format!("{body}{padding}")), "answers has more than 262144 bytes"),
        ("pieces", chunked(&format!("{body}{padding}")), "answers has more than 262144 bytes"),
        ("endless", format!("HTTP/1.1 200 OK\r\n\r\n{body}{padding}"), "answers has more than 262144 bytes"),
        ("cut", good[..good.len() - 1].to_owned(), "not whole"),
        ("torn", chunked(&body)[..200].to_owned(), "not whole"),
        ("smeared", chunked(&body).replacen("\r\n\r\n", "\r\n\r\nx", 1), "malformed"),
        ("mute", String::new(), "not whole"),
        ("other", "SSH-2.0-x\r\n".to_owned(), "answers what is none"),
        ("slow", "hangs".to_owned(), "not answer in time"),
    ];
    let answers = bad.clone();
    let server = Scripted::start(move |served| {
        let Some(head) = served.head() else { return };
        let asked = head.split([' ', '/']).nth(2).unwrap();
        match answers.iter().find(|(name, ..)| *name == asked) {
            Some((_, hangs, _)) if hangs == "hangs" => drop(served.head()),
            Some((_, answer, _)) => served.send(answer),
            None => served.send(&good),
        }
    });
    let jwks = |name: &str| json!({"jwks": format!("http://{}/{name}", server.address)});
    let mut issuers: Vec<(&str, Value)> = bad.iter().map(|(name, ..)| (*name, jwks(name))).collect();
    issuers.push(("away", json!({"jwks": format!("http://{}/", Scripted::refused())})));
    issuers.push(("good", jwks("good")));
    let file = Document::new(&document(backend.address, &issuers));
    let process = without_nodes(&file.path(), &[]);
    wait("the good one's are there", || status(process.http, "good", &a.token("good")) == "200");
    for (name, why) in bad.iter().map(|(name, _, why)| (*name, *why)).chain([("away", "refused")]) {
        wait(name, || told(&process, name)["failures"].as_u64() > Some(0));
        let told = told(&process, name);
        assert!(told["failure"].as_str().unwrap().contains(why), "{name}: {told}");
        assert_eq!((&told["keys"], &told["age_s"]), (&json!(0), &Value::Null), "{name}");
        let answer = answer(process.http, name, &a.token(name));
        for part in [
            "HTTP/1.1 503 ",
            "retry-after: ",
            "skep-unprocessed: 1",
            "problem:unavailable",
            "not known here yet",
        ] {
            assert!(answer.contains(part), "{name}, {part}: {answer}");
        }
    }
    // What needs no key is said at once.
    let over = a.token("good");
    assert!(answer(process.http, "page", &over).contains("of another issuer"));
    let heads = server.heads();
    assert!(!heads.iter().any(|it| it.contains("elsewhere")), "{heads:?}");
    assert!(backend.heads().iter().all(|it| it.starts_with("GET /good ")), "none went on");
    let metrics = ask(process.admin, "/metrics");
    assert!(metrics.contains("skep_balancer_gateway_auth_refused_total{reason=\"no-keys\"}"), "{metrics}");
    for path in ["/metrics", "/gateway"] {
        assert!(!ask(process.admin, path).contains(&encode(b"hidden-hidden")[..12]), "{path}");
    }
}

#[test]
fn what_an_issuer_published_stays_in_force_while_it_is_away_and_private_keys_beside_it_are_not_taken() {
    let (backend, a, b) = (Scripted::plain("app"), Signer::new("a"), Signer::new("b"));
    let corp = Corp::publishing(&[]);
    let file = Document::new(&of_corp(backend.address, &corp.jwks()));
    let process = without_nodes(&file.path(), &[]);
    let mut private = b.jwk();
    private["d"] = json!(encode(b"hidden-hidden-hidden-hidden-hidden"));
    corp.answers(&ok(&set(&[a.jwk(), private])));
    let line = process.logged("private keys or secrets");
    assert!(line.contains("\"corp\"") && !line.contains(&encode(b"hidden-hidden")[..12]), "{line}");
    has_keys(&process, 1);
    assert_eq!(status(process.http, "corp", &a.token("corp")), "200");
    corp.answers("HTTP/1.1 503 away\r\ncontent-length: 0\r\n\r\n");
    let failures = told(&process, "corp")["failures"].as_u64();
    assert_eq!(status(process.http, "corp", &b.token("corp")), "401");
    wait("it is asked", || told(&process, "corp")["failures"].as_u64() > failures);
    assert_eq!(status(process.http, "corp", &a.token("corp")), "200");
    // Nor does a change of something else forget them.
    file.replace(&document(backend.address, &[("corp", json!({"jwks": corp.jwks(), "refresh": "1h"}))]));
    process.logged("the gateway's document is in force");
    assert_eq!(status(process.http, "corp", &a.token("corp")), "200");
    // It is asked again after a pause, whoever wants that.
    corp.publish(&[&a, &b]);
    wait("it is there again", || status(process.http, "corp", &b.token("corp")) == "200");
    assert_eq!(told(&process, "corp")["failure"], Value::Null);
}

#[test]
fn a_websocket_ends_once_the_key_of_its_token_is_published_no_more() {
    let backend = Scripted::start(|served| {
        let Some(_) = served.head() else { return };
        served.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        while let Ok(n @ 1..) = std::io::Read::read(&mut served.stream, &mut [0; 16]) {
            served.send(vec![b'x'; n]);
        }
    });
    let (a, b, c) = (Signer::new("a"), Signer::new("b"), Signer::new("c"));
    let corp = Corp::publishing(&[&a, &b]);
    let file = Document::new(&of_corp(backend.address, &corp.jwks()));
    let process = without_nodes(&file.path(), &[]);
    has_keys(&process, 2);
    let open = |token: &str| {
        let mut client = Client::connect(process.http);
        client.send(format!(
            "GET /corp HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ));
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        client
    };
    let (mut of_a, mut of_b) = (open(&a.token("corp")), open(&b.token("corp")));
    corp.publish(&[&b, &c]);
    assert_eq!(status(process.http, "corp", &c.token("corp")), "401");
    let begun = std::time::Instant::now();
    assert_eq!(of_a.rest_or_reset(), "");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    of_b.send("ping");
    of_b.until("xxxx");
}

#[test]
fn keys_are_fetched_over_tls_from_who_proves_to_be_the_server_and_from_nobody_else() {
    let (backend, a, folder) = (Scripted::plain("app"), Signer::new("a"), tempfile::tempdir().unwrap());
    let certified = |name: &str, file: &str| {
        let server = certified(name, &folder.path().join(file));
        (server, std::fs::read_to_string(folder.path().join(file)).unwrap())
    };
    let (good, good_ca) = certified("127.0.0.1", "good.pem");
    let (named, named_ca) = certified("login.test", "named.pem");
    let path = format!("/said/{}", encode(set(&[a.jwk()]).as_bytes()));
    let jwks = |at: SocketAddr, tls: Value| json!({"jwks": format!("https://{at}{path}"), "tls": tls});
    let issuers = [
        ("good", jwks(good.address, json!({"ca": good_ca}))),
        ("named", jwks(named.address, json!({"ca": named_ca, "name": "login.test"}))),
        ("public", jwks(good.address, json!({}))),
        ("other", jwks(good.address, json!({"ca": named_ca}))),
        ("misnamed", jwks(named.address, json!({"ca": named_ca}))),
    ];
    let file = Document::new(&document(backend.address, &issuers));
    let process = without_nodes(&file.path(), &[]);
    for name in ["good", "named"] {
        wait(name, || status(process.http, name, &a.token(name)) == "200");
    }
    for name in ["public", "other", "misnamed"] {
        wait(name, || told(&process, name)["failures"].as_u64() > Some(0));
        let told = told(&process, name);
        assert!(told["failure"].as_str().unwrap().contains("certificate"), "{told}");
        assert_eq!(status(process.http, name, &a.token(name)), "503", "{name}");
    }
    // A token that came before the first set may have had it fetched once more.
    let asked = [good.asked().len(), named.asked().len()];
    assert!(
        asked.iter().all(|count| (1..=2).contains(count)),
        "nothing was said to who proved nothing: {asked:?}"
    );
}
