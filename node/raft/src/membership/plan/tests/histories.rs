//! Random histories of a cluster whose leader follows the plan.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Most steps that the plan may take to come to rest once nothing happens any more.
const STEPS_TO_REST_MAX: usize = 8;

#[derive(Debug, Clone)]
enum Event {
    Join,
    Die(usize),
    Back(usize),
    Leave(usize),
    LeaveAllBut(usize),
    /// Those that leave stop, whether they are demoted or not.
    Stop,
    /// One that leaves asks, and stops where it may.
    StopOne(usize),
    Behind(usize, u64),
    Wait(u64),
    /// One answers the leader, or all do.
    Hear(usize),
    HearAll,
    LeaderLost,
    /// The leader commits the joint configuration and then no more.
    Interrupt,
    Follow,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Join),
        2 => any::<usize>().prop_map(Event::Die),
        2 => any::<usize>().prop_map(Event::Back),
        2 => any::<usize>().prop_map(Event::Leave),
        1 => any::<usize>().prop_map(Event::LeaveAllBut),
        1 => Just(Event::Stop),
        3 => any::<usize>().prop_map(Event::StopOne),
        1 => (any::<usize>(), 0u64..600).prop_map(|(node, lag)| Event::Behind(node, lag)),
        2 => (0u64..2_000).prop_map(Event::Wait),
        2 => (3_000u64..40_000).prop_map(Event::Wait),
        3 => any::<usize>().prop_map(Event::Hear),
        3 => Just(Event::HearAll),
        1 => Just(Event::LeaderLost),
        1 => Just(Event::Interrupt),
        12 => Just(Event::Follow),
    ]
}

/// Two, or an odd number.
fn most(voters_max: usize, all_ask: bool) -> usize {
    if all_ask && voters_max == 2 { 2 } else { voters_max - (1 - voters_max % 2) }
}

struct World {
    now: Instant,
    settings: Settings,
    nodes: BTreeMap<NodeId, Presence>,
    lag: BTreeMap<NodeId, u64>,
    membership: Membership,
    leader: NodeId,
    /// Who has answered this leader, and since when it leads.
    heard: BTreeSet<NodeId>,
    led_since: Instant,
    all_ask: bool,
}

impl World {
    fn new(first: u64, voters_max: usize, all_ask: bool) -> Self {
        let voters = set(1..=first);
        Self {
            now: Instant::now(),
            settings: Settings { voters_max, dead_grace: GRACE, away_grace: GRACE, ..Settings::default() },
            nodes: voters.iter().map(|id| (*id, Presence::Live)).collect(),
            lag: BTreeMap::new(),
            membership: Membership { configs: vec![voters], learners: set([]), committed: true },
            leader: NodeId(1),
            heard: BTreeSet::new(),
            led_since: Instant::now(),
            all_ask,
        }
    }

    fn facts(&self) -> Facts {
        let is_up = |presence: &Presence| matches!(presence, Presence::Live | Presence::Leaving { .. });
        let progress = |(id, presence): (&NodeId, &Presence)| {
            let lag = self.lag.get(id).copied().unwrap_or(0);
            let since = self.now - GRACE;
            let close_since = (lag <= self.settings.promote_lag).then_some(since);
            let answers = is_up(presence) && self.heard.contains(id);
            (*id, Progress { lag: Some(lag), close_since, answers, answers_now: answers })
        };
        Facts {
            me: self.leader,
            trusted: true,
            nodes: self.nodes.clone(),
            membership: self.membership.clone(),
            progress: self.nodes.iter().map(progress).collect(),
            ready: self.nodes.keys().copied().collect(),
            granted: BTreeSet::new(),
            gone_back: BTreeSet::new(),
            all_ask: self.all_ask,
            settled: self.is_settled(),
        }
    }

    /// As the tracker has it.
    fn is_settled(&self) -> bool {
        let age = self.now.saturating_duration_since(self.led_since);
        let is_up =
            |id: &NodeId| matches!(self.nodes.get(id), Some(Presence::Live | Presence::Leaving { .. }));
        let heard = |id: &NodeId| *id == self.leader || !is_up(id) || self.heard.contains(id);
        age >= Duration::from_secs(3)
            || age >= Duration::from_millis(500) && self.membership.configs.iter().flatten().all(heard)
    }

    fn hear_all(&mut self) {
        self.heard = self.nodes.keys().copied().collect();
    }

    fn lead(&mut self, id: NodeId) {
        if self.leader != id {
            self.leader = id;
            self.heard.clear();
            self.led_since = self.now;
        }
    }

    /// Whether enough voters are up, whatever the leader has heard.
    fn has_quorum(&self) -> bool {
        let is_up = |id: &&NodeId| matches!(self.nodes[*id], Presence::Live | Presence::Leaving { .. });
        let up = |voters: &BTreeSet<NodeId>| voters.iter().filter(is_up).count() > voters.len() / 2;
        self.membership.configs.iter().all(up)
    }

