//! What a member says of itself, and its form as gossip keys.
//!
//! Every datagram carries what changed since the receiver's version, so what changes seldom
//! shares one key and what changes on its own has its own short one:
//!
//! | key | value |
//! |---|---|
//! | `s` | `node 127.0.0.1:8080 127.0.0.1:9400 0.1.0 1-1 3`: program, HTTP and admin address (`-` for none), version, protocol range, expected nodes |
//! | `t` | `ready`: state |
//! | `c` | the cluster's id, `-` for none |
//! | `r` | `leader 7 00000000000000ff`: Raft role, term, leader (`-` for none); of a balancer that obeys the cluster's gateway configuration also where it stands with that, and with purges: see [`GatewayAt`] |
//! | `e` | only of an edge: see `forms` |
//! | `m` | a proof of all the others, by who has the cluster key: see `proofs` |
//!
//! The member's id, its generation and the address for peers are those of the gossip itself.
//! Fields after the known ones are skipped: a later version may add some, and keys, of one character each,
//! which are never taken away (`admission` lets in no others). No tasks.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use skep_base::id::{ClusterId, NodeId};

use super::stand::GatewayAt;

/// Longest value of a key that is read, in bytes.
pub const VALUE_LEN_MAX: usize = 512;

/// Longest version that is read and told, in bytes.
pub const VERSION_LEN_MAX: usize = 64;

/// A text that is none of the words it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {0}")]
pub struct UnknownWord(&'static str);

macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal, $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),+
        }
        impl $name {
            /// The word for it in gossip, JSON and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord($what)),
                }
            }
        }
    };
}

words! {
    /// Which program a member is.
    Program, "program",
    Node = "node",
    Balancer = "balancer",
}

words! {
    /// How far a member is between start and stop.
    NodeState, "state",
    /// Started, not serving yet.
    Joining = "joining",
    /// Serves.
    Ready = "ready",
    /// Finishes what is in flight; new work goes elsewhere.
    Draining = "draining",
    /// Stopped in order; not a death.
    Left = "left",
}

words! {
    /// A member's part in Raft, as it sees it.
    RaftRole, "Raft role",
    /// Not in a Raft group.
    None = "none",
    Learner = "learner",
    Follower = "follower",
    Candidate = "candidate",
    Leader = "leader",
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    pub id: NodeId,
    pub program: Program,
    pub state: NodeState,
    /// None while it belongs to no cluster.
    pub cluster: Option<ClusterId>,
    /// Where peers reach it: gossip by UDP, and Raft by TCP.
    pub peer: SocketAddr,
    pub http: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// The program's version: printable, no spaces, at most [`VERSION_LEN_MAX`] bytes.
    pub version: String,
    /// The oldest and the newest peer protocol that it speaks.
    pub protocol: (u16, u16),
    /// How many nodes it waits for before the first election.
    pub expect: u32,
    pub raft: RaftRole,
    /// The leader of `term`, as far as it knows.
    pub leader: Option<NodeId>,
    pub term: u64,
    /// None for who obeys no configuration of the cluster's, or knows of none yet.
    pub gateway: Option<GatewayAt>,
    /// Tells its runs apart, the later one higher: see [`PeerRecord::generation_now`].
    pub generation: u64,
}

