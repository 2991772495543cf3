//! Binds the node's sockets before anything else starts, so that a taken port is a sentence and
//! an exit status, not a half-started node.

use std::net::{SocketAddr, UdpSocket};

use tokio::net::TcpListener;

/// How often a free port is looked for that TCP and UDP can share, where port 0 was asked for.
const SHARED_PORT_TRIES: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The node's sockets.
#[derive(Debug)]
pub struct Listeners {
    pub http: TcpListener,
    pub admin: TcpListener,
    /// Raft.
    pub peer: TcpListener,
    /// Gossip: the same number as `peer`.
    pub gossip: UdpSocket,
}

/// A socket that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: {reason}{hint}")]
pub struct ListenError {
    flag: &'static str,
    address: SocketAddr,
    reason: std::io::Error,
    hint: &'static str,
}

impl ListenError {
    fn new(flag: &'static str, address: SocketAddr, reason: std::io::Error) -> Self {
        let hint = match reason.kind() {
            std::io::ErrorKind::AddrInUse => "; another process has it: stop that, or give another port",
            std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            std::io::ErrorKind::PermissionDenied => "; a port below 1024 needs a privilege",
            _ => "",
        };
        Self { flag, address, reason, hint }
    }
}

/// Binds all of them, or none.
pub fn bind(http: SocketAddr, admin: SocketAddr, peer: SocketAddr) -> Result<Listeners, ListenError> {
    let (peer, gossip) = bind_peer(peer).map_err(|error| ListenError::new("--peer", peer, error))?;
    Ok(Listeners {
        http: bind_tcp(http).map_err(|error| ListenError::new("--http", http, error))?,
        admin: bind_tcp(admin).map_err(|error| ListenError::new("--admin", admin, error))?,
        peer,
        gossip,
    })
}

fn bind_peer(address: SocketAddr) -> std::io::Result<(TcpListener, UdpSocket)> {
    let mut tries = if address.port() == 0 { SHARED_PORT_TRIES } else { 1 };
    loop {
        let tcp = bind_tcp(address)?;
        let shared = SocketAddr::new(address.ip(), tcp.local_addr()?.port());
        match UdpSocket::bind(shared) {
            Ok(udp) => {
                udp.set_nonblocking(true)?;
                return Ok((tcp, udp));
            }
            Err(error) => {
                tries -= 1;
                if tries == 0 {
                    return Err(error);
                }
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn raft_and_gossip_share_a_port_that_the_system_chose() {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = bind(any, any, any).unwrap();
        assert_eq!(
            listeners.peer.local_addr().unwrap().port(),
            listeners.gossip.local_addr().unwrap().port()
        );
    }

    #[tokio::test]
    async fn a_taken_port_names_the_flag_and_the_address() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let taken = TcpListener::bind(any).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, any, any).unwrap_err().to_string();
        assert!(error.contains("--http") && error.contains(&address.to_string()), "{error}");
        assert!(error.contains("another process has it"), "{error}");
    }
}
