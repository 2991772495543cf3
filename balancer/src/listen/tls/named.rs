//! The certificates of the gateway's document, each with what a client is accepted with that is shown it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use skep_gateway::certificates::Certificates;
use skep_gateway::document::Certificate;

use super::tickets::{Bound, Of};
use super::{End, TlsError, config, provider};

/// Those of one document. What is accepted with one goes on when another document has others.
#[derive(Debug, Default)]
pub struct Named {
    certificates: Arc<Certificates>,
    /// In their order; none of one whose key no node could open, and that was not shown before.
    shown: Vec<Option<Shown>>,
}

/// What is shown, and what a client is accepted with then.
#[derive(Debug, Clone)]
struct Shown {
    key: Arc<CertifiedKey>,
    config: Arc<ServerConfig>,
}

impl Named {
    /// `before` are those that were shown: where a node cannot open a key, one who has it goes on with that.
    pub fn new(
        certificates: Arc<Certificates>,
        before: &Self,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let provider = provider();
        let shown = certificates.all().iter().map(|(name, it)| {
            let known = before.shown_as(name).filter(|known| known.key.cert.first() == it.chain.first());
            let Some(key) = it.key.clone() else { return Ok(known.cloned()) };
            let mut config = config(&provider, Arc::new(This(key.clone())), Bound::new(tickets, of(it)))?;
            // Who takes no tickets makes whole handshakes: a table for each certificate would be for few.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            Ok(Some(Shown { key, config: Arc::new(config) }))
        });
        let shown = shown.collect::<Result<_, TlsError>>()?;
        Ok(Self { certificates, shown })
    }

    fn shown_as(&self, name: &str) -> Option<&Shown> {
        let at = self.certificates.all().iter().position(|(known, _)| known == name)?;
        self.shown.get(at)?.as_ref()
    }

    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Whether they say the same as these.
    pub fn are_of(&self, certificates: &Certificates) -> bool {
        self.certificates.all() == certificates.all()
    }

    pub fn find(&self, name: &str) -> Option<&Arc<ServerConfig>> {
        self.shown.get(self.certificates.find(name)?)?.as_ref().map(|it| &it.config)
    }

    /// How many are not shown, for nobody has their key.
    pub fn absent(&self) -> usize {
        self.shown.iter().filter(|it| it.is_none()).count()
    }

    pub fn ends(&self) -> impl Iterator<Item = End> {
        self.certificates
            .all()
            .iter()
            .map(|(name, it)| End { certificate: format!("document:{name}"), not_after_s: it.not_after_s })
    }
}

/// What tickets of sessions are bound to that were begun with it.
fn of(certificate: &Certificate) -> Option<Of> {
    certificate.fingerprint().first_chunk().copied()
}

/// One for whoever asks.
#[derive(Debug)]
struct This(Arc<CertifiedKey>);

impl ResolvesServerCert for This {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
