//! What a service may say of TLS, and what of it is refused.

use super::*;
use crate::document::{Document, Service};

const AUTHORITY: &str = include_str!("authority.pem");

/// One of the lines of TOML that are given.
fn service(said: &str) -> Result<Service, Vec<(String, String)>> {
    match Document::read(&format!("[services.s]\n{said}\n")) {
        Ok(mut document) => Ok(document.services.remove("s").unwrap()),
        Err(faults) => Err(faults.into_iter().map(|it| (it.pointer, it.fault)).collect()),
    }
}

fn name(said: &str) -> Option<String> {
    service(said).unwrap().tls.unwrap().name
}

#[test]
fn servers_prove_the_name_of_their_url_or_each_its_address_or_what_the_service_says() {
    assert_eq!(service("urls = [\"http://a\"]").unwrap().tls, None);
    assert_eq!(name("urls = [\"https://Web.test\", \"https://web.test:8443\"]").as_deref(), Some("web.test"));
    assert_eq!(name("urls = [\"https://10.0.0.1\", \"https://[fd00::1]\"]"), None);
    let said = "urls = [\"https://10.0.0.1\", \"https://b.test\"]\ntls.name = \"A.test\"";
    assert_eq!(name(said).as_deref(), Some("a.test"));
    let authorities = |said: &str| service(said).unwrap().tls.unwrap().authorities.len();
    assert_eq!(authorities("urls = [\"https://a.test\"]"), 0);
    let twice = format!("{AUTHORITY}{AUTHORITY}");
    assert_eq!(authorities(&format!("urls = [\"https://a.test\"]\ntls.ca = \"\"\"{twice}\"\"\"")), 2);
}

#[test]
fn the_usual_port_is_that_of_the_scheme() {
    let read = |url: &str| {
        let target = Target::read(url).unwrap();
        (target.port, target.authority())
    };
    assert_eq!(read("https://a.test"), (443, "a.test".into()));
    assert_eq!(read("https://a.test:80"), (80, "a.test:80".into()));
    assert_eq!(read("http://a.test:443"), (443, "a.test:443".into()));
    assert_eq!(read("http://a.test"), (80, "a.test".into()));
}

#[test]
fn what_a_service_may_not_say_of_tls_is_refused() {
    let cut = &AUTHORITY[..AUTHORITY.len() / 2];
    let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let many = AUTHORITY.repeat(AUTHORITIES_MAX + 1);
    let long = "x".repeat(AUTHORITIES_BYTES_MAX + 1);
    let ca = |text: &str| format!("urls = [\"https://a.test\"]\ntls.ca = \"\"\"{text}\"\"\"");
    for (said, pointer) in [
        ("urls = [\"https://a.test\", \"http://a.test\"]".to_owned(), "/urls"),
        ("urls = [\"https://a.test\", \"https://b.test\"]".into(), "/urls"),
        ("urls = [\"https://a.test\", \"https://10.0.0.1\"]".into(), "/urls"),
        // Names of DNS that no certificate can have.
        ("urls = [\"https://web.1\"]".into(), "/urls"),
        ("urls = [\"https://web-\"]".into(), "/urls"),
        ("urls = [\"http://a.test\"]\ntls = {}".into(), "/tls"),
        ("urls = [\"https://a.test\"]\ntls = true".into(), "/tls"),
        ("urls = [\"https://a.test\"]\ntls.verify = false".into(), "/tls/verify"),
        ("urls = [\"https://a.test\"]\ntls.name = \"a b\"".into(), "/tls/name"),
        (ca(""), "/tls/ca"),
        (ca(cut), "/tls/ca"),
        (ca(other), "/tls/ca"),
        (ca(&format!("{AUTHORITY}{key}")), "/tls/ca"),
        (ca(&many), "/tls/ca"),
        (ca(&long), "/tls/ca"),
    ] {
        let faults = service(&said).unwrap_err();
        let found = faults.iter().any(|(it, _)| *it == format!("/services/s{pointer}"));
        assert!(found, "{said:.200}: {faults:?}");
        assert!(!format!("{faults:?}").contains("c2VjcmV0"));
    }
}
