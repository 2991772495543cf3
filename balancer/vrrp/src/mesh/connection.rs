//! The mesh's tasks: dialling, and what a connection carries.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use skep_members::in_force::Keys;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{Event, Message, Seat, Speaker, Target, VERSION, What};
use crate::capability::interface_index;

/// Longest frame, in bytes.
const FRAME_BYTES_MAX: usize = 1024;
/// Frames that wait for one connection.
pub(super) const QUEUE_MAX: usize = 16;
/// Time to connect and to be told who it is.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a peer, which may be dialled twice.
const REACH_TIMEOUT: Duration = CONNECT_TIMEOUT.saturating_mul(2);
/// Time for one whose connection ended without a word to show that it lives. The port of a process that is
/// gone is closed, and its kernel says so at once.
const DOUBT: Duration = Duration::from_millis(250);
/// Between two attempts to reach the Active.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The same for a peer in whose name an advertisement came; of one that lets nobody stay it doubles up to that.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// A connection takes a round trip to be made. What is lost of that is sent again after a second.
const DIAL_DOUBT: Duration = Duration::from_millis(100);
/// After this a host that says nothing is taken for dead; advertisements tell sooner.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Between two probes. The kernel takes whole seconds.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// What became of one whose connection ended without a word.
pub(super) enum Found {
    /// It answers: this is the next connection.
    Lives(Box<Stream>),
    Dead,
    /// Nothing was heard of it: its advertisements will tell.
    Unknown,
}

/// A connection may end for other reasons than its process: a frame that is none, a middlebox, a flushed table.
/// So whoever is at the other end is asked once more.
pub(super) async fn look_again(connecting: impl Future<Output = io::Result<Stream>>) -> Found {
    let ended = [
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ];
    match timeout(DOUBT, connecting).await {
        Ok(Ok(stream)) => Found::Lives(Box::new(stream)),
        // As a process ends, its kernel may close the connection before the port: what came between is reset.
        Ok(Err(error)) if ended.contains(&error.kind()) => Found::Dead,
        Ok(Err(_)) | Err(_) => Found::Unknown,
    }
}

/// Keeps the connection to whom it is told to follow, as one dialer of a router.
pub(super) async fn follow(
    (router, dialer): (usize, usize),
    seat: Seat,
    keys: Keys,
    mut targets: watch::Receiver<Option<Target>>,
    events: mpsc::Sender<Event>,
) {
    // Made already, in doubt whether the one before ended by a death.
    let mut at_hand: Option<(Target, Box<Stream>)> = None;
    loop {
        let target = *targets.borrow_and_update();
        let Some(target) = target else {
            if targets.changed().await.is_err() {
                return;
            }
            continue;
        };
        let address = target.address.ip();
        let from = Speaker::Leader(dialer, address);
        let connected = match at_hand.take().filter(|(to, _)| *to == target) {
            Some((_, stream)) => Ok(Ok(*stream)),
            None => tokio::select! {
                connected = timeout(CONNECT_TIMEOUT, connect(&seat, &keys, target)) => connected,
                _ = targets.changed() => continue,
            },
        };
        match connected {
            Ok(Ok(stream)) => {
                let begun = Instant::now();
                let shown = shown(stream.get_ref().1);
                let ended = tokio::select! {
                    ended = converse(stream, router, from, address, target.priority, &events) => Some(ended.orderly),
                    // Dropped by this side: no death.
                    _ = targets.changed() => None,
                    () = keys.no_more(&shown) => None,
                };
                let found = match ended {
                    Some(false) => Some(look_again(connect(&seat, &keys, target)).await),
                    Some(true) | None => None,
                };
                let orderly = !matches!(found, Some(Found::Dead));
                let _ = events.send(Event { router, from, what: What::Gone { orderly } }).await;
                // One that lets nobody stay, of another version perhaps, is tried now and then.
                if let Some(Found::Lives(stream)) = found
                    && begun.elapsed() >= RETRY_INTERVAL
                {
                    tracing::info!(%address, "mesh: the connection broke, and its other end lives");
                    at_hand = Some((target, stream));
                }
                if ended.is_none() || at_hand.is_some() {
                    continue;
                }
            }
            failed => {
                tracing::debug!(%address, ?failed, "mesh: not reached");
                let _ = events.send(Event { router, from, what: What::Unreachable }).await;
            }
        }
        tokio::select! {
            () = sleep(RETRY_INTERVAL) => {}
            changed = targets.changed() => if changed.is_err() { return },
        }
    }
}

