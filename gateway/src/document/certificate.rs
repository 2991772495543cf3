//! A certificate: its chain, the key that signs for it, and the hosts for which it is shown. The key is a secret as those
//! of issuers are (`secrets`).
//!
//! There is no clock here: one that is over is a certificate all the same, for a document that held yesterday holds today.
//! Who changes the document is warned, and balancers tell when each ends.

mod validity;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use self::validity::validity_s;
use super::secrets;
use crate::fault::{Fault, Faults};
use crate::host;
use crate::reader::Spot;
use crate::value::Value;

/// Most certificates: each one's key is made ready at each change.
pub const CERTIFICATES_MAX: usize = 256;
/// Longest text of a chain, and most certificates in it.
const CHAIN_BYTES_MAX: usize = 32 << 10;
const CHAIN_MAX: usize = 8;
/// Longest text of a key: one of RSA with 8,192 bits has some 6 KiB.
const KEY_BYTES_MAX: usize = 8 << 10;
/// Most hosts that one is shown for.
pub const CERTIFICATE_HOSTS_MAX: usize = 256;

/// What keys sign by: RSA, ECDSA over P-256 and P-384, Ed25519. RSA is taken from 2,048 bits on.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
];

/// What is shown to clients that ask for one of its hosts.
#[derive(Clone)]
pub struct Certificate {
    /// It first, then those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same with what signs for it; none where no node could open it.
    pub key: Option<Arc<CertifiedKey>>,
    /// In lower case; `*.` stands for one label. None twice.
    pub hosts: Vec<String>,
    /// In Unix time; of the whole chain the latest and the earliest.
    pub not_before_s: i64,
    pub not_after_s: i64,
}

impl Certificate {
    /// SHA-256 of the certificate itself, without its chain.
    pub fn fingerprint(&self) -> [u8; 32] {
        let der = self.chain.first().map(AsRef::as_ref).unwrap_or_default();
        digest::digest(&digest::SHA256, der).as_ref().try_into().unwrap_or_default()
    }
}

/// The key is that of the first of the chain.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        let same = (&self.chain, &self.hosts) == (&other.chain, &other.hosts);
        same && self.key.is_some() == other.key.is_some()
    }
}

/// Without its key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("hosts", &self.hosts)
            .field("not_after_s", &self.not_after_s)
            .finish_non_exhaustive()
    }
}

/// None where something is wrong with it.
pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Certificate> {
    let mut fields = spot.fields(faults)?;
    let [chain_spot, key_spot] = ["certificate", "key"].map(|name| {
        let field = fields.take(name);
        if field.is_none() {
            faults.add(&spot.pointer, format!("there is no {name:?}"));
        }
        field
    });
    let hosts_spot = fields.take("hosts");
    super::take_source(&mut fields, faults);
    fields.end(faults);
    let chain = chain_spot.as_ref().and_then(|it| it.read(chain, faults));
    let is_absent = key_spot.as_ref().is_some_and(|it| it.is(secrets::ABSENT_KEY));
    let key = match key_spot.as_ref().filter(|_| !is_absent) {
        Some(spot) => spot.read(key, faults).map(Some),
        None => is_absent.then_some(None),
    };
    let (chain, key, chain_spot) = (chain?, key?, chain_spot?);
    let names = names(&chain);
    let hosts = match &hosts_spot {
        None => names.iter().cloned().collect(),
        Some(hosts) => hosts_of(hosts, &names, faults),
    };
    if names.is_empty() {
        faults.add(
            &chain_spot.pointer,
            "the first certificate names no host (subjectAltName): nobody would be shown it",
        );
    }
    if hosts.len() > CERTIFICATE_HOSTS_MAX {
        let count = hosts.len();
        let fault = format!(
            "{count} hosts are too many: at most {CERTIFICATE_HOSTS_MAX}; \"hosts\" says for which it is"
        );
        faults.add(&chain_spot.pointer, fault);
    }
    let Some((not_before_s, not_after_s)) = validity(&chain) else {
        faults.add(&chain_spot.pointer, "it does not say from when and until when it is valid");
        return None;
    };
    let key = key.map(|key| CertifiedKey::new(chain.clone(), key));
    match key.as_ref().map(CertifiedKey::keys_match) {
        None | Some(Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown))) => {}
        Some(Err(_)) => {
            faults.add(&spot.pointer, "the key is not that of the first certificate");
            return None;
        }
    }
    Some(Certificate { chain, key: key.map(Arc::new), hosts, not_before_s, not_after_s })
}

