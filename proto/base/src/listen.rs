//! Listening sockets that others may share the address with.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

/// Connections that the kernel holds for a listener until they are accepted.
const BACKLOG: i32 = 4096;

/// Instructions of classic BPF.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Opens a listening socket, nonblocking, that others may share the address with: other threads'
/// sockets, and the process that takes over on a restart (SO_REUSEPORT).
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// From now on nobody begins a connection at this socket: who tries is not answered, and its kernel tries again a
/// second later, when another may listen. Who has begun goes on, and can be accepted.
///
/// A socket that is just closed resets whoever was half way, for the kernel gives those to no other
/// (`net.ipv4.tcp_migrate_req` is off unless it is set). Not for a socket that another process has, too: it would
/// be as deaf.
pub fn begin_no_more(listener: &TcpListener) -> io::Result<()> {
    // Of classic BPF, on the TCP header: what has SYN and not ACK is dropped.
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN_AND_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_socket_at_which_nobody_begins_any_more_still_has_who_began_before_and_refuses_nobody() {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut before = TcpStream::connect(address).unwrap();
        begin_no_more(&listener).unwrap();
        let after = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(after.unwrap_err().kind(), io::ErrorKind::TimedOut, "not refused, and not taken");
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(false).unwrap();
        before.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        accepted.write_all(&bytes).unwrap();
        before.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Its kernel tries again, and finds who listens then.
        let waiting = std::thread::spawn(move || TcpStream::connect(address).map(drop));
        let next = bind(address).unwrap();
        drop(listener);
        waiting.join().unwrap().unwrap();
        drop(next);
    }

    #[test]
    fn two_sockets_share_an_address() {
        let first = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(bind(address).unwrap().local_addr().unwrap(), address);
    }
}
