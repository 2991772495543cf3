//! In which form of the key a datagram is sealed: for each address, the one that is read there.
//!
//! Members that have the cluster key itself seal with it for each other, as the version before did; an
//! edge reads nothing but what is sealed with the edge key. Who is an edge, its record says
//! ([`KEY_EDGE`]), and each datagram that it sends, which is how one is known that has no record yet.
//! So no form is agreed on, and programs of the version before are understood for as long as they live.
//! Who has proved that it has the cluster key is no edge, whatever others say of it or send from its
//! address: of what comes as an edge's, members believe little.
//! No tasks; shared by who sends and who receives.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::key::Form;

/// The gossip key of members that have the edge key alone.
pub(super) const KEY_EDGE: &str = "e";

/// Most addresses that are remembered by what came from there. They are heard from every few rounds, so
/// that where there are more, forgetting all costs a moment.
const HEARD_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Forms {
    edges: Mutex<Edges>,
}

#[derive(Debug, Default)]
struct Edges {
    members: HashSet<SocketAddr>,
    told: HashSet<SocketAddr>,
    heard: HashSet<SocketAddr>,
}

impl Forms {
    /// The form for what is sent to an address.
    pub fn of(&self, to: SocketAddr) -> Form {
        let edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        let edge = edges.told.contains(&to) || edges.heard.contains(&to);
        if edge && !edges.members.contains(&to) { Form::Edge } else { Form::Root }
    }

    /// A datagram came from there that opened.
    pub fn heard(&self, from: SocketAddr, form: Form) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        match form {
            Form::Root => {
                edges.heard.remove(&from);
            }
            Form::Edge => {
                if edges.heard.len() >= HEARD_MAX && !edges.heard.contains(&from) {
                    edges.heard.clear();
                }
                edges.heard.insert(from);
            }
        }
    }

    /// All addresses at which there are edges, by the members' records, and at which there are members
    /// that have proved themselves.
    pub fn tell(&self, told: HashSet<SocketAddr>, members: HashSet<SocketAddr>) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        (edges.told, edges.members) = (told, members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn an_edge_is_known_by_its_record_and_by_what_it_sends() {
        let forms = Forms::default();
        assert_eq!(forms.of(address(1)), Form::Root);
        forms.tell([address(1)].into(), HashSet::new());
        forms.heard(address(2), Form::Edge);
        assert_eq!([1, 2, 3].map(|port| forms.of(address(port))), [Form::Edge, Form::Edge, Form::Root]);
        // Another process has the address now.
        forms.heard(address(2), Form::Root);
        forms.tell(HashSet::new(), HashSet::new());
        assert_eq!([1, 2].map(|port| forms.of(address(port))), [Form::Root; 2]);
    }

    #[test]
    fn who_has_proved_itself_is_no_edge_whatever_comes_from_its_address() {
        let forms = Forms::default();
        forms.tell([address(1)].into(), [address(1), address(2)].into());
        forms.heard(address(2), Form::Edge);
        assert_eq!([1, 2].map(|port| forms.of(address(port))), [Form::Root; 2]);
    }

    #[test]
    fn who_was_heard_is_bounded() {
        let forms = Forms::default();
        for port in 0..3 * HEARD_MAX as u16 {
            forms.heard(address(port), Form::Edge);
            assert_eq!(forms.of(address(port)), Form::Edge);
            assert!(forms.edges.lock().unwrap().heard.len() <= HEARD_MAX);
        }
    }
}