    /// Lets the voters elect a leader where there is none. False where they cannot.
    fn elect(&mut self) -> bool {
        let is_up = |id: &NodeId| matches!(self.nodes[id], Presence::Live | Presence::Leaving { .. });
        if !self.has_quorum() {
            return false;
        }
        if !is_up(&self.leader) {
            let up = self.membership.configs.iter().flatten().copied().find(is_up);
            self.lead(up.unwrap_or(self.leader));
        }
        true
    }

    fn pick(&self, at: usize, fits: impl Fn(&Presence) -> bool) -> Option<NodeId> {
        let ids: Vec<_> = self.nodes.iter().filter(|(_, presence)| fits(presence)).collect();
        (!ids.is_empty()).then(|| *ids[at % ids.len()].0)
    }

    fn set(&mut self, id: Option<NodeId>, presence: Presence) {
        if let Some(id) = id {
            self.nodes.insert(id, presence);
        }
    }

    fn happen(&mut self, event: &Event) {
        let is_live = |presence: &Presence| *presence == Presence::Live;
        let is_leaving = |presence: &Presence| matches!(presence, Presence::Leaving { .. });
        let leaving = Presence::Leaving { since: self.now };
        match event {
            Event::Join if self.nodes.len() < 14 => {
                let id = NodeId(self.nodes.len() as u64 + 1);
                self.nodes.insert(id, Presence::Live);
            }
            Event::Join => {}
            Event::Die(at) => self.set(self.pick(*at, is_live), Presence::Dead { since: self.now }),
            Event::Back(at) => {
                let is_gone = |presence: &Presence| !is_live(presence) && !is_leaving(presence);
                self.set(self.pick(*at, is_gone), Presence::Live);
            }
            Event::Leave(at) => self.set(self.pick(*at, is_live), leaving),
            Event::LeaveAllBut(at) => {
                let stays = self.pick(*at, is_live);
                while let Some(id) = self
                    .nodes
                    .iter()
                    .find(|(id, presence)| is_live(presence) && Some(**id) != stays)
                    .map(|(id, _)| *id)
                {
                    self.nodes.insert(id, leaving);
                }
            }
            Event::Stop => {
                while let Some(id) = self.pick(0, is_leaving) {
                    self.nodes.insert(id, Presence::Away { since: self.now });
                }
            }
            Event::StopOne(at) => {
                let id = self.pick(*at, is_leaving);
                if let Some(id) = id.filter(|id| self.may_stop(*id)) {
                    self.nodes.insert(id, Presence::Away { since: self.now });
                    assert!(self.has_quorum(), "a stop that was granted cost the quorum");
                }
            }
            Event::Behind(at, lag) => {
                if let Some(id) = self.pick(*at, is_live) {
                    self.lag.insert(id, *lag);
                }
            }
            Event::Wait(ms) => {
                self.now += Duration::from_millis(*ms);
                // Whoever lives has answered by now.
                if *ms >= 3_000 {
                    self.hear_all();
                }
            }
            Event::Hear(at) => {
                let id = self.pick(*at, |presence| is_live(presence) || is_leaving(presence));
                self.heard.extend(id);
            }
            Event::HearAll => self.hear_all(),
            Event::LeaderLost => {
                let leader = self.leader;
                let is_up = |id: &NodeId| matches!(self.nodes[id], Presence::Live | Presence::Leaving { .. });
                let mut others = self.membership.configs.iter().flatten().copied();
                let other = others.rfind(|id| *id != leader && is_up(id));
                self.lead(other.unwrap_or(leader));
            }
            Event::Interrupt => {
                self.follow(true);
            }
            Event::Follow => {
                self.follow(false);
            }
        }
    }

    /// Takes the next step; where `interrupted`, no further than the joint configuration.
    fn follow(&mut self, interrupted: bool) -> bool {
        if !self.elect() {
            return false;
        }
        let facts = self.facts();
        let Some(step) = next_step(&facts, &self.settings, self.now) else { return false };
        self.check(&facts, &step);
        let all: BTreeSet<NodeId> =
            self.membership.configs.iter().flatten().chain(&self.membership.learners).copied().collect();
        match step {
            Step::TransferLeader(id) => self.lead(id),
            Step::ChangeVoters(voters) if interrupted => {
                self.membership.learners = &self.membership.learners - &voters;
                self.membership.configs.push(voters);
            }
            Step::ChangeVoters(voters) | Step::FinishJoint(voters) => {
                self.membership.learners = &all - &voters;
                self.membership.configs = vec![voters];
            }
            Step::AddLearners(ids) => self.membership.learners.extend(ids),
            Step::RemoveLearners(ids) => self.membership.learners = &self.membership.learners - &ids,
        }
        assert!(self.has_quorum(), "the step cost the quorum");
        true
    }

    fn may_stop(&self, id: NodeId) -> bool {
        let leads = matches!(self.nodes.get(&self.leader), Some(Presence::Live | Presence::Leaving { .. }));
        leads && self.has_quorum() && may_stop(&self.facts(), &self.settings, id, self.now)
    }

