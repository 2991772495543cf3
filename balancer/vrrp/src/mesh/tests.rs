//! The book of who follows, and what a connection's end means.

use std::time::Instant;

use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::tls::PeerTls;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::{Acceptor, accept, listen};
use super::connection::{QUEUE_MAX, RETRY_INTERVAL, converse, follow, read, watch_peer, write};
use super::places::Places;
use super::*;

fn mesh() -> (Mesh, mpsc::Sender<Event>) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let (leading, _) = Leading::new();
    (Mesh { links: vec![Links::new(leading)], anew: BTreeMap::new(), events }, sender)
}

fn join(mesh: &mut Mesh, id: u64, address: &str, priority: u8) -> mpsc::Receiver<Message> {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let what = What::Connected { address: address.parse().unwrap(), priority, sender };
    mesh.note(&Event { router: 0, from: Speaker::Follower(id), what });
    receiver
}

fn told(receiver: &mut mpsc::Receiver<Message>) -> Vec<Message> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

#[test]
fn the_next_is_the_highest_priority_then_the_highest_address_and_never_a_weak_claim() {
    let (mut mesh, _events) = mesh();
    let mut weak = join(&mut mesh, 1, "10.0.0.9", PRIORITY_WEAK);
    mesh.name_next(0, true);
    assert_eq!((mesh.next_of(0), told(&mut weak)), (None, vec![]));
    let mut low = join(&mut mesh, 2, "10.0.0.2", 150);
    mesh.name_next(0, true);
    let mut high = join(&mut mesh, 3, "10.0.0.3", 150);
    mesh.name_next(0, true);
    mesh.name_next(0, true);
    assert_eq!(told(&mut low), [Message::Next { you: true }, Message::Next { you: false }]);
    assert_eq!(told(&mut high), [Message::Next { you: true }]);
    let claim = What::Said(Message::Claim { priority: 100 });
    mesh.note(&Event { router: 0, from: Speaker::Follower(3), what: claim });
    assert_eq!(mesh.next_of(0), Some(2));
    // A stranger in the group: nobody is.
    mesh.name_next(0, false);
    assert_eq!(told(&mut high), [Message::Next { you: false }]);
    mesh.note(&Event { router: 0, from: Speaker::Follower(2), what: What::Gone { orderly: false } });
    assert_eq!(mesh.next_of(0), Some(3));
    mesh.dismiss(0, None);
    assert_eq!(mesh.next_of(0), None);
}

#[test]
fn a_peer_that_follows_again_takes_the_place_of_its_own_connection() {
    let (mut mesh, _events) = mesh();
    let watched = Watched { sender: None, wanted: Arc::default() };
    mesh.links[0].watched.insert([10, 0, 0, 2].into(), watched);
    let mut before = join(&mut mesh, 1, "10.0.0.2", 150);
    let mut other = join(&mut mesh, 2, "10.0.0.3", 100);
    let mut again = join(&mut mesh, 3, "10.0.0.2", 150);
    mesh.name_next(0, true);
    assert_eq!((told(&mut again), told(&mut other)), (vec![Message::Next { you: true }], vec![]));
    // That one ends, which gives its place on the interface back.
    assert_eq!(before.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    mesh.note(&Event { router: 0, from: Speaker::Follower(1), what: What::Gone { orderly: true } });
    assert_eq!(mesh.next_of(0), Some(3));
}

#[tokio::test]
async fn an_end_is_in_order_where_the_other_side_said_so_before() {
    for orderly in [true, false] {
        let (events, mut incoming) = mpsc::channel(8);
        let (here, mut there) = tokio::io::duplex(4096);
        let address = "10.0.0.1".parse().unwrap();
        let task =
            async move { converse(here, 0, Speaker::Leader(0, address), address, 7, &events).await.orderly };
        let task = tokio::spawn(task);
        // Held: that nobody would send any more is the end of it.
        let connected = incoming.recv().await.unwrap();
        assert!(matches!(connected.what, What::Connected { .. }));
        write(&mut there, &Message::Next { you: true }).await.unwrap();
        let said = incoming.recv().await.unwrap().what;
        assert!(matches!(said, What::Said(Message::Next { you: true })));
        if orderly {
            write(&mut there, &Message::Bye).await.unwrap();
        }
        drop(there);
        assert_eq!(task.await.unwrap(), orderly);
    }
}

/// The Active's side: greets all who come, and gives their connections.
fn greet(listener: TcpListener, tls: &PeerTls) -> (JoinHandle<()>, mpsc::Receiver<TlsStream<TcpStream>>) {
    let (sender, greeted) = mpsc::channel(8);
    let acceptor = TlsAcceptor::from(tls.server.clone());
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if matches!(read(&mut stream).await, Ok(Message::Hello { .. })) {
                let _ = sender.send(stream).await;
            }
        }
    });
    (task, greeted)
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_death_only_where_its_other_end_is_gone() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { address: listener.local_addr().unwrap(), priority: 100 };
    let (_dial, targets) = tokio::sync::watch::channel(Some(target));
    let (events, mut incoming) = mpsc::channel(EVENTS_MAX);
    let seat = Seat { interface: "lo".into(), vrid: 1, family: Family::V4, peers: Vec::new() };
    let follower = tokio::spawn(follow((0, 0), seat, keys.clone(), targets, events));
    let (active, mut greeted) = greet(listener, &keys.now().peers);
    let mut held = Vec::new();
    let mut next = async || match incoming.recv().await.unwrap().what {
        What::Connected { sender, .. } => {
            held.push(sender);
            "connected"
        }
        What::Gone { orderly: true } => "gone in order",
        What::Gone { orderly: false } => "dead",
        What::Said(_) | What::Unreachable => "another",
    };
    let mut first = greeted.recv().await.unwrap();
    assert_eq!(next().await, "connected");
    assert!(timeout(RETRY_INTERVAL, next()).await.is_err(), "it stands");
    // A frame that is none: whoever reads it gives the connection up, and whoever sent it lives.
    tokio::io::AsyncWriteExt::write_all(&mut first, &[0xff; 64]).await.unwrap();
    let broke = Instant::now();
    assert_eq!((next().await, next().await), ("gone in order", "connected"));
    let second = greeted.recv().await.unwrap();
    // One that lets nobody stay is not asked again and again.
    drop(second);
    assert_eq!((next().await, next().await), ("gone in order", "connected"));
    assert!(broke.elapsed() >= RETRY_INTERVAL, "{:?}", broke.elapsed());
    let _looked = greeted.recv().await.unwrap();
    let third = greeted.recv().await.unwrap();
    active.abort();
    let _ = active.await;
    drop(third);
    assert_eq!(next().await, "dead");
    follower.abort();
}

