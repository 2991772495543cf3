//! What an issuer may say, and what of it is refused: never with anything of a secret.

use serde_json::json;

use crate::auth::jwt::{Audience, encode};
use crate::document::Document;
use crate::kept::Kept;
use crate::table::Table;

const SECRET: &str = "hidden-hidden-hidden-hidden-hidden";
const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4xp99/FG9g9/h6ICgoa7pPPcBEE1
95RJxe9U3K2AgDV4dWJ3eZvWqM81O5oJu21hKrdT2boQ4bMt/crXN4ZUAg==
-----END PUBLIC KEY-----
";

fn faults(text: &str) -> Vec<(String, String)> {
    match Document::read(text).and_then(Table::compile) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|it| (it.pointer, it.fault)).collect(),
    }
}

/// With these keys.
fn issuer(keys: &serde_json::Value) -> String {
    json!({"issuers": {"i": {"iss": "i", "aud": "any", "keys": keys}}}).to_string()
}

fn modulus(bits: usize) -> String {
    let mut n = vec![0xa5; bits / 8];
    n[0] = 0xc3;
    encode(&n)
}

#[test]
fn all_that_an_issuer_says_is_read() {
    let text = json!({"issuers": {"i": {
        "iss": "https://a.test/", "aud": ["a", "b"], "groups": "https://a.test/roles", "leeway": "1m",
        "keys": {"keys": [
            {"kty": "EC", "crv": "P-256", "x": "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY",
             "y": "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw", "kid": "a", "use": "sig", "key_ops": ["verify"],
             "x5t": "passed over", "issuer": "passed over"},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        ]},
    }}}).to_string();
    let document = Document::read(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
    let read = &document.issuers["i"];
    assert_eq!(read.audience, Audience::OneOf(vec!["a".into(), "b".into()]));
    assert_eq!((read.leeway_s, read.groups.as_deref()), (60, Some("https://a.test/roles")));
    assert_eq!(read.keys.iter().map(|it| it.algorithm.name()).collect::<Vec<_>>(), ["ES256", "EdDSA"]);
    let pem = Document::read(&issuer(&json!([P256, {"pem": P256, "kid": "b"}])));
    assert_eq!(pem.unwrap_err()[0].pointer, "/issuers/i/keys/1", "it is the same one twice");
    let toml = format!(
        "[issuers.i]\niss = \"i\"\naud = \"any\"\nleeway = \"0s\"\nkeys = [{{secret = \"{SECRET}\", kid = \"k\"}}]\n\
         [routes.r]\nservice = \"skep\"\nauth = {{keys.authorization = false, jwt = {{issuers = [\"i\"], forward = true}}, groups = [\"g\"]}}\n"
    );
    let document = Document::read(&toml).unwrap();
    assert_eq!(document.issuers["i"].leeway_s, 0);
    let auth = document.routes["r"].policies.auth.as_ref().unwrap();
    assert_eq!(
        auth.to_string(),
        "a key in x-api-key; or a token of i in Authorization: Bearer; of a consumer in g"
    );
    assert!(!format!("{document:?}").contains("hidden"));
}

#[test]
fn what_an_issuer_may_not_say_is_refused_at_its_place() {
    let rest = "iss = \"i\"\naud = \"any\"\n";
    let keys = format!("keys = [{{secret = \"{SECRET}\"}}]\n");
    for (said, pointer) in [
        ("".to_owned(), ""),
        (format!("aud = \"any\"\n{keys}"), ""),
        (format!("iss = \"i\"\n{keys}"), ""),
        (rest.to_owned(), ""),
        (format!("{rest}{keys}x = 1"), "/x"),
        (format!("{rest}{keys}jwks_uri = \"https://a.test/\""), "/jwks_uri"),
        (format!("iss = \"\"\naud = \"a\"\n{keys}"), "/iss"),
        (format!("iss = 7\naud = \"a\"\n{keys}"), "/iss"),
        (format!("iss = \"i\"\naud = []\n{keys}"), "/aud"),
        (format!("iss = \"i\"\naud = [\"a\", 7]\n{keys}"), "/aud/1"),
        (format!("iss = \"i\"\naud = true\n{keys}"), "/aud"),
        (format!("{rest}keys = []"), "/keys"),
        (format!("{rest}keys = \"{SECRET}\""), "/keys"),
        (format!("{rest}keys = {{}}"), "/keys"),
        (format!("{rest}{keys}jwks = \"https://a.test/keys\""), ""),
        (format!("{rest}{keys}refresh = \"10m\""), "/refresh"),
        (format!("{rest}{keys}tls = {{}}"), "/tls"),
        (format!("{rest}jwks = 7"), "/jwks"),
        (format!("{rest}jwks = \"\""), "/jwks"),
        (format!("{rest}jwks = \"a.test/keys\""), "/jwks"),
        (format!("{rest}jwks = \"ftp://a.test/keys\""), "/jwks"),
        (format!("{rest}jwks = \"https:///keys\""), "/jwks"),
        (format!("{rest}jwks = \"https://user@a.test/keys\""), "/jwks"),
        (format!("{rest}jwks = \"https://a.test/keys#a\""), "/jwks"),
        (format!("{rest}jwks = \"https://a.test/ke ys\""), "/jwks"),
        (format!("{rest}jwks = \"https://a.test/\\r\\nx: y\""), "/jwks"),
        (format!("{rest}jwks = \"https://a.test/{}\"", "x".repeat(2048)), "/jwks"),
        (format!("{rest}jwks = \"http://a.test/keys\""), "/jwks"),
        (format!("{rest}jwks = \"http://10.0.0.1/keys\""), "/jwks"),
        (format!("{rest}jwks = \"http://127.0.0.1/keys\"\ntls = {{}}"), "/tls"),
        (format!("{rest}jwks = \"https://a.test/keys\"\ntls = {{ca = \"x\"}}"), "/tls/ca"),
        (format!("{rest}jwks = \"https://a.test/keys\"\nrefresh = \"59s\""), "/refresh"),
        (format!("{rest}jwks = \"https://a.test/keys\"\nrefresh = \"25h\""), "/refresh"),
        (format!("{rest}{keys}groups = \"sub\""), "/groups"),
        (format!("{rest}{keys}groups = 7"), "/groups"),
        (format!("{rest}{keys}leeway = \"1h\""), "/leeway"),
        (format!("{rest}{keys}leeway = 30"), "/leeway"),
        (format!("{rest}{keys}leeway = \"1500ms\""), "/leeway"),
    ] {
        let found = faults(&format!("[issuers.i]\n{said}\n"));
        assert!(found.iter().any(|(it, _)| *it == format!("/issuers/i{pointer}")), "{said}: {found:?}");
    }
    let many: serde_json::Map<String, _> =
        (0..=super::super::ISSUERS_MAX).map(|n| (format!("i{n}"), json!({}))).collect();
    assert_eq!(faults(&json!({"issuers": many}).to_string())[0].0, "/issuers");
}

#[test]
fn an_issuer_may_say_where_its_keys_are_instead() {
    let read = |more: &str| {
        let text = format!("[issuers.i]\niss = \"i\"\naud = \"any\"\n{more}\n");
        let document = Document::read(&text).unwrap_or_else(|faults| panic!("{more}: {faults:?}"));
        assert!(document.issuers["i"].is_published && document.issuers["i"].keys.is_empty());
        assert_eq!(Table::compile(document.clone()).unwrap().jwks, document.jwks);
        document.jwks["i"].clone()
    };
    let usual = read("jwks = \"https://Login.test/a/keys?v=2\"");
    assert_eq!((usual.url().as_str(), usual.refresh.as_secs()), ("https://login.test/a/keys?v=2", 600));
    assert_eq!(usual.tls.unwrap().name.as_deref(), Some("login.test"));
    for (said, url) in [
        ("https://a.test:8443", "https://a.test:8443/"),
        ("https://a.test?x", "https://a.test/?x"),
        ("http://127.0.0.1:80/keys", "http://127.0.0.1/keys"),
        ("http://[::1]:8080/keys", "http://[::1]:8080/keys"),
    ] {
        assert_eq!(read(&format!("jwks = \"{said}\"")).url(), url);
    }
    let more = "jwks = \"https://10.0.0.1/keys\"\nrefresh = \"24h\"\ntls.name = \"login.test\"";
    let other = read(more);
    assert_eq!(other.tls.unwrap().name.as_deref(), Some("login.test"));
    assert_eq!(other.refresh.as_secs(), 24 * 3600);
    // A query may have a secret.
    let found = faults("[issuers.i]\niss = \"i\"\naud = \"any\"\njwks = \"http://a.test/?hidden\"\n");
    assert!(found.len() == 1 && !found[0].1.contains("hidden"), "{found:?}");
}

#[test]
fn a_key_that_is_none_or_weak_or_private_is_refused_at_its_place() {
    let n = modulus(2048);
    let (x, y) =
        ("04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY", "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw");
    let edwards = |first: u8, byte: u8, last: u8| {
        let mut key = [byte; 32];
        (key[0], key[31]) = (first, last);
        json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&key)})
    };
    let private = "-----BEGIN PRIVATE KEY-----\nhidden\n-----END PRIVATE KEY-----\n";
    for (key, pointer) in [
        (json!({}), ""),
        (json!(7), ""),
        (json!("hidden"), ""),
        (json!(private), ""),
        (json!(P256.replace("PUBLIC KEY", "CERTIFICATE")), ""),
        (json!(P256.replace("MFkw", "MFow")), ""),
        (json!(P256.replace("MFkwEwYHKoZIzj0CAQ", "MFkwEwYHKoZIzj0CAg")), ""),
        (json!(format!("{P256}{P256}")), ""),
        (json!({"pem": P256, "alg": "RS256"}), ""),
        (json!({"pem": P256, "alg": "HS256"}), ""),
        (json!({"pem": P256, "use": "sig"}), "/use"),
        (json!({"pem": P256, "secret": SECRET}), ""),
        (json!({"pem": P256, "kid": ""}), "/kid"),
        (json!({"pem": P256, "kid": 7}), "/kid"),
        (json!({"pem": P256, "alg": "none"}), "/alg"),
        (json!({"pem": P256, "alg": "es256"}), "/alg"),
        (json!({"secret": "hidden"}), ""),
        (json!({"secret": SECRET, "alg": "HS512"}), ""),
        (json!({"secret": SECRET, "alg": "RS256"}), ""),
        (json!({"secret": "hidden-".repeat(200)}), "/secret"),
        (json!({"secret": P256}), ""),
        (json!({"secret": format!("# ours\n{P256}")}), ""),
        (json!({"secret": "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"}), ""),
        (json!({"secret": format!("{{\"kty\":\"RSA\",\"n\":\"{}\"}}", modulus(2048))}), ""),
        (json!({"secret": "a-string-secret-at-least-256-bits-long"}), ""),
        (json!({"kty": "oct", "k": encode(&[&[0x30, 0x82, 1, 0x22][..], &[7; 64]].concat())}), ""),
        (json!({"secret": format!("sha256:{}", "00".repeat(32))}), "/secret"),
        (json!({"kty": "oct", "k": encode(&[7; 31])}), ""),
        (json!({"kty": "oct", "k": format!("{}=", encode(SECRET.as_bytes()))}), "/k"),
        (json!({"kty": "oct"}), ""),
        (json!({"kty": "oct", "k": encode(SECRET.as_bytes()), "use": "enc"}), "/use"),
        (json!({"kty": "oct", "k": encode(SECRET.as_bytes()), "key_ops": ["sign"]}), "/key_ops"),
        (json!({"kty": "oct", "k": encode(SECRET.as_bytes()), "key_ops": "verify"}), "/key_ops"),
        (json!({"kty": "oct", "k": encode(SECRET.as_bytes()), "alg": "A256GCM"}), "/alg"),
        (json!({"kty": "RSA", "n": modulus(1024), "e": "AQAB"}), ""),
        (json!({"kty": "RSA", "n": modulus(2040), "e": "AQAB"}), ""),
        (json!({"kty": "RSA", "n": modulus(8200), "e": "AQAB"}), ""),
        (json!({"kty": "RSA", "n": n, "e": "AQ"}), ""),
        (json!({"kty": "RSA", "n": n, "e": "AQAA"}), ""),
        (json!({"kty": "RSA", "n": n, "e": "AAEAAQ"}), ""),
        (json!({"kty": "RSA", "n": n, "e": "____________"}), ""),
        (json!({"kty": "RSA", "n": n}), ""),
        (json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "ES256"}), ""),
        (json!({"kty": "RSA", "n": n, "e": "AQAB", "d": "hidden"}), "/d"),
        (json!({"kty": "RSA", "n": n, "e": "AQAB", "qi": "hidden"}), "/qi"),
        (json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "d": "hidden"}), "/d"),
        (json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}), ""),
        (json!({"kty": "EC", "crv": "P-384", "x": x, "y": y}), "/x"),
        (json!({"kty": "EC", "crv": "P-521", "x": x, "y": y}), "/crv"),
        (json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": y}), "/crv"),
        (json!({"kty": "EC", "crv": "P-256", "x": x, "y": &y[2..]}), "/y"),
        (json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES384"}), ""),
        (json!({"kty": "OKP", "crv": "Ed448", "x": x}), "/crv"),
        (json!({"kty": "OKP", "crv": "X25519", "x": x}), "/crv"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": &x[4..]}), ""),
        (edwards(0, 0, 0), ""),
        (edwards(1, 0, 0), ""),
        (edwards(1, 0, 0x80), ""),
        (edwards(0xec, 0xff, 0x7f), ""),
        (edwards(0xed, 0xff, 0xff), ""),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o"}), ""),
        (json!({"kty": "AKP", "pub": "AAAA"}), "/kty"),
        (json!({"kty": 7}), "/kty"),
    ] {
        let found = faults(&issuer(&json!([key])));
        assert!(found.iter().any(|(it, _)| *it == format!("/issuers/i/keys/0{pointer}")), "{key}: {found:?}");
        assert!(!format!("{found:?}").contains("hidden"), "{found:?}");
    }
}

#[test]
fn keys_that_are_not_told_apart_are_refused() {
    let secret = |n: u8| json!({"secret": format!("{SECRET}{n}"), "kid": "k"});
    let nameless = |n: u8| json!({"secret": format!("{SECRET}{n}")});
    let pointer =
        |keys: serde_json::Value| faults(&issuer(&keys)).into_iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(pointer(json!([secret(1), secret(2)])), ["/issuers/i/keys/1"]);
    assert_eq!(pointer(json!([nameless(1), nameless(1)])), ["/issuers/i/keys/1"]);
    assert_eq!(pointer(json!([nameless(1), P256])), ["/issuers/i/keys"]);
    let four: Vec<_> = (0..4).map(nameless).collect();
    assert_eq!(pointer(json!(four)), Vec::<String>::new());
    let five: Vec<_> = (0..5).map(nameless).collect();
    assert_eq!(pointer(json!(five)), ["/issuers/i/keys"]);
    let many: Vec<_> = (0..=super::ISSUER_KEYS_MAX).map(|_| secret(0)).collect();
    assert_eq!(pointer(json!(many))[0], "/issuers/i/keys");
}

#[test]
fn a_route_takes_tokens_of_issuers_that_there_are_and_that_are_told_apart() {
    let issuers = format!(
        "issuers.a = {{iss = \"x\", aud = \"any\", keys = [{{secret = \"{SECRET}\"}}]}}\n\
         issuers.b = {{iss = \"x\", aud = \"b\", keys = [{{secret = \"{SECRET}\"}}]}}\n"
    );
    for (auth, pointer, is_clash) in [
        ("{jwt = [\"a\"]}", None, false),
        ("{jwt = [\"b\"], keys = true}", None, false),
        ("{jwt = [\"a\", \"b\"]}", Some(""), true),
        ("{jwt = [\"c\"]}", Some(""), true),
        ("{jwt = []}", Some("/auth/jwt"), false),
        ("{jwt = \"a\"}", Some("/auth/jwt"), false),
        ("{jwt = true}", Some("/auth/jwt"), false),
        ("{jwt = {}}", Some("/auth/jwt"), false),
        ("{jwt = [\"a\", \"a\"]}", Some("/auth/jwt"), false),
        ("{jwt = {issuers = [\"a\"], cookie = \"x\"}}", Some("/auth/jwt/cookie"), false),
        ("{keys = true, jwt = {issuers = [\"a\"], forward = true}}", Some("/auth/jwt"), false),
    ] {
        let text = format!("{issuers}[routes.r]\nservice = \"skep\"\nauth = {auth}\n");
        let found = Document::judge(&crate::value::Value::read(&text).unwrap());
        let place = found.as_ref().err().map(|it| it.faults[0].pointer.clone());
        assert_eq!(place, pointer.map(|it| format!("/routes/r{it}")), "{auth}: {found:?}");
        assert_eq!(found.is_err_and(|it| it.is_clash), is_clash, "{auth}");
    }
}

/// As they are kept, shown, and put again.
#[test]
fn secrets_go_in_and_what_is_shown_of_them_means_those_that_are_there() {
    let given = json!({"issuers": {
        "a": {"iss": "a", "aud": "any", "keys": [{"secret": SECRET, "kid": "x"}]},
        "b": {"iss": "b", "aud": "any", "keys": {"keys": [{"kty": "oct", "k": encode(SECRET.as_bytes())}]}},
        "c": {"iss": "c", "aud": "any", "keys": [P256]},
    }});
    let kept = Kept::read(&given.to_string()).unwrap();
    assert!(kept.has_secrets() && kept.json().unwrap().contains("hidden"), "balancers need them");
    let shown = kept.shown().json().unwrap();
    // As sha256sum has it.
    assert_eq!(shown.matches("sha256:").count(), 2, "{shown}");
    for hidden in ["hidden", &encode(SECRET.as_bytes())] {
        assert!(!shown.contains(hidden), "{shown}");
        assert!(!kept.shown().object("issuers", "b").unwrap().contains(hidden));
    }
    // Where nobody knows them it is no document to be obeyed, and one to be sent.
    let refused = Kept::read(&shown).unwrap_err();
    assert_eq!(refused.faults[0].pointer, "/issuers/a/keys/0/secret");
    assert!(Document::read(&shown).is_err());
    assert_eq!(Kept::read_alone(&shown, &|| None).unwrap().json().unwrap(), shown);
    // It means the same, whole and one by one, in either form, and under another name.
    assert!(Kept::read_after(&shown, &kept, &|| None).unwrap().since(&kept).is_none());
    let object = kept.shown().object("issuers", "b").unwrap();
    assert!(kept.with("issuers", "b", &object, false, &|| None).unwrap().since(&kept).is_none());
    let moved = kept.with("issuers", "d", &object.replace("\"b\"", "\"d\""), false, &|| None).unwrap();
    assert_eq!(moved.since(&kept).added, ["issuers/d"]);
    assert!(moved.object("issuers", "d").unwrap().contains(&encode(SECRET.as_bytes())));
    // One that is not there is a fault, with its place.
    let other = object.replace("sha256:", "sha256:0");
    assert!(kept.with("issuers", "b", &other, false, &|| None).is_err());
    let without = |kept: &Kept, name| kept.without("issuers", name, "api", false).unwrap();
    let gone = without(&without(&kept, "a"), "b");
    assert!(!gone.has_secrets());
    assert_eq!(Kept::read_after(&shown, &gone, &|| None).unwrap_err().faults.len(), 2);
}
