//! What members say to each other beside gossip: datagrams sealed as its own are, and nothing that the library hears.
//!
//! No tasks: the transport's receiver hands on what came, as long as somebody hears and there is room. A datagram may
//! be lost, come twice after a restart of who hears it, or come from anybody who has the edge key.

use std::net::SocketAddr;

use tokio::sync::mpsc;

/// How what is said beside gossip begins: no message of gossip does.
const MAGIC: [u8; 2] = [0x41, 0xb0];
/// Most bytes that are said at once: with the seal they fit into a frame of Ethernet.
pub const ASIDE_BYTES_MAX: usize = 1350;
/// Datagrams that wait to be heard; more are lost.
const WAITING_MAX: usize = 256;

/// From where, and what.
pub type Said = (SocketAddr, Vec<u8>);

pub(super) fn channel() -> (mpsc::Sender<Said>, mpsc::Receiver<Said>) {
    mpsc::channel(WAITING_MAX)
}

/// What goes into a datagram; none where it is too much.
pub(super) fn write(said: &[u8]) -> Option<Vec<u8>> {
    (said.len() <= ASIDE_BYTES_MAX).then(|| [&MAGIC, said].concat())
}

/// What is said in an opened datagram, where that is no gossip.
pub(super) fn read(opened: &[u8]) -> Option<&[u8]> {
    opened.strip_prefix(&MAGIC).filter(|said| said.len() <= ASIDE_BYTES_MAX)
}
