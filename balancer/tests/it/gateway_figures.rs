//! What nodes are told that ask a balancer how it does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use skep_gateway::figures::{Ask, Part};
use skep_members::gossip::aside::Said;
use skep_members::key::KeyRing;
use tokio::sync::mpsc;

use crate::harness::*;
use crate::telling::{Does, Node, balancer, state};

/// A node that asks again and again, and what it was answered.
struct Asking<'a> {
    node: &'a Node,
    id: u64,
    heard: mpsc::Receiver<Said>,
    /// When each number was asked with.
    asked: HashMap<u64, Instant>,
    /// The numbers that were answered, in order, each with when that came.
    answered: Vec<(u64, Instant)>,
}

impl<'a> Asking<'a> {
    fn begin(node: &'a Node, id: u64) -> Self {
        Self { node, id, heard: node.hear(), asked: HashMap::new(), answered: Vec::new() }
    }

    fn ask(&mut self) {
        let number = self.asked.len() as u64;
        self.asked.insert(number, Instant::now());
        self.node.say(&Ask { node: self.id, number }.encode());
        while let Ok((_, bytes)) = self.heard.try_recv() {
            let number = Part::decode(&bytes).unwrap().number;
            if self.answered.last().is_none_or(|(last, _)| *last != number) {
                self.answered.push((number, Instant::now()));
            }
        }
    }
}

/// Nineteen bytes are answered by thousands, to wherever gossip shows the node.
#[test]
fn a_node_is_told_once_in_a_while_however_often_it_asks_and_another_meanwhile() {
    let one = Node::alone(Does::Tells(state(7, 1, None)));
    let two = Node::start(2, &KeyRing::insecure_loopback(), &[one.peer], Does::Tells(state(7, 1, None)));
    let process = balancer(&[&one, &two], &[]);
    process.wait_ready();
    let (mut first, mut second) = (Asking::begin(&one, 1), Asking::begin(&two, 2));
    wait("a node is told", || {
        first.ask();
        first.answered.len() == 1
    });
    wait("it is told again, and the other", || {
        first.ask();
        second.ask();
        first.answered.len() >= 2 && !second.answered.is_empty()
    });
    let ((number, _), (_, again)) = (first.answered[0], first.answered[1]);
    let between = again.duration_since(first.asked[&number]);
    assert!(between >= Duration::from_millis(900), "it was told again after {between:?}");
    assert!(second.answered[0].1 < again, "the other one waited for it");
}
