//! Where an issuer publishes its keys (RFC 7517, 5), and how it proves there who it is.

use std::time::Duration;

use skep_base::settings::values;

use super::target::{Target, TargetHost};
use super::tls::Tls;
use crate::auth::KeyDigest;
use crate::fault::Faults;
use crate::reader::Fields;

/// Longest path with its query, in bytes.
const PATH_BYTES_MAX: usize = 2048;
/// Until keys are fetched again, where nothing is said; least and most.
const REFRESH: Duration = Duration::from_secs(600);
const REFRESH_MIN: Duration = Duration::from_secs(60);
const REFRESH_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where keys are fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwks {
    pub server: Target,
    /// With the query.
    pub path: String,
    /// How the server proves who it is; None: it is on this host.
    pub tls: Option<Tls>,
    /// Until they are fetched again.
    pub refresh: Duration,
}

impl Jwks {
    /// Of an issuer that has some; of one with faults nothing is known.
    pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Option<Self>> {
        let [jwks, tls, refresh] = ["jwks", "tls", "refresh"].map(|name| fields.take(name));
        let Some(jwks) = jwks else {
            for other in [tls, refresh].into_iter().flatten() {
                faults.add(&other.pointer, "this is for keys that are fetched: there is no \"jwks\"");
            }
            return None;
        };
        let read = jwks.read(url, faults);
        let servers: Vec<Target> = read.iter().map(|(server, _)| server.clone()).collect();
        let tls = Tls::read(tls, &jwks, &servers, faults);
        let refresh = refresh.map_or(Some(REFRESH), |it| it.read(self::refresh, faults));
        Some(read.zip(refresh).map(|((server, path), refresh)| Self { server, path, tls, refresh }))
    }

    /// In one form for all that say the same.
    pub fn url(&self) -> String {
        let scheme = if self.server.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.server.authority(), self.path)
    }

    /// What tells it from others: where keys are fetched, and who is believed there.
    pub fn place(&self) -> String {
        let mut place = self.url().into_bytes();
        for part in self.tls.iter().flat_map(|it| {
            it.name.iter().map(|it| it.as_bytes()).chain(it.authorities.iter().map(|it| it.as_ref()))
        }) {
            place.push(b'\n');
            place.extend((part.len() as u64).to_be_bytes());
            place.extend(part);
        }
        KeyDigest::of(&place).kept()
    }
}

/// The server, and the path with the query.
fn url(text: &str) -> Result<(Target, String), String> {
    let fault = || "this is no URL of keys: expected is one as in https://login.example.org/keys".to_owned();
    let after_scheme = text.find("://").map(|at| at + 3).ok_or_else(fault)?;
    let at = text[after_scheme..].find(['/', '?']).map_or(text.len(), |at| after_scheme + at);
    let (server, path) = text.split_at(at);
    // No fault has what may be a secret in a query.
    let server = Target::read(server).map_err(|_| fault())?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if path.len() > PATH_BYTES_MAX || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(fault());
    }
    let is_here = matches!(server.host, TargetHost::Address(ip) if ip.is_loopback());
    if !server.is_tls && !is_here {
        return Err(
            "who is on the way could put keys of its own there: expected is https://, or an address of \
                    loopback"
                .to_owned(),
        );
    }
    Ok((server, path))
}

fn refresh(text: &str) -> Result<Duration, String> {
    let refresh = values::duration_up_to(text, REFRESH_MAX)?;
    if refresh < REFRESH_MIN {
        return Err("keys are not fetched more often than once a minute: expected is 1m to 24h".to_owned());
    }
    Ok(refresh)
}
