//! The book of who follows, and what a connection's end means.

use std::time::Instant;

use skep_members::key::KeyRing;
use skep_members::tls::peer_tls;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::connection::{QUEUE_MAX, RETRY_INTERVAL, converse, follow, read, write};
use super::*;

fn mesh() -> (Mesh, mpsc::Sender<Event>) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let (dial, _) = watch::channel(None);
    (Mesh { links: vec![Links::new(dial)], events }, sender)
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

#[tokio::test]
async fn an_end_is_in_order_where_the_other_side_said_so_before() {
    for orderly in [true, false] {
        let (events, mut incoming) = mpsc::channel(8);
        let (here, mut there) = tokio::io::duplex(4096);
        let address = "10.0.0.1".parse().unwrap();
        let task = async move { converse(here, 0, Speaker::Leader(address), address, 7, &events).await };
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
    let tls = peer_tls(&KeyRing::insecure_loopback()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { address: listener.local_addr().unwrap(), priority: 100 };
    let (_dial, targets) = watch::channel(Some(target));
    let (events, mut incoming) = mpsc::channel(EVENTS_MAX);
    let seat = Seat { interface: "lo".into(), vrid: 1, family: Family::V4, peers: Vec::new() };
    let follower = tokio::spawn(follow(0, seat, tls.clone(), targets, events));
    let (active, mut greeted) = greet(listener, &tls);
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
