//! Proofs of members' records: who can read gossip can write it, and a balancer must not say of a node
//! what the node does not say of itself.
//!
//! A member that has the cluster key proves each state of its record under the key [`KEY_PROOF`]: a
//! counter, and a MAC of it, of the member's gossip identity and of all the record's values. Who has the
//! cluster key, too, believes of a run of a member that has proved itself nothing older and nothing
//! else, and of a node no run before the latest that proved itself: a node's runs are numbered by what is
//! in its data folder, whatever its clock says. An earlier one is believed all the same where it speaks itself,
//! as only who has the cluster key can: its folder is older than it, or its clock was ahead. Before proofs are demanded it believes also who never
//! proved itself: the version before does not. Edges cannot tell, and believe all.
//!
//! The keys of a record may come one by one; until they fit together, the state before counts. No tasks.

use std::collections::{HashMap, HashSet};

use chitchat::ChitchatId;
use skep_base::id::NodeId;

use super::record::{PeerRecord, Program, RecordError};
use crate::in_force::Keys;
use crate::key::{Prover, SHORT_PROOF_DIGITS};

/// The gossip key with the proof: `7 0a1b…`, the counter and the MAC.
pub(super) const KEY_PROOF: &str = "m";

const PURPOSE: &str = "gossip record";

/// Longest proof that is looked at: a counter, a space, and the MAC.
const PROOF_LEN_MAX: usize = 20 + 1 + SHORT_PROOF_DIGITS;

/// Most nodes of whom it is remembered that they proved themselves, beyond those that gossip shows.
const PROVED_MAX: usize = 4096;

/// What this process proves and has seen proved.
pub(super) struct Proofs {
    keys: Keys,
    said: u64,
    seen: HashMap<ChitchatId, Seen>,
    /// The latest run of each node that has proved itself; also once gossip has forgotten it, since who
    /// kept an earlier run's words can say them again.
    runs: HashMap<NodeId, u64>,
}

/// The newest state of a member's run that was proved.
struct Seen {
    counter: u64,
    /// The library's version of the member's keys: what did not change is not checked again. None once there are
    /// other cluster keys.
    version: Option<u64>,
    prover: Prover,
    record: PeerRecord,
}

/// What is believed of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Believed {
    pub record: PeerRecord,
    /// Whether it has proved that it says so.
    pub proved: bool,
}

impl Proofs {
    pub fn new(keys: Keys) -> Self {
        Self { keys, said: 0, seen: HashMap::new(), runs: HashMap::new() }
    }

    /// Whether the process can tell who has proved itself. Who has an edge key without its cluster key, in a
    /// rotation beside one that it has, cannot tell of all, and says as an edge that it cannot.
    pub fn judges(&self) -> bool {
        let now = self.keys.now();
        now.ring.has_root() && !now.ring.has_edge_alone()
    }

    /// There are other keys: what was proved with one that is not among them is not believed any more.
    pub fn renew(&mut self) {
        let now = self.keys.now();
        self.seen.retain(|_, seen| now.ring.has_prover(seen.prover));
        self.seen.values_mut().for_each(|seen| seen.version = None);
    }

    /// The nodes that have proved themselves.
    pub fn proved(&self) -> impl Iterator<Item = NodeId> {
        self.runs.keys().copied()
    }

    /// The proof of what this process says next. None where it has no cluster key to prove with.
    pub fn prove(&mut self, id: &ChitchatId, record: &PeerRecord) -> Option<(&'static str, String)> {
        if !self.judges() {
            return None;
        }
        self.said += 1;
        let values = record.encode();
        let words = words(id, self.said, values.iter().map(|(_, value)| value.as_str()));
        let mac = self.keys.now().ring.short_root_proof(PURPOSE, &words)?;
        Some((KEY_PROOF, format!("{} {mac}", self.said)))
    }

