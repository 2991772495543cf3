use std::sync::Arc;

use skep_base::id::NodeId;
use skep_members::key::KeyRing;
use skep_members::tls::peer_tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::*;
use crate::peers::framing::{PIECE_BYTES_MAX, put_whole};
use crate::peers::{CallError, DialError, NotSent, hello};
use crate::wire::{self, ConnectionKind, Frame, HELLO_BYTES_MAX, Hello};

/// Somebody with the key who says what no peer says.
async fn intruder(to: &Node) -> hello::Io {
    let tls = peer_tls(&KeyRing::parse(KEY).unwrap()).unwrap();
    let hello = Hello::new(ConnectionKind::Calls, NodeId(66), 1, Some(CLUSTER), Some(to.id));
    hello::dial(to.address, &tls, &hello).await.unwrap().0
}

async fn assert_closed(io: &mut hello::Io) {
    let mut rest = Vec::new();
    // An abrupt end is one too.
    let _ = tokio::time::timeout_at(soon(), io.read_to_end(&mut rest)).await.expect("still open");
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection_and_are_counted() {
    let a = Build::new(1).start(&Arc::default()).await;
    let mut whole = Vec::new();
    put_whole(b"\xff\xff\xff garbage", &mut whole);
    let mut chunk = Vec::new();
    let frame = Frame::SnapshotEnd { bytes: 1 };
    put_whole(&wire::encode_frame(&frame).unwrap(), &mut chunk);
    let too_long = (PIECE_BYTES_MAX as u32 + 1).to_le_bytes().to_vec();
    let huge = u32::MAX.to_le_bytes().to_vec();
    for (i, bytes) in [whole, chunk, too_long, huge].into_iter().enumerate() {
        let mut io = intruder(&a).await;
        io.write_all(&bytes).await.unwrap();
        io.flush().await.unwrap();
        assert_closed(&mut io).await;
        assert_eq!(a.peers.counters().decode_errors.get(), i as u64 + 1);
    }
    until("the end", || a.open() == 0).await;
}

#[tokio::test]
async fn a_frame_cut_into_endless_pieces_ends_the_connection_at_its_limit() {
    let a = Build::new(1).start(&Arc::default()).await;
    let mut io = intruder(&a).await;
    let mut piece = (PIECE_BYTES_MAX as u32 | 1 << 31).to_le_bytes().to_vec();
    piece.resize(4 + PIECE_BYTES_MAX, 0);
    let mut sent = 0;
    while sent < 64 << 20 && io.write_all(&piece).await.is_ok() {
        sent += PIECE_BYTES_MAX;
    }
    assert_closed(&mut io).await;
    assert_eq!(a.peers.counters().decode_errors.get(), 1);
    assert!(a.peers.counters().bytes_in.get() < 18 << 20);
}

#[tokio::test]
async fn a_hello_that_is_none_ends_the_connection() {
    let a = Build::new(1).start(&Arc::default()).await;
    let tls = peer_tls(&KeyRing::parse(KEY).unwrap()).unwrap();
    for hello in [
        (HELLO_BYTES_MAX as u32 + 1).to_le_bytes().to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        vec![3, 0, 0, 0, 9, 9, 9],
    ] {
        let stream = TcpStream::connect(a.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls.client.clone());
        let mut io =
            tokio_rustls::TlsStream::from(connector.connect(tls.server_name.clone(), stream).await.unwrap());
        io.write_all(&hello).await.unwrap();
        io.flush().await.unwrap();
        assert_closed(&mut io).await;
    }
    assert_eq!(a.peers.counters().hello_failures.get(), 3);
    assert_eq!(a.peers.counters().connections_accepted.get(), 0);
}

#[tokio::test]
async fn plain_text_is_no_tls() {
    let a = Build::new(1).start(&Arc::default()).await;
    let mut stream = TcpStream::connect(a.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout_at(soon(), stream.read_to_end(&mut rest)).await.expect("still open");
    until("the count", || a.peers.counters().tls_failures.get() == 1).await;
}

/// A peer that is killed, or a host that is gone, is no sign of another cluster key: an alert says so.
#[tokio::test]
async fn who_leaves_in_the_middle_of_a_handshake_is_no_stranger() {
    let book: Arc<Book> = Arc::default();
    let a = Build::new(1).start(&book).await;
    // One end of a handshake each: a client that sends half its hello, a server that hangs up on ours.
    let mut stream = TcpStream::connect(a.address).await.unwrap();
    stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    drop(stream);
    until("the count", || a.peers.counters().hello_failures.get() == 1).await;

    let dying = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    book.0.lock().unwrap().insert(NodeId(3), dying.local_addr().unwrap());
    let dies = tokio::spawn(async move {
        let (mut stream, _) = dying.accept().await.unwrap();
        let mut some = [0; 16];
        stream.read_exact(&mut some).await.unwrap();
    });
    let error = a.peers.call(NodeId(3), proposal(1), soon()).await.unwrap_err();
    assert!(matches!(&error, CallError::NotSent(NotSent::Unreachable(DialError::Tcp { .. }))), "{error}");
    dies.await.unwrap();
    assert_eq!(a.peers.counters().tls_failures.get(), 0);
}
