//! The system calls that no safe crate has: an address of the link layer, a MAC more for an interface,
//! and a message with the hop limit that it came with. No tasks.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use socket2::{SockAddr, Socket};
use tokio::io::unix::AsyncFd;

/// Room for the control messages that are asked for; a hop limit takes 24 bytes.
const CONTROL_BYTES: usize = 128;

/// An interface, as the target of frames: `mac` is where the first frame header points.
pub fn link_address(index: u32, ethertype: u16, mac: [u8; 6]) -> io::Result<SockAddr> {
    // SAFETY: all bytes zero are a valid `sockaddr_ll`.
    let mut link: libc::sockaddr_ll = unsafe { mem::zeroed() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = ethertype.to_be();
    link.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    link.sll_halen = mac.len() as u8;
    link.sll_addr[..mac.len()].copy_from_slice(&mac);
    // SAFETY: the storage is larger than any socket address and has the alignment of all; the
    // length that is set is that of what was written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, len| {
            storage.cast::<libc::sockaddr_ll>().write(link);
            *len = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// The interface takes frames for this MAC, too, as long as the packet socket lives.
pub fn take_mac(socket: &Socket, index: u32, mac: [u8; 6]) -> io::Result<()> {
    // SAFETY: all bytes zero are a valid `packet_mreq`.
    let mut request: libc::packet_mreq = unsafe { mem::zeroed() };
    request.mr_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    request.mr_type = libc::PACKET_MR_UNICAST as u16;
    request.mr_alen = mac.len() as u16;
    request.mr_address[..mac.len()].copy_from_slice(&mac);
    // SAFETY: the pointer is to a local of the length that is given, and is not kept.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            mem::size_of_val(&request) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the runtime watch the socket.
pub fn registered(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, names the same one for all its life, and closes it
    // only when it is dropped, which the `AsyncFd` does after it has stopped to watch.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// A packet that came to a raw IPv6 socket.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub len: usize,
    pub source: Ipv6Addr,
    /// None where the kernel did not say, or the packet was longer than the buffer.
    pub hop_limit: Option<u8>,
}

/// Receives with the hop limit; the socket has `IPV6_RECVHOPLIMIT` set. Never waits where the
/// socket is non-blocking.
pub fn receive_v6(socket: &Socket, buffer: &mut [u8]) -> io::Result<Received> {
    // Of words, for the alignment that its headers need.
    let mut control = [0_u64; CONTROL_BYTES / size_of::<u64>()];
    // SAFETY: all bytes zero are valid values of these C structures.
    let (mut name, mut message): (libc::sockaddr_in6, libc::msghdr) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = mem::size_of_val(&name) as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: every pointer in the message is to a local or to the buffer, with its true length;
    // all outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let mut hop_limit = None;
    // SAFETY: the kernel has filled in the control buffer and its length; the macros stay within
    // it, and the data of a hop limit is an `int`.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::IPPROTO_IPV6 && (*header).cmsg_type == libc::IPV6_HOPLIMIT {
                let value = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
                hop_limit = u8::try_from(value).ok();
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        hop_limit = None;
    }
    Ok(Received { len, source: Ipv6Addr::from(name.sin6_addr.s6_addr), hop_limit })
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Protocol, Type};

    use super::*;

    #[test]
    fn a_datagram_comes_with_its_sender_and_its_hop_limit() {
        let udp = |hops| {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            socket.set_recv_hoplimit_v6(true).unwrap();
            socket.set_unicast_hops_v6(hops).unwrap();
            socket.bind(&"[::1]:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
            socket
        };
        let (one, two) = (udp(255), udp(7));
        let (to_one, to_two) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        one.send_to(b"hello", &to_two).unwrap();
        two.send_to(b"longer than that", &to_one).unwrap();
        let mut buffer = [0; 8];
        let received = receive_v6(&two, &mut buffer).unwrap();
        assert_eq!((received.len, received.source, received.hop_limit), (5, Ipv6Addr::LOCALHOST, Some(255)));
        let cut = receive_v6(&one, &mut buffer).unwrap();
        assert_eq!((cut.len, cut.hop_limit), (8, None));
    }

    #[test]
    fn a_link_address_names_its_interface() {
        let address = link_address(7, 0x0806, [1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(i32::from(address.family()), libc::AF_PACKET);
        assert!(link_address(u32::MAX, 0, [0; 6]).is_err());
    }
}
