//! Who reaches whom over TLS.

use super::*;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::DerefMut;

fn ring(lines: &[&str]) -> KeyRing {
    KeyRing::parse(&lines.join("\n")).unwrap()
}

fn talk<C, S>(mut connection: C, tcp: &mut TcpStream) -> std::io::Result<()>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let mut stream = rustls::Stream::new(&mut connection, tcp);
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    assert_eq!(stream.conn.alpn_protocol(), Some(PEER_ALPN));
    assert_eq!(stream.conn.peer_certificates().map(<[_]>::len), Some(1));
    Ok(())
}

/// Whether a process with the one ring and a process with the other can talk, both ways.
fn connects(client: &PeerTls, server: &PeerTls) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = server.server.clone();
    let accepted = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        talk(ServerConnection::new(config).unwrap(), &mut tcp).is_ok()
    });
    let mut tcp = TcpStream::connect(address).unwrap();
    let connection = ClientConnection::new(client.client.clone(), client.server_name.clone()).unwrap();
    let dialled = talk(connection, &mut tcp).is_ok();
    drop(tcp);
    accepted.join().unwrap() && dialled
}

#[test]
fn two_processes_with_the_same_key_connect_and_one_with_another_key_does_not() {
    let (one, two) = (KeyRing::generate_line(), KeyRing::generate_line());
    let [a, b, c] = [&one, &one, &two].map(|line| peer_tls(&ring(&[line])).unwrap());
    assert!(connects(&a, &b));
    assert!(connects(&b, &a));
    assert!(!connects(&a, &c));
    assert!(!connects(&c, &a));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let server = peer_tls(&KeyRing::insecure_loopback()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority(&KeyRing::insecure_loopback().keys()[0]).unwrap().1).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut bare = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    bare.alpn_protocols = vec![PEER_ALPN.to_vec()];
    let client = PeerTls { client: Arc::new(bare), ..server.clone() };
    assert!(!connects(&client, &server));
}

#[test]
fn neighbouring_steps_of_a_rotation_connect_both_ways() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let steps: [&[&str]; 4] = [&[&old], &[&old, &new], &[&new, &old], &[&new]];
    let steps = steps.map(|lines| peer_tls(&ring(lines)).unwrap());
    for (i, one) in steps.iter().enumerate() {
        for (j, two) in steps.iter().enumerate() {
            assert_eq!(connects(one, two), i.abs_diff(j) <= 1, "step {i} to step {j}");
        }
    }
}

#[test]
fn all_holders_of_a_key_make_the_same_authority() {
    let ring = KeyRing::insecure_loopback();
    assert_eq!(authority(&ring.keys()[0]).unwrap().1, authority(&ring.keys()[0]).unwrap().1);
}
