//! Whom a token proves, where it stands, until when, and what is kept of it.

mod rfc8725;
mod wycheproof;

use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::hmac;

use super::*;
use crate::auth::password::Checked;
use crate::auth::{Auth, Consumers, Denied, Known, Proof, Tokens};
use crate::{Document, Table};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of thirty-two bytes or m";
const HEAD: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &str =
    r#"{"iss":"https://corp.test/","aud":"orders","sub":"alice","exp":1800000060,"groups":["b","a"]}"#;

fn sign(head: &str, payload: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(head.as_bytes()), encode(payload.as_bytes()));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(&signature))
}

fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |signed| hmac::sign(&key, signed).as_ref().to_vec()
}

fn token(head: &str, payload: &str) -> String {
    sign(head, payload, hs256(SECRET.as_bytes()))
}

/// All that are known where an issuer has these keys, in JSON.
fn consumers(keys: &str) -> Consumers {
    let document = format!(
        r#"{{"issuers": {{
            "corp": {{"iss": "https://corp.test/", "aud": ["orders", "bills"], "groups": "groups", "keys": {keys}}},
            "other": {{"iss": "https://other.test/", "aud": "any", "keys": [{{"secret": "another secret of thirty-two byte"}}]}}
        }}}}"#
    );
    Table::compile(Document::read(&document).unwrap()).unwrap().consumers
}