/// Why a member's keys make no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Keys are still on their way; not a fault.
    #[error("the key {0:?} has not come yet")]
    Incomplete(&'static str),
    #[error("the member's id is no node id")]
    Id,
    #[error("the peer address cannot be reached by anyone")]
    Address,
    #[error("the key {0:?} has no such value")]
    Value(&'static str),
    #[error("a node that does not prove what it says")]
    Unproved,
    #[error("an earlier run of a node that has proved a later one")]
    Earlier,
}

/// The names of the keys; see the table above.
pub const KEY_STATIC: &str = "s";
pub const KEY_STATE: &str = "t";
pub const KEY_CLUSTER: &str = "c";
pub const KEY_RAFT: &str = "r";

/// What stands for nothing.
const NONE: &str = "-";

impl PeerRecord {
    /// The keys of [`PeerRecord::encode`], in its order.
    pub const KEYS: [&'static str; 4] = [KEY_STATIC, KEY_STATE, KEY_CLUSTER, KEY_RAFT];

    /// A generation for a process that starts now: milliseconds since the Unix epoch.
    pub fn generation_now() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The record's gossip keys and their values.
    pub fn encode(&self) -> [(&'static str, String); 4] {
        let version: String =
            self.version.chars().filter(char::is_ascii_graphic).take(VERSION_LEN_MAX).collect();
        let version = if version.is_empty() { NONE } else { &version };
        let (oldest, newest) = self.protocol;
        [
            (
                KEY_STATIC,
                format!(
                    "{} {} {} {version} {oldest}-{newest} {}",
                    self.program,
                    or_none(self.http),
                    or_none(self.admin),
                    self.expect
                ),
            ),
            (KEY_STATE, self.state.to_string()),
            (KEY_CLUSTER, or_none(self.cluster)),
            (KEY_RAFT, {
                let gateway = self.gateway.map(|at| format!(" {at}")).unwrap_or_default();
                format!("{} {} {}{gateway}", self.raft, self.term, or_none(self.leader))
            }),
        ]
    }

    /// The record of a member from its gossip identity and its keys: hostile bytes give an
    /// error, and nothing longer than [`VALUE_LEN_MAX`] is looked at.
    pub fn decode<'a>(
        node_id: &str,
        generation: u64,
        peer: SocketAddr,
        get: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Result<Self, RecordError> {
        let fields = |key| {
            let value = get(key).ok_or(RecordError::Incomplete(key))?;
            if value.len() > VALUE_LEN_MAX {
                return Err(RecordError::Value(key));
            }
            Ok(Fields { key, words: value.split(' ') })
        };
        let id = node_id.parse().map_err(|_| RecordError::Id)?;
        if !is_reachable(peer) {
            return Err(RecordError::Address);
        }

        let mut words = fields(KEY_STATIC)?;
        let program = words.parse()?;
        let http = words.parse_or_none()?;
        let admin = words.parse_or_none()?;
        let version = words.word()?;
        if version.is_empty()
            || version.len() > VERSION_LEN_MAX
            || !version.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(words.error());
        }
        let (oldest, newest) = words.word()?.split_once('-').ok_or(words.error())?;
        let protocol = (
            oldest.parse::<u16>().map_err(|_| words.error())?,
            newest.parse::<u16>().map_err(|_| words.error())?,
        );
        if protocol.0 > protocol.1 {
            return Err(words.error());
        }
        let expect = words.parse()?;

        let state = fields(KEY_STATE)?.parse()?;
        let cluster = fields(KEY_CLUSTER)?.parse_or_none()?;

        let mut words = fields(KEY_RAFT)?;
        let raft = words.parse()?;
        let term = words.parse()?;
        let leader = words.parse_or_none()?;
        // What this version does not know is left: a later one may say something else there.
        let gateway = words.parse().ok();
        let gateway = gateway.map(|at| GatewayAt { purged: words.parse().ok(), ..at });
        let version = version.to_string();
        Ok(Self {
            id,
            program,
            state,
            cluster,
            peer,
            http,
            admin,
            version,
            protocol,
            expect,
            raft,
            leader,
            term,
            gateway,
            generation,
        })
    }
}

/// Whether somebody may be there.
pub(super) fn is_reachable(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

fn or_none<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_string(), |value| value.to_string())
}

/// The words of one key's value.
struct Fields<'a> {
    key: &'static str,
    words: std::str::Split<'a, char>,
}

impl<'a> Fields<'a> {
    fn error(&self) -> RecordError {
        RecordError::Value(self.key)
    }

