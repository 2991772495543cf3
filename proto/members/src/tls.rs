//! Mutual TLS between peers, from the cluster key alone.
//!
//! Each key of the ring is the seed of a private CA. A process mints its own leaf certificate
//! from the first key's CA and trusts the CA of every key, as client and as server. Who holds a
//! key is a member; the certificate says no more than that, so identity is settled by the
//! protocol inside. No tasks, no files: nothing is kept between two runs.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use sha2::Digest as _;

use crate::key::{Key, KeyRing};

/// The protocol inside, as ALPN names it.
pub const PEER_ALPN: &[u8] = b"skep-peer/1";

/// The name in every leaf. All members share it: an address says nothing in an overlay network.
const PEER_NAME: &str = "peer.skep.internal";

/// What the CA's seed is derived for; another number would be another CA.
const CA_PURPOSE: &[u8] = b"skep peer ca 1";

/// The DER of a PKCS #8 Ed25519 private key up to its 32-byte seed (RFC 8410, section 7).
const ED25519_PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The TLS configurations of one process, for its peer connections.
#[derive(Clone)]
pub struct PeerTls {
    /// For what it accepts; asks for the client's certificate.
    pub server: Arc<rustls::ServerConfig>,
    /// For what it dials; shows its own certificate.
    pub client: Arc<rustls::ClientConfig>,
    /// The name to expect, whatever the address.
    pub server_name: ServerName<'static>,
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
    #[error("the peer certificates cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the peer TLS cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the peer TLS cannot check certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Mutual TLS 1.3 with a fresh leaf certificate of the ring's first key; the CAs of all keys are
/// trusted. Costs a few signatures; called once a process.
pub fn peer_tls(ring: &KeyRing) -> Result<PeerTls, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let mut first = None;
    for key in ring.keys() {
        let (issuer, certificate) = authority(key)?;
        roots.add(certificate)?;
        first.get_or_insert(issuer);
    }
    let issuer = first.ok_or(TlsError::Derive)?;
    let (chain, leaf_key) = leaf(&issuer)?;
    let roots = Arc::new(roots);

    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), leaf_key.clone_key())?;
    server.alpn_protocols = vec![PEER_ALPN.to_vec()];
    // Peers connect seldom and stay: a full handshake each time keeps every connection checked
    // against the ring of this very process.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, leaf_key)?;
    client.alpn_protocols = vec![PEER_ALPN.to_vec()];
    client.resumption = Resumption::disabled();

    let server_name = ServerName::try_from(PEER_NAME).map_err(|_| TlsError::Derive)?;
    Ok(PeerTls { server: Arc::new(server), client: Arc::new(client), server_name })
}

/// The private CA of a key. Everything in its certificate is fixed or derived, and Ed25519
/// signatures are deterministic: all holders of the key make the same bytes.
fn authority(key: &Key) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), TlsError> {
    let seed = key.derive(&[CA_PURPOSE]).ok_or(TlsError::Derive)?;
    let pkcs8 = [ED25519_PKCS8_HEAD.as_slice(), seed.as_slice()].concat();
    let key_pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)?;
    let mut params = always_valid();
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    // Two CAs of one ring differ in name, so that a chain is checked against the right one.
    let digest = sha2::Sha256::digest(key_pair.public_key_raw());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("skep peer ca {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key_pair)?.der().clone();
    Ok((Issuer::new(params, key_pair), certificate))
}

/// A fresh key with a certificate for both ends of a connection.
fn leaf(
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key_pair = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = always_valid();
    params.subject_alt_names = vec![rcgen::SanType::DnsName(PEER_NAME.try_into()?)];
    params.distinguished_name.push(DnType::CommonName, PEER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key_pair, issuer)?;
    let key = PrivateKeyDer::Pkcs8(key_pair.serialize_der().into());
    Ok((vec![certificate.der().clone()], key))
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
mod tests;
