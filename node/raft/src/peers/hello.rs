//! The start of a connection: TCP, mutual TLS, hello. All of it inside time limits; nothing is
//! allocated for a stranger beyond a hello's bytes. Not cancel-safe: a cut start is a lost
//! connection, which is what dropping it means.

use std::net::SocketAddr;
use std::time::Duration;

use skep_base::id::{ClusterId, NodeId};
use skep_members::tls::{PeerTls, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::framing::put_whole;
use crate::wire::{self, HELLO_BYTES_MAX, Hello, HelloAnswer, RejectReason};

/// How long a TCP connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long TLS and the hello may take, at either side.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that the kernel keeps unsent at most: what waits here can still be overtaken.
const NOT_SENT_BYTES_MAX: u32 = 128 * 1024;

/// Sent bytes that nobody acknowledged for this long end the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

pub(super) type Io = TlsStream<TcpStream>;

/// Why a peer could not be connected to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    #[error("no address is known")]
    NoAddress,
    #[error("{address}: {detail}")]
    Tcp { address: SocketAddr, detail: String },
    #[error("{address}: TLS: {detail} (another cluster key?)")]
    Tls { address: SocketAddr, detail: String },
    #[error("{address}: {detail}")]
    Hello { address: SocketAddr, detail: String },
    #[error("{address}: refused: {} ({detail})", reason.label())]
    Rejected { address: SocketAddr, reason: RejectReason, detail: String },
}

/// What the acceptor said.
#[derive(Debug)]
pub(super) struct Accepted {
    pub node: NodeId,
    pub session: u64,
    pub cluster: Option<ClusterId>,
    pub protocol: u16,
}

pub(super) fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)?;
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    }
    Ok(())
}

/// Connects to a peer and says hello.
pub(super) async fn dial(
    address: SocketAddr,
    tls: &PeerTls,
    hello: &Hello,
) -> Result<(Io, Accepted), DialError> {
    let tcp = |error: std::io::Error| DialError::Tcp { address, detail: error.to_string() };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let connect = socket.map_err(tcp)?.connect(address);
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(connected) => connected.map_err(tcp)?,
        Err(_elapsed) => {
            return Err(DialError::Tcp { address, detail: "no answer in time".into() });
        }
    };
    set_options(&stream).map_err(tcp)?;
    let greet = async {
        let tls_error = |error: std::io::Error| match is_of_tls(&error) {
            true => DialError::Tls { address, detail: error.to_string() },
            false => tcp(error),
        };
        let connector = TlsConnector::from(tls.client.clone());
        let stream = connector.connect(tls.server_name.clone(), stream).await.map_err(tls_error)?;
        let mut io = TlsStream::from(stream);
        send(&mut io, hello).await.map_err(tls_error)?;
        // In TLS 1.3 the dialer learns with its first read that its certificate was refused.
        let body = receive(&mut io).await.map_err(|error| match is_of_tls(&error) {
            true => tls_error(error),
            false => DialError::Hello { address, detail: error.to_string() },
        })?;
        let answer = wire::decode_hello_answer(&body)
            .map_err(|error| DialError::Hello { address, detail: error.to_string() })?;
        match answer {
            HelloAnswer::Accept { protocol, node, session, cluster } => {
                Ok((io, Accepted { node, session, cluster, protocol }))
            }
            HelloAnswer::Reject { reason, detail } => {
                Err(DialError::Rejected { address, reason, detail: wire::short_text(detail) })
            }
        }
    };
    match tokio::time::timeout(HELLO_TIMEOUT, greet).await {
        Ok(greeted) => greeted,
        Err(_elapsed) => Err(DialError::Hello { address, detail: "no hello in time".into() }),
    }
}

/// Whether TLS itself refused: most likely another cluster key. A peer that dies in the middle of a handshake
/// ends the connection too, and is no stranger.
fn is_of_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<tokio_rustls::rustls::Error>())
}

/// Why an incoming connection came to nothing before its hello was whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcceptError {
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("no hello: {0}")]
    Hello(String),
}

/// Takes TLS and the hello of an incoming connection, and says what its key makes of who sent it. The
/// caller bounds it in time.
pub(super) async fn accept(stream: TcpStream, tls: &PeerTls) -> Result<(Io, Hello, Role), AcceptError> {
    set_options(&stream).map_err(|error| AcceptError::Hello(error.to_string()))?;
    let acceptor = TlsAcceptor::from(tls.server.clone());
    let accepted = acceptor.accept(stream).await.map_err(|error| match is_of_tls(&error) {
        true => AcceptError::Tls(error),
        false => AcceptError::Hello(error.to_string()),
    });
    let mut io = TlsStream::from(accepted?);
    let role = tls.role_of(io.get_ref().1.peer_certificates());
    let body = receive(&mut io).await.map_err(|error| AcceptError::Hello(error.to_string()))?;
    let hello = wire::decode_hello(&body).map_err(|error| AcceptError::Hello(error.to_string()))?;
    Ok((io, hello, role))
}

/// The certificates that the other end has proved itself with.
pub(super) fn shown(io: &Io) -> Vec<CertificateDer<'static>> {
    io.get_ref().1.peer_certificates().unwrap_or_default().to_vec()
}

/// Writes one greeting: a hello or its answer.
pub(super) async fn send<T: serde::Serialize>(io: &mut Io, greeting: &T) -> std::io::Result<()> {
    let body = skep_base::codec::encode(greeting)?;
    let mut out = Vec::with_capacity(body.len() + 4);
    put_whole(&body, &mut out);
    io.write_all(&out).await?;
    io.flush().await
}

/// Sends the last word and waits until the peer has read it: closing with its bytes unread would reset
/// the connection, and the reason would be lost.
pub(super) async fn farewell(io: &mut Io, answer: &HelloAnswer) {
    let said = async {
        send(io, answer).await?;
        io.shutdown().await?;
        let mut rest = [0; 64];
        while io.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(HELLO_TIMEOUT, said).await;
}

/// Reads one greeting's body, and not a byte more.
pub(super) async fn receive(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = io.read_u32_le().await? as usize;
    if length > HELLO_BYTES_MAX {
        return Err(std::io::Error::other(format!("a hello of {length} bytes")));
    }
    let mut body = vec![0; length];
    io.read_exact(&mut body).await?;
    Ok(body)
}
