//! TLS towards the clients: certificates of the gateway's document, and those from files, read again when they change;
//! chosen by the name that a client asks for (SNI).
//!
//! The document's come first. Who asks for none of their names is shown one from files; where none is given, a self-signed
//! one that is made on each start, as long as the document has none either: a client that knows whom it asks for is
//! better told that nobody here is that (RFC 6066, section 3). TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1 by ALPN; sessions
//! resume by tickets whose keys all cores share, and all balancers of a cluster for TLS 1.3: they outlive a reload, and the
//! process. No tasks: the control task calls [`Certificates::reload`], and who obeys documents [`Certificates::obey`].

mod named;
mod tickets;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::*;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};
use skep_gateway::certificates::Certificates as OfDocument;
use skep_gateway::document::validity_s;
use skep_members::in_force::Keys;

use named::Named;
use tickets::{Bound, ByVersion};

/// In this order of preference. AES-128 comes before AES-256: as far beyond reach, cheaper, and its
/// handshake hashes with SHA-256, which processors have instructions for.
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    TLS13_AES_128_GCM_SHA256,
    TLS13_AES_256_GCM_SHA384,
    TLS13_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
/// Session tickets for each handshake of TLS 1.3.
const TICKETS: usize = 1;

/// Certificate and key files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("the certificate {certificate} and the key {key} do not belong together: {reason}")]
    Mismatch { certificate: PathBuf, key: PathBuf, reason: String },
    #[error("none is named any more: to serve without, start anew")]
    NoFiles,
    #[error("a self-signed certificate cannot be made: {0}")]
    SelfSigned(String),
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
}

/// What the listeners accept with.
#[derive(Debug)]
pub struct Certificates {
    files: ArcSwap<Usual>,
    /// Those of the document that is in force.
    named: ArcSwap<Named>,
    /// Nobody has said yet what the document has.
    is_unknown: AtomicBool,
    ticketer: Arc<dyn ProducesTickets>,
    read: Mutex<Read>,
}

/// What is shown to who asks for no name that the document has a certificate for.
#[derive(Debug)]
struct Usual {
    config: Arc<ServerConfig>,
    ends: Vec<End>,
    /// It is of no file, and for lack of any other.
    is_made: bool,
}

/// What was read, or tried, last.
#[derive(Debug)]
struct Read {
    files: Vec<Files>,
    /// Their times then.
    at: Vec<Option<SystemTime>>,
}

/// When a certificate that is in use ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its file, `document:NAME` of the gateway's document, or `self-signed`.
    pub certificate: String,
    /// The last second of its validity, or of that of one in its chain, in Unix time.
    pub not_after_s: i64,
}

impl Certificates {
    /// With no files, a self-signed certificate. Without a key of the cluster, tickets are this process's alone.
    pub fn new(files: Vec<Files>, keys: Option<Keys>) -> Result<Self, TlsError> {
        let ticketer: Arc<dyn ProducesTickets> = match keys {
            Some(keys) => Arc::new(ByVersion::new(keys, Ticketer::new()?)),
            None => Ticketer::new()?,
        };
        let at = times(&files);
        let keys = if files.is_empty() { vec![self_signed()?] } else { load(&files)? };
        let usual = Usual {
            ends: ends(&files, &keys),
            config: by_files(keys, &ticketer, files.is_empty())?.into(),
            is_made: files.is_empty(),
        };
        let (files, read) = (ArcSwap::from_pointee(usual), Mutex::new(Read { files, at }));
        let (named, is_unknown) = (ArcSwap::default(), AtomicBool::new(false));
        Ok(Self { files, named, is_unknown, ticketer, read })
    }

    /// What a client is accepted with that asks for that name; None where it is to be told that nobody here has it.
    pub fn choose(&self, name: Option<&str>) -> Option<Arc<ServerConfig>> {
        let named = self.named.load();
        if let Some(config) = name.and_then(|name| named.find(name)) {
            return Some(config.clone());
        }
        let usual = self.files.load();
        // Who names a host is not shown one that is made while that host may have its own.
        let may_be_named = !named.is_empty() || (name.is_some() && self.is_unknown.load(Relaxed));
        (!usual.is_made || !may_be_named).then(|| usual.config.clone())
    }

