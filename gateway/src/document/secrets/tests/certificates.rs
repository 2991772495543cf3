//! Keys of certificates are kept as secrets of issuers are.

use serde_json::json;

use super::{SECRET, counted, kept, opened, reopened, sealed, unopened};
use crate::document::sources::API;
use crate::kept::{Kept, Sealer};

fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A line of the key that stands in no other text.
fn line(key: &str) -> String {
    key.lines().nth(1).unwrap().to_owned()
}

fn document(certificates: &[(&str, &(String, String))]) -> Kept {
    let object = |(name, (certificate, key)): &(&str, &(String, String))| {
        ((*name).to_owned(), json!({ "certificate": certificate, "key": key }))
    };
    let all: serde_json::Map<_, _> = certificates.iter().map(object).collect();
    let issuer = json!({ "iss": "i", "aud": "any", "keys": [{ "kid": "k", "secret": SECRET }] });
    Kept::read(&json!({ "certificates": all, "issuers": { "i": issuer } }).to_string()).unwrap()
}

#[test]
fn a_key_is_sealed_for_its_certificate_shown_by_its_reference_and_put_back_by_that() {
    let a = made("a.test");
    let open = document(&[("a", &a)]);
    let json = kept(&open);
    assert!(!json.contains(&line(&a.1)) && json.contains("BEGIN CERTIFICATE"), "{json}");
    let before = reopened(&json);
    assert!(before.since(&open).is_none());
    assert_eq!((before.secrets_open(), before.secrets_absent()), (2, 0));
    for shown in [open.shown(), before.shown(), Kept::trusted(&json).unwrap().shown()] {
        let text = shown.json().unwrap();
        assert!(!text.contains(&line(&a.1)) && !text.contains("sealed1"), "{text}");
        assert!(Kept::read_alone(&text, &|| None).is_ok(), "where nobody knows it, it is taken for granted");
        assert!(Kept::read(&text).is_err(), "it is no key");
    }
    for shown in [open.shown(), before.shown()] {
        let same = Kept::read_after(&shown.json().unwrap(), &before, &|| None).unwrap();
        assert!(same.since(&before).is_none());
        let object = shown.object("certificates", "a").unwrap();
        let renamed = before.without("certificates", "a", API, false).unwrap();
        let refused = renamed.with("certificates", "b", &object, false, &|| None).unwrap_err();
        assert_eq!(refused.faults[0].pointer, "/certificates/b/key");
        assert!(refused.faults[0].fault.contains("put the secret itself"), "{refused:?}");
    }
    let refused = Kept::read_after(&json, &before, &|| None).unwrap_err();
    assert!(refused.faults[0].fault.contains("how nodes keep a secret"), "{refused:?}");
    assert!(!format!("{before:?} {open:?}").contains(&line(&a.1)));
}

/// As it lies in logs and checkpoints: every later version must read what this one has written.
#[test]
fn for_what_a_key_is_sealed_is_pinned_and_is_no_place_of_an_issuer() {
    let a = made("a.test");
    let json: serde_json::Value = serde_json::from_str(&kept(&document(&[("a", &a)]))).unwrap();
    let reference = "01".repeat(32);
    let place = [&[0xff; 8][..], b"certificate", reference.as_bytes(), b"a"].concat();
    let sealed = crate::auth::jwt::encode(&sealed(&place, a.1.as_bytes()).unwrap());
    assert_eq!(json["certificates"]["a"]["key"], format!("sealed1:{reference}:{sealed}"));
}

#[test]
fn what_is_moved_to_another_certificate_does_not_open() {
    let (a, b) = (made("a.test"), made("b.test"));
    let document: serde_json::Value =
        serde_json::from_str(&kept(&document(&[("a", &a), ("b", &b)]))).unwrap();
    let mut swapped = document.clone();
    swapped["certificates"]["a"]["key"] = document["certificates"]["b"]["key"].clone();
    assert_eq!(reopened(&swapped.to_string()).secrets_absent(), 1);
    let mut renamed = document.clone();
    renamed["certificates"] = json!({ "c": document["certificates"]["a"] });
    assert_eq!(reopened(&renamed.to_string()).secrets_absent(), 1);
}

#[test]
fn a_secret_that_is_shown_of_one_kind_is_nothing_in_the_other() {
    let a = made("a.test");
    let before = reopened(&kept(&document(&[("a", &a)])));
    let shown: serde_json::Value = serde_json::from_str(&before.shown().json().unwrap()).unwrap();
    let mut mixed = shown.clone();
    mixed["issuers"]["i"]["keys"][0]["secret"] = shown["certificates"]["a"]["key"].clone();
    mixed["certificates"]["a"]["key"] = shown["issuers"]["i"]["keys"][0]["secret"].clone();
    let refused = Kept::read_after(&mixed.to_string(), &before, &|| None).unwrap_err();
    let pointers: Vec<&str> = refused.faults.iter().map(|it| it.pointer.as_str()).collect();
    assert_eq!(pointers, ["/certificates/a/key", "/issuers/i/keys/0/secret"]);
}

