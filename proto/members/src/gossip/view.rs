//! Who is there, as this process sees it. Pure: a view follows from the view before it, what
//! gossip knows now, and the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::record::{NodeState, PeerRecord, Program};
use skep_base::id::NodeId;

/// The members at one moment. Each id stands in at most one place, with its newest generation.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// This process's own record.
    pub me: PeerRecord,
    /// The others that are there, sorted by id. Also those of another cluster, and those that
    /// have `left` but whose silence is not long enough yet.
    pub live: Vec<PeerRecord>,
    /// Those that were there and fell silent, sorted by id; forgotten after
    /// [`super::DEAD_NODE_GRACE`].
    pub dead: Vec<PeerRecord>,
    /// Those of `live` that have proved that they say so. None where this process cannot tell: with an edge key.
    pub proved: BTreeSet<NodeId>,
    /// When the set of live ids and generations last changed.
    pub settled_since: Instant,
    /// False for a moment after this process stalled: it cannot tell the others' silence from
    /// its own then. Deaths are withheld from `live` for that long; act on no absence either.
    pub trusted: bool,
}

/// One member as gossip knows it: also past generations of an id.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub record: PeerRecord,
    pub alive: bool,
    /// Whether the member has proved that it says so.
    pub proved: bool,
}

impl Sighting {
    /// Of those that go by one id, who is seen: a run that has proved itself, a node, a later run.
    pub fn rank(&self) -> (bool, bool, u64) {
        (self.proved, self.record.program == Program::Node, self.record.generation)
    }
}

/// What is only counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub foreign: usize,
    pub id_conflicts: usize,
}

impl View {
    /// The view of a process that knows nobody.
    pub(super) fn alone(me: PeerRecord, now: Instant) -> Self {
        let proved = BTreeSet::new();
        Self { me, live: Vec::new(), dead: Vec::new(), proved, settled_since: now, trusted: true }
    }

    /// The view after this one.
    pub(super) fn next(
        &self,
        me: PeerRecord,
        sightings: impl IntoIterator<Item = Sighting>,
        trusted: bool,
        now: Instant,
    ) -> (Self, Tally) {
        let mut tally = Tally::default();
        let (mut live, mut dead) = (BTreeMap::new(), BTreeMap::new());
        for sighting in sightings {
            let (record, alive) = (&sighting.record, sighting.alive);
            if record.id == me.id {
                // Earlier runs of this process fall silent; a run that does not is a copy.
                tally.id_conflicts += usize::from(alive && record.generation != me.generation);
            } else {
                keep_first(if alive { &mut live } else { &mut dead }, sighting);
            }
        }
        if !trusted {
            for known in self.live.iter().filter(|known| known.state != NodeState::Left) {
                let before = || Sighting {
                    record: known.clone(),
                    alive: true,
                    proved: self.proved.contains(&known.id),
                };
                live.entry(known.id).or_insert_with(|| dead.remove(&known.id).unwrap_or_else(before));
            }
        }
        // A clock that went back gives a restarted node a lower generation: who is alive counts.
        dead.retain(|id, _| !live.contains_key(id));

        let proved = live.iter().filter(|(_, it)| it.proved).map(|(id, _)| *id).collect();
        let records =
            |seen: BTreeMap<_, Sighting>| seen.into_values().map(|it| it.record).collect::<Vec<_>>();
        let (live, dead) = (records(live), records(dead));
        if let Some(own) = me.cluster {
            let foreign = |record: &&PeerRecord| record.cluster.is_some_and(|cluster| cluster != own);
            tally.foreign = live.iter().filter(foreign).count();
        }
        let run = |record: &PeerRecord| (record.id, record.generation);
        let settled = live.iter().map(run).eq(self.live.iter().map(run));
        let settled_since = if settled { self.settled_since } else { now };
        (Self { me, live, dead, proved, settled_since, trusted }, tally)
    }

    /// How long the set of live members has been the same.
    pub fn settled_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.settled_since)
    }

    /// The live node with this id, or `me`. Members of other programs have ids, too, and are no nodes.
    pub fn live(&self, id: NodeId) -> Option<&PeerRecord> {
        if self.me.id == id {
            return Some(&self.me);
        }
        let at = self.live.binary_search_by_key(&id, |record| record.id).ok()?;
        self.live.get(at).filter(|record| record.program == Program::Node)
    }
}