/// Keeps a connection to a peer, by which that tells of itself. That it cannot be had, for whatever reason, is no
/// word of the peer.
pub(super) async fn watch_peer(
    router: usize,
    seat: Seat,
    peer: SocketAddr,
    keys: Keys,
    wanted: Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    let (vrid, family, of) = (seat.vrid, seat.family.into(), peer.ip());
    let from = Speaker::Watched(of);
    let mut pause = RETRY_INTERVAL_MIN;
    while !events.is_closed() {
        let peer = on_link(peer, &seat.interface);
        if is_own(peer) {
            tokio::select! {
                () = sleep(RETRY_INTERVAL) => {}
                () = events.closed() => {}
            }
            continue;
        }
        let first = Message::Watch { version: VERSION, vrid, family, of };
        let mut connected = false;
        let reached = timeout(REACH_TIMEOUT, async {
            let stream = dial(peer, &wanted).await?;
            connected = true;
            greet(stream, &keys, first).await
        })
        .await;
        let in_vain = match reached {
            Ok(Ok(stream)) => {
                let begun = Instant::now();
                let shown = shown(stream.get_ref().1);
                let Ended { orderly, spoke } = tokio::select! {
                    ended = converse(stream, router, from, of, 0, &events) => ended,
                    () = keys.no_more(&shown) => Ended { orderly: false, spoke: true },
                };
                let _ = events.send(Event { router, from, what: What::Gone { orderly } }).await;
                let lived = begun.elapsed() >= RETRY_INTERVAL;
                // Whoever broke it may not have been the peer: it is reached again at once, but for one that lets
                // nobody stay.
                if !orderly && lived {
                    pause = RETRY_INTERVAL_MIN;
                    continue;
                }
                !lived && !spoke
            }
            failed => {
                tracing::debug!(address = %of, ?failed, "mesh: a peer is not reached");
                // A port that is closed costs neither end much.
                connected
            }
        };
        pause = if in_vain { (pause * 2).min(RETRY_INTERVAL) } else { RETRY_INTERVAL_MIN };
        tokio::select! {
            () = sleep(RETRY_INTERVAL) => {}
            () = wanted.notified() => sleep(pause).await,
            () = events.closed() => return,
        }
    }
}

/// Where it is by now: an interface that was made anew has another index, which is part of an address of its link.
fn on_link(peer: SocketAddr, interface: &str) -> SocketAddr {
    match peer {
        SocketAddr::V6(mut peer) if peer.ip().is_unicast_link_local() => {
            peer.set_scope_id(interface_index(interface).unwrap_or(peer.scope_id()));
            peer.into()
        }
        peer => peer,
    }
}

/// Whether this host has the address itself by now: all may be given the same list of peers. Nothing is sent.
fn is_own(peer: SocketAddr) -> bool {
    let any = if peer.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let way = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(peer)?;
        socket.local_addr()
    });
    way.is_ok_and(|from| from.ip() == peer.ip())
}

async fn connect(seat: &Seat, keys: &Keys, target: Target) -> io::Result<Stream> {
    let (vrid, family, priority) = (seat.vrid, seat.family.into(), target.priority);
    let stream = TcpStream::connect(target.address).await?;
    greet(stream, keys, Message::Hello { version: VERSION, vrid, family, priority }).await
}

/// Connects to a peer. What was begun while there was no way to it comes to nothing for a second though there is one by
/// now: where an advertisement in its name shows that, it is begun anew, once, so that nobody can have that go on.
async fn dial(peer: SocketAddr, wanted: &Notify) -> io::Result<TcpStream> {
    let there_is_a_way = async {
        sleep(DIAL_DOUBT).await;
        wanted.notified().await;
    };
    tokio::select! {
        connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(peer)) => return connected?,
        () = there_is_a_way => {}
    }
    timeout(CONNECT_TIMEOUT, TcpStream::connect(peer)).await?
}

async fn greet(stream: TcpStream, keys: &Keys, first: Message) -> io::Result<Stream> {
    prepare(&stream);
    let tls = keys.now().peers.clone();
    let mut stream = TlsConnector::from(tls.client).connect(tls.server_name, stream).await?;
    write(&mut stream, &first).await?;
    Ok(stream)
}

/// What the other end has proved itself with. Once its key is taken away, the connection is given up: another one
/// takes its place, where it has another key.
pub(super) fn shown(end: &tokio_rustls::rustls::CommonState) -> Vec<CertificateDer<'static>> {
    end.peer_certificates().unwrap_or_default().to_vec()
}

pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL).with_retries(2);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    // The same where something is on its way to it: the kernel tries that for a quarter of an hour.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(KEEPALIVE * 2));
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// The other said so before, or it was this side.
    pub orderly: bool,
    /// The other had said anything.
    pub spoke: bool,
}

/// Carries frames both ways until either side ends.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite,
    router: usize,
    from: Speaker,
    address: IpAddr,
    priority: u8,
    events: &mpsc::Sender<Event>,
) -> Ended {
    let (sender, mut receiver) = mpsc::channel(QUEUE_MAX);
    let event = |what| events.send(Event { router, from, what });
    if event(What::Connected { address, priority, sender }).await.is_err() {
        return Ended { orderly: true, spoke: false };
    }
    let spoke = AtomicBool::new(false);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        loop {
            match read(&mut reader).await {
                Ok(Message::Bye) => return true,
                Ok(message) => {
                    spoke.store(true, Relaxed);
                    if event(What::Said(message)).await.is_err() {
                        return true;
                    }
                }
                Err(_) => return false,
            }
        }
    };
    let writing = async {
        while let Some(message) = receiver.recv().await {
            if write(&mut writer, &message).await.is_err() {
                // The reading side learns why.
                std::future::pending::<()>().await;
            }
        }
        let _ = timeout(CONNECT_TIMEOUT, async {
            let _ = write(&mut writer, &Message::Bye).await;
            let _ = writer.shutdown().await;
        })
        .await;
    };
    let orderly = tokio::select! {
        orderly = reading => orderly,
        () = writing => true,
    };
    Ended { orderly, spoke: spoke.load(Relaxed) }
}

pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let len = usize::from(stream.read_u16().await?);
    if len > FRAME_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let len = u16::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidData)?;
    stream.write_all(&[&len.to_be_bytes()[..], &bytes].concat()).await?;
    stream.flush().await
}
