//! Sessions of TLS that one balancer began and another resumes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use skep_members::key::KeyRing;

use crate::harness::*;
use crate::process::{Process, ask};

/// One request over a connection of its own; how its handshake went.
fn handshake(process: &Process, config: &Arc<rustls::ClientConfig>) -> HandshakeKind {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(config.clone(), name).unwrap();
    let socket = TcpStream::connect(process.https.unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    stream.write_all(get_and_close("/").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    stream.conn.handshake_kind().unwrap()
}

#[test]
fn a_session_is_resumed_at_every_balancer_with_the_cluster_key_also_after_a_restart() {
    let backend = Scripted::plain("b");
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, key: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, key).unwrap();
        let file = file.to_str().unwrap();
        Process::on_free_ports(backend.address, &["--https", "127.0.0.1:0", "--cluster-key-file", file])
    };
    let (key, other) = (KeyRing::generate_line(), KeyRing::generate_line());
    let config = crate::http2::client(b"http/1.1");
    let first = start("first", &key);
    assert_eq!(handshake(&first, &config), HandshakeKind::Full);
    // In 1.2 a ticket holds the connection's own secret: nobody but the process that gave it opens it.
    let old = crate::http2::client_of(b"http/1.1", &[&rustls::version::TLS12]);
    assert_eq!([(); 2].map(|()| handshake(&first, &old)), [HandshakeKind::Full, HandshakeKind::Resumed]);
    drop(first);
    let second = start("second", &key);
    let resumed = (0..100).filter(|_| handshake(&second, &config) == HandshakeKind::Resumed).count();
    assert!(resumed > 95, "{resumed} of 100");
    let metrics = ask(second.admin, "/metrics");
    assert!(metrics.contains(&format!("skep_balancer_tls_resumed_total{{}} {resumed}\n")), "{metrics}");
    assert_eq!(handshake(&second, &old), HandshakeKind::Full);
    // Its edge key is enough, and what a balancer gave that has the cluster key is resumed where only that is.
    let edge = KeyRing::parse(&key).unwrap().edge_lines().remove(0);
    let third = start("third", &edge);
    assert_eq!(handshake(&third, &config), HandshakeKind::Resumed);
    drop(second);
    assert_eq!(handshake(&start("fourth", &edge), &config), HandshakeKind::Resumed);
    let stranger = start("stranger", &other);
    assert_eq!(handshake(&stranger, &config), HandshakeKind::Full);
}