    /// What to believe of a member whose record reads so, or cannot be read. `spoke`: it said so itself, as a
    /// member. `demanded`: nothing of a node without proof.
    pub fn judge<'a>(
        &mut self,
        id: &ChitchatId,
        version: u64,
        record: Result<PeerRecord, RecordError>,
        get: impl Fn(&'static str) -> Option<&'a str>,
        spoke: bool,
        demanded: bool,
    ) -> Result<Believed, RecordError> {
        if !self.judges() {
            return record.map(|record| Believed { record, proved: false });
        }
        let before = self.seen.get(id);
        let known = |before: &Seen| Ok(Believed { record: before.record.clone(), proved: true });
        if let Some(before) = before.filter(|before| before.version == Some(version)) {
            return known(before);
        }
        let counter = record.is_ok().then(|| self.counter_of(id, &get)).flatten();
        let newer = counter.filter(|(counter, _)| before.is_none_or(|before| before.counter <= *counter));
        match (newer, record) {
            (Some((counter, prover)), Ok(record)) => {
                if before.is_none() {
                    self.begins(&record, spoke)?;
                }
                let seen = Seen { counter, version: Some(version), prover, record: record.clone() };
                self.seen.insert(id.clone(), seen);
                Ok(Believed { record, proved: true })
            }
            (_, record) => match self.seen.get_mut(id) {
                Some(before) => {
                    before.version = Some(version);
                    known(before)
                }
                None => {
                    let record = record?;
                    let is_a_node = record.program == Program::Node;
                    // What has the id of a node is that node, or lies.
                    let lies = !is_a_node && self.runs.contains_key(&record.id);
                    if lies || demanded && is_a_node {
                        return Err(RecordError::Unproved);
                    }
                    Ok(Believed { record, proved: false })
                }
            },
        }
    }

    /// Notes a run that has proved itself, unless the node has proved a later one.
    fn begins(&mut self, record: &PeerRecord, spoke: bool) -> Result<(), RecordError> {
        if record.program != Program::Node {
            return Ok(());
        }
        let latest = self.runs.get(&record.id).copied().unwrap_or(0);
        if record.generation < latest {
            return if spoke { Ok(()) } else { Err(RecordError::Earlier) };
        }
        if self.runs.len() >= PROVED_MAX {
            let shown: HashSet<_> = self.seen.values().map(|seen| seen.record.id).collect();
            self.runs.retain(|id, _| shown.contains(id));
        }
        self.runs.insert(record.id, record.generation);
        Ok(())
    }

