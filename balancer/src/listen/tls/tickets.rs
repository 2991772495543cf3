//! Session tickets: who opens them, and for which certificate they are.
//!
//! A ticket of a certificate of the document resumes a session where that one is shown and nowhere else: the session was
//! begun by what that certificate proved. rustls asks besides that the client asks for the same name. Tickets of those from
//! files are for the same list of files; those of one that a process made for itself for any such.

use std::sync::Arc;

use rustls::server::ProducesTickets;
use skep_members::in_force::Keys;

/// What stands before a session that is bound to a certificate. rustls begins one with 0 or 1.
const BOUND: u8 = 2;
/// Of which certificate it is.
pub type Of = [u8; 16];

/// Tickets that all balancers open, for TLS 1.3; for 1.2 those of this process, whose keys are forgotten.
#[derive(Debug)]
pub struct ByVersion {
    keys: Keys,
    own: Arc<dyn ProducesTickets>,
}

impl ByVersion {
    pub fn new(keys: Keys, own: Arc<dyn ProducesTickets>) -> Self {
        Self { keys, own }
    }
}

/// Whether a session that is to be a ticket is of TLS 1.3: as rustls writes it, after the name that was asked for.
fn is_tls13(session: &[u8]) -> bool {
    let session = match session {
        [BOUND, rest @ ..] => rest.get(size_of::<Of>()..).unwrap_or_default(),
        _ => session,
    };
    let version = match session {
        [0, rest @ ..] => rest,
        [1, len, rest @ ..] => rest.get(usize::from(*len)..).unwrap_or_default(),
        _ => &[],
    };
    version.starts_with(&[3, 4])
}

impl ProducesTickets for ByVersion {
    fn enabled(&self) -> bool {
        self.keys.now().tickets.enabled() && self.own.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.keys.now().tickets.lifetime().min(self.own.lifetime())
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        if is_tls13(session) { self.keys.now().tickets.encrypt(session) } else { self.own.encrypt(session) }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let shared = self.keys.now().tickets.decrypt(ticket).filter(|session| is_tls13(session));
        shared.or_else(|| self.own.decrypt(ticket))
    }
}

/// Tickets of one certificate.
#[derive(Debug)]
pub struct Bound {
    tickets: Arc<dyn ProducesTickets>,
    /// None: of one that a process made for itself.
    of: Option<Of>,
}

impl Bound {
    pub fn new(tickets: &Arc<dyn ProducesTickets>, of: Option<Of>) -> Self {
        Self { tickets: tickets.clone(), of }
    }
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        match &self.of {
            None => self.tickets.encrypt(session),
            Some(of) => self.tickets.encrypt(&[&[BOUND][..], of, session].concat()),
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let session = self.tickets.decrypt(ticket)?;
        match (&self.of, session.as_slice()) {
            (None, [BOUND, ..]) => None,
            (None, _) => Some(session),
            (Some(of), [BOUND, rest @ ..]) => rest.strip_prefix(of).map(<[u8]>::to_vec),
            (Some(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::Ticketer;
    use skep_members::key::KeyRing;

    use super::*;

    /// As rustls begins a session of each version, for a name and for none.
    const SESSIONS: [&[u8]; 4] =
        [&[0, 3, 4, 9], &[1, 1, b'a', 3, 4, 9], &[0, 3, 3, 9], &[1, 1, b'a', 3, 3, 9]];

    #[test]
    fn a_ticket_is_opened_where_the_certificate_is_shown_that_it_is_of() {
        let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
        let keys = Keys::of_edge(ring.into()).unwrap();
        let tickets: Arc<dyn ProducesTickets> = Arc::new(ByVersion::new(keys, Ticketer::new().unwrap()));
        let all = [None, Some([1; 16]), Some([2; 16])].map(|of| Bound::new(&tickets, of));
        for session in SESSIONS {
            for (at, one) in all.iter().enumerate() {
                let ticket = one.encrypt(session).unwrap();
                for (other, bound) in all.iter().enumerate() {
                    let opened = bound.decrypt(&ticket);
                    assert_eq!(opened.as_deref(), (at == other).then_some(session), "{at}, {other}");
                }
            }
        }
    }

    #[test]
    fn sessions_of_tls_1_3_alone_are_for_all_balancers_whichever_certificate_they_are_of() {
        let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
        let balancer = |of| {
            let keys = Keys::of_edge(ring.clone().into()).unwrap();
            let tickets: Arc<dyn ProducesTickets> = Arc::new(ByVersion::new(keys, Ticketer::new().unwrap()));
            Bound::new(&tickets, of)
        };
        for of in [None, Some([1; 16])] {
            let (one, other) = (balancer(of), balancer(of));
            let opened = SESSIONS.map(|session| other.decrypt(&one.encrypt(session).unwrap()).is_some());
            assert_eq!(opened, [true, true, false, false], "{of:?}");
        }
    }
}