fn keep_first(seen: &mut BTreeMap<NodeId, Sighting>, sighting: Sighting) {
    match seen.get(&sighting.record.id) {
        Some(known) if known.rank() >= sighting.rank() => {}
        _ => drop(seen.insert(sighting.record.id, sighting)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::record::tests::record;
    use skep_base::id::ClusterId;

    fn sighting(id: u64, generation: u64, alive: bool) -> Sighting {
        Sighting { record: PeerRecord { id: NodeId(id), generation, ..record() }, alive, proved: false }
    }

    fn me() -> PeerRecord {
        PeerRecord { id: NodeId(1), generation: 5, ..record() }
    }

    fn ids(records: &[PeerRecord]) -> Vec<(u64, u64)> {
        records.iter().map(|record| (record.id.0, record.generation)).collect()
    }

    #[test]
    fn only_the_newest_generation_of_an_id_is_seen_and_the_living_one_counts() {
        let now = Instant::now();
        let sightings = [
            sighting(3, 1, false),
            sighting(3, 2, true),
            sighting(2, 9, false),
            sighting(2, 8, true),
            sighting(4, 1, false),
            sighting(4, 2, false),
            sighting(5, 2, true),
            sighting(5, 1, true),
        ];
        let (view, _) = View::alone(me(), now).next(me(), sightings, true, now);
        assert_eq!(ids(&view.live), [(2, 8), (3, 2), (5, 2)]);
        assert_eq!(ids(&view.dead), [(4, 2)]);
        assert_eq!(view.live(NodeId(3)).unwrap().generation, 2);
        assert_eq!(view.live(NodeId(1)), Some(&view.me));
        assert_eq!(view.live(NodeId(4)), None);
    }

    #[test]
    fn a_node_that_proved_itself_is_seen_whoever_else_goes_by_its_id() {
        let now = Instant::now();
        let proved = Sighting { proved: true, ..sighting(2, 3, true) };
        let mut balancer = sighting(2, u64::MAX, true);
        balancer.record.program = Program::Balancer;
        let node = sighting(2, 9, true);
        for seen in [
            [balancer.clone(), proved.clone(), node.clone()],
            [node.clone(), balancer.clone(), proved.clone()],
            [proved, node, balancer.clone()],
        ] {
            let (view, _) = View::alone(me(), now).next(me(), seen, true, now);
            assert_eq!(ids(&view.live), [(2, 3)]);
            assert_eq!(view.live(NodeId(2)).unwrap().generation, 3);
            assert_eq!(view.proved, [NodeId(2)].into());
            // Another of that id, once that one is silent, has proved nothing.
            let (view, _) = view.next(me(), [balancer.clone()], true, now);
            assert!(view.proved.is_empty());
        }
        let (view, _) = View::alone(me(), now).next(me(), [balancer], true, now);
        assert_eq!((view.live.len(), view.live(NodeId(2))), (1, None), "there, and no node");
    }

    #[test]
    fn earlier_runs_of_this_process_are_not_seen_and_a_living_copy_is_counted() {
        let now = Instant::now();
        let sightings = [sighting(1, 4, false), sighting(1, 6, true)];
        let (view, tally) = View::alone(me(), now).next(me(), sightings, true, now);
        assert!(view.live.is_empty() && view.dead.is_empty());
        assert_eq!(tally.id_conflicts, 1);
    }

    #[test]
    fn deaths_are_withheld_while_the_view_is_not_trusted() {
        let now = Instant::now();
        let proved = Sighting { proved: true, ..sighting(2, 1, true) };
        let (before, _) = View::alone(me(), now).next(me(), [proved, sighting(3, 1, true)], true, now);
        let silent = [sighting(2, 1, false), sighting(3, 1, false)];
        let (stalled, _) = before.next(me(), silent.clone(), false, now);
        assert_eq!(ids(&stalled.live), [(2, 1), (3, 1)]);
        assert!(stalled.dead.is_empty() && !stalled.trusted);
        let (unheard, _) = before.next(me(), [], false, now);
        assert_eq!((ids(&unheard.live), unheard.proved), (ids(&stalled.live), [NodeId(2)].into()));
        let (after, _) = stalled.next(me(), silent, true, now);
        assert_eq!(ids(&after.dead), [(2, 1), (3, 1)]);
    }

    #[test]
    fn the_view_is_settled_since_the_set_of_living_runs_changed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let alone = View::alone(me(), start);
        let (one, _) = alone.next(me(), [sighting(2, 1, true)], true, at(1));
        let (same, _) = one.next(me(), [sighting(2, 1, true), sighting(3, 1, false)], true, at(2));
        let (restarted, _) = same.next(me(), [sighting(2, 2, true)], true, at(3));
        assert_eq!(same.settled_for(at(2)), Duration::from_secs(1));
        assert_eq!(restarted.settled_since, at(3));
    }

    #[test]
    fn members_of_another_cluster_are_seen_and_counted() {
        let now = Instant::now();
        let mut foreign = sighting(2, 1, true);
        foreign.record.cluster = Some(ClusterId(77));
        let mut pristine = sighting(3, 1, true);
        pristine.record.cluster = None;
        let (view, tally) =
            View::alone(me(), now).next(me(), [foreign, pristine, sighting(4, 1, true)], true, now);
        assert_eq!(view.live.len(), 3);
        assert_eq!(tally.foreign, 1);
    }
}