    /// The counter of a proof that holds, and with which key.
    fn counter_of<'a>(
        &self,
        id: &ChitchatId,
        get: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Option<(u64, Prover)> {
        let proof = get(KEY_PROOF).filter(|proof| proof.len() <= PROOF_LEN_MAX)?;
        let (counter, mac) = proof.split_once(' ')?;
        let counter = counter.parse().ok()?;
        let values: Vec<_> = PeerRecord::KEYS.into_iter().map(get).collect::<Option<_>>()?;
        let words = words(id, counter, values);
        Some((counter, self.keys.now().ring.short_root_prover(PURPOSE, &words, mac)?))
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
    use crate::key::KeyRing;
    use proptest::prelude::*;

    type Said = Vec<(&'static str, String)>;

    fn id() -> ChitchatId {
        let record = record();
        ChitchatId::new(record.id.to_string(), record.generation, record.peer)
    }

    fn of(ring: KeyRing) -> Keys {
        Keys::of_edge(ring.into()).unwrap()
    }

    fn ring() -> Keys {
        of(KeyRing::insecure_loopback())
    }

    fn edge() -> Keys {
        of(KeyRing::parse(&ring().now().ring.edge_lines().join("\n")).unwrap())
    }

    fn said(state: NodeState, by: &mut Proofs) -> (PeerRecord, Said) {
        let record = PeerRecord { state, ..record() };
        let said = record.encode().into_iter().chain(by.prove(&id(), &record)).collect();
        (record, said)
    }

    /// What is believed of a member whose record reads as these keys do.
    fn judged(proofs: &mut Proofs, said: &Said, demanded: bool) -> Result<NodeState, RecordError> {
        let get = |key| said.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        let record = PeerRecord::decode(&id().node_id, 99, record().peer, get);
        // Another version each time, as what another state comes with.
        static VERSIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let version = VERSIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        proofs.judge(&id(), version, record, get, false, demanded).map(|believed| believed.record.state)
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
        let mut unreadable = ready.clone();
        unreadable[1].1 = "asleep".into();
        let mut taken_out = ready.clone();
        taken_out.remove(1);
        for lie in [&forged, &spliced, &bare, &joining, &unreadable, &taken_out] {
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
        let believed = Believed { record: balancer.clone(), proved: false };
        assert_eq!(proofs.judge(&id(), 0, Ok(balancer), |_| None, false, true), Ok(believed));
        // An edge believes all.
        assert_eq!(judged(&mut Proofs::new(edge()), &before, true), Ok(NodeState::Ready));
    }

    #[test]
    fn a_proof_is_of_one_run_of_one_member_at_one_address() {
        let (_, ready) = said(NodeState::Ready, &mut Proofs::new(ring()));
        let get = |key| ready.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        let proofs = Proofs::new(ring());
        assert_eq!(proofs.counter_of(&id(), get).map(|(counter, _)| counter), Some(1));
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
        let both = Proofs::new(of(KeyRing::parse(&format!("{new}\n{line}")).unwrap()));
        assert_eq!(both.counter_of(&id(), get).map(|(counter, _)| counter), Some(1));
        assert_eq!(Proofs::new(of(KeyRing::parse(&new).unwrap())).counter_of(&id(), get), None);
    }

    /// What a run says that has proved itself, and what comes of it.
    fn run(proofs: &mut Proofs, generation: u64) -> Result<Believed, RecordError> {
        run_that(false, proofs, generation)
    }

    fn run_that(spoke: bool, proofs: &mut Proofs, generation: u64) -> Result<Believed, RecordError> {
        let record = PeerRecord { generation, ..record() };
        let id = ChitchatId { generation_id: generation, ..id() };
        let proof = Proofs::new(ring()).prove(&id, &record);
        let said: Said = record.encode().into_iter().chain(proof).collect();
        let get = |key| said.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        proofs.judge(&id, 5, Ok(record), get, spoke, false)
    }

    #[test]
    fn a_run_before_the_latest_that_proved_itself_is_not_believed_when_it_is_said_again() {
        let mut proofs = Proofs::new(ring());
        assert!(run(&mut proofs, 98).unwrap().proved);
        assert!(run(&mut proofs, 99).unwrap().proved);
        proofs.retain(|_| false);
        assert_eq!(run(&mut proofs, 98), Err(RecordError::Earlier));
        assert!(run(&mut proofs, 99).unwrap().proved);
        assert!(run(&mut proofs, 100).unwrap().proved);
    }

    /// A clock was ahead for one run, and the number of that is lost with the folder.
    #[test]
    fn an_earlier_run_that_speaks_itself_is_believed() {
        let mut proofs = Proofs::new(ring());
        run(&mut proofs, 99).unwrap();
        assert_eq!(run(&mut proofs, 98), Err(RecordError::Earlier));
        assert!(run_that(true, &mut proofs, 98).unwrap().proved);
        assert_eq!(run(&mut proofs, 97), Err(RecordError::Earlier), "another is none of it");
    }

    #[test]
    fn nobody_else_has_the_id_of_a_node_that_proved_itself() {
        let mut proofs = Proofs::new(ring());
        run(&mut proofs, 99).unwrap();
        let later = ChitchatId { generation_id: u64::MAX, ..id() };
        let balancer = PeerRecord { program: Program::Balancer, generation: u64::MAX, ..record() };
        assert_eq!(proofs.judge(&later, 1, Ok(balancer), |_| None, true, false), Err(RecordError::Unproved));
    }

    #[test]
    fn who_has_an_edge_key_beside_a_cluster_key_proves_nothing_and_believes_all() {
        let edge = KeyRing::parse(&KeyRing::generate_line()).unwrap().edge_lines().remove(0);
        let mut mixed =
            Proofs::new(of(KeyRing::parse(&format!("{}\n{edge}", KeyRing::generate_line())).unwrap()));
        let (_, ready) = said(NodeState::Ready, &mut mixed);
        assert_eq!(ready.len(), 4);
        assert_eq!(judged(&mut mixed, &ready, true), Ok(NodeState::Ready));
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