    fn check(&self, facts: &Facts, step: &Step) {
        let old = &self.membership.configs[0];
        let members: BTreeSet<_> = old.union(&self.membership.learners).copied().collect();
        match step {
            Step::ChangeVoters(new) => {
                assert!(self.membership.configs.len() == 1, "one change at a time");
                assert!(facts.has_living_majority(old) && facts.has_living_majority(new));
                assert!(new.is_subset(&members), "only members are promoted");
                let most = most(self.settings.voters_max, self.all_ask);
                assert!(new.len() <= most.max(old.len()), "at most so many voters");
                let swapped =
                    old.difference(new).any(|id| facts.stays(*id)) && new.difference(old).next().is_some();
                assert!(!swapped, "a healthy voter is not exchanged");
                let stays = |id: &NodeId| *id != self.leader && facts.stays(*id);
                let staying = old.iter().filter(|id| facts.stays(**id)).count();
                let may_be_two = self.all_ask && self.settings.voters_max > 1;
                assert!(!may_be_two || new.len() > 1 || staying < 2, "one disk, where two would be");
                let may = new.contains(&self.leader) || !old.iter().any(stays);
                assert!(may, "the leader goes only where no voter stays");
            }
            Step::FinishJoint(voters) => {
                assert!(self.membership.configs.contains(voters) && facts.has_living_majority(voters));
            }
            Step::TransferLeader(id) => assert!(old.contains(id) && facts.stays(*id)),
            Step::AddLearners(ids) => assert!(ids.is_disjoint(&members)),
            Step::RemoveLearners(ids) => {
                assert!(ids.is_subset(&self.membership.learners));
                assert!(ids.iter().all(|id| !facts.lives(*id)));
            }
        }
    }

    /// Nothing happens any more; who leaves stops when it is no voter, and the plan comes to rest.
    fn rest(&mut self) {
        self.lag.clear();
        self.now += Duration::from_secs(4);
        for _ in 0..STEPS_TO_REST_MAX {
            self.hear_all();
            while self.follow(false) {
                self.hear_all();
                self.now += Duration::from_secs(1);
            }
            let voters: BTreeSet<_> = self.membership.configs.iter().flatten().copied().collect();
            for (id, presence) in &mut self.nodes {
                if matches!(presence, Presence::Leaving { .. }) && !voters.contains(id) {
                    *presence = Presence::Away { since: self.now };
                }
            }
            while let Some(id) = self.nodes.keys().copied().find(|id| self.may_stop(*id)) {
                self.nodes.insert(id, Presence::Away { since: self.now });
            }
            self.now += GRACE;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_keeps_the_quorum_and_comes_to_rest(
        first in 1u64..=9,
        voters_max in 1usize..=7,
        all_ask in any::<bool>(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new(first, voters_max, all_ask);
        for event in &events {
            world.happen(event);
        }
        world.rest();
        let staying = world.nodes.values().filter(|presence| **presence == Presence::Live).count();
        if !world.has_quorum() || staying == 0 {
            // Deaths, or nobody who stays: there is nothing that the plan could do.
            return Ok(());
        }
        let facts = world.facts();
        prop_assert_eq!(world.membership.configs.len(), 1);
        let voters = &world.membership.configs[0];
        let fitting = staying.min(most(voters_max, all_ask));
        let target = if all_ask && fitting == 2 { 2 } else { fitting - (1 - fitting % 2) };
        if voters.iter().all(|id| facts.stays(*id)) {
            prop_assert_eq!(voters.len(), target, "{:?}", world.membership);
        } else {
            // Death and absence leave three, of which two live.
            prop_assert_eq!((voters.len(), staying), (3, 2), "{:?} {:?}", world.membership, world.nodes);
        }
        let gone = world.membership.learners.iter().any(|id| !facts.stays(*id));
        prop_assert!(!gone, "{:?}", world.membership);
        for (id, presence) in &world.nodes {
            let member = voters.contains(id) || world.membership.learners.contains(id);
            prop_assert!(*presence != Presence::Live || member, "{id} is no member");
        }
    }

    #[test]
    fn eight_of_nine_leave_in_one_change_of_voters(stays in 1u64..=9, leader in 1u64..=5) {
        let mut world = World::new(5, 5, true);
        world.leader = NodeId(leader);
        world.now += Duration::from_secs(3);
        world.hear_all();
        world.nodes.extend((6..=9).map(|id| (NodeId(id), Presence::Live)));
        prop_assert!(world.follow(false));
        for id in (1..=9).filter(|id| *id != stays) {
            world.nodes.insert(NodeId(id), Presence::Leaving { since: world.now });
        }
        prop_assert!(!world.follow(false), "it gathers");
        world.now += world.settings.gather;
        let mut changes = 0;
        while world.membership.configs != [set([stays])] {
            let before = world.membership.clone();
            world.hear_all();
            world.now += Duration::from_millis(500);
            prop_assert!(world.follow(false), "{:?}", world.membership);
            changes += usize::from(world.membership != before);
        }
        prop_assert_eq!(changes, 1);
    }
}
