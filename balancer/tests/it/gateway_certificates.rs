//! Certificates of the gateway's document: shown by the name that a client asks for, changed with the document, and to
//! whom nothing is shown.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Tls13ClientSessionValue;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, NamedGroup};
use serde_json::{Value, json};
use skep_members::key::KeyRing;

use crate::gateway_file::{Document, without_nodes};
use crate::harness::*;
use crate::process::{Process, ask};

/// A certificate for these names, which is signed by its own key.
struct Made {
    names: Vec<String>,
    pem: String,
    key: String,
    der: Vec<u8>,
}

fn made(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let it = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let (pem, key, der) = (it.cert.pem(), it.signing_key.serialize_pem(), it.cert.der().to_vec());
    Made { names, pem, key, der }
}

/// A document with these certificates, and a service for all that is asked for.
fn document(backend: SocketAddr, certificates: &[(&str, &Made)]) -> String {
    let object = |(name, it): &(&str, &Made)| {
        ((*name).to_owned(), json!({ "certificate": it.pem, "key": it.key, "hosts": it.names }))
    };
    let certificates: serde_json::Map<String, Value> = certificates.iter().map(object).collect();
    let url = format!("http://{backend}");
    json!({
        "certificates": certificates,
        "services": { "b": { "urls": [url] } },
        "routes": { "all": { "service": "b" } },
    })
    .to_string()
}

type Stream = rustls::StreamOwned<ClientConnection, TcpStream>;

/// A connection of one who asks for that name, or for none where it is an address.
fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

fn answered(stream: &mut Stream) {
    stream.write_all(get("/x").as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"/x") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&seen));
}

/// What is shown to who asks for that name, whose request is answered.
fn shown(address: SocketAddr, name: &str) -> Vec<u8> {
    let mut stream = connect(address, name, &crate::http2::client(b"http/1.1"));
    answered(&mut stream);
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

/// Whether the alert is all that one hears who asks for that name.
fn is_unknown(address: SocketAddr, name: &str) -> bool {
    let mut stream = connect(address, name, &crate::http2::client(b"http/1.1"));
    let Err(error) = stream.write_all(get("/x").as_bytes()) else { return false };
    let told = error.into_inner().and_then(|it| it.downcast::<Error>().ok());
    told.is_some_and(|it| *it == Error::AlertReceived(AlertDescription::UnrecognisedName))
}

fn metric(process: &Process, line: &str) -> bool {
    ask(process.admin, "/metrics").lines().any(|it| it == line)
}

/// One from files, as flags name them.
fn files(folder: &Path, it: &Made) -> [String; 4] {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    std::fs::write(&certificate, &it.pem).unwrap();
    std::fs::write(&key, &it.key).unwrap();
    let [certificate, key] = [certificate, key].map(|it| it.to_str().unwrap().to_owned());
    ["--cert".to_owned(), certificate, "--cert-key".to_owned(), key]
}

#[test]
fn who_asks_for_a_name_is_shown_its_certificate_and_all_others_the_one_from_files() {
    let backend = Scripted::plain("b");
    let (exact, star, usual) = (made(&["a.b.test"]), made(&["*.b.test"]), made(&["usual.test", "a.b.test"]));
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), &usual);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let document = Document::new(&document(backend.address, &[("exact", &exact), ("star", &star)]));
    let process = without_nodes(&document.path(), &[&["--https", "127.0.0.1:0"], &*files].concat());
    let https = process.https.unwrap();
    for (name, expected) in [
        ("a.b.test", &exact),
        ("A.B.Test", &exact),
        ("c.b.test", &star),
        ("c.d.b.test", &usual),
        ("b.test", &usual),
        ("usual.test", &usual),
        ("elsewhere.test", &usual),
        // Asks for no name.
        ("127.0.0.1", &usual),
    ] {
        assert!(shown(https, name) == expected.der, "{name}");
    }
    let told = ask(process.admin, "/metrics");
    let ends =
        told.lines().filter(|it| it.starts_with("skep_balancer_certificate_not_after_timestamp_seconds{"));
    let labels: Vec<&str> = ends.filter_map(|it| it.split('"').nth(1)).collect();
    assert_eq!(labels, [files[1], "document:exact", "document:star"]);
    assert!(metric(&process, "skep_balancer_gateway_certificates{} 2.0"), "{told}");
    assert!(metric(&process, "skep_balancer_tls_unrecognized_names_total{} 0"), "{told}");
    assert!(!told.contains("PRIVATE"), "{told}");
}

#[test]
fn without_one_from_files_who_asks_for_another_name_or_none_is_told_that_nobody_has_it() {
    let backend = Scripted::plain("b");
    let a = made(&["a.test"]);
    let document_with = |certificates: &[(&str, &Made)]| document(backend.address, certificates);
    let document = Document::new(&document_with(&[]));
    let process = without_nodes(&document.path(), &["--https", "127.0.0.1:0"]);
    let https = process.https.unwrap();
    // Where the document has none, one that is made is better than nothing.
    let own = shown(https, "a.test");
    assert!(shown(https, "b.test") == own && own != a.der);
    document.replace(&document_with(&[("a", &a)]));
    wait("it is shown", || shown(https, "a.test") == a.der);
    assert!(is_unknown(https, "b.test") && is_unknown(https, "x.a.test") && is_unknown(https, "127.0.0.1"));
    let told = ask(process.admin, "/metrics");
    assert!(metric(&process, "skep_balancer_tls_unrecognized_names_total{} 3"), "{told}");
    assert!(!told.contains("certificate=\"self-signed\""), "it is not in use: {told}");
    document.replace(&document_with(&[]));
    wait("it is shown no more", || shown(https, "a.test") == own);
}