#[test]
fn a_certificate_whose_key_does_not_open_stays_as_it_is_kept_and_balancers_are_told_that_it_is_absent() {
    let (a, b) = (made("a.test"), made("b.test"));
    let before = unopened(&kept(&document(&[("a", &a), ("b", &b)])));
    assert_eq!((before.secrets_open(), before.secrets_absent()), (0, 3));
    let service = r#"{"urls":["http://a:1"]}"#;
    let after = before.with("services", "w", service, false, &|| None).unwrap();
    assert_eq!((after.since(&before).added, after.secrets_absent()), (vec!["services/w".to_owned()], 3));
    let whole = before.shown().json().unwrap();
    assert!(Kept::read_after(&whole, &before, &|| None).unwrap().since(&before).is_none());
    assert!(before.clone().judged_again().is_ok());
    // One that is put anew lies open beside the other.
    let given = json!({ "certificate": a.0, "key": a.1 }).to_string();
    let mixed = before.with("certificates", "a", &given, false, &|| None).unwrap();
    assert_eq!((mixed.secrets_open(), mixed.secrets_absent()), (1, 2));
    let told = mixed.told(&|_| Some([7; 32])).unwrap().json().unwrap();
    let table = Kept::read(&told).unwrap().table().unwrap();
    let keys: Vec<_> =
        table.certificates.all().iter().map(|(name, it)| (&**name, it.key.is_some())).collect();
    assert_eq!(keys, [("a", true), ("b", false)]);
    assert!(!told.contains("sealed1"), "{told}");
}

#[test]
fn one_that_stays_is_sealed_as_it_was() {
    let a = made("a.test");
    let json = kept(&document(&[("a", &a)]));
    let before = reopened(&json);
    let none = || -> Option<[u8; 32]> { panic!("nothing is drawn") };
    let nothing = |_: &[u8], _: &[u8]| -> Option<Vec<u8>> { panic!("nothing is sealed") };
    let again = before.sealed(&[&before], &Sealer { stays: &|_| true, seal: &nothing, draw: &none });
    assert_eq!(again.unwrap().json().unwrap(), json);
    let failing = Sealer { stays: &|_| true, seal: &|_, _| None, draw: &counted() };
    assert!(before.sealed(&[], &failing).is_none(), "what cannot be sealed is not kept");
    assert!(opened(b"x", b"").is_none());
}

#[test]
fn all_but_the_key_of_a_certificate_is_judged_where_that_is_absent() {
    let (a, other) = (made("a.test"), made("a.test"));
    let before = unopened(&kept(&document(&[("a", &a)])));
    // Once the key opens, two would be for one host.
    let put = json!({ "certificate": other.0, "key": other.1 }).to_string();
    let tie = before.with("certificates", "b", &put, false, &|| None).unwrap_err();
    assert!(tie.is_clash, "{tie:?}");
    let shown: serde_json::Value =
        serde_json::from_str(&before.shown().object("certificates", "a").unwrap()).unwrap();
    for (member, value, pointer) in [
        // Of another certificate it may not be the key.
        ("certificate", json!(other.0), "/certificates/a/key"),
        ("certificate", json!("x"), "/certificates/a/"),
        ("hosts", json!(["b.test"]), "/certificates/a/hosts/0"),
        ("later", json!(1), "/certificates/a/later"),
        ("key", json!("absent"), ""),
    ] {
        let mut changed = shown.clone();
        changed[member] = value;
        let refused = before.with("certificates", "a", &changed.to_string(), false, &|| None).unwrap_err();
        assert!(refused.faults.iter().any(|it| it.pointer.starts_with(pointer)), "{member}: {refused:?}");
    }
    // Its chain may be another, and for fewer hosts.
    let mut changed = shown.clone();
    (changed["certificate"], changed["hosts"]) = (json!(format!("{}{}", a.0, other.0)), json!(["a.test"]));
    let after = before.with("certificates", "a", &changed.to_string(), false, &|| None).unwrap();
    assert_eq!(after.secrets_absent(), 2);
    let mut bad = json!({ "certificates": { "a": shown } });
    assert!(Kept::read_alone(&bad.to_string(), &|| None).is_ok());
    bad["certificates"]["a"]["certificate"] = json!("x");
    assert!(Kept::read_alone(&bad.to_string(), &|| None).is_err(), "what names a key is judged as well");
}
