//! Gossip messages to bytes and back.
//!
//! The gossip library keeps its wire format to its own UDP socket. So that socket is what
//! translates: bound to loopback, it writes a message to a tap, or reads one from it. What
//! arrives from anywhere but the tap is ignored, and another process cannot have the tap's
//! address. No tasks. Nothing here is cancel-safe: it is called from tasks that see it through.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chitchat::transport::{Socket as _, UdpSocket as Translator};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::wire::Malformed;

/// Most bytes of one message: what a UDP datagram over IPv4 can hold.
pub const MESSAGE_BYTES_MAX: usize = 65_507;

/// Loopback delivers at once; if the kernel dropped the datagram, this long is enough to know.
const WAIT: Duration = Duration::from_secs(1);

/// Bytes before a message's body: magic number 2, version 1, type 1.
const HEAD_BYTES: usize = 4;
const TYPE_AT: usize = 3;

/// The message could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("the bytes are no gossip message")]
    Undecodable,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the message is too large for a datagram, or was lost on loopback")]
    Lost,
    #[error("the loopback sockets: {0}")]
    Socket(#[from] std::io::Error),
}

/// A pair of loopback sockets that translates, one message at a time.
///
/// Public for the fuzz target. What came is opened by [`crate::seal`] and read by [`super::wire`] first,
/// and only what that writes is translated. That matters: the library decompresses with a bound on each
/// block but none on their number, so that a datagram of 64 KiB may unfold to hundreds of megabytes.
pub struct Translation {
    translator: Translator,
    tap: UdpSocket,
    tap_address: SocketAddr,
    buffer: Vec<u8>,
    /// A message that is never sent by a member of one cluster; it marks the end of another.
    mark: Vec<u8>,
}

impl Translation {
    pub async fn open() -> Result<Self, TranslateError> {
        let (translator, tap, tap_address) = open_pair().await?;
        let mut translation =
            Self { translator, tap, tap_address, buffer: vec![0; MESSAGE_BYTES_MAX + 1], mark: Vec::new() };
        let message = ChitchatMessage::BadCluster;
        translation.mark =
            translation.encode(ChitchatEnvelope { version: ProtocolVersion::V0, message }).await?;
        if translation.mark.len() != HEAD_BYTES {
            return Err(TranslateError::Undecodable);
        }
        Ok(translation)
    }

    /// The message's bytes.
    pub async fn encode(&mut self, envelope: ChitchatEnvelope) -> Result<Vec<u8>, TranslateError> {
        if self.translator.send(self.tap_address, envelope).await.is_err() {
            return Err(TranslateError::Lost);
        }
        match timeout(WAIT, self.tap.recv(&mut self.buffer)).await {
            Ok(length) => Ok(self.buffer[..length?].to_vec()),
            Err(_) => self.start_over().await,
        }
    }

    /// The message that the bytes are.
    pub async fn decode(&mut self, bytes: &[u8]) -> Result<ChitchatEnvelope, TranslateError> {
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(TranslateError::Undecodable)?;
        // A message that reads like the mark would put every later one out of step.
        if head[..2] != self.mark[..2] || head[TYPE_AT] == self.mark[TYPE_AT] {
            return Err(TranslateError::Undecodable);
        }
        self.tap.send(bytes).await?;
        // The library skips what it cannot read and waits for more: the mark ends the wait.
        self.tap.send(&self.mark).await?;
        let Some(first) = self.next().await else { return self.start_over().await };
        if matches!(first.message, ChitchatMessage::BadCluster) {
            return Err(TranslateError::Undecodable);
        }
        match self.next().await {
            Some(ChitchatEnvelope { message: ChitchatMessage::BadCluster, .. }) => Ok(first),
            _ => self.start_over().await,
        }
    }

    async fn next(&mut self) -> Option<ChitchatEnvelope> {
        let tap_address = self.tap_address;
        let from_tap = async {
            loop {
                let outcome = self.translator.recv().await.ok()?;
                if outcome.from_addr == tap_address {
                    return Some(outcome.envelope);
                }
            }
        };
        timeout(WAIT, from_tap).await.ok().flatten()
    }

    /// After a loss nobody knows what still comes: new sockets know nothing of it.
    async fn start_over<T>(&mut self) -> Result<T, TranslateError> {
        (self.translator, self.tap, self.tap_address) = open_pair().await?;
        Err(TranslateError::Lost)
    }
}

