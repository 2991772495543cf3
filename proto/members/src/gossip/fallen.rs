//! The members that fell silent, for as long as they are shown.
//!
//! The library forgets them much sooner ([`super::FORGOTTEN_AFTER`]): all that it remembers is in the digest of
//! each message, and a process that starts again and again leaves a dead run behind each time. Pure.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use skep_base::id::NodeId;

use super::record::Program;
use super::view::Sighting;

/// Most that are remembered.
const FALLEN_MAX: usize = 1024;

/// Who fell silent, and when that was seen.
#[derive(Debug, Default)]
pub(super) struct Fallen(BTreeMap<NodeId, (Sighting, Instant)>);

impl Fallen {
    /// Adds to what gossip knows now who fell silent and was forgotten by it since, for as long as `shown`.
    pub fn complete(&mut self, sightings: &mut Vec<Sighting>, shown: Duration, now: Instant) {
        let known: HashSet<_> = sightings.iter().map(|sighting| sighting.record.id).collect();
        let alive: HashSet<_> = sightings.iter().filter(|it| it.alive).map(|it| it.record.id).collect();
        self.0.retain(|id, (_, since)| !alive.contains(id) && now.saturating_duration_since(*since) < shown);
        for sighting in sightings.iter().filter(|it| !alive.contains(&it.record.id)) {
            self.remember(sighting, now);
        }
        sightings.extend(
            self.0.values().filter(|(it, _)| !known.contains(&it.record.id)).map(|(it, _)| it.clone()),
        );
    }

    /// Forgets nodes that did not prove what they said.
    pub fn demand_proofs(&mut self) {
        self.0.retain(|_, (it, _)| it.proved || it.record.program != Program::Node);
    }

    fn remember(&mut self, sighting: &Sighting, now: Instant) {
        let id = sighting.record.id;
        let since = match self.0.get(&id) {
            Some((known, _)) if known.rank() > sighting.rank() => return,
            // Only its words changed.
            Some((known, since)) if known.record.generation == sighting.record.generation => *since,
            _ => now,
        };
        if self.0.len() >= FALLEN_MAX && !self.0.contains_key(&id) {
            // Who has proved itself stays longest.
            let least = self.0.iter().min_by_key(|(_, (it, since))| (it.proved, *since)).map(|(id, _)| *id);
            least.and_then(|id| self.0.remove(&id));
        }
        self.0.insert(id, (sighting.clone(), since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::record::PeerRecord;
    use crate::gossip::record::tests::record;

    const SHOWN: Duration = Duration::from_secs(600);

    fn sighting(id: u64, generation: u64, alive: bool) -> Sighting {
        Sighting { record: PeerRecord { id: NodeId(id), generation, ..record() }, alive, proved: false }
    }

    /// Who is shown as silent, with the run.
    fn silent(fallen: &mut Fallen, mut known: Vec<Sighting>, now: Instant) -> Vec<(u64, u64)> {
        fallen.complete(&mut known, SHOWN, now);
        let silent = known.iter().filter(|it| !it.alive);
        let mut silent: Vec<_> = silent.map(|it| (it.record.id.0, it.record.generation)).collect();
        silent.sort_unstable();
        silent
    }

    #[test]
    fn who_fell_silent_is_shown_for_its_time_though_gossip_has_forgotten_it() {
        let (mut fallen, start) = (Fallen::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(silent(&mut fallen, vec![sighting(1, 5, true), sighting(2, 5, false)], at(0)), [(2, 5)]);
        assert_eq!(silent(&mut fallen, vec![sighting(2, 5, false)], at(60)), [(2, 5)]);
        assert_eq!(silent(&mut fallen, vec![], at(599)), [(2, 5)]);
        assert_eq!(silent(&mut fallen, vec![], at(600)), []);
    }

    #[test]
    fn who_is_back_is_not_shown_as_silent_and_of_its_runs_the_latest_is() {
        let (mut fallen, now) = (Fallen::default(), Instant::now());
        silent(&mut fallen, vec![sighting(2, 5, false), sighting(2, 7, false), sighting(2, 6, false)], now);
        assert_eq!(silent(&mut fallen, vec![], now), [(2, 7)]);
        assert_eq!(silent(&mut fallen, vec![sighting(2, 8, true)], now), []);
        assert_eq!(silent(&mut fallen, vec![], now), []);
    }

    #[test]
    fn once_proofs_are_demanded_no_node_is_shown_that_gave_none() {
        let (mut fallen, now) = (Fallen::default(), Instant::now());
        let mut balancer = sighting(3, 5, false);
        balancer.record.program = Program::Balancer;
        let proved = Sighting { proved: true, ..sighting(1, 5, false) };
        silent(&mut fallen, vec![proved, sighting(2, 5, false), balancer], now);
        fallen.demand_proofs();
        assert_eq!(silent(&mut fallen, vec![], now), [(1, 5), (3, 5)]);
    }

    #[test]
    fn there_is_room_for_so_many_and_who_proved_itself_stays() {
        let (mut fallen, start) = (Fallen::default(), Instant::now());
        silent(&mut fallen, vec![Sighting { proved: true, ..sighting(1, 5, false) }], start);
        let many = (0..3 * FALLEN_MAX as u64).map(|id| sighting(10 + id, 5, false)).collect();
        silent(&mut fallen, many, start + Duration::from_secs(1));
        let shown = silent(&mut fallen, vec![], start + Duration::from_secs(2));
        assert_eq!((shown.len(), shown[0]), (FALLEN_MAX, (1, 5)));
    }
}