/// Certificates in PEM: the one that is shown first, then those that vouch for it.
fn chain(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if text.len() > CHAIN_BYTES_MAX {
        return Err(format!("{} bytes are too many: at most {CHAIN_BYTES_MAX}", text.len()));
    }
    // Whoever reads the document reads this.
    if text.contains("PRIVATE KEY") {
        return Err(
            "there is a private key here, which belongs into \"key\": expected are certificates".into()
        );
    }
    let mut chain = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        let number = at + 1;
        let certificate =
            certificate.map_err(|_| format!("certificate {number} is not in PEM, or not whole"))?;
        if number > CHAIN_MAX {
            return Err(format!("these are too many certificates: at most {CHAIN_MAX}"));
        }
        let read = match at {
            0 => webpki::EndEntityCert::try_from(&certificate).map(drop),
            _ => webpki::anchor_from_trusted_cert(&certificate).map(drop),
        };
        read.map_err(|error| format!("certificate {number} cannot be taken: {error}"))?;
        chain.push(certificate);
    }
    if chain.is_empty() {
        return Err("there is no certificate here: expected is the text of a PEM file".into());
    }
    Ok(chain)
}

/// A private key in PEM. What is wrong with it says nothing of it.
fn key(text: &str) -> Result<Arc<dyn SigningKey>, String> {
    let pem = secrets::of_pem(text, KEY_BYTES_MAX)?;
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    let der =
        der.map_err(|_| "there is no private key here: expected is the text of a PEM file".to_owned())?;
    let taken = any_supported_type(&der).ok().filter(|key| key.choose_scheme(&SCHEMES).is_some());
    taken.ok_or_else(|| {
        "this key is of none of the kinds that are taken: RSA with 2,048 to 8,192 bits, ECDSA with P-256 or P-384, Ed25519"
            .to_owned()
    })
}

/// The hosts that the first certificate names.
fn names(chain: &[CertificateDer<'static>]) -> BTreeSet<String> {
    let Some(Ok(first)) = chain.first().map(webpki::EndEntityCert::try_from) else { return BTreeSet::new() };
    let folded = first.valid_dns_names().map(|name| name.to_ascii_lowercase());
    folded
        .map(|name| name.strip_suffix('.').map(str::to_owned).unwrap_or(name))
        .filter(|it| is_host(it))
        .collect()
}

/// A name, or `*.` and one.
fn is_host(text: &str) -> bool {
    host::is_name(text.strip_prefix("*.").unwrap_or(text))
}

/// Those of its names, or of what they stand for, that it is to be shown for.
fn hosts_of(spot: &Spot<'_>, names: &BTreeSet<String>, faults: &mut Faults) -> Vec<String> {
    let mut hosts = Vec::new();
    for item in spot.some_items(CERTIFICATE_HOSTS_MAX, faults) {
        let host = item.read(
            |text| {
                let host = text.to_ascii_lowercase();
                if !is_host(&host) {
                    // What is no name at all may be a key that was put into the wrong place.
                    let shown = if host.len() <= 64 { format!("{text:?}") } else { "this".to_owned() };
                    return Err(format!(
                        "{shown} is no host: expected as in api.example.org or *.example.org"
                    ));
                }
                let wildcard = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
                if names.is_empty() || names.contains(&host) || wildcard.is_some_and(|it| names.contains(&it))
                {
                    return Ok(host);
                }
                Err("the certificate does not name this host".to_owned())
            },
            faults,
        );
        if let Some(host) = host {
            match hosts.contains(&host) {
                false => hosts.push(host),
                true => faults.add(&item.pointer, "this host stands here twice"),
            }
        }
    }
    hosts
}

/// From when on and until when all of the chain is valid.
fn validity(chain: &[CertificateDer<'static>]) -> Option<(i64, i64)> {
    let each: Option<Vec<(i64, i64)>> = chain.iter().map(|der| validity_s(der)).collect();
    let each = each?;
    Some((each.iter().map(|it| it.0).max()?, each.iter().map(|it| it.1).min()?))
}

/// What is maybe not meant of the certificate of that name.
pub(crate) fn warning(document: &Value, name: &str, now_s: i64) -> Option<Fault> {
    let mut faults = Faults::default();
    let document = Spot::of(document).fields(&mut faults)?.take("certificates")?;
    let spot = document.fields(&mut faults)?.take(name)?;
    let certificate = read(&spot, &mut faults)?;
    let fault = if certificate.not_after_s < now_s {
        "it is not valid any more, or one in its chain is not: clients refuse it"
    } else if certificate.not_before_s > now_s {
        "it is not valid yet, or one in its chain is not: clients refuse it until then"
    } else {
        return None;
    };
    Some(Fault { pointer: spot.pointer, fault: fault.to_owned() })
}

/// Two that would be shown for the same host.
pub(super) fn find_ties(certificates: &BTreeMap<String, Certificate>, faults: &mut Faults) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, certificate) in certificates {
        let mut others = BTreeMap::new();
        for host in &certificate.hosts {
            if let Some(other) = taken.insert(host, name) {
                others.entry(other).or_insert(host);
            }
        }
        for (other, host) in others {
            let fault = format!(
                "it is for {host:?} as the certificate {other:?} is: \"hosts\" says for which each one is"
            );
            faults.clash(&crate::fault::below("/certificates", name), fault);
        }
    }
}

#[cfg(test)]
mod tests;
