//! What is taken of a set that somebody publishes, what is passed over, and what is refused.

use serde_json::{Value as Json, json};

use super::*;
use crate::auth::jwt::encode;

const X: &str = "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY";
const Y: &str = "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw";

fn read(keys: &Json) -> Result<KeySet, String> {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
}

fn point(kid: &str) -> Json {
    json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": kid, "use": "sig", "x5t": "passed over"})
}

fn with(name: &str, value: Json) -> Json {
    let mut key = point("changed");
    key[name] = value;
    key
}

#[test]
fn what_is_not_for_looking_at_tokens_is_passed_over_and_the_rest_is_taken() {
    let mut weak = vec![0xa5; 128];
    weak[0] = 0xc3;
    for other in [
        with("use", json!("enc")),
        with("use", json!(7)),
        with("key_ops", json!(["sign"])),
        with("key_ops", json!("verify")),
        with("kty", json!("AKP")),
        with("kty", json!(7)),
        with("alg", json!("ECDH-ES")),
        with("alg", json!("RS256")),
        with("alg", json!(7)),
        with("crv", json!("P-521")),
        with("x", json!(Y)),
        with("x", json!("=")),
        with("kid", json!(7)),
        with("kid", json!("")),
        with("pem", json!("-----BEGIN PUBLIC KEY-----")),
        json!({"kty": "RSA", "n": encode(&weak), "e": "AQAB", "kid": "weak"}),
        json!({"pem": "x"}),
        json!({}),
        json!("a text"),
        json!(null),
        point("first"),
    ] {
        let set = read(&json!([point("first"), other, point("second")])).unwrap();
        let names: Vec<_> = set.keys.iter().map(|it| it.kid.as_deref().unwrap()).collect();
        assert_eq!((names, set.passed_over, set.secret), (vec!["first", "second"], 1, 0), "{other}");
        assert!(read(&json!([other])).is_err() || other["kid"] == "first", "{other}");
    }
}

#[test]
fn private_keys_and_secrets_of_a_set_are_refused_and_not_told() {
    let hidden = encode(b"hidden-hidden-hidden-hidden-hidden");
    for other in [
        with("d", json!(hidden)),
        with("qi", json!(hidden)),
        with("k", json!(hidden)),
        with("secret", json!(hidden)),
        json!({"kty": "oct", "k": hidden, "kid": "s", "alg": "HS256"}),
        json!({"kty": "oct"}),
        json!({"secret": "hidden-hidden-hidden-hidden-hidden"}),
    ] {
        let set = read(&json!([other, point("first")])).unwrap();
        assert_eq!((set.keys.len(), set.passed_over, set.secret), (1, 0, 1), "{other}");
        assert!(!set.keys[0].is_secret());
        let why = read(&json!([other])).unwrap_err();
        assert!(why.contains("1 are private") && !why.contains("hidden") && !why.contains(&hidden), "{why}");
    }
}

#[test]
fn one_set_is_the_same_in_whatever_order() {
    let a = read(&json!([point("a"), point("b")])).unwrap();
    assert_eq!(a, read(&json!([point("b"), point("a")])).unwrap());
    assert_ne!(a.keys, read(&json!([point("b"), point("c")])).unwrap().keys);
}

#[test]
fn what_is_no_set_or_is_too_large_is_refused() {
    let many = |count: usize| json!((0..count).map(|n| point(&n.to_string())).collect::<Vec<_>>());
    assert_eq!(read(&many(ISSUER_KEYS_MAX)).unwrap().keys.len(), ISSUER_KEYS_MAX);
    assert!(read(&many(ISSUER_KEYS_MAX + 1)).unwrap_err().contains("more than 32"));
    let others = json!(vec![json!({}); MEMBERS_MAX + 1]);
    assert!(read(&others).unwrap_err().contains("more than 256"));
    let mut nameless: Vec<Json> = vec![point("a")];
    for n in 0..=NAMELESS_KEYS_MAX {
        let mut modulus = vec![0xa5; 256];
        (modulus[0], modulus[1]) = (0xc3, n as u8);
        nameless.push(json!({"kty": "RSA", "n": encode(&modulus), "e": "AQAB"}));
    }
    nameless.push(nameless[1].clone());
    let set = read(&json!(nameless)).unwrap();
    assert_eq!((set.keys.len(), set.passed_over), (1 + NAMELESS_KEYS_MAX, 2));
    let whole = json!({"keys": [point("a")], "more": "passed over"}).to_string();
    assert!(KeySet::read(whole.as_bytes()).is_ok());
    let twice = whole.replacen("\"keys\"", "\"keys\": [], \"keys\"", 1);
    let padded = format!("{whole}{}", " ".repeat(SET_BYTES_MAX));
    let deep = format!("{{\"keys\":{}", "[".repeat(100_000));
    for none in [
        "",
        "[]",
        "null",
        "{}",
        "{\"keys\": {}}",
        "{\"keys\": []}",
        "keys = [\"toml\"]",
        &whole[..whole.len() - 1],
        &twice,
        &padded,
        &deep,
    ] {
        assert!(KeySet::read(none.as_bytes()).is_err(), "{none:.80}");
    }
    assert!(KeySet::read(&[0xff; 64]).is_err());
}