fn usual() -> Consumers {
    consumers(&format!(r#"[{{"secret": "{SECRET}"}}]"#))
}

fn auth(issuers: &[&str], groups: &[&str]) -> Auth {
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    Auth {
        keys: None,
        tokens: Some(Tokens { issuers: names(issuers), forward: false }),
        basic: false,
        groups: names(groups),
    }
}

/// Who sends that, by name.
fn who(consumers: &Consumers, auth: &Auth, token: &str, now_s: u64) -> Result<String, Refused> {
    let value = format!("Bearer {token}");
    let fields = [(&b"authorization"[..], value.as_bytes())].into_iter();
    match consumers.authenticate(auth, None, now_s, |_, _| Checked::Wrong, fields, b"") {
        Ok(proof) => Ok(known(consumers, &proof).name.clone()),
        Err(Denied::Token(refused)) => Err(refused),
        Err(denied) => panic!("{denied:?}"),
    }
}

fn known<'a>(consumers: &'a Consumers, proof: &'a Proof) -> &'a Known {
    consumers.known(proof).unwrap()
}

fn corp(token: &str) -> Result<String, Refused> {
    who(&usual(), &auth(&["corp"], &[]), token, NOW)
}

#[test]
fn a_token_proves_its_issuers_subject() {
    assert_eq!(corp(&token(HEAD, CLAIMS)).as_deref(), Ok("corp/alice"));
    for head in [
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"at+JWT","alg":"HS256","x5t":"passed over"}"#,
        r#"{"alg":"HS256","typ":"application/at+jwt"}"#,
    ] {
        assert_eq!(corp(&token(head, CLAIMS)).as_deref(), Ok("corp/alice"), "{head}");
    }
    let subject = |sub: &str| corp(&token(HEAD, &CLAIMS.replace("alice", sub)));
    for sub in [
        "auth0|5f7c",
        "repo:o/r:ref:refs/heads/main",
        "a@b.test",
        "42",
        "spiffe://a/b",
        "../../x",
        &"x".repeat(256),
    ] {
        assert_eq!(subject(sub), Ok(format!("corp/{sub}")));
    }
    for sub in ["", "a b", "a,b", "ä", "a\\\"b", "a\\\\b", "a\\r\\nx: y", "a\\u0000", &"x".repeat(257)] {
        assert_eq!(subject(sub), Err(Refused::Claims), "{sub}");
    }
}

/// 3.2 and 3.3: each way to sign that there is holds by a key of its own type, and by no other; and what was changed
/// by a bit does not.
/// 3.4, 3.7: what is read has one reading, and 8 KiB of it at most.
/// 3.8 and 3.9: of which issuer it is, and for whom.
/// 3.10: nothing that a token says is fetched, and none of its own keys is believed.
/// 3.11 and 3.12: tokens of another kind, by the same issuer.
#[test]
fn a_token_holds_from_its_time_to_its_time_and_the_leeway_beyond() {
    let at =
        |claims: &str, now: u64| who(&usual(), &auth(&["corp"], &[]), &token(HEAD, claims), now).map(drop);
    for (now, expected) in [
        (NOW, Ok(())),
        (NOW + 89, Ok(())),
        (NOW + 90, Err(Refused::Expired)),
        (u64::MAX, Err(Refused::Expired)),
    ] {
        assert_eq!(at(CLAIMS, now), expected, "{now}");
    }
    let nbf = CLAIMS.replace("\"exp\"", "\"nbf\":1800000000,\"exp\"");
    for (now, expected) in
        [(NOW - 31, Err(Refused::NotYet)), (NOW - 30, Ok(())), (NOW, Ok(())), (0, Err(Refused::NotYet))]
    {
        assert_eq!(at(&nbf, now), expected, "{now}");
    }
    // What is no time is not passed over as if it were not there.
    for (from, to) in [
        ("1800000060", "\"1800000060\""),
        ("1800000060", "null"),
        ("1800000060", "[1800000060]"),
        ("1800000060", "true"),
        ("\"exp\":1800000060,", ""),
        ("\"exp\"", "\"nbf\":\"0\",\"exp\""),
        ("\"exp\"", "\"nbf\":null,\"exp\""),
        ("\"exp\"", "\"nbf\":{},\"exp\""),
        ("\"exp\"", "\"iat\":\"now\",\"exp\""),
        ("\"exp\"", "\"jti\":7,\"exp\""),
        // It is bound to a key, for whose proof nobody asks.
        ("\"exp\"", "\"cnf\":{\"jkt\":\"x\"},\"exp\""),
        ("\"alice\"", "7"),
        ("\"sub\":\"alice\",", ""),
        ("\"https://corp.test/\"", "[\"https://corp.test/\"]"),
        ("\"iss\":\"https://corp.test/\",", ""),
    ] {
        let claims = CLAIMS.replace(from, to);
        assert_ne!(claims, CLAIMS);
        assert_eq!(at(&claims, NOW), Err(Refused::Claims), "{claims}");
    }
    for (exp, expected) in [
        ("1800000060.5", Ok(())),
        ("1.8e9", Ok(())),
        ("1e300", Ok(())),
        ("18446744073709551615", Ok(())),
        ("-1", Err(Refused::Expired)),
        ("-1e300", Err(Refused::Expired)),
        ("0", Err(Refused::Expired)),
        ("1799999970", Err(Refused::Expired)),
        ("1799999971", Ok(())),
        ("1e999", Err(Refused::Malformed)),
    ] {
        assert_eq!(at(&CLAIMS.replace("1800000060", exp), NOW), expected, "{exp}");
    }
}

#[test]
fn groups_are_those_of_the_claim_that_the_issuer_has_for_them() {
    let said = |groups: &str| {
        let token = token(HEAD, &CLAIMS.replace("[\"b\",\"a\"]", groups));
        let value = format!("Bearer {token}");
        let all = usual();
        let fields = [(&b"authorization"[..], value.as_bytes())].into_iter();
        let proof = all.authenticate(&auth(&["corp"], &[]), None, NOW, |_, _| Checked::Wrong, fields, b"");
        match proof {
            Ok(proof) => Ok(known(&all, &proof).groups_said.clone()),
            Err(Denied::Token(refused)) => Err(refused),
            Err(denied) => panic!("{denied:?}"),
        }
    };
    for (groups, expected) in [
        (r#"["b","a","b"]"#, Ok("a,b")),
        (r#""read write""#, Ok("read,write")),
        (r#"["a,b","c d","/e","x\r\ny: z","ok",""]"#, Ok("ok")),
        ("[]", Ok("")),
        (r#""""#, Ok("")),
        ("7", Err(Refused::Claims)),
        ("null", Err(Refused::Claims)),
        (r#"["a",7]"#, Err(Refused::Claims)),
        (r#"{"a":true}"#, Err(Refused::Claims)),
    ] {
        assert_eq!(said(groups), expected.map(str::to_owned), "{groups}");
    }
    let value = format!("Bearer {}", token(HEAD, CLAIMS));
    for (groups, admits) in [(&["a"][..], true), (&["x", "b"], true), (&["x"], false)] {
        let (all, mut auth) = (usual(), auth(&["corp"], groups));
        auth.groups.sort();
        let fields = [(&b"authorization"[..], value.as_bytes())].into_iter();
        match all.authenticate(&auth, None, NOW, |_, _| Checked::Wrong, fields, b"") {
            Ok(_) => assert!(admits, "{groups:?}"),
            Err(Denied::Group(proof)) => {
                assert!(!admits && known(&all, &proof).name == "corp/alice", "{groups:?}");
            }
            Err(denied) => panic!("{denied:?}"),
        }
    }
}

#[test]
fn a_token_stands_in_authorization_as_a_bearers_and_nowhere_else() {
    let (all, whole) = (usual(), token(HEAD, CLAIMS));
    let both = Auth { keys: Some(crate::auth::Keys::default()), ..auth(&["corp"], &[]) };
    let ask = |auth: &Auth, fields: &[(&str, &str)], query: &str| {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        all.authenticate(auth, None, NOW, |_, _| Checked::Wrong, fields, query.as_bytes())
    };
    let only = auth(&["corp"], &[]);
    let bearer = format!("bEARER  {whole} ");
    for auth in [&only, &both] {
        assert!(ask(auth, &[("Authorization", &bearer)], "").is_ok());
        assert!(ask(auth, &[("Authorization", &bearer), ("authorization", &bearer)], "").is_ok());
        assert!(auth.drops(b"authorization", bearer.as_bytes()));
    }
    for fields in [
        ("authorization", &*format!("Basic {whole}")),
        ("authorization", &whole),
        ("authorization", &format!("ApiKey {whole}")),
        ("x-api-key", &whole),
        ("cookie", &format!("token={whole}")),
        ("x_authorization", &bearer),
    ] {
        let query = format!("?access_token={whole}");
        assert!(matches!(ask(&only, &[fields], &query), Err(Denied::Missing)), "{fields:?}");
    }
    assert!(matches!(ask(&both, &[("x-api-key", &whole)], ""), Err(Denied::Unknown)));
    let other = format!("Bearer {}", token(HEAD, &CLAIMS.replace("alice", "bob")));
    assert!(matches!(
        ask(&only, &[("authorization", &bearer), ("authorization", &other)], ""),
        Err(Denied::Several)
    ));
    let key = ("x-api-key", "0123456789abcdef");
    assert!(matches!(ask(&both, &[("authorization", &bearer), key], ""), Err(Denied::Several)));
    // What does not look like a token, where it may be a key, is a key.
    assert!(matches!(ask(&both, &[("authorization", "Bearer 0123456789abcdef")], ""), Err(Denied::Unknown)));
    assert!(matches!(
        ask(&only, &[("authorization", "Bearer 0123456789abcdef")], ""),
        Err(Denied::Token(Refused::Malformed))
    ));
    let mut sent = only.clone();
    sent.tokens.as_mut().unwrap().forward = true;
    assert!(!sent.drops(b"authorization", bearer.as_bytes()));
    let said = only.challenge(&Denied::Token(Refused::Expired));
    assert_eq!(
        said,
        "Bearer realm=\"skep\", error=\"invalid_token\", error_description=\"its time is over\""
    );
    assert_eq!(only.challenge(&Denied::Missing), "Bearer realm=\"skep\"");
}

#[test]
fn what_was_proved_holds_on_while_its_time_and_what_is_asked_of_its_issuer_do() {
    let (all, auth) = (usual(), auth(&["corp"], &["a"]));
    let value = format!("Bearer {}", token(HEAD, CLAIMS));
    let fields = [(&b"authorization"[..], value.as_bytes())].into_iter();
    let proof = all.authenticate(&auth, None, NOW, |_, _| Checked::Wrong, fields, b"").unwrap();
    let still = |all: &Consumers, now: u64| all.still_hold(&auth, "corp/alice", &proof, now);
    assert!(still(&all, NOW) && still(&all, NOW + 89) && !still(&all, NOW + 90));
    let key = format!(r#"{{"secret": "{SECRET}"}}"#);
    let more =
        consumers(&format!(r#"[{key}, {{"secret": "one more secret of thirty-two bytes", "kid": "b"}}]"#));
    assert!(still(&more, NOW), "a key that comes ends nothing");
    assert!(!still(&consumers(r#"[{"secret": "one more secret of thirty-two bytes"}]"#), NOW));
    let document = |iss: &str, aud: &str, groups: &str| {
        let text = format!(
            r#"{{"issuers": {{"corp": {{"iss": "{iss}", "aud": "{aud}", "groups": "{groups}", "keys": [{key}]}}}}}}"#
        );
        Table::compile(Document::read(&text).unwrap()).unwrap().consumers
    };
    assert!(still(&document("https://corp.test/", "orders", "groups"), NOW));
    assert!(!still(&document("https://corp.test/x", "orders", "groups"), NOW));
    assert!(!still(&document("https://corp.test/", "bills", "groups"), NOW));
    assert!(!still(&document("https://corp.test/", "orders", "roles"), NOW));
    assert!(!still(&Consumers::default(), NOW));
    assert!(!all.still_hold(&super::tests::auth(&["other"], &[]), "corp/alice", &proof, NOW));
}

#[test]
fn a_token_that_is_known_proves_no_more_than_one_that_is_not() {
    let all = usual();
    let mut verified = Verified::new(RandomState::new());
    let value = format!("Bearer {}", token(HEAD, CLAIMS));
    let mut ask = |issuers: &[&str], groups: &[&str], now_s: u64| {
        let fields = [(&b"authorization"[..], value.as_bytes())].into_iter();
        let auth = auth(issuers, groups);
        match all.authenticate(&auth, Some(&mut verified), now_s, |_, _| Checked::Wrong, fields, b"") {
            Ok(proof) => Ok(known(&all, &proof).name.clone()),
            Err(Denied::Token(refused)) => Err(Some(refused)),
            Err(Denied::Group(_)) => Err(None),
            Err(denied) => panic!("{denied:?}"),
        }
    };
    for _ in 0..2 {
        assert_eq!(ask(&["corp"], &[], NOW).as_deref(), Ok("corp/alice"));
        assert_eq!(ask(&["other"], &[], NOW), Err(Some(Refused::Issuer)));
        assert_eq!(ask(&["corp"], &["x"], NOW), Err(None));
    }
    assert_eq!(ask(&["corp"], &[], NOW + 90), Err(Some(Refused::Expired)));
    assert_eq!(verified.fill().0, 1, "until others push it out");
}

/// Whom a token proves that is kept.
fn proved(issuers: &Issuers, claims: &str) -> (String, Rc<Token>) {
    let token = token(HEAD, claims);
    let proved = issuers.verify(&["corp".to_owned()], token.as_bytes(), NOW).unwrap();
    (token, Rc::new(proved))
}

#[test]
fn a_token_that_was_proved_is_known_until_its_time_is_over_or_its_issuer_is_another() {
    let issuers = |keys: &str| Arc::new(consumers(keys).issuers().clone());
    let key = format!(r#"[{{"secret": "{SECRET}"}}]"#);
    let (first, same) = (issuers(&key), issuers(&key));
    let mut verified = Verified::new(RandomState::new());
    let (token, known) = proved(&first, CLAIMS);
    assert!(verified.find(&first, &of_corp(), token.as_bytes(), NOW).is_none());
    verified.keep(token.as_bytes(), &known);
    assert!(verified.find(&first, &of_corp(), token.as_bytes(), NOW).is_some());
    assert!(verified.find(&first, &of_corp(), &token.as_bytes()[1..], NOW).is_none());
    assert!(
        verified.find(&same, &of_corp(), token.as_bytes(), NOW).is_some(),
        "another document that says the same of issuers"
    );
    assert!(verified.find(&same, &of_corp(), token.as_bytes(), NOW + 89).is_some());
    assert!(verified.find(&same, &of_corp(), token.as_bytes(), NOW + 90).is_none());
    let before = verified.fill();
    verified.keep(token.as_bytes(), &known);
    assert_eq!((verified.fill(), before.0), (before, 1), "it has one place");
    let other = issuers(r#"[{"secret": "one more secret of thirty-two bytes"}]"#);
    assert!(verified.find(&other, &of_corp(), token.as_bytes(), NOW).is_none());
    assert_eq!(verified.fill(), (0, 0));
}

#[test]
fn so_many_tokens_are_kept_and_so_many_bytes_the_newest_of_them() {
    let issuers = Arc::new(usual().issuers().clone());
    let mut verified = Verified::new(RandomState::new());
    verified.find(&issuers, &of_corp(), b"", NOW);
    let (_, known) = proved(&issuers, CLAIMS);
    let name = |n: usize| format!("token-{n}");
    for n in 0..2 * KEPT_MAX {
        verified.keep(name(n).as_bytes(), &known);
        let (count, bytes) = verified.fill();
        assert!(count <= KEPT_MAX && bytes <= KEPT_BYTES_MAX);
        // What is over keeps its place, too: there is nothing that is not counted.
        assert!(verified.find(&issuers, &of_corp(), name(n).as_bytes(), NOW + 90).is_none());
        assert!(verified.find(&issuers, &of_corp(), name(n).as_bytes(), NOW).is_some());
    }
    assert!(verified.find(&issuers, &of_corp(), name(0).as_bytes(), NOW).is_none());
    // The same again and again takes no more than once, and pushes nobody out.
    let (oldest, before) = (name(2 * KEPT_MAX - verified.fill().0), verified.fill());
    for _ in 0..2 * KEPT_MAX {
        verified.keep(name(2 * KEPT_MAX - 1).as_bytes(), &known);
    }
    assert_eq!(verified.fill(), before);
    assert!(verified.find(&issuers, &of_corp(), oldest.as_bytes(), NOW).is_some());
    for n in 0..1000 {
        verified.keep(format!("{n}{}", "x".repeat(TOKEN_BYTES_MAX - 8)).as_bytes(), &known);
        assert!(verified.fill().1 <= KEPT_BYTES_MAX);
    }
    assert!((100..=128).contains(&verified.fill().0), "{:?}", verified.fill());
}

#[test]
fn a_token_of_two_issuers_is_kept_for_each_and_found_by_that_alone() {
    let document = format!(
        r#"{{"issuers": {{
            "corp": {{"iss": "https://corp.test/", "aud": "orders", "keys": [{{"secret": "{SECRET}"}}]}},
            "twin": {{"iss": "https://corp.test/", "aud": "any", "keys": [{{"secret": "{SECRET}"}}]}}
        }}}}"#
    );
    let issuers =
        Arc::new(Table::compile(Document::read(&document).unwrap()).unwrap().consumers.issuers().clone());
    let (corp, twin) = (of_corp(), ["twin".to_owned()]);
    let token = token(HEAD, CLAIMS);
    let mut verified = Verified::new(RandomState::new());
    for among in [&corp, &twin] {
        assert!(verified.find(&issuers, among, token.as_bytes(), NOW).is_none());
        let proved = Rc::new(issuers.verify(among, token.as_bytes(), NOW).unwrap());
        verified.keep(token.as_bytes(), &proved);
    }
    for among in [&corp, &twin] {
        let found = verified.find(&issuers, among, token.as_bytes(), NOW).unwrap();
        assert_eq!(found.known.name, format!("{}/alice", among[0]));
    }
    assert_eq!(verified.fill().0, 1);
}

fn of_corp() -> [String; 1] {
    ["corp".to_owned()]
}

#[test]
fn of_keys_that_an_issuer_publishes_a_token_waits_for_the_first_and_may_ask_for_more() {
    let document = r#"{"issuers": {
        "other": {"iss": "https://other.test/", "aud": "any", "keys": [{"secret": "another secret of thirty-two byte"}]},
        "corp": {"iss": "https://corp.test/", "aud": ["orders"], "groups": "groups", "jwks": "https://corp.test/keys"}
    }}"#;
    let all = Table::compile(Document::read(document).unwrap()).unwrap().consumers;
    let auth = auth(&["other", "corp"], &[]);
    let named = |kid: &str| token(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), CLAIMS);
    assert_eq!(who(&all, &auth, &named("a"), NOW), Err(Refused::NoKeys(1)));
    // What needs no key is said all the same, and others' tokens are looked at.
    assert_eq!(who(&all, &auth, &named("a"), NOW + 1000), Err(Refused::Expired));
    let others = CLAIMS.replace("corp", "other");
    assert_eq!(who(&all, &auth, &token(HEAD, &others), NOW), Err(Refused::Signature));
    let keys = |secret: &str, names: &[&str]| {
        let key = |kid: &&str| VerifyKey::new(&Material::Secret(secret.into()), None, Some((*kid).into()));
        names.iter().map(|kid| key(kid).unwrap()).collect::<Arc<[VerifyKey]>>()
    };
    let with = |secret: &str, names: &[&str]| {
        all.with_published([
            ("corp".to_owned(), keys(secret, names)),
            ("other".to_owned(), keys(secret, &["x"])),
        ])
    };
    let now = with(SECRET, &["a", "b"]);
    assert_eq!(who(&now, &auth, &named("b"), NOW).unwrap(), "corp/alice");
    assert_eq!(who(&now, &auth, &named("c"), NOW), Err(Refused::Unpublished(1)));
    assert_eq!(who(&now, &auth, &token(HEAD, CLAIMS), NOW), Err(Refused::Unfit(1)), "it names none");
    let bad = sign(r#"{"alg":"HS256","kid":"a"}"#, CLAIMS, |_| vec![0; 32]);
    assert_eq!(who(&now, &auth, &bad, NOW), Err(Refused::Unfit(1)), "another key may have that name by now");
    // Whose keys the document has publishes none.
    assert_eq!(who(&now, &auth, &token(HEAD, &others), NOW), Err(Refused::Signature));
    let mut verified = Verified::new(RandomState::new());
    let value = format!("Bearer {}", named("b"));
    let fields = || [(&b"authorization"[..], value.as_bytes())].into_iter();
    let mut ask = |all: &Consumers| {
        all.authenticate(&auth, Some(&mut verified), NOW, |_, _| Checked::Wrong, fields(), b"")
    };
    let proof = ask(&now).unwrap();
    assert!(now.still_hold(&auth, "corp/alice", &proof, NOW));
    let rotated = with("another secret of thirty-two bytes", &["b", "c"]);
    assert!(ask(&rotated).is_err(), "it was kept");
    assert!(!rotated.still_hold(&auth, "corp/alice", &proof, NOW));
}
