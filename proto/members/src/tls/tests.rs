//! Who reaches whom over TLS, and who is taken for what.

use super::*;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::DerefMut;

fn peers_ca(ring: &KeyRing) -> CertificateDer<'static> {
    authority(Form::Root, ring.keys()[0].root().unwrap()).unwrap().1
}

/// What a node with the ring shows.
pub(crate) fn own_leaf(ring: &KeyRing) -> Vec<CertificateDer<'static>> {
    Minted::new(ring).unwrap().peer.unwrap().1.cert.clone()
}

fn edge_of(ring: &KeyRing) -> KeyRing {
    KeyRing::parse(&ring.edge_lines().join("\n")).unwrap()
}

fn ring(lines: &[&str]) -> KeyRing {
    KeyRing::parse(&lines.join("\n")).unwrap()
}

fn talk<C, S>(connection: &mut C, tcp: &mut TcpStream, alpn: &[u8]) -> std::io::Result<()>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let mut stream = rustls::Stream::new(connection, tcp);
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    assert_eq!(stream.conn.alpn_protocol(), Some(alpn));
    assert!(stream.conn.peer_certificates().is_some());
    Ok(())
}

/// Whether a process with the one ring and a process with the other can talk, both ways.
fn connects(client: &PeerTls, server: &PeerTls) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = server.server.clone();
    let alpn = client.client.alpn_protocols[0].clone();
    let expected = alpn.clone();
    let accepted = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        talk(&mut ServerConnection::new(config).unwrap(), &mut tcp, &expected).is_ok()
    });
    let mut tcp = TcpStream::connect(address).unwrap();
    let mut connection = ClientConnection::new(client.client.clone(), client.server_name.clone()).unwrap();
    let dialled = talk(&mut connection, &mut tcp, &alpn).is_ok();
    drop(tcp);
    accepted.join().unwrap() && dialled
}

/// What the server takes the client for, where it takes it.
fn role_at(client: &PeerTls, server: &PeerTls) -> Option<Role> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = server.clone();
    let accepted = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(accepting.server.clone()).unwrap();
        talk(&mut connection, &mut tcp, PEER_ALPN).ok()?;
        Some(accepting.role_of(connection.peer_certificates()))
    });
    let mut tcp = TcpStream::connect(address).unwrap();
    let mut connection = ClientConnection::new(client.client.clone(), client.server_name.clone()).unwrap();
    let _ = talk(&mut connection, &mut tcp, PEER_ALPN);
    drop(tcp);
    accepted.join().unwrap()
}

