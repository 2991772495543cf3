//! Harms a cluster of three while clients use it: one fault after the other, sometimes two, each for a few
//! seconds, with a moment of health between them. Nothing is left broken.
//!
//! What happens, and for how long, is drawn by a seed. What the nodes do meanwhile is not repeated by it.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::faults::Faults;
use crate::hosts::lan::Lan;
use crate::random::Random;
use crate::wait::under_load_for;

/// How long a fault lasts: at least, at most.
const FAULT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(6));
/// How long all is well after it.
const HEALTH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// In one of so many, a second node has a fault of its own meanwhile.
const SECOND_IN: u64 = 4;
/// What happens to clocks: an hour ahead or behind, sixty days, and 40 s more each second.
const CLOCKS: [&str; 5] =
    ["clock 3600000", "clock -3600000", "clock 5184000000", "clock -5184000000", "drift 40000"];

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; started again at the end.
    Killed,
    /// The same to all nodes at once.
    AllKilled,
    /// SIGSTOP, then SIGCONT.
    Frozen,
    /// Cut off from its peers; clients reach it.
    Cut,
    /// What its peers send is lost, what it sends is not.
    Deaf,
    /// What it sends to its peers is lost, what they send is not.
    Mute,
    /// Cut off from its peers and from clients.
    Isolated,
    /// Its clock jumps, and jumps back.
    Clock,
}

const KINDS: [Kind; 8] = [
    Kind::Killed,
    Kind::AllKilled,
    Kind::Frozen,
    Kind::Cut,
    Kind::Deaf,
    Kind::Mute,
    Kind::Isolated,
    Kind::Clock,
];
/// What may happen beside another fault, to another node: none of these touches the network.
const BESIDE: [Kind; 3] = [Kind::Killed, Kind::Frozen, Kind::Clock];

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Killed => "killed",
            Kind::AllKilled => "all killed",
            Kind::Frozen => "frozen",
            Kind::Cut => "cut off from its peers",
            Kind::Deaf => "hears no peer",
            Kind::Mute => "heard by no peer",
            Kind::Isolated => "cut off from all",
            Kind::Clock => "clock steps",
        })
    }
}

/// Draws faults, and makes them.
pub struct Nemesis<'a> {
    lan: &'a Lan,
    cluster: &'a mut Cluster,
    /// Of each node; empty where clocks cannot be moved.
    faults: &'a [Faults],
    random: Random,
    /// Kinds that are still to be drawn, before all are drawn again.
    deck: Vec<Kind>,
    counts: BTreeMap<Kind, usize>,
    /// The last step of a clock.
    step: &'static str,
}

impl<'a> Nemesis<'a> {
    pub fn new(lan: &'a Lan, cluster: &'a mut Cluster, faults: &'a [Faults], random: Random) -> Self {
        Self { lan, cluster, faults, random, deck: Vec::new(), counts: BTreeMap::new(), step: "" }
    }

    /// Goes on until `end`, and a little longer. How often each kind happened.
    pub async fn strike_until(mut self, begun: Instant, end: Instant) -> BTreeMap<Kind, usize> {
        while Instant::now() < end {
            let leader = self.cluster.leader().await;
            let kind = self.draw();
            let node = self.victim(leader);
            let mut struck = vec![(kind, node)];
            if kind != Kind::AllKilled && self.random.below(SECOND_IN) == 0 {
                let beside: Vec<Kind> = BESIDE.into_iter().filter(|kind| self.can(*kind)).collect();
                let second = beside[self.random.below(beside.len() as u64) as usize];
                struck.push((second, (node + self.random.below(2) as u8) % 3 + 1));
            }
            let told: Vec<String> = struck
                .iter()
                .map(|(kind, node)| match kind {
                    Kind::AllKilled => kind.to_string(),
                    _ => format!("node {node} {kind}"),
                })
                .collect();
            let from = begun.elapsed().as_secs_f64();
            for (kind, node) in &struck {
                *self.counts.entry(*kind).or_default() += 1;
                self.begin(*kind, *node);
            }
            let length = self.between(FAULT);
            under_load_for(length).await;
            for (kind, node) in &struck {
                self.end(*kind, *node);
            }
            let to = begun.elapsed().as_secs_f64();
            println!("{from:.3} s to {to:.3} s, node {leader} leading: {}", told.join(", "));
            let length = self.between(HEALTH);
            under_load_for(length).await;
        }
        self.counts
    }

    fn can(&self, kind: Kind) -> bool {
        kind != Kind::Clock || !self.faults.is_empty()
    }

    /// Each kind once, in any order, before one comes again.
    fn draw(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = KINDS.into_iter().filter(|kind| self.can(*kind)).collect();
        }
        let at = self.random.below(self.deck.len() as u64) as usize;
        self.deck.swap_remove(at)
    }

    /// The leader in half of the cases.
    fn victim(&mut self, leader: u8) -> u8 {
        match self.random.below(4) {
            0 | 1 => leader,
            other => (leader + other as u8 - 2) % 3 + 1,
        }
    }

    fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        least + self.random.duration_up_to(most - least)
    }

    fn begin(&mut self, kind: Kind, node: u8) {
        match kind {
            Kind::Killed => self.cluster.node_mut(node).kill(),
            Kind::AllKilled => self.cluster.kill_all(),
            Kind::Frozen => self.cluster.node(node).pause(),
            Kind::Cut | Kind::Deaf | Kind::Mute | Kind::Isolated => self.set_apart(kind, node, true),
            Kind::Clock => {
                let rule = self.another_step();
                println!("node {node}: {rule}");
                self.faults[at(node)].set(&[rule]);
            }
        }
    }

    /// Never the one before: two of three clocks that are wrong alike are a majority, whose time is followed. What is
    /// due by it waits for months once they are right again, until an operator sets the cluster's time back.
    fn another_step(&mut self) -> &'static str {
        let others: Vec<_> = CLOCKS.into_iter().filter(|step| *step != self.step).collect();
        self.step = others[self.random.below(others.len() as u64) as usize];
        self.step
    }

    fn end(&mut self, kind: Kind, node: u8) {
        match kind {
            Kind::Killed => self.start(node),
            Kind::AllKilled => (1..=3).for_each(|node| self.start(node)),
            Kind::Frozen => self.cluster.node(node).resume(),
            Kind::Cut | Kind::Deaf | Kind::Mute | Kind::Isolated => self.set_apart(kind, node, false),
            Kind::Clock => self.faults[at(node)].set(&[]),
        }
    }

    fn start(&mut self, node: u8) {
        self.cluster.start(node);
    }

    fn set_apart(&self, kind: Kind, node: u8, apart: bool) {
        if kind == Kind::Isolated {
            return self.lan.set_isolated(at(node), apart);
        }
        if kind != Kind::Mute {
            self.lan.set_deaf(at(node), apart);
        }
        if kind != Kind::Deaf {
            self.lan.set_mute(at(node), apart);
        }
    }
}

/// The node's place on the network.
fn at(node: u8) -> usize {
    usize::from(node) - 1
}
