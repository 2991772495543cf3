//! Which certificate a process shows: each end says what it can check.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, SignatureScheme};

/// At a server: the edges' certificate to who asks for their name, else the peers' where there is one.
#[derive(Debug)]
pub(super) struct ByName {
    pub edge_name: &'static str,
    pub edge: Arc<CertifiedKey>,
    pub peer: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match (hello.server_name() == Some(self.edge_name), &self.peer) {
            (false, Some(peer)) => Some(peer.clone()),
            _ => Some(self.edge.clone()),
        }
    }
}

/// At a client: the first certificate of a CA that the server names, else the last.
#[derive(Debug)]
pub(super) struct ByHint {
    pub own: Vec<(DistinguishedName, Arc<CertifiedKey>)>,
}

impl ResolvesClientCert for ByHint {
    fn resolve(&self, named: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let is_named = |own: &&(DistinguishedName, _)| named.contains(&own.0.as_ref());
        let own = self.own.iter().find(is_named).or(self.own.last())?;
        Some(own.1.clone())
    }

    fn has_certs(&self) -> bool {
        !self.own.is_empty()
    }
}