#[tokio::test]
async fn frames_are_bounded_and_unknown_words_are_passed_over() {
    let mut unknown: &[u8] = b"\x00\x10{\"say\":\"later\"} ";
    assert_eq!(read(&mut unknown).await.unwrap(), Message::Unknown);
    let mut long: &[u8] = &[0xff; 4096];
    assert_eq!(read(&mut long).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let mut cut: &[u8] = &[0, 9, b'{'];
    assert!(read(&mut cut).await.is_err());
}

/// From an address of this host's.
async fn come_from(address: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A listener of the mesh on the loopback interface, where 127.0.0.3 and 127.0.0.4 are peers.
fn listening(keys: &Keys) -> (SocketAddr, mpsc::Receiver<Event>) {
    let listener = listen("lo", 0).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let peers = [3, 4].map(|it| SocketAddr::from(([127, 0, 0, it], to.port()))).to_vec();
    let seat = Seat { interface: "lo".into(), vrid: 1, family: Family::V4, peers };
    let (events, incoming) = mpsc::channel(EVENTS_MAX);
    let places = Places::of_others().with_peers([&seat].into_iter());
    let ids = Arc::new(AtomicU64::new(1));
    let seats = Arc::new(vec![seat]);
    let acceptor = Acceptor { interface: "lo".into(), seats, keys: keys.clone(), events, ids };
    tokio::spawn(accept(listener, Arc::default(), acceptor, places));
    (to, incoming)
}

async fn watches(keys: &Keys, stream: TcpStream, of: [u8; 4]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tls = keys.now().peers.clone();
    let connector = tokio_rustls::TlsConnector::from(tls.client.clone());
    let mut stream = connector.connect(tls.server_name.clone(), stream).await.unwrap();
    let watch = Message::Watch { version: VERSION, vrid: 1, family: Spoken::Ipv4, of: of.into() };
    write(&mut stream, &watch).await.unwrap();
    stream
}

#[tokio::test]
async fn strangers_that_take_all_places_take_none_of_a_peers() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let (to, mut incoming) = listening(&keys);
    let mut strangers = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        strangers.push(come_from([127, 0, 0, 2], to).await);
    }
    let mut more = come_from([127, 0, 0, 2], to).await;
    assert!(!matches!(more.read(&mut [0; 8]).await, Ok(1..)), "one too many is closed");
    let (mut peers, mut held) = (Vec::new(), Vec::new());
    for _ in 0..PEER_CONNECTIONS_MAX {
        peers.push(watches(&keys, come_from([127, 0, 0, 3], to).await, [127, 0, 0, 1]).await);
        let event = incoming.recv().await.unwrap();
        assert!(matches!((event.from, &event.what), (Speaker::Watcher(..), What::Connected { .. })));
        // Held: that nobody would send any more is the end of it.
        held.push(event);
    }
    let mut more = come_from([127, 0, 0, 3], to).await;
    assert!(!matches!(more.read(&mut [0; 8]).await, Ok(1..)), "nor has a peer more than its own");
    watches(&keys, come_from([127, 0, 0, 4], to).await, [127, 0, 0, 1]).await;
    assert!(matches!(incoming.recv().await.unwrap().what, What::Connected { .. }), "another has");
}