    fn word(&mut self) -> Result<&'a str, RecordError> {
        self.words.next().ok_or(RecordError::Value(self.key))
    }

    fn parse<T: FromStr>(&mut self) -> Result<T, RecordError> {
        self.word()?.parse().map_err(|_| self.error())
    }

    fn parse_or_none<T: FromStr>(&mut self) -> Result<Option<T>, RecordError> {
        match self.word()? {
            NONE => Ok(None),
            word => word.parse().map(Some).map_err(|_| self.error()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gossip::stand::GatewayRevision;
    use proptest::prelude::*;

    pub(in crate::gossip) fn record() -> PeerRecord {
        PeerRecord {
            id: NodeId(0xab),
            program: Program::Node,
            state: NodeState::Ready,
            cluster: Some(ClusterId(0xcd)),
            peer: "10.0.0.1:7400".parse().unwrap(),
            http: Some("10.0.0.1:8080".parse().unwrap()),
            admin: Some("[::1]:9400".parse().unwrap()),
            version: "0.1.0".into(),
            protocol: (1, 2),
            expect: 3,
            raft: RaftRole::Leader,
            leader: Some(NodeId(0xab)),
            term: 7,
            gateway: None,
            generation: 99,
        }
    }

    fn decode(record: &PeerRecord, keys: &[(&'static str, String)]) -> Result<PeerRecord, RecordError> {
        PeerRecord::decode(&record.id.to_string(), record.generation, record.peer, |key| {
            keys.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn a_record_survives_its_keys() {
        let full = record();
        assert_eq!(decode(&full, &full.encode()).unwrap(), full);
        let bare = PeerRecord {
            program: Program::Balancer,
            cluster: None,
            http: None,
            admin: None,
            raft: RaftRole::None,
            leader: None,
            ..full
        };
        assert_eq!(decode(&bare, &bare.encode()).unwrap(), bare);
        let at = |number| Some(GatewayRevision { lineage: 0xab << 100, number });
        for (in_force, refused, purged) in
            [(at(7), None, None), (at(0), at(u64::MAX), at(3)), (None, at(1), None), (at(7), None, at(0))]
        {
            let follows =
                PeerRecord { gateway: Some(GatewayAt { in_force, refused, purged }), ..bare.clone() };
            assert_eq!(decode(&follows, &follows.encode()).unwrap(), follows);
        }
    }

    #[test]
    fn a_record_is_short_enough_for_twenty_in_a_packet_after_compression() {
        let bytes: usize = record().encode().iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes < 160, "{bytes}");
    }

    #[test]
    fn fields_that_a_later_version_adds_are_skipped() {
        let full = record();
        let keys = full.encode().map(|(key, value)| (key, value + " more"));
        assert_eq!(decode(&full, &keys).unwrap(), full);
    }

    #[test]
    fn a_stand_that_is_none_is_passed_over() {
        let none = PeerRecord { gateway: None, ..record() };
        let keys = none.encode().map(|(key, value)| (key, value + " ?:1"));
        assert_eq!(decode(&none, &keys).unwrap(), none);
    }

    #[test]
    fn a_missing_key_is_incomplete_and_a_wrong_one_is_named() {
        let full = record();
        for missing in 0..4 {
            let mut keys = full.encode().to_vec();
            let (key, _) = keys.remove(missing);
            assert_eq!(decode(&full, &keys), Err(RecordError::Incomplete(key)));
        }
        for (key, value) in [
            (KEY_STATIC, "node - - 0.1.0 2-1 3"),
            (KEY_STATIC, "node - - 0.1.0 1 3"),
            (KEY_STATIC, "node - -  1-1 3"),
            (KEY_STATIC, "node - - 0.1.0 1-1"),
            (KEY_STATIC, "toaster - - 0.1.0 1-1 3"),
            (KEY_STATIC, "node nowhere - 0.1.0 1-1 3"),
            (KEY_STATE, "asleep"),
            (KEY_STATE, ""),
            (KEY_CLUSTER, "xyz"),
            (KEY_RAFT, "leader -7 -"),
            (KEY_RAFT, "leader 7"),
            (KEY_RAFT, &"x".repeat(VALUE_LEN_MAX + 1)),
        ] {
            let mut keys = full.encode();
            keys.iter_mut().filter(|(name, _)| *name == key).for_each(|slot| slot.1 = value.into());
            assert_eq!(decode(&full, &keys), Err(RecordError::Value(key)), "{value}");
        }
    }

    #[test]
    fn an_identity_that_is_none_is_refused() {
        let full = record();
        let keys = full.encode();
        let get = |key| keys.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        assert_eq!(PeerRecord::decode("me", 1, full.peer, get), Err(RecordError::Id));
        for peer in ["0.0.0.0:7400", "10.0.0.1:0", "[::]:1", "224.0.0.1:1"] {
            let decoded = PeerRecord::decode(&full.id.to_string(), 1, peer.parse().unwrap(), get);
            assert_eq!(decoded, Err(RecordError::Address), "{peer}");
        }
    }

    #[test]
    fn a_version_that_would_break_the_keys_is_made_harmless() {
        let odd = PeerRecord { version: "1.0 \n-beta\u{e9}".into(), ..record() };
        assert_eq!(decode(&odd, &odd.encode()).unwrap().version, "1.0-beta");
        let empty = PeerRecord { version: " ".into(), ..record() };
        assert_eq!(decode(&empty, &empty.encode()).unwrap().version, "-");
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(values in prop::collection::vec("[ -~\\u{e9}]{0,40}", 4), id in ".{0,20}") {
            let keys: Vec<_> = [KEY_STATIC, KEY_STATE, KEY_CLUSTER, KEY_RAFT].into_iter().zip(values).collect();
            let _ = decode(&record(), &keys);
            let _ = PeerRecord::decode(&id, 1, record().peer, |_| None);
        }
    }
}
