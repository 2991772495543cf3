use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use serde_json::json;

use super::*;
use crate::Document;
use crate::fault::Fault;

const YEAR: i32 = 2040;

/// A certificate for these names that a key of that kind signs, and the key, both in PEM.
fn made_by(names: &[&str], algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    (params(names, YEAR).self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn params(names: &[&str], until: i32) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

fn made(names: &[&str]) -> (String, String) {
    made_by(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

fn object((certificate, key): &(String, String)) -> serde_json::Value {
    json!({ "certificate": certificate, "key": key })
}

fn read(certificates: serde_json::Value) -> Result<BTreeMap<String, Certificate>, Vec<Fault>> {
    Document::read(&json!({ "certificates": certificates }).to_string()).map(|it| it.certificates)
}

/// The only fault, as `POINTER: FAULT`.
fn fault(certificates: serde_json::Value) -> String {
    let faults = read(certificates).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].to_string()
}

#[test]
fn it_is_shown_for_the_hosts_that_it_names_and_lasts_as_long_as_its_chain() {
    let (certificate, key) = made(&["A.test", "*.b.test", "192.0.2.1"]);
    let authority = KeyPair::generate().unwrap();
    let authority = params(&["ca"], 2030).self_signed(&authority).unwrap().pem();
    let chain = format!("{certificate}{authority}");
    let read = read(json!({ "a": { "certificate": chain, "key": key, "source": "me" } })).unwrap();
    let it = &read["a"];
    assert_eq!(it.hosts, ["*.b.test", "a.test"], "an address is nothing that clients ask for by name");
    assert_eq!((it.chain.len(), it.key.as_ref().map(|it| it.cert.len())), (2, Some(2)));
    assert_eq!((it.not_before_s, it.not_after_s), (1_577_836_800, 1_893_456_000));
    let shown = format!("{it:?} {read:?}");
    assert!(shown.contains("a.test") && !shown.contains("rivate"), "{shown}");
}

#[test]
fn keys_are_of_the_kinds_that_clients_know() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        assert!(read(json!({ "a": object(&made_by(&["a.test"], algorithm)) })).is_ok(), "{algorithm:?}");
    }
    let other = fault(json!({ "a": object(&made_by(&["a.test"], &rcgen::PKCS_ECDSA_P521_SHA512)) }));
    assert!(other.starts_with("/certificates/a/key: this key is of none of the kinds"), "{other}");
}

#[test]
fn a_key_is_that_of_the_first_certificate_and_what_is_wrong_with_one_says_nothing_of_it() {
    let ((a, a_key), (b, b_key)) = (made(&["a.test"]), made(&["b.test"]));
    let pair = |certificate: &str, key: &str| json!({ "a": { "certificate": certificate, "key": key } });
    for (certificate, key, expected) in [
        (&*a, &*b_key, "/certificates/a: the key is not that of the first certificate"),
        (&format!("{b}{a}"), &a_key, "/certificates/a: the key is not that of the first certificate"),
        (&a, "hidden", "/certificates/a/key: there is no private key here"),
        (&a, &a, "/certificates/a/key: there is no private key here"),
        (&a, &format!("{a_key}{}", "#".repeat(8 << 10)), "/certificates/a/key: a key has at most 8192 bytes"),
        (&a, &a_key.replace("MIG", "MIH"), "/certificates/a/key: "),
        (&format!("{a}{a_key}"), &a_key, "/certificates/a/certificate: there is a private key here"),
        ("", &a_key, "/certificates/a/certificate: there is no certificate here"),
        (&a[..a.len() / 2], &a_key, "/certificates/a/certificate: "),
        (&a.repeat(9), &a_key, "/certificates/a/certificate: "),
        (&"#".repeat((32 << 10) + 1), &a_key, "/certificates/a/certificate: 32769 bytes are too many"),
    ] {
        let told = fault(pair(certificate, key));
        assert!(told.starts_with(expected), "{told}");
        let secret = a_key.lines().nth(1).unwrap();
        assert!(!told.contains("hidden") && !told.contains(secret), "{told}");
    }
    assert!(read(json!({ "a": { "certificate": a } })).unwrap_err()[0].fault.contains("\"key\""));
    assert!(read(json!({ "a": { "key": a_key } })).unwrap_err()[0].fault.contains("\"certificate\""));
    let unknown = json!({ "a": { "certificate": a, "key": a_key, "password": "x" } });
    assert_eq!(fault(unknown), "/certificates/a/password: no such field is known here");
}

#[test]
fn it_may_be_shown_for_some_of_its_hosts_and_for_no_others() {
    let pair = made(&["a.test", "*.b.test"]);
    let of =
        |hosts: serde_json::Value| json!({ "a": { "certificate": pair.0, "key": pair.1, "hosts": hosts } });
    assert_eq!(read(of(json!(["A.test"]))).unwrap()["a"].hosts, ["a.test"]);
    assert_eq!(read(of(json!(["x.b.test", "*.b.test"]))).unwrap()["a"].hosts, ["x.b.test", "*.b.test"]);
    for (hosts, expected) in [
        (json!(["b.test"]), "/certificates/a/hosts/0: the certificate does not name this host"),
        (json!(["a.test", "x.y.b.test"]), "/certificates/a/hosts/1: the certificate does not name this host"),
        (json!(["*.a.test"]), "/certificates/a/hosts/0: the certificate does not name this host"),
        (json!(["a.test", "A.test"]), "/certificates/a/hosts/1: this host stands here twice"),
        (json!(["a test"]), "/certificates/a/hosts/0: \"a test\" is no host"),
        (json!([]), "/certificates/a/hosts: an empty list"),
        (json!([pair.1]), "/certificates/a/hosts/0: this is no host"),
    ] {
        let told = fault(of(hosts));
        assert!(told.starts_with(expected), "{told}");
    }
    let nameless = fault(json!({ "a": object(&made(&["192.0.2.1"])) }));
    assert!(nameless.contains("names no host"), "{nameless}");
}

#[test]
fn two_for_one_host_clash_unless_they_say_for_which_they_are() {
    let (one, two) = (made(&["a.test", "b.test"]), made(&["b.test", "c.test"]));
    let document = |hosts: serde_json::Value| {
        let mut both = json!({ "one": object(&one), "two": object(&two) });
        both["two"]["hosts"] = hosts;
        json!({ "certificates": both }).to_string()
    };
    let refused = crate::Kept::read(&document(json!(["b.test"]))).unwrap_err();
    assert!(refused.is_clash && refused.faults.len() == 1, "{refused:?}");
    assert_eq!(refused.faults[0].pointer, "/certificates/two");
    assert!(refused.faults[0].fault.contains("\"b.test\"") && refused.faults[0].fault.contains("\"one\""));
    assert!(crate::Kept::read(&document(json!(["c.test"]))).is_ok());
}

#[test]
fn one_that_is_over_holds_and_who_puts_it_is_warned() {
    let pair = made(&["a.test"]);
    let document = |more: &str| {
        let mut object = object(&pair);
        object["source"] = more.into();
        crate::Kept::read(&json!({ "certificates": { "a": object } }).to_string()).unwrap()
    };
    let (before, now) = (crate::Kept::default(), document("x"));
    let warned = |now_s| now.warnings(&now.since(&before), now_s);
    assert_eq!(warned(1_600_000_000), []);
    let (early, late) = (warned(1_500_000_000), warned(4_000_000_000));
    assert!(early[0].fault.contains("not valid yet") && early[0].pointer == "/certificates/a", "{early:?}");
    assert!(late[0].fault.contains("not valid any more"), "{late:?}");
    assert_eq!(now.warnings(&now.since(&now), 4_000_000_000), [], "nothing is said of what stays");
    assert_eq!(document("y").warnings(&document("y").since(&now), 4_000_000_000).len(), 1);
}

#[test]
fn no_more_are_taken_than_a_change_can_make_ready() {
    let pair = object(&made(&["a.test"]));
    let all: serde_json::Map<_, _> =
        (0..=CERTIFICATES_MAX).map(|at| (format!("c{at}"), pair.clone())).collect();
    assert_eq!(fault(all.into()), "/certificates: 257 certificates are too many: at most 256");
    let names: Vec<String> = (0..=CERTIFICATE_HOSTS_MAX).map(|at| format!("n{at}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let told = fault(json!({ "a": object(&made(&names)) }));
    assert!(told.contains("257 hosts are too many"), "{told}");
}
