//! Proofs of members' records: who can read gossip can write it, and a balancer must not say of a node
//! what the node does not say of itself.
//!
//! A member that has the cluster key proves each state of its record under the key [`KEY_PROOF`]: a
//! counter, and a MAC of it, of the member's gossip identity and of all the record's values. Who has the
//! cluster key, too, believes of a run of a member that has proved itself nothing older and nothing
//! else. Before proofs are demanded it believes also who never proved itself: the version before does
//! not. Edges cannot tell, and believe all.
//!
//! The keys of a record may come one by one; until they fit together, the state before counts. No tasks.

use std::collections::HashMap;

use chitchat::ChitchatId;

use super::record::{PeerRecord, Program, RecordError};
use crate::key::{KeyRing, ROOT_PROOF_DIGITS};

/// The gossip key with the proof: `7 0a1b…`, the counter and the MAC.
pub(super) const KEY_PROOF: &str = "m";

const PURPOSE: &str = "gossip record";

/// Longest proof that is looked at: a counter, a space, and the MAC.
const PROOF_LEN_MAX: usize = 20 + 1 + ROOT_PROOF_DIGITS;

/// What this process proves and has seen proved.
pub(super) struct Proofs {
    keys: KeyRing,
    said: u64,
    seen: HashMap<ChitchatId, Seen>,
}

/// The newest state of a member's run that was proved.
struct Seen {
    counter: u64,
    /// The library's version of the member's keys: what did not change is not checked again.
    version: u64,
    record: PeerRecord,
}

impl Proofs {
    pub fn new(keys: KeyRing) -> Self {
        Self { keys, said: 0, seen: HashMap::new() }
    }

    /// The proof of what this process says next. None where it has no cluster key to prove with.
    pub fn prove(&mut self, id: &ChitchatId, record: &PeerRecord) -> Option<(&'static str, String)> {
        self.said += 1;
        let values = record.encode();
        let words = words(id, self.said, values.iter().map(|(_, value)| value.as_str()));
        let mac = self.keys.root_proof(PURPOSE, &words)?;
        Some((KEY_PROOF, format!("{} {mac}", self.said)))
    }

    /// What to believe of a member whose record reads so. `demanded`: nothing of a node without proof.
    pub fn judge<'a>(
        &mut self,
        id: &ChitchatId,
        version: u64,
        record: PeerRecord,
        get: impl Fn(&'static str) -> Option<&'a str>,
        demanded: bool,
    ) -> Result<PeerRecord, RecordError> {
        if !self.keys.has_root() {
            return Ok(record);
        }
        if let Some(before) = self.seen.get_mut(id) {
            if before.version == version {
                return Ok(before.record.clone());
            }
            before.version = version;
        }
        let before = self.seen.get(id);
        match self.counter_of(id, &get) {
            Some(counter) if before.is_none_or(|before| before.counter <= counter) => {
                self.seen.insert(id.clone(), Seen { counter, version, record: record.clone() });
                Ok(record)
            }
            _ => match before {
                Some(before) => Ok(before.record.clone()),
                None if demanded && record.program == Program::Node => Err(RecordError::Unproved),
                None => Ok(record),
            },
        }
    }

    /// The counter of a proof that holds.
    fn counter_of<'a>(&self, id: &ChitchatId, get: impl Fn(&'static str) -> Option<&'a str>) -> Option<u64> {
        let proof = get(KEY_PROOF).filter(|proof| proof.len() <= PROOF_LEN_MAX)?;
        let (counter, mac) = proof.split_once(' ')?;
        let counter = counter.parse().ok()?;
        let values: Vec<_> = PeerRecord::KEYS.into_iter().map(get).collect::<Option<_>>()?;
        self.keys.root_proves(PURPOSE, &words(id, counter, values), mac).then_some(counter)
    }

    /// Forgets members that gossip has forgotten.
    pub fn retain(&mut self, is_known: impl Fn(&ChitchatId) -> bool) {
        self.seen.retain(|id, _| is_known(id));
    }
}