    /// From now on until a document is obeyed it is not known whether that has some.
    pub fn wait(&self) {
        self.is_unknown.store(true, Relaxed);
    }

    /// How many of the document are not shown, for nobody has their key.
    pub fn absent(&self) -> usize {
        self.named.load().absent()
    }

    /// Shows those of this document from now on, to clients that connect.
    pub fn obey(&self, certificates: Arc<OfDocument>) -> Result<(), TlsError> {
        // Most changes are of something else.
        if !self.named.load().are_of(&certificates) {
            let next = Named::new(certificates, &self.named.load(), &self.ticketer)?;
            self.named.store(Arc::new(next));
        }
        self.is_unknown.store(false, Relaxed);
        Ok(())
    }

    /// When each certificate ends that is in use. One whose validity cannot be read is left out.
    pub fn ends(&self) -> Vec<End> {
        let (named, usual) = (self.named.load(), self.files.load());
        let usual = usual.ends.iter().filter(|_| named.is_empty() || !usual.is_made);
        usual.cloned().chain(named.ends()).collect()
    }

    /// Reads the files again where they changed, or in any case. What is wrong leaves the old
    /// certificates in place.
    pub fn reload(&self, in_any_case: bool) -> Result<bool, TlsError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = times(&read.files);
        if read.files.is_empty() || (read.at == now && !in_any_case) {
            return Ok(false);
        }
        // Tried once for each change, not for each look.
        read.at = now;
        self.take(&read.files)
    }

    /// Reads these from now on. What is wrong leaves the old files, and their certificates, in place.
    pub fn replace(&self, files: Vec<Files>) -> Result<bool, TlsError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_empty() {
            // One that is made at each start is no successor to one that was given.
            return if read.files.is_empty() { Ok(false) } else { Err(TlsError::NoFiles) };
        }
        let at = times(&files);
        let taken = self.take(&files);
        if taken.is_ok() {
            *read = Read { files, at };
        }
        taken
    }

    fn take(&self, files: &[Files]) -> Result<bool, TlsError> {
        let keys = load(files)?;
        let ends = ends(files, &keys);
        let config = by_files(keys, &self.ticketer, false)?.into();
        self.files.store(Arc::new(Usual { config, ends, is_made: false }));
        Ok(true)
    }
}

fn times(files: &[Files]) -> Vec<Option<SystemTime>> {
    let time = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    files.iter().flat_map(|files| [time(&files.certificate), time(&files.key)]).collect()
}

fn ends(files: &[Files], keys: &[Arc<CertifiedKey>]) -> Vec<End> {
    let end = |(at, key): (usize, &Arc<CertifiedKey>)| {
        let file = files.get(at).map(|files| files.certificate.display().to_string());
        let not_after_s = key.cert.iter().filter_map(|der| validity_s(der)).map(|(_, end)| end).min()?;
        Some(End { certificate: file.unwrap_or_else(|| "self-signed".into()), not_after_s })
    };
    keys.iter().enumerate().filter_map(end).collect()
}

fn load(files: &[Files]) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    files.iter().map(load_one).collect()
}

fn load_one(files: &Files) -> Result<Arc<CertifiedKey>, TlsError> {
    let bad = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&files.certificate).and_then(|certificates| certificates.collect());
    let certificates = certificates.map_err(|error| bad(&files.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad(&files.certificate, "there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad(&files.key, error.to_string()))?;
    certified(certificates, &key).map_err(|error| TlsError::Mismatch {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    })
}

fn certified(
    certificates: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = CertifiedKey::new(certificates, any_supported_type(key)?);
    match key.keys_match() {
        // A key that cannot tell is believed.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(key)),
        Err(error) => Err(error),
    }
}

fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names);
    let made = made.map_err(|error| TlsError::SelfSigned(error.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    Ok(certified(vec![made.cert.der().clone()], &key)?)
}

/// Tickets are bound to the list of them; one that is made is another at each start, and bound to nothing.
fn by_files(
    keys: Vec<Arc<CertifiedKey>>,
    ticketer: &Arc<dyn ProducesTickets>,
    is_made: bool,
) -> Result<ServerConfig, TlsError> {
    let mut all = digest::Context::new(&digest::SHA256);
    for leaf in keys.iter().filter_map(|key| key.cert.first()) {
        all.update(digest::digest(&digest::SHA256, leaf).as_ref());
    }
    let of = all.finish().as_ref().first_chunk().copied().filter(|_| !is_made);
    config(&provider(), Arc::new(BySni { keys }), Bound::new(ticketer, of))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: CIPHER_SUITES.to_vec(), ..default_provider() })
}

