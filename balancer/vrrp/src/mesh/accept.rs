//! The mesh's tasks: accepting.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use skep_members::in_force::Keys;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::connection::{CONNECT_TIMEOUT, RETRY_INTERVAL, converse, prepare, read, shown};
use super::places::Places;
use super::{Event, Message, Seat, Speaker, Spoken, VERSION, What};

const BACKLOG: i32 = 64;

pub(super) fn listen(interface: &str, port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[derive(Clone)]
pub(super) struct Acceptor {
    pub interface: String,
    pub seats: Arc<Vec<Seat>>,
    pub keys: Keys,
    pub events: mpsc::Sender<Event>,
    pub ids: Arc<AtomicU64>,
}

/// Listens on the interface that has the name by now: what was bound to the one before hears nothing any more.
async fn listen_again(before: TcpListener, interface: &str) -> io::Result<TcpListener> {
    let port = before.local_addr()?.port();
    drop(before);
    loop {
        match listen(interface, port) {
            Ok(listener) => return Ok(listener),
            // Gone again, most likely.
            Err(error) => tracing::debug!(interface, %error, "mesh: it cannot be listened"),
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// `anew`: the interface was made anew.
pub(super) async fn accept(
    mut listener: TcpListener,
    anew: Arc<Notify>,
    acceptor: Acceptor,
    mut places: Places,
) {
    loop {
        let waited = tokio::select! {
            waited = places.before() => waited,
            () = acceptor.events.closed() => return,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let (address, acceptor) = (address.ip().to_canonical(), acceptor.clone());
                    let Some(place) = waited.or_else(|| places.of(address)) else {
                        tracing::debug!(%address, "mesh: too many connections");
                        continue;
                    };
                    tokio::spawn(async move {
                        acceptor.serve(stream, address).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "mesh: accept");
                    sleep(RETRY_INTERVAL).await;
                }
            },
            () = anew.notified() => {
                let listened = tokio::select! {
                    listened = listen_again(listener, &acceptor.interface) => listened,
                    () = acceptor.events.closed() => return,
                };
                match listened {
                    Ok(again) => listener = again,
                    Err(error) => return tracing::error!(%error, "mesh: nobody can connect any more"),
                }
            }
            () = acceptor.events.closed() => return,
        }
    }
}

impl Acceptor {
    async fn serve(self, stream: TcpStream, address: IpAddr) {
        prepare(&stream);
        let greeted = timeout(CONNECT_TIMEOUT, async {
            let acceptor = TlsAcceptor::from(self.keys.now().peers.server.clone());
            let mut stream = acceptor.accept(stream).await?;
            let hello = read(&mut stream).await?;
            io::Result::Ok((stream, hello))
        });
        let (stream, hello) = match greeted.await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "mesh: no member"),
            Err(_) => return,
        };
        let here = stream.get_ref().0.local_addr().map(|local| local.ip().to_canonical()).ok();
        let id = self.ids.fetch_add(1, Relaxed);
        let (vrid, family, priority, from) = match hello {
            Message::Hello { version: VERSION, vrid, family, priority } => {
                (vrid, family, priority, Speaker::Follower(id))
            }
            Message::Watch { version: VERSION, vrid, family, of } if Some(of) == here => {
                (vrid, family, 0, Speaker::Watcher(id, of))
            }
            _ => return,
        };
        let found = self.seats.iter().position(|seat| {
            seat.interface == self.interface && seat.vrid == vrid && Spoken::from(seat.family) == family
        });
        let Some(router) = found else { return };
        let shown = shown(stream.get_ref().1);
        let orderly = tokio::select! {
            ended = converse(stream, router, from, address, priority, &self.events) => ended.orderly,
            () = self.keys.no_more(&shown) => true,
        };
        let _ = self.events.send(Event { router, from, what: What::Gone { orderly } }).await;
    }
}