#[tokio::test]
async fn one_that_is_asked_for_another_says_nothing() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let (to, mut incoming) = listening(&keys);
    let mut led_here = watches(&keys, come_from([127, 0, 0, 3], to).await, [127, 0, 0, 4]).await;
    assert!(read(&mut led_here).await.is_err());
    let _meant = watches(&keys, come_from([127, 0, 0, 4], to).await, [127, 0, 0, 1]).await;
    let What::Connected { address, .. } = incoming.recv().await.unwrap().what else {
        panic!("no connection")
    };
    assert_eq!(address, IpAddr::from([127, 0, 0, 4]));
}

/// Another than the one from which it is reached; any port.
const PEER: &str = "127.0.0.2:0";

/// A peer's side: the next connection by which it is watched.
async fn watched(listener: &TcpListener, keys: &Keys) -> TlsStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = TlsAcceptor::from(keys.now().peers.server.clone()).accept(stream).await.unwrap();
    let first = read(&mut stream).await.unwrap();
    let here = listener.local_addr().unwrap().ip();
    assert!(matches!(first, Message::Watch { of, .. } if of == here), "{first:?}");
    stream
}

/// Watches the peer, and has a place for what it says.
fn watching(mesh: &mut Mesh, peer: SocketAddr, keys: &Keys, events: mpsc::Sender<Event>) -> JoinHandle<()> {
    let seat = Seat { interface: "lo".into(), vrid: 1, family: Family::V4, peers: vec![peer] };
    let wanted = Arc::new(Notify::new());
    mesh.links[0].watched.insert(peer.ip(), Watched { sender: None, wanted: wanted.clone() });
    tokio::spawn(watch_peer(0, seat, peer, keys.clone(), wanted, events))
}

#[tokio::test]
async fn an_address_of_this_host_is_no_peer() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let (own, another) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind(PEER).await.unwrap());
    let (mut mesh, events) = mesh();
    let tasks = [&own, &another]
        .map(|listener| watching(&mut mesh, listener.local_addr().unwrap(), &keys, events.clone()));
    tokio::select! {
        biased;
        _ = own.accept() => panic!("it dials itself"),
        _stream = watched(&another, &keys) => {}
    }
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_is_reached_by_another_connection() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let listener = TcpListener::bind(PEER).await.unwrap();
    let peer = listener.local_addr().unwrap();
    let (mut mesh, events) = mesh();
    let watching = watching(&mut mesh, peer, &keys, events);
    let _silent = watched(&listener, &keys).await;
    let connected = mesh.next().await.unwrap();
    mesh.note(&connected);
    // With it goes what holds the connection beside the book.
    drop(connected);
    mesh.reach(0, peer.ip());
    assert!(matches!(mesh.next().await.unwrap().what, What::Gone { .. }));
    let _another = watched(&listener, &keys).await;
    assert!(matches!(mesh.next().await.unwrap().what, What::Connected { .. }));
    watching.abort();
}

#[tokio::test]
async fn a_peer_that_lets_nobody_stay_is_dialled_more_and_more_rarely_whatever_is_heard_of_it() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let listener = TcpListener::bind(PEER).await.unwrap();
    let peer = listener.local_addr().unwrap();
    let (mut mesh, events) = mesh();
    let watching = watching(&mut mesh, peer, &keys, events);
    // As a version before does.
    drop(watched(&listener, &keys).await);
    let begun = Instant::now();
    for _ in 0..5 {
        mesh.ask(0, peer.ip(), 0);
        drop(watched(&listener, &keys).await);
    }
    assert!(begun.elapsed() >= RETRY_INTERVAL, "{:?}", begun.elapsed());
    watching.abort();
}