fn config(
    provider: &Arc<CryptoProvider>,
    shown: Arc<dyn ResolvesServerCert>,
    ticketer: Bound,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Arc::new(ticketer);
    config.send_tls13_tickets = TICKETS;
    config.ignore_client_order = true;
    Ok(config)
}

/// The first certificate that is valid for the name asked for, else the first.
#[derive(Debug)]
struct BySni {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.keys.first()?;
        if self.keys.len() == 1 {
            return Some(first.clone());
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| {
            let parsed = key.end_entity_cert().ok().and_then(|der| ParsedCertificate::try_from(der).ok());
            match (&name, parsed) {
                (Some(name), Some(parsed)) => verify_server_name(&parsed, name).is_ok(),
                _ => false,
            }
        };
        self.keys.iter().find(fits).or(Some(first)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str) -> Files {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = Files { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn without_files_a_certificate_is_made() {
        assert_eq!(Certificates::new(vec![], None).unwrap().ends()[0].certificate, "self-signed");
    }

    #[test]
    fn changed_files_are_read_again_and_broken_ones_leave_the_old_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "a.test");
        let certificates = Certificates::new(vec![files.clone()], None).unwrap();
        assert!(!certificates.reload(false).unwrap());
        write(dir.path(), "b.test");
        assert!(certificates.reload(true).unwrap());
        let before = certificates.choose(None).unwrap();
        std::fs::write(&files.certificate, "nothing").unwrap();
        assert!(certificates.reload(true).is_err());
        assert!(Arc::ptr_eq(&before, &certificates.choose(None).unwrap()));
    }

    #[test]
    fn the_end_of_each_certificate_is_known_and_follows_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        let write = |year: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 3, 4);
            std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(&files.key, key.serialize_pem()).unwrap();
        };
        let end = |not_after_s| End { certificate: files.certificate.display().to_string(), not_after_s };
        // A UTCTime up to 2049, a GeneralizedTime after (RFC 5280, section 4.1.2.5).
        write(2031);
        let certificates = Certificates::new(vec![files.clone()], None).unwrap();
        assert_eq!(certificates.ends(), [end(1_930_348_800)]);
        write(2061);
        assert!(certificates.reload(true).unwrap());
        assert_eq!(certificates.ends(), [end(2_877_120_000)]);
        std::fs::write(&files.key, "nothing").unwrap();
        assert!(certificates.reload(true).is_err());
        assert_eq!(certificates.ends(), [end(2_877_120_000)], "what is in use has not changed");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (write(one.path(), "a.test"), write(two.path(), "b.test"));
        let mixed = Files { certificate: a.certificate, key: b.key };
        assert!(matches!(Certificates::new(vec![mixed], None), Err(TlsError::Mismatch { .. })));
    }

    #[test]
    fn a_key_that_a_node_cannot_open_is_gone_on_with_where_it_was_shown() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (one, other) = (made("a.test"), made("a.test"));
        let told = |chain: &str, key: &str| {
            let document =
                serde_json::json!({ "certificates": { "a": { "certificate": chain, "key": key } } });
            let document = skep_gateway::Document::read(&document.to_string()).unwrap();
            skep_gateway::Table::compile(document).unwrap().certificates
        };
        let certificates = Certificates::new(vec![], None).unwrap();
        let shown = || certificates.choose(Some("a.test"));
        certificates.obey(told(&one.cert.pem(), "absent")).unwrap();
        assert!(shown().is_none() && certificates.choose(None).is_none(), "it has a name of its own");
        assert_eq!(certificates.absent(), 1);
        certificates.obey(told(&one.cert.pem(), &one.signing_key.serialize_pem())).unwrap();
        let before = shown().unwrap();
        certificates.obey(told(&one.cert.pem(), "absent")).unwrap();
        assert!(Arc::ptr_eq(&shown().unwrap(), &before));
        assert_eq!(certificates.absent(), 0);
        certificates.obey(told(&other.cert.pem(), "absent")).unwrap();
        assert!(shown().is_none(), "that key is of another");
    }
}