#[test]
fn a_change_shows_another_to_who_connects_and_cuts_nobody() {
    let backend = Scripted::plain("b");
    let (old, new) = (made(&["a.test"]), made(&["a.test"]));
    let document_with = |it: &Made| document(backend.address, &[("a", it)]);
    let document = Document::new(&document_with(&old));
    let process = without_nodes(&document.path(), &["--https", "127.0.0.1:0"]);
    let https = process.https.unwrap();
    let mut open = connect(https, "a.test", &crate::http2::client(b"http/1.1"));
    answered(&mut open);
    document.replace(&document_with(&new));
    wait("the other is shown", || shown(https, "a.test") == new.der);
    answered(&mut open);
    // What is no document changes nothing.
    document.replace(&document_with(&Made { key: old.key.clone(), ..made(&["a.test"]) }));
    wait("it is refused", || {
        ask(process.admin, "/metrics").contains("gateway_readings_total{result=\"refused\"} 1")
    });
    assert!(shown(https, "a.test") == new.der);
    answered(&mut open);
}

/// Offers what it had for one name for each.
#[derive(Debug)]
struct AnyName(ClientSessionMemoryCache);

fn one_name() -> ServerName<'static> {
    ServerName::try_from("any.test").unwrap()
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one_name(), group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one_name())
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(one_name(), value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&one_name())
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one_name());
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one_name(), value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one_name())
    }
}

#[test]
fn a_session_is_resumed_at_each_balancer_for_its_name_and_certificate_and_for_no_other() {
    let backend = Scripted::plain("b");
    let (a, both, next) = (made(&["a.test"]), made(&["b.test", "c.test"]), made(&["a.test"]));
    let document_with = |a: &Made| document(backend.address, &[("a", a), ("both", &both)]);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, KeyRing::generate_line()).unwrap();
    let documents = [(); 2].map(|()| Document::new(&document_with(&a)));
    let processes = documents.each_ref().map(|document| {
        without_nodes(
            &document.path(),
            &["--https", "127.0.0.1:0", "--cluster-key-file", key.to_str().unwrap()],
        )
    });
    let [one, other] = processes.each_ref().map(|it| it.https.unwrap());
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let is_shared = versions[0].version == rustls::ProtocolVersion::TLSv1_3;
        let mut config = Arc::unwrap_or_clone(crate::http2::client_of(b"http/1.1", versions));
        config.resumption = Resumption::store(Arc::new(AnyName(ClientSessionMemoryCache::new(8))));
        let config = Arc::new(config);
        let kind = |address: SocketAddr, name: &str| {
            let mut stream = connect(address, name, &config);
            answered(&mut stream);
            stream.conn.handshake_kind().unwrap()
        };
        assert_eq!(kind(one, "a.test"), HandshakeKind::Full);
        assert_eq!(kind(one, "a.test"), HandshakeKind::Resumed);
        let elsewhere = if is_shared { HandshakeKind::Resumed } else { HandshakeKind::Full };
        assert_eq!(kind(other, "a.test"), elsewhere);
        assert_eq!(kind(other, "b.test"), HandshakeKind::Full, "that is another certificate");
        assert_eq!(kind(other, "c.test"), HandshakeKind::Full, "that is another name");
        assert_eq!(kind(other, "c.test"), HandshakeKind::Resumed);
        assert_eq!(kind(one, "a.test"), HandshakeKind::Full);
        // The same name with another certificate.
        let next = if is_shared { &next } else { &a };
        documents[0].replace(&document_with(next));
        wait("it is shown", || shown(one, "a.test") == next.der);
        assert_eq!(kind(one, "a.test"), HandshakeKind::Full);
        assert_eq!(kind(one, "a.test"), HandshakeKind::Resumed);
    }
}

#[test]
fn a_session_that_began_with_one_from_files_is_resumed_as_long_as_these_are_shown() {
    let backend = Scripted::plain("b");
    let (one, next) = (made(&["a.test"]), made(&["a.test"]));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, KeyRing::generate_line()).unwrap();
    let flags = files(folder.path(), &one);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let document = Document::new(&document(backend.address, &[]));
    let more = [&["--https", "127.0.0.1:0", "--cluster-key-file", key.to_str().unwrap()], &*flags].concat();
    let (process, other) = (without_nodes(&document.path(), &more), without_nodes(&document.path(), &more));
    let config = crate::http2::client(b"http/1.1");
    let kind = |process: &Process| {
        let mut stream = connect(process.https.unwrap(), "a.test", &config);
        answered(&mut stream);
        stream.conn.handshake_kind().unwrap()
    };
    assert_eq!(
        [kind(&process), kind(&process), kind(&other)],
        [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]
    );
    files(folder.path(), &next);
    other.signal("HUP");
    wait("the next is shown", || shown(other.https.unwrap(), "a.test") == next.der);
    assert_eq!(kind(&other), HandshakeKind::Full, "with another certificate");
}

#[test]
fn before_anybody_has_told_of_a_document_who_names_a_host_is_shown_none_that_is_made() {
    let any = "127.0.0.1:0";
    let away = TcpListener::bind(any).unwrap().local_addr().unwrap().to_string();
    let process =
        Process::start(&["--http", any, "--admin", any, "--https", any, "--peer", any, "--seeds", &away]);
    let https = process.https.unwrap();
    assert!(is_unknown(https, "a.test"));
    let mut nameless = connect(https, "127.0.0.1", &crate::http2::client(b"http/1.1"));
    nameless.write_all(get_and_close("/").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = nameless.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer));
}
