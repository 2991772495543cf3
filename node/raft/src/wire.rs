//! What peers say to each other: the messages and their encoding. No I/O.
//!
//! A connection starts with a [`Hello`] and its [`HelloAnswer`]; from then on it carries
//! [`Frame`]s. All of it comes from the network and is hostile until it is decoded:
//! [`decode_hello`], [`decode_hello_answer`] and [`decode_frame`] are pure and never panic.
//! Variants are only ever added at the end: the codec numbers them.

mod request;

use bytes::Bytes;
use openraft::type_config::alias::SnapshotMetaOf;
use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};
use skep_base::id::{ClusterId, NodeId};

pub use self::request::*;

use skep_state::level::Level;

use crate::types::{TypeConfig, Vote};

/// The oldest and the newest protocol of frames that this program speaks. Who speaks one reads the
/// level of the same number, and those below it; not every protocol has a level.
pub const PROTOCOL: (u16, u16) = (1, 10);

/// The first protocol in which a node that was started again asks what the others saw of its log.
pub const RESUMES: u16 = 4;

/// The first protocol in which members compare the hashes of their states.
pub const COMPARES: u16 = 5;

/// The first protocol in which the leader is told what workers hold, and who of them is gone.
pub const BEATS: u16 = 6;

/// The first protocol in which members give each other records that a disk has lost.
pub const MENDS: u16 = 6;

const _: () = assert!(PROTOCOL.1 >= Level::NEWEST.0);

/// Most bytes of one frame's body.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes of a hello or its answer.
pub const HELLO_BYTES_MAX: usize = 1024;

/// Most bytes of a text (a reason, an error) that goes into a frame.
const TEXT_BYTES_MAX: usize = 512;

/// Says that this is a skep peer and not something else that speaks TLS.
const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"skep");

pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub type AppendResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
pub type AppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub type TransferLeaderRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
pub type TransferLeaderResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
pub type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;

/// Names one Raft group among those that share a node. There is one so far.
pub type GroupId = u64;

/// The only group so far.
pub const GROUP: GroupId = 0;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionKind {
    /// Calls and streams of appends in both directions; one for each pair of peers.
    Calls,
    /// One snapshot from the dialer to the acceptor.
    Snapshot,
    /// Nothing: the dialer only looks whether the acceptor is there. Level 3.
    Probe,
}

/// The dialer's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    magic: u32,
    /// The oldest and the newest protocol that the dialer speaks.
    pub protocol: (u16, u16),
    pub kind: ConnectionKind,
    pub node: NodeId,
    /// Random for each start of the process: a new one means that older connections are dead.
    pub session: u64,
    /// `None` while the dialer belongs to no cluster.
    pub cluster: Option<ClusterId>,
    /// Whom the dialer means to reach: an address may have passed to another node.
    pub target: Option<NodeId>,
}

/// What the acceptor says to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAnswer {
    Accept {
        /// The protocol of the frames that follow.
        protocol: u16,
        node: NodeId,
        session: u64,
        cluster: Option<ClusterId>,
    },
    Reject {
        reason: RejectReason,
        detail: String,
    },
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RejectReason {
    WrongCluster,
    WrongTarget,
    NoCommonProtocol,
    /// No peer's hello, or a peer that claims the acceptor's own id.
    NotAPeer,
    /// Too many connections.
    Busy,
    Stopping,
}

/// All of [`RejectReason`], in the order of the counters.
pub const REJECT_REASONS: [RejectReason; 6] = [
    RejectReason::WrongCluster,
    RejectReason::WrongTarget,
    RejectReason::NoCommonProtocol,
    RejectReason::NotAPeer,
    RejectReason::Busy,
    RejectReason::Stopping,
];

impl RejectReason {
    /// The label of this reason in metrics and log lines.
    pub fn label(self) -> &'static str {
        match self {
            RejectReason::WrongCluster => "wrong_cluster",
            RejectReason::WrongTarget => "wrong_target",
            RejectReason::NoCommonProtocol => "no_common_protocol",
            RejectReason::NotAPeer => "not_a_peer",
            RejectReason::Busy => "busy",
            RejectReason::Stopping => "stopping",
        }
    }
}

/// One message on a connection after its hello.
#[derive(Debug, Serialize, Deserialize)]
pub enum Frame {
    /// Asks for a [`Frame::Pong`]: is anybody there?
    Ping,
    Pong,
    /// The sender now belongs to this cluster.
    Cluster(ClusterId),
    /// The sender will start nothing new on this connection, and nothing of its own is open.
    Goodbye,
    Request {
        /// Chosen by the asker; the two sides' numbers are apart.
        id: u64,
        group: GroupId,
        /// After that long nobody waits for the answer any more.
        timeout_ms: u32,
        request: Request,
    },
    Response {
        id: u64,
        response: Response,
    },
    /// Appends with this number follow, in order.
    StreamOpen {
        stream: u64,
        group: GroupId,
    },
    Append {
        stream: u64,
        request: AppendRequest,
    },
    /// Answers the oldest append of the stream that has no answer yet.
    Appended {
        stream: u64,
        result: AppendResult,
    },
    /// From the opener: no more appends.
    StreamEnd {
        stream: u64,
    },
    /// From the other side: no more answers; with the reason where that is not the regular end.
    StreamClosed {
        stream: u64,
        error: Option<String>,
    },
    SnapshotBegin(SnapshotBegin),
    SnapshotChunk(Bytes),
    SnapshotEnd {
        bytes: u64,
    },
    /// The receiver lives, and has taken that many bytes.
    SnapshotProgress {
        bytes: u64,
    },
    SnapshotDone(Result<SnapshotResponse, String>),
}

