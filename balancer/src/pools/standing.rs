//! What a backend may still be given. Pure: a function of what gossip, probes, ejection and drain say.
//!
//! Two questions that were one word once: whether it gets new requests, and whether what it has is waited
//! for. A process that ends in order closes its listener first and answers what it has; only silence
//! means that nothing will come.

use crate::pools::probe::Health;
use crate::pools::source::TargetState;

/// What is known of a backend beside its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// As gossip says, or the flag that named it.
    pub state: TargetState,
    /// As probes say.
    pub health: Health,
    /// As traffic says.
    pub ejected: bool,
    /// As an operator says: it is drained, or ejected by hand.
    pub held: bool,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may get new requests.
    Serving,
    /// It gets none, and may finish what it has.
    Finishing,
    /// It is gone: what waits for it waits in vain.
    Gone,
}

pub fn standing(facts: Facts) -> Standing {
    use TargetState::{Dead, Draining, Ended, Joining, Left, Ready, Static};
    match (facts.state, facts.health) {
        // Whatever probes say: its listeners close before its requests end.
        (Draining | Left, _) => Standing::Finishing,
        // Neither gossip nor a probe hears of it: its host went before it was done.
        (Ended, Health::Silent) => Standing::Gone,
        (Ended, _) => Standing::Finishing,
        (Joining | Ready | Static | Dead, Health::Silent) => Standing::Gone,
        // Gossip hears nothing of it, and nobody listens where it was.
        (Dead, Health::Refused) => Standing::Gone,
        (Joining, _) | (Dead, Health::Unknown) => Standing::Finishing,
        (Ready | Static | Dead, Health::Unready | Health::Refused | Health::Untrusted) => Standing::Finishing,
        // Gossip says ready as soon as it is; a probe only takes that back. Where gossip is lost, a good
        // probe does.
        (Ready | Static | Dead, Health::Up | Health::Unknown) if facts.ejected || facts.held => {
            Standing::Finishing
        }
        (Ready | Static | Dead, Health::Up | Health::Unknown) => Standing::Serving,
    }
}

/// Whether it may be served from where nobody else is: it may be the probes that fail, and traffic will show. Not
/// against the word of an operator.
pub fn may_be_last_resort(facts: Facts) -> bool {
    matches!(facts.state, TargetState::Ready | TargetState::Static) && !facts.held
}

/// Whether it may get new requests, and was seen to answer: what readiness and the claim to a virtual
/// address rest on.
pub fn is_able(facts: Facts) -> bool {
    standing(facts) == Standing::Serving && facts.health == Health::Up
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::*;
    use Standing::*;
    use TargetState::*;

    #[test]
    fn what_gossip_and_probes_come_to() {
        let healths = [Unknown, Up, Unready, Refused, Untrusted, Silent];
        for (state, expected) in [
            (Static, [Serving, Serving, Finishing, Finishing, Finishing, Gone]),
            (Ready, [Serving, Serving, Finishing, Finishing, Finishing, Gone]),
            (Joining, [Finishing, Finishing, Finishing, Finishing, Finishing, Gone]),
            (Draining, [Finishing; 6]),
            (Left, [Finishing; 6]),
            (Ended, [Finishing, Finishing, Finishing, Finishing, Finishing, Gone]),
            (Dead, [Finishing, Serving, Finishing, Gone, Finishing, Gone]),
        ] {
            for (health, expected) in healths.into_iter().zip(expected) {
                let facts = Facts { state, health, ejected: false, held: false };
                assert_eq!(standing(facts), expected, "{facts:?}");
                assert_eq!(is_able(facts), expected == Serving && health == Up, "{facts:?}");
                let without_new = if expected == Serving { Finishing } else { expected };
                for facts in [Facts { ejected: true, ..facts }, Facts { held: true, ..facts }] {
                    assert_eq!(standing(facts), without_new, "{facts:?}");
                    assert!(!is_able(facts));
                }
                let is_there = matches!(state, Ready | Static);
                assert_eq!(may_be_last_resort(facts), is_there);
                assert!(!may_be_last_resort(Facts { held: true, ..facts }));
            }
        }
    }
}