async fn open_pair() -> Result<(Translator, UdpSocket, SocketAddr), TranslateError> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let translator = Translator::open(loopback).await.map_err(std::io::Error::other)?;
    let tap = UdpSocket::bind(loopback).await?;
    tap.connect(translator.local_addr().map_err(std::io::Error::other)?).await?;
    let tap_address = tap.local_addr()?;
    Ok((translator, tap, tap_address))
}

#[cfg(test)]
mod tests {
    use chitchat::ChitchatId;

    use super::super::wire::{self, Body, Delta, Digest, Digests, Key, Message, Status};
    use super::*;

    /// A synthetic SYN: its layout is the library's, taken from what it encodes.
    fn syn_bytes(mark: &[u8]) -> Vec<u8> {
        let mut bytes = mark.to_vec();
        bytes[TYPE_AT] = 0;
        bytes.extend(0u16.to_le_bytes());
        bytes.extend(4u16.to_le_bytes());
        bytes.extend(b"skep");
        bytes
    }

    #[tokio::test]
    async fn a_message_survives_its_bytes() {
        let mut translation = Translation::open().await.unwrap();
        let bytes = syn_bytes(&translation.mark);
        for _ in 0..100 {
            let envelope = translation.decode(&bytes).await.unwrap();
            assert!(
                matches!(&envelope.message, ChitchatMessage::Syn { cluster_id, .. } if cluster_id == "skep")
            );
            assert_eq!(translation.encode(envelope).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_and_the_next_one_is_understood() {
        let mut translation = Translation::open().await.unwrap();
        let bytes = syn_bytes(&translation.mark);
        let mark = translation.mark.clone();
        let mut marked = mark.clone();
        marked.extend(b"more");
        for end in 0..bytes.len() {
            let refused = translation.decode(&bytes[..end]).await;
            assert!(matches!(refused, Err(TranslateError::Undecodable)), "{end}");
            assert!(matches!(translation.decode(&mark).await, Err(TranslateError::Undecodable)));
            assert!(matches!(translation.decode(&marked).await, Err(TranslateError::Undecodable)));
            translation.decode(&bytes).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_does_not_come_from_the_tap_is_ignored() {
        let mut translation = Translation::open().await.unwrap();
        let bytes = syn_bytes(&translation.mark);
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = translation.translator.local_addr().unwrap();
        stranger.send_to(&translation.mark, target).await.unwrap();
        stranger.send_to(&bytes, target).await.unwrap();
        translation.decode(&bytes).await.unwrap();
        assert!(matches!(translation.decode(&bytes[..5]).await, Err(TranslateError::Undecodable)));
    }

    #[tokio::test]
    async fn what_the_library_writes_is_read_and_written_to_the_same_bytes() {
        let mut translation = Translation::open().await.unwrap();
        let id = |node: u64| {
            let address = if node.is_multiple_of(2) { "10.0.0.1:7400" } else { "[fd00::1]:7400" };
            ChitchatId::new(format!("{node:016x}"), 5, address.parse().unwrap())
        };
        let key =
            |key: &str, version, status| Key { key: key.into(), value: "ready".into(), version, status };
        let keys = [("a", 1, Status::Set), ("b", 3, Status::Deleted), ("c", 4, Status::DeletedLater)];
        let keys = keys.map(|(name, version, status)| key(name, version, status)).to_vec();
        // From none to several blocks.
        for members in [0, 1, 3, 400] {
            for digests in [Digests::Streamed, Digests::Listed] {
                let digest = |node| Digest { id: id(node), heartbeat: node + 7, floor: 2, version: 3 };
                let delta =
                    |node| Delta { id: id(node), floor: 1, from: 0, keys: keys.clone(), version: None };
                let (digest, mut delta): (_, Vec<_>) =
                    ((0..members).map(digest).collect(), (0..members).map(delta).collect());
                delta.extend([Delta { keys: vec![], version: Some(9), ..delta_of(id(1000)) }]);
                let written = wire::write(&Message { digests, body: Body::SynAck { digest, delta } });
                let envelope = translation.decode(&written).await.unwrap();
                assert_eq!(translation.encode(envelope).await.unwrap(), written, "{members} {digests:?}");
                assert_eq!(wire::write(&wire::read(&written).unwrap()), written);
            }
        }
    }

    fn delta_of(id: ChitchatId) -> Delta {
        Delta { id, floor: 0, from: 0, keys: vec![], version: None }
    }
}