/// What goes before a snapshot's bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotBegin {
    pub group: GroupId,
    /// The vote of the leader that sends it.
    pub vote: Vote,
    pub meta: SnapshotMeta,
}

impl Hello {
    pub fn new(
        kind: ConnectionKind,
        node: NodeId,
        session: u64,
        cluster: Option<ClusterId>,
        target: Option<NodeId>,
    ) -> Self {
        Self { magic: HELLO_MAGIC, protocol: PROTOCOL, kind, node, session, cluster, target }
    }

    /// Whether these are a peer's words at all.
    pub fn is_peer(&self) -> bool {
        self.magic == HELLO_MAGIC
    }

    /// The newest protocol that both sides speak.
    pub fn common_protocol(&self) -> Option<u16> {
        let oldest = self.protocol.0.max(PROTOCOL.0);
        let newest = self.protocol.1.min(PROTOCOL.1);
        (oldest <= newest).then_some(newest)
    }
}

/// Cuts a text to what goes into a frame.
pub fn short_text(text: impl ToString) -> String {
    let mut text = text.to_string();
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The bytes of a frame's body.
pub fn encode_frame(frame: &Frame) -> Result<Vec<u8>, CodecError> {
    codec::encode(frame)
}

/// A frame from its body.
pub fn decode_frame(body: &[u8]) -> Result<Frame, CodecError> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(CodecError::TooLarge);
    }
    codec::decode(body)
}

/// A dialer's first words from their bytes.
pub fn decode_hello(body: &[u8]) -> Result<Hello, CodecError> {
    decode_greeting(body)
}

/// An acceptor's first words from their bytes.
pub fn decode_hello_answer(body: &[u8]) -> Result<HelloAnswer, CodecError> {
    decode_greeting(body)
}

fn decode_greeting<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    if body.len() > HELLO_BYTES_MAX {
        return Err(CodecError::TooLarge);
    }
    codec::decode(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skep_state::command::Op;
    use skep_state::message::Digest;

    use super::*;

    fn frames() -> Vec<Frame> {
        let body = Bytes::from_static(b"foo");
        let op = Op::PutMessage {
            digest: Digest::of(&body),
            content_type: "text/plain".into(),
            body: body.clone(),
            time_ms: 1,
            nonce: 7,
        };
        vec![
            Frame::Ping,
            Frame::Cluster(ClusterId(7)),
            Frame::Request {
                id: 1,
                group: GROUP,
                timeout_ms: 5,
                request: Request::Propose { ops: vec![op] },
            },
            Frame::Response { id: 1, response: Response::Proposed(Err(ProposeError::Overloaded)) },
            Frame::Append {
                stream: 1,
                request: AppendRequest {
                    vote: Vote::new(3, 4),
                    prev_log_id: None,
                    entries: vec![],
                    leader_commit: None,
                },
            },
            Frame::SnapshotChunk(body),
        ]
    }

    #[test]
    fn every_frame_survives_the_codec() {
        for frame in frames() {
            let bytes = encode_frame(&frame).unwrap();
            let again = decode_frame(&bytes).unwrap();
            assert_eq!(format!("{frame:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused() {
        for frame in frames() {
            let bytes = encode_frame(&frame).unwrap();
            for end in 0..bytes.len() {
                assert!(decode_frame(&bytes[..end]).is_err(), "{frame:?} cut at {end}");
            }
        }
    }

    #[test]
    fn the_newest_common_protocol_is_chosen() {
        let mut hello = Hello::new(ConnectionKind::Calls, NodeId(1), 1, None, None);
        assert_eq!(hello.common_protocol(), Some(PROTOCOL.1));
        hello.protocol = (PROTOCOL.1 + 1, PROTOCOL.1 + 2);
        assert_eq!(hello.common_protocol(), None);
        hello.protocol = (0, PROTOCOL.1 + 9);
        assert_eq!(hello.common_protocol(), Some(PROTOCOL.1));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = short_text("é".repeat(TEXT_BYTES_MAX));
        assert!(text.len() <= TEXT_BYTES_MAX && text.chars().all(|c| c == 'é'));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = decode_frame(&bytes);
            let _ = decode_hello(&bytes);
            let _ = decode_hello_answer(&bytes);
        }

        #[test]
        fn a_frame_with_flipped_bytes_never_panics(
            which in 0usize..6, at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut bytes = encode_frame(&frames()[which]).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = decode_frame(&bytes);
        }
    }
}
