//! Mutual TLS between peers, and with edges, from the keys alone.
//!
//! Each key of the ring is the seed of two private CAs: the cluster key itself of the peers' CA, its edge
//! key of the edges' CA. A process mints its own leaf certificates from the first key's CAs and trusts
//! those of every key. Which CA verified a client is its [`Role`]; the certificate says no more than
//! that, so identity is settled by the protocol inside. A server shows its peers' certificate, or that
//! for edges to who asks for their name: an edge cannot check the other. No tasks, no files: nothing is
//! kept between two runs.

mod http;
mod shown;

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, RootCertStore};

use sha2::Digest as _;

pub use self::http::HTTP_ALPN;
use self::shown::{ByHint, ByName};
use crate::key::{Form, KeyRing, Secret};

/// The protocol inside, as ALPN names it.
pub const PEER_ALPN: &[u8] = b"skep-peer/1";

/// The name in every leaf. All members share it: an address says nothing in an overlay network.
const PEER_NAME: &str = "peer.skep.internal";

/// The name by which an edge asks for a certificate that it can check.
const EDGE_NAME: &str = "edge.skep.internal";

/// The DER of a PKCS #8 Ed25519 private key up to its 32-byte seed (RFC 8410, section 7).
const ED25519_PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a client has proved to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has the cluster key.
    Member,
    /// It has the edge key; perhaps the other too, which it did not show.
    Edge,
}

/// The TLS configurations of one process, for its peer connections.
#[derive(Clone)]
pub struct PeerTls {
    /// For what it accepts; asks for the client's certificate. Of members and of edges: see
    /// [`PeerTls::role_of`].
    pub server: Arc<rustls::ServerConfig>,
    /// For what it dials; shows its own certificate.
    pub client: Arc<rustls::ClientConfig>,
    /// The name to expect, whatever the address.
    pub server_name: ServerName<'static>,
    /// Takes members' certificates alone. None where this process is an edge, and knows no member.
    members: Option<Arc<dyn ClientCertVerifier>>,
    /// Takes whom `server` takes.
    all: Arc<dyn ClientCertVerifier>,
}

impl PeerTls {
    /// Whether who showed these certificates has one of the keys, at whichever end of a connection.
    pub fn believes(&self, shown: &[CertificateDer<'_>]) -> bool {
        // Every leaf is made for both ends.
        shown.split_first().is_some_and(|(leaf, between)| {
            self.all.verify_client_cert(leaf, between, UnixTime::now()).is_ok()
        })
    }

    /// The role of a client that `server` took, by the certificates that it showed.
    ///
    /// They are verified once more, against the peers' CAs alone: who has the edges' CA can put any
    /// name into a chain, also that of the other CA.
    pub fn role_of(&self, shown: Option<&[CertificateDer<'_>]>) -> Role {
        let Some((leaf, between)) = shown.and_then(<[_]>::split_first) else { return Role::Edge };
        let is_member = self
            .members
            .as_ref()
            .is_some_and(|members| members.verify_client_cert(leaf, between, UnixTime::now()).is_ok());
        if is_member { Role::Member } else { Role::Edge }
    }
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// The configurations cannot be made from this key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no secret can be derived from the cluster key")]
    Derive,
    #[error("the first key is an edge key, with which no member can be")]
    EdgeKey,
    #[error("the peer certificates cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the peer TLS cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the peer TLS cannot check certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A member's: mutual TLS 1.3 with a fresh leaf certificate of the first key's peers' CA. It dials
/// members alone; members and edges may dial it. Costs a few signatures; called once a process.
pub fn peer_tls(ring: &KeyRing) -> Result<PeerTls, TlsError> {
    let minted = Minted::new(ring)?;
    let own = minted.peer.clone().ok_or(TlsError::EdgeKey)?;
    let client = client(&minted, minted.peers.clone(), vec![own])?;
    minted.tls(client, PEER_NAME)
}

/// An edge's: to other edges, and to members as an edge. With a cluster key it is understood by who has
/// no edge's certificate yet: the version before.
pub fn edge_tls(ring: &KeyRing) -> Result<PeerTls, TlsError> {
    let minted = Minted::new(ring)?;
    let trusted = minted.all()?;
    edge_with(ring, minted, trusted)
}

/// An edge's, towards nodes alone: with the cluster keys themselves it takes no edge for a node. With an
/// edge key it cannot tell one from the other.
pub fn nodes_tls(ring: &KeyRing) -> Result<PeerTls, TlsError> {
    let minted = Minted::new(ring)?;
    let trusted = if ring.has_edge_alone() { minted.all()? } else { minted.peers.clone() };
    edge_with(ring, minted, trusted)
}

fn edge_with(ring: &KeyRing, minted: Minted, trusted: RootCertStore) -> Result<PeerTls, TlsError> {
    let own = std::iter::once(minted.edge.clone()).chain(minted.peer.clone()).collect();
    let client = client(&minted, trusted, own)?;
    // Of the cluster keys of others it may have the edge keys alone.
    let name = if ring.has_edge_alone() { EDGE_NAME } else { PEER_NAME };
    minted.tls(client, name)
}

/// A leaf, with the name of the CA that made it.
type Leaf = (DistinguishedName, Arc<CertifiedKey>);

/// What a process has minted and trusts.
struct Minted {
    provider: Arc<CryptoProvider>,
    /// The CAs, by what they vouch for.
    peers: RootCertStore,
    edges: RootCertStore,
    /// None where the first key is an edge key.
    peer: Option<Leaf>,
    edge: Leaf,
}

impl Minted {
    fn new(ring: &KeyRing) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (mut peers, mut edges) = (RootCertStore::empty(), RootCertStore::empty());
        let mut first = Vec::new();
        for (at, key) in ring.keys().iter().enumerate() {
            for (form, secret) in key.secrets() {
                let (issuer, certificate) = authority(form, secret)?;
                let trusted = if form == Form::Root { &mut peers } else { &mut edges };
                trusted.add(certificate)?;
                if at == 0 {
                    let name = trusted.subjects().pop().ok_or(TlsError::Derive)?;
                    first.push((form, (name, leaf(&issuer, form, &provider)?)));
                }
            }
        }
        let mut take = |wanted| {
            let at = first.iter().position(|(form, _)| *form == wanted)?;
            Some(first.swap_remove(at).1)
        };
        let (peer, edge) = (take(Form::Root), take(Form::Edge).ok_or(TlsError::Derive)?);
        Ok(Self { provider, peers, edges, peer, edge })
    }

    /// The CAs of both.
    fn all(&self) -> Result<RootCertStore, TlsError> {
        let mut all = self.peers.clone();
        all.extend(self.edges.roots.iter().cloned());
        Ok(all)
    }

    fn tls(self, client: rustls::ClientConfig, name: &'static str) -> Result<PeerTls, TlsError> {
        let verifier = |trusted: RootCertStore| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), self.provider.clone()).build()
        };
        let members = if self.peers.is_empty() { None } else { Some(verifier(self.peers.clone())?) };
        let all = verifier(self.all()?)?;
        let shown = ByName {
            edge_name: EDGE_NAME,
            edge: self.edge.1.clone(),
            peer: self.peer.as_ref().map(|peer| peer.1.clone()),
        };
        let mut server = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(all.clone())
            .with_cert_resolver(Arc::new(shown));
        server.alpn_protocols = vec![PEER_ALPN.to_vec()];
        // Peers connect seldom and stay: a full handshake each time keeps every connection checked
        // against the ring of this very process.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let server_name = ServerName::try_from(name).map_err(|_| TlsError::Derive)?;
        Ok(PeerTls { server: Arc::new(server), client: Arc::new(client), server_name, members, all })
    }
}