/// What is proved, a line each. What a true member says has no line ends in it, so that no two records
/// read the same.
fn words<'a>(id: &ChitchatId, counter: u64, values: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut words = format!("{}\n{}\n{}\n{counter}", id.node_id, id.generation_id, id.gossip_advertise_addr);
    for value in values {
        words.push('\n');
        words.push_str(value);
    }
    words.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::record::NodeState;
    use crate::gossip::record::tests::record;
    use proptest::prelude::*;

    type Said = Vec<(&'static str, String)>;

    fn id() -> ChitchatId {
        let record = record();
        ChitchatId::new(record.id.to_string(), record.generation, record.peer)
    }

    fn ring() -> KeyRing {
        KeyRing::insecure_loopback()
    }

    fn edge() -> KeyRing {
        KeyRing::parse(&ring().edge_lines().join("\n")).unwrap()
    }

    fn said(state: NodeState, by: &mut Proofs) -> (PeerRecord, Said) {
        let record = PeerRecord { state, ..record() };
        let said = record.encode().into_iter().chain(by.prove(&id(), &record)).collect();
        (record, said)
    }

    /// What is believed of a member whose record reads as these keys do.
    fn judged(proofs: &mut Proofs, said: &Said, demanded: bool) -> Result<NodeState, RecordError> {
        let get = |key| said.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        let record = PeerRecord::decode(&id().node_id, 99, record().peer, get).unwrap();
        // Another version each time, as what another state comes with.
        static VERSIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let version = VERSIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        proofs.judge(&id(), version, record, get, demanded).map(|record| record.state)
    }

    #[test]
    fn of_a_run_that_proved_itself_nothing_else_is_believed_and_nothing_older() {
        let (mut member, mut other) = (Proofs::new(ring()), Proofs::new(ring()));
        let (_, joining) = said(NodeState::Joining, &mut member);
        let (_, ready) = said(NodeState::Ready, &mut member);
        assert_eq!(judged(&mut other, &joining, true), Ok(NodeState::Joining));
        assert_eq!(judged(&mut other, &ready, true), Ok(NodeState::Ready));
        let (_, forged) = said(NodeState::Draining, &mut Proofs::new(edge()));
        let mut spliced = ready.clone();
        spliced[1].1 = "draining".into();
        let mut bare = spliced.clone();
        bare.pop();
        for lie in [&forged, &spliced, &bare, &joining] {
            for demanded in [true, false] {
                assert_eq!(judged(&mut other, lie, demanded), Ok(NodeState::Ready), "{lie:?}");
            }
        }
        // Half of what is new has come.
        let (_, draining) = said(NodeState::Draining, &mut member);
        let mut half = ready.clone();
        half[1] = draining[1].clone();
        assert_eq!(judged(&mut other, &half, true), Ok(NodeState::Ready));
        assert_eq!(judged(&mut other, &draining, true), Ok(NodeState::Draining));
    }

    #[test]
    fn a_node_that_never_proved_itself_is_believed_until_proofs_are_demanded() {
        let mut proofs = Proofs::new(ring());
        let (_, before) = said(NodeState::Ready, &mut Proofs::new(edge()));
        assert_eq!(before.len(), 4, "without the cluster key nothing is proved");
        assert_eq!(judged(&mut proofs, &before, false), Ok(NodeState::Ready));
        assert_eq!(judged(&mut proofs, &before, true), Err(RecordError::Unproved));
        let balancer = PeerRecord { program: Program::Balancer, ..record() };
        assert_eq!(proofs.judge(&id(), 0, balancer.clone(), |_| None, true), Ok(balancer));
        // An edge believes all.
        assert_eq!(judged(&mut Proofs::new(edge()), &before, true), Ok(NodeState::Ready));
    }

    #[test]
    fn a_proof_is_of_one_run_of_one_member_at_one_address() {
        let (_, ready) = said(NodeState::Ready, &mut Proofs::new(ring()));
        let get = |key| ready.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        let proofs = Proofs::new(ring());
        assert_eq!(proofs.counter_of(&id(), get), Some(1));
        for other in [
            ChitchatId { node_id: "00000000000000ac".into(), ..id() },
            ChitchatId { generation_id: 100, ..id() },
            ChitchatId { gossip_advertise_addr: "10.0.0.2:7400".parse().unwrap(), ..id() },
        ] {
            assert_eq!(proofs.counter_of(&other, get), None);
        }
        // In a rotation, by any cluster key of the ring.
        let new = KeyRing::generate_line();
        let line =
            format!("skep1:{}", b"skep: no key, for loopback only!".map(|b| format!("{b:02x}")).concat());
        let both = Proofs::new(KeyRing::parse(&format!("{new}\n{line}")).unwrap());
        assert_eq!(both.counter_of(&id(), get), Some(1));
        assert_eq!(Proofs::new(KeyRing::parse(&new).unwrap()).counter_of(&id(), get), None);
    }

    proptest! {
        #[test]
        fn hostile_proofs_never_panic_nor_hold(proof in "([0-9]{0,22} )?[0-9a-f\\u{e9} ]{0,70}") {
            let (_, mut ready) = said(NodeState::Ready, &mut Proofs::new(ring()));
            ready[4].1 = proof;
            prop_assert_eq!(judged(&mut Proofs::new(ring()), &ready, true), Err(RecordError::Unproved));
        }
    }
}