/// As the version before makes it.
fn version_before(ring: &KeyRing) -> PeerTls {
    let minted = Minted::new(ring).unwrap();
    let (_, own) = minted.peer.clone().unwrap();
    let roots = Arc::new(minted.peers.clone());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), minted.provider.clone());
    let all = verifier.build().unwrap();
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(own.clone()));
    let mut server = rustls::ServerConfig::builder_with_provider(minted.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(all.clone())
        .with_cert_resolver(resolver.clone());
    server.alpn_protocols = vec![PEER_ALPN.to_vec()];
    let mut client = rustls::ClientConfig::builder_with_provider(minted.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(resolver);
    client.alpn_protocols = vec![PEER_ALPN.to_vec()];
    let server_name = ServerName::try_from(PEER_NAME).unwrap();
    PeerTls { server: Arc::new(server), client: Arc::new(client), server_name, members: None, all }
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
fn who_means_http_is_not_answered_where_peers_are_nor_the_other_way_round() {
    let (one, two) = (KeyRing::generate_line(), KeyRing::generate_line());
    let [ours, theirs] = [&one, &two].map(|line| peer_tls(&ring(&[line])).unwrap());
    let (http, others) = (ours.for_http(), theirs.for_http());
    assert!(connects(&http, &ours.for_http()));
    assert!(!connects(&http, &others) && !connects(&others, &http));
    assert!(!connects(&http, &ours) && !connects(&ours, &http));
}

#[test]
fn an_edge_reaches_a_members_http_with_either_key_and_one_of_another_cluster_does_not() {
    let members = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let node = peer_tls(&members).unwrap();
    let strangers = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    for (ring, is_answered) in
        [(&edge_of(&members), true), (&members, true), (&edge_of(&strangers), false), (&strangers, false)]
    {
        let http = nodes_tls(ring).unwrap().for_http();
        assert_eq!(connects(&http, &node.for_http()), is_answered);
        // The peers' port speaks another protocol.
        assert!(!connects(&http, &node));
    }
}

#[test]
fn who_has_the_cluster_key_takes_no_edge_for_a_node_and_who_has_the_edge_key_cannot_tell() {
    let members = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let poses_as_node = edge_tls(&edge_of(&members)).unwrap().for_http();
    assert!(!connects(&nodes_tls(&members).unwrap().for_http(), &poses_as_node));
    assert!(connects(&nodes_tls(&edge_of(&members)).unwrap().for_http(), &poses_as_node));
}

#[test]
fn an_edge_that_goes_over_to_the_edge_key_in_a_rotation_reaches_nodes_at_each_step() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let edge = ring(&[&new]).edge_lines().remove(0);
    let nodes: [&[&str]; 4] = [&[&old], &[&old, &new], &[&new, &old], &[&new]];
    let edges: [&[&str]; 4] = [&[&old], &[&old, &edge], &[&edge, &old], &[&edge]];
    for (i, one) in edges.iter().enumerate() {
        for (j, node) in nodes.iter().enumerate().filter(|(j, _)| i.abs_diff(*j) <= 1) {
            let node = peer_tls(&ring(node)).unwrap().for_http();
            assert!(connects(&nodes_tls(&ring(one)).unwrap().for_http(), &node), "step {i} to step {j}");
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let server = peer_tls(&KeyRing::insecure_loopback()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(peers_ca(&KeyRing::insecure_loopback())).unwrap();
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
fn an_edge_that_goes_over_to_the_edge_key_in_a_rotation_connects_at_each_step() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let edge = ring(&[&new]).edge_lines().remove(0);
    let nodes: [&[&str]; 4] = [&[&old], &[&old, &new], &[&new, &old], &[&new]];
    let edges: [&[&str]; 4] = [&[&old], &[&old, &edge], &[&edge, &old], &[&edge]];
    let nodes = nodes.map(|lines| peer_tls(&ring(lines)).unwrap());
    let edges = edges.map(|lines| edge_tls(&ring(lines)).unwrap());
    for (i, one) in edges.iter().enumerate() {
        for (j, two) in edges.iter().enumerate().filter(|(j, _)| i.abs_diff(*j) <= 1) {
            assert!(connects(one, two), "step {i} to step {j}");
        }
        for (j, node) in nodes.iter().enumerate().filter(|(j, _)| i.abs_diff(*j) <= 1) {
            assert_eq!(role_at(one, node), Some(Role::Edge), "step {i} at a node of step {j}");
            assert!(connects(one, node), "step {i} to a node of step {j}");
        }
    }
}

#[test]
fn all_holders_of_a_key_make_the_same_authorities() {
    let ring = KeyRing::insecure_loopback();
    let key = &ring.keys()[0];
    let edge = edge_of(&ring);
    let made = |form, secret: &Secret| authority(form, secret).unwrap().1;
    assert_eq!(peers_ca(&ring), peers_ca(&ring));
    assert_eq!(made(Form::Edge, key.edge()), made(Form::Edge, edge.keys()[0].edge()));
    assert_ne!(made(Form::Edge, key.edge()), peers_ca(&ring));
}

#[test]
fn an_edge_reaches_members_and_edges_and_no_member_takes_it_for_one() {
    let members = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let edges = edge_of(&members);
    let member = peer_tls(&members).unwrap();
    let (edge, holder) = (edge_tls(&edges).unwrap(), edge_tls(&members).unwrap());
    // Members dial members alone; an edge is none, and cannot pass for one.
    assert!(connects(&member, &member) && !connects(&member, &edge));
    assert!(matches!(peer_tls(&edges), Err(TlsError::EdgeKey)));
    // Edges dial everybody, whichever key they have.
    for (client, server) in [(&edge, &edge), (&edge, &holder), (&holder, &edge), (&holder, &holder)] {
        assert!(connects(client, server));
    }
    for (client, role) in [(&member, Role::Member), (&edge, Role::Edge), (&holder, Role::Edge)] {
        assert_eq!(role_at(client, &member), Some(role));
    }
    let strangers = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    for stranger in [edge_tls(&strangers).unwrap(), edge_tls(&edge_of(&strangers)).unwrap()] {
        assert_eq!(role_at(&stranger, &member), None);
        assert!(!connects(&stranger, &edge) && !connects(&edge, &stranger));
    }
}

/// The version before has the peers' CA alone, of clients and servers.
#[test]
fn an_edge_with_the_cluster_key_and_one_of_the_version_before_understand_each_other() {
    let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let (holder, before) = (edge_tls(&ring).unwrap(), version_before(&ring));
    assert!(connects(&holder, &before) && connects(&before, &holder));
    let member = peer_tls(&ring).unwrap();
    assert!(connects(&member, &before) && connects(&before, &member));
    assert_eq!(role_at(&before, &member), Some(Role::Member));
    assert!(!connects(&edge_tls(&edge_of(&ring)).unwrap(), &before));
}

#[test]
fn an_edge_that_signs_in_the_name_of_the_peers_ca_is_no_member() {
    let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let key = &ring.keys()[0];
    let (edges_ca, _) = authority(Form::Edge, key.edge()).unwrap();
    // A CA below the edges', which calls itself as the peers' CA does, and a leaf of it.
    let (peers_issuer, _) = authority(Form::Root, key.root().unwrap()).unwrap();
    let mut params = always_valid();
    let digest = sha2::Sha256::digest(peers_issuer.key().public_key_raw());
    let digits: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("skep peer ca {digits}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let between_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let between = params.signed_by(&between_key, &edges_ca).unwrap().der().clone();
    let between_issuer = Issuer::new(params, between_key);
    let minted = Minted::new(&ring).unwrap();
    let own = leaf(&between_issuer, Form::Root, &minted.provider).unwrap();
    let chain = vec![own.cert[0].clone(), between];
    let forged = CertifiedKey::new(chain, own.key.clone());
    let client = client(&minted, minted.all().unwrap(), vec![(minted.edge.0.clone(), Arc::new(forged))]);
    let forger = minted.tls(client.unwrap(), PEER_NAME).unwrap();
    let member = peer_tls(&ring).unwrap();
    // Taken it is, for what an edge is.
    assert_eq!(role_at(&forger, &member), Some(Role::Edge));
}