fn client(minted: &Minted, trusted: RootCertStore, own: Vec<Leaf>) -> Result<rustls::ClientConfig, TlsError> {
    let mut client = rustls::ClientConfig::builder_with_provider(minted.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trusted)
        .with_client_cert_resolver(Arc::new(ByHint { own }));
    client.alpn_protocols = vec![PEER_ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

/// The private CA of a key. Everything in its certificate is fixed or derived, and Ed25519
/// signatures are deterministic: all holders of the key make the same bytes.
fn authority(
    form: Form,
    secret: &Secret,
) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), TlsError> {
    // Another number would be another CA.
    let (purpose, name): (&[u8], _) = match form {
        Form::Root => (b"skep peer ca 1", "skep peer ca"),
        Form::Edge => (b"skep edge ca 1", "skep edge ca"),
    };
    let seed = secret.derive(&[purpose]).ok_or(TlsError::Derive)?;
    let pkcs8 = [ED25519_PKCS8_HEAD.as_slice(), seed.as_slice()].concat();
    let key_pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)?;
    let mut params = always_valid();
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    // Two CAs of one ring differ in name, so that a chain is checked against the right one.
    let digest = sha2::Sha256::digest(key_pair.public_key_raw());
    let digits: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{name} {digits}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key_pair)?.der().clone();
    Ok((Issuer::new(params, key_pair), certificate))
}

/// A fresh key with a certificate for both ends of a connection.
fn leaf(
    issuer: &Issuer<'static, KeyPair>,
    form: Form,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let key_pair = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = always_valid();
    // Who has the cluster key asks an edge by the name of a peer, and knows by its CA what it is.
    let names: &[&str] = if form == Form::Edge { &[EDGE_NAME, PEER_NAME] } else { &[PEER_NAME] };
    for name in names {
        params.subject_alt_names.push(rcgen::SanType::DnsName((*name).try_into()?));
    }
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key_pair, issuer)?;
    let key = PrivateKeyDer::Pkcs8(key_pair.serialize_der().into());
    Ok(Arc::new(CertifiedKey::from_der(vec![certificate.der().clone()], key, provider)?))
}

/// Parameters with no name and a validity that no wrong clock leaves: the key is what expires.
fn always_valid() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(1980, 1, 1);
    params.not_after = date_time_ymd(4000, 1, 1);
    params
}

#[cfg(test)]
pub(crate) mod tests;
