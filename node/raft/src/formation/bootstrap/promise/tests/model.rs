//! Plays the rules under the worst of worlds: every message may be late or repeated, partitions
//! come and go; what a node sees is any subset of the others, alive or not; nodes restart, and
//! are replaced by new ones with an empty folder. The one thing that holds is that a cluster is
//! shown as established only if it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::*;
use crate::formation::bootstrap::{Decision, Other, decide as decide_next};

/// A small generator, so that a failure is named by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

struct Node {
    identity: Identity,
    /// The side of the partition that it is on.
    side: usize,
    /// Who said yes to its proposal; forgotten by a restart.
    yes: BTreeSet<NodeId>,
    alive: bool,
}

#[derive(Clone)]
enum Message {
    Ask { to: NodeId, proposal: Proposal },
    Yes { by: NodeId, to: NodeId, cluster: ClusterId },
}

struct World {
    dice: Dice,
    expect: usize,
    /// How well the nodes see each other, in percent.
    clarity: usize,
    /// How soon the nodes of a decided cluster speak to the others, in percent of the steps.
    eagerness: usize,
    /// How often gossip shows what cluster a node belongs to, in percent.
    openness: usize,
    nodes: BTreeMap<NodeId, Node>,
    messages: Vec<Message>,
    lists: BTreeMap<ClusterId, Vec<NodeId>>,
    adopters: BTreeMap<ClusterId, BTreeSet<NodeId>>,
    clusters: u128,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let expect = 2 + dice.roll(3);
        let clarity = [50, 80, 95, 100][dice.roll(4)];
        let eagerness = [0, 0, 0, 1][dice.roll(4)];
        let openness = [0, 5, 70][dice.roll(3)];
        let mut world = Self {
            dice,
            expect,
            clarity,
            eagerness,
            openness,
            nodes: BTreeMap::new(),
            messages: Vec::new(),
            lists: BTreeMap::new(),
            adopters: BTreeMap::new(),
            clusters: 0,
        };
        // Fewer than twice the expected, or two clusters could form of nodes that never met.
        let first = expect + world.dice.roll(expect);
        (0..first).for_each(|_| world.add_node());
        world
    }

    fn add_node(&mut self) {
        let id = loop {
            let id = NodeId(1 + self.dice.roll(1000) as u64);
            if !self.nodes.contains_key(&id) {
                break id;
            }
        };
        let node = Node { identity: Identity::new(id), side: 0, yes: BTreeSet::new(), alive: true };
        self.nodes.insert(id, node);
    }

    fn some_node(&mut self) -> Option<NodeId> {
        let alive: Vec<_> = self.nodes.iter().filter(|(_, node)| node.alive).map(|(id, _)| *id).collect();
        (!alive.is_empty()).then(|| alive[self.dice.roll(alive.len())])
    }

    fn established(&self) -> BTreeSet<ClusterId> {
        let quorate = |(cluster, list): (&ClusterId, &Vec<NodeId>)| {
            let adopters = list.iter().filter(|id| self.adopters[cluster].contains(id)).count();
            (adopters >= majority(list.len())).then_some(*cluster)
        };
        self.lists.iter().filter_map(quorate).collect()
    }

    fn sight(&mut self, of: NodeId) -> Sight {
        let established = self.established();
        let mut others = Vec::new();
        for (id, node) in &self.nodes {
            if *id == of || node.side != self.nodes[&of].side || !self.dice.chance(self.clarity) {
                continue;
            }
            let cluster = node.identity.cluster.filter(|_| self.dice.chance(self.openness));
            let has_leader = cluster.is_some_and(|cluster| established.contains(&cluster));
            let (pristine, expect) = (cluster.is_none(), self.expect as u32);
            others.push(Other { id: *id, cluster, pristine, expect, has_leader });
        }
        Sight { trusted: true, settled_for: Duration::from_secs(9), others }
    }

    fn step(&mut self) {
        let Some(id) = self.some_node() else { return };
        if self.dice.chance(self.eagerness)
            && let Some(to) = self.some_node()
        {
            self.contact(id, to);
        }
        match self.dice.roll(100) {
            0..40 => self.tick(id),
            40..94 => self.deliver(),
            94..95 => {
                self.nodes.get_mut(&id).unwrap().yes.clear();
            }
            95..96 => {
                let sides = 1 + self.dice.roll(2);
                self.nodes.values_mut().for_each(|node| node.side = self.dice.roll(sides));
            }
            96..97 if self.nodes.len() < 2 * self.expect - 1 => {
                self.nodes.get_mut(&id).unwrap().alive = false;
                self.add_node();
            }
            _ => {}
        }
    }

    fn tick(&mut self, id: NodeId) {
        let sight = self.sight(id);
        let expect = self.expect as u32;
        let mut identity = self.nodes[&id].identity.clone();
        match decide_next(&sight, &identity, expect, true) {
            Decision::Propose(members) => {
                self.clusters += 1;
                let cluster = ClusterId(self.clusters);
                let ballot = identity.ballot + 1 + self.dice.roll(2) as u64;
                // No check before it: that is no matter of safety.
                let proposal = Proposal { ballot, proposer: id, cluster, members, expect };
                if grant(&mut identity, &sight, &proposal).is_ok() {
                    self.nodes.get_mut(&id).unwrap().yes = BTreeSet::from([id]);
                }
            }
            Decision::Continue => {
                let own = identity.promise.clone().unwrap();
                if self.nodes[&id].yes.len() == own.members.len()
                    && super::super::decide(&mut identity, own.cluster)
                {
                    self.lists.insert(own.cluster, own.members.clone());
                    self.adopters.insert(own.cluster, BTreeSet::from([id]));
                } else if self.dice.chance(2) {
                    drop_promise(&mut identity, own.cluster);
                }
                let Promise { ballot, proposer, cluster, members } = own;
                let proposal = Proposal { ballot, proposer, cluster, members, expect };
                let ask = |to: &NodeId| Message::Ask { to: *to, proposal: proposal.clone() };
                let missing = |to: &&NodeId| !self.nodes[&id].yes.contains(to);
                self.messages.extend(proposal.members.iter().filter(missing).map(ask));
                self.nodes.get_mut(&id).unwrap().yes.insert(id);
            }
            Decision::Drop(cluster) => drop_promise(&mut identity, cluster),
            Decision::Adopt { cluster, established } => {
                // Adopting a promised cluster needs one of it to be seen, so it exists.
                adopt(&mut identity, cluster, established).unwrap();
                self.adopters.get_mut(&cluster).unwrap().insert(id);
            }
            Decision::Wait(_) | Decision::Alone | Decision::Member(_) => {}
        }
        self.nodes.get_mut(&id).unwrap().identity = identity;
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        // Mostly the latest; now and then one from long ago.
        let recent = if self.dice.chance(90) { 8 } else { usize::MAX };
        let at = self.messages.len() - 1 - self.dice.roll(self.messages.len().min(recent));
        let message = match self.dice.chance(10) {
            true => self.messages[at].clone(),
            false => self.messages.swap_remove(at),
        };
        match message {
            Message::Ask { to, proposal } => {
                if to == proposal.proposer
                    || !self.nodes[&to].alive
                    || !self.are_connected(to, proposal.proposer)
                {
                    return;
                }
                let sight = self.sight(to);
                let (proposer, cluster) = (proposal.proposer, proposal.cluster);
                let node = self.nodes.get_mut(&to).unwrap();
                let ask = BootstrapAsk::Promise(proposal);
                let answered = answer(&mut node.identity, &sight, self.expect as u32, proposer, &ask);
                if answered == BootstrapAnswer::Yes {
                    self.messages.push(Message::Yes { by: to, to: proposer, cluster });
                }
            }
            Message::Yes { by, to, cluster } => {
                if !self.are_connected(by, to) {
                    return;
                }
                let node = self.nodes.get_mut(&to).unwrap();
                if node.identity.promise.as_ref().is_some_and(|own| own.cluster == cluster) {
                    node.yes.insert(by);
                }
            }
        }
    }

    fn are_connected(&self, one: NodeId, other: NodeId) -> bool {
        self.nodes[&one].side == self.nodes[&other].side
    }

    /// A node of a cluster speaks Raft to another.
    fn contact(&mut self, from: NodeId, to: NodeId) {
        let Some(cluster) = self.nodes[&from].identity.cluster else { return };
        if !self.are_connected(from, to) {
            return;
        }
        let identity = &mut self.nodes.get_mut(&to).unwrap().identity;
        if adopt(identity, cluster, false).is_ok() {
            self.adopters.get_mut(&cluster).unwrap().insert(to);
        }
    }

    /// Every node of a cluster, the lost ones too, gets to speak to every other.
    fn settle(&mut self) {
        self.nodes.values_mut().for_each(|node| node.side = 0);
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for from in &ids {
            for to in &ids {
                self.contact(*from, *to);
            }
        }
    }
}

#[test]
fn at_most_one_cluster_is_ever_established() {
    let (mut decided, mut rivals, mut established) = (0, 0, 0);
    for seed in 0..12_000 {
        let mut world = World::new(seed);
        for _ in 0..800 {
            world.step();
        }
        world.settle();
        let clusters = world.established();
        assert!(clusters.len() <= 1, "seed {seed}: {clusters:?} of {:?}", world.lists);
        decided += usize::from(!world.lists.is_empty());
        rivals += usize::from(world.lists.len() > 1);
        established += clusters.len();
    }
    // The world is bad enough to bring rivals about, and not so bad that nothing happens.
    assert!(decided > 5000 && rivals > 200 && established > 5000, "{decided} {rivals} {established}");
}
