//! TLS to the servers of a service: whom they are taken for, and whose word is believed for it.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::target::{Target, TargetHost};
use crate::fault::Faults;
use crate::reader::Spot;

/// Longest text with certificates of authorities.
const AUTHORITIES_BYTES_MAX: usize = 64 << 10;
/// Most certificates in it.
const AUTHORITIES_MAX: usize = 64;

/// How servers prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities, whose word is believed; none: those of the public web.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What the certificate of every server has to name; None: each its own address.
    pub name: Option<String>,
}

impl Tls {
    /// Of what a service says, and of its URLs, which agree on it.
    pub(super) fn read(
        said: Option<Spot<'_>>,
        urls: &Spot<'_>,
        targets: &[Target],
        faults: &mut Faults,
    ) -> Option<Self> {
        let is_tls = targets.iter().any(|it| it.is_tls);
        if is_tls && targets.iter().any(|it| !it.is_tls) {
            faults.add(&urls.pointer, "http:// and https:// do not go together: make them two services");
        }
        let (mut tls, mut named) = (Self::default(), None);
        if let Some(said) = said {
            if !is_tls && !targets.is_empty() {
                faults.add(&said.pointer, "this is for URLs that begin with https://");
            }
            let mut fields = said.fields(faults)?;
            if let Some(authorities) = fields.take("ca") {
                tls.authorities = authorities.read(certificates, faults).unwrap_or_default();
            }
            named = fields.take("name").map(|it| it.read(name, faults));
            fields.end(faults);
        }
        if !is_tls {
            return None;
        }
        let proved = named.map_or_else(|| common_name(targets), Ok);
        tls.name = proved.unwrap_or_else(|fault| {
            faults.add(&urls.pointer, fault);
            None
        });
        Some(tls)
    }
}

/// The name that all of them have; none where they are addresses, of which each proves its own.
fn common_name(targets: &[Target]) -> Result<Option<String>, String> {
    let host = |it: &Target| match &it.host {
        TargetHost::Address(_) => None,
        TargetHost::Name(name) => Some(name.clone()),
    };
    let first = targets.first().and_then(host);
    if targets.iter().any(|it| host(it) != first) {
        return Err("its URLs have several hosts, so that it is not known which name is the right one to prove: say it \
                    as \"tls\": {\"name\": ...}, or make them two services"
            .into());
    }
    first.as_deref().map(name).transpose()
}

/// The name of a host, or an address, as certificates have it.
fn name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_ascii_lowercase()),
        Err(_) => Err(format!("{text:?} is no name that a certificate has: expected as in web.example.org")),
    }
}

/// Certificates in PEM.
fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if text.len() > AUTHORITIES_BYTES_MAX {
        return Err(format!("{} bytes are too many: at most {AUTHORITIES_BYTES_MAX}", text.len()));
    }
    // Whoever reads the document would read it.
    if text.contains("PRIVATE KEY") {
        return Err(
            "there is a private key here, which nobody should have seen: expected are certificates".into()
        );
    }
    let mut read = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        let number = at + 1;
        let certificate =
            certificate.map_err(|_| format!("certificate {number} is not in PEM, or not whole"))?;
        if number > AUTHORITIES_MAX {
            return Err(format!("these are too many certificates: at most {AUTHORITIES_MAX}"));
        }
        webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|error| format!("certificate {number} cannot be taken: {error}"))?;
        read.push(certificate);
    }
    if read.is_empty() {
        return Err("there is no certificate here: expected is the text of a PEM file".into());
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