#[tokio::test]
async fn a_peer_whose_port_is_closed_says_nothing_and_is_watched_again_once_it_is_open() {
    let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
    let listener = TcpListener::bind(PEER).await.unwrap();
    let peer = listener.local_addr().unwrap();
    let (mut mesh, events) = mesh();
    let watching = watching(&mut mesh, peer, &keys, events);
    let stream = watched(&listener, &keys).await;
    let connected = mesh.next().await.unwrap();
    assert_eq!(connected.from, Speaker::Watched(peer.ip()));
    assert!(matches!(connected.what, What::Connected { .. }));
    // Its process may be alive: nothing but that the connection is over is known.
    drop((stream, listener));
    assert!(matches!(mesh.next().await.unwrap().what, What::Gone { orderly: false }));
    let listener = TcpListener::bind(peer).await.unwrap();
    let _stream = watched(&listener, &keys).await;
    assert!(matches!(mesh.next().await.unwrap().what, What::Connected { .. }), "nothing came before it");
    watching.abort();
}

#[test]
fn a_peer_that_comes_again_takes_the_place_of_its_own_connection() {
    let (mut mesh, _events) = mesh();
    let word = Word { active: true, priority: 7, interval: Duration::from_millis(100) };
    let watch = |mesh: &mut Mesh, id: u64, address: [u8; 4], of: [u8; 4]| {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let what = What::Connected { address: address.into(), priority: 0, sender };
        mesh.note(&Event { router: 0, from: Speaker::Watcher(id, of.into()), what });
        receiver
    };
    let (here, here_too) = ([10, 0, 2, 1], [10, 0, 2, 2]);
    let mut first: Vec<_> =
        (1..PEERS_MAX as u8).map(|it| watch(&mut mesh, it.into(), [10, 0, 0, it], here)).collect();
    let mut by_another = watch(&mut mesh, 99, [10, 0, 0, 5], here_too);
    let mut again = watch(&mut mesh, 100, [10, 0, 0, 5], here);
    let mut one_too_many = watch(&mut mesh, 101, [10, 0, 1, 1], here);
    mesh.tell_state(0, word);
    mesh.answer(0, 100, word, 9);
    assert_eq!(told(&mut again), [Message::state(word, 0), Message::state(word, 9)]);
    assert_eq!(told(&mut first[3]), [Message::state(word, 0)]);
    assert_eq!((told(&mut first[4]), told(&mut one_too_many)), (vec![], vec![]));
    // One host that knows this one by two addresses watches both.
    assert_eq!(told(&mut by_another), [Message::state(word, 0)]);
}

#[test]
fn a_word_is_said_and_read_as_it_is() {
    let said = r#"{"say":"state","active":true,"priority":200,"interval":40950,"answers":3}"#;
    let word = Word { active: true, priority: 200, interval: Duration::from_millis(40_950) };
    assert_eq!(serde_json::to_string(&Message::state(word, 3)).unwrap(), said);
    assert_eq!(serde_json::from_str::<Message>(said).unwrap().word(), Some((word, 3)));
    assert_eq!(Message::Bye.word(), None);
}

#[test]
fn whom_a_dialer_follows_it_keeps_while_that_one_is_to_be_followed_whoever_comes_beside() {
    let (mut leading, targets) = Leading::new();
    let target =
        |last: u8, priority| Some(Target { address: SocketAddr::from(([10, 0, 0, last], 1)), priority });
    let told = || targets.each_ref().map(|it| it.borrow().map(|it| (it.address.ip(), it.priority)));
    let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
    leading.follow([target(1, 100), None]);
    let first = told().iter().position(|it| *it == Some((ip(1), 100))).unwrap();
    let mut watched = targets.clone();
    watched.iter_mut().for_each(|it| drop(it.borrow_and_update()));
    // It becomes the one before, and another is Active; then there is that one alone, with another claim.
    leading.follow([target(2, 100), target(1, 100)]);
    assert!(!watched[first].has_changed().unwrap() && watched[1 - first].has_changed().unwrap());
    assert_eq!((told()[first], told()[1 - first]), (Some((ip(1), 100)), Some((ip(2), 100))));
    watched.iter_mut().for_each(|it| drop(it.borrow_and_update()));
    let (sender, mut receiver) = mpsc::channel(1);
    leading.connected(1 - first, ip(2), 100, sender);
    leading.follow([target(2, 1), None]);
    assert_eq!((told()[first], told()[1 - first]), (None, Some((ip(2), 1))));
    assert!(watched[first].has_changed().unwrap() && !watched[1 - first].has_changed().unwrap());
    assert_eq!(receiver.try_recv().unwrap(), Message::Claim { priority: 1 });
    assert!(leading.is_in_touch(ip(2)) && !leading.is_in_touch(ip(1)));
    leading.gone(1 - first);
    assert!(!leading.is_in_touch(ip(2)));
}
