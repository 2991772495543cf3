//! What becomes of a request where its route has policies. One order, whatever the document's: maintenance, HTTPS
//! alone, addresses, how often an address asks (see `limit`), who asks (see `auth`), what a service says of it (see
//! `ask`), how often that one does and all together do, redirects; last whether an answer is stored, and compressed. Pure.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use skep_base::network::Network;

use crate::ask::Ask;
use crate::auth::Auth;
use crate::compress::Compress;
use crate::limit::Limit;

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub ip: IpAddr,
    /// By HTTPS, here or at a trusted proxy.
    pub secure: bool,
}

/// What a route asks of a request before it goes anywhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    pub maintenance: Option<Maintenance>,
    /// What comes by plain HTTP is sent to HTTPS.
    pub https_only: bool,
    pub addresses: Addresses,
    /// Who asks has to prove it.
    pub auth: Option<Arc<Auth>>,
    /// A service is asked whether the request may go on.
    pub ask: Option<Ask>,
    /// How often it may ask.
    pub limits: Vec<Limit>,
    /// Largest body, in bytes.
    pub body_bytes_max: Option<u64>,
    /// Answers are stored.
    pub cache: Option<Cache>,
    /// Answers are compressed.
    pub compress: Option<Compress>,
}

/// A route that serves nobody for now, but for some.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Maintenance {
    pub retry_after_s: Option<u32>,
    pub allow: Vec<Network>,
}

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Addresses {
    /// These alone, where there are any.
    pub allow: Vec<Network>,
    /// Not these, whatever else is said.
    pub deny: Vec<Network>,
}

/// Largest answer that may be stored, in bytes of its body.
pub const STORED_BYTES_MAX: u64 = 4 << 20;

/// Answers are stored, and used again by what they say of it (see `skep-cache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Largest that is stored, in bytes of its body.
    pub entry_bytes_max: u64,
    /// How long an answer that says nothing of it is used beyond its time: while it is asked for anew, and where the
    /// service fails.
    pub grace_s: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { entry_bytes_max: STORED_BYTES_MAX, grace_s: 0 }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answers of at most {} bytes are stored", self.entry_bytes_max)?;
        match self.grace_s {
            0 => Ok(()),
            grace => write!(f, ", and used for {grace} s beyond their time"),
        }
    }
}

/// Where a request is sent instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub status: u16,
    /// None: as the request came.
    pub scheme: Option<&'static str>,
    /// With a port, where it has one. None: the request's own.
    pub host: Option<String>,
    /// None: the request's own path and query.
    pub path: Option<String>,
}

/// The answer to a request that goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Maintenance {
        retry_after_s: Option<u32>,
    },
    /// It goes to HTTPS first.
    Insecure,
    Address,
}

impl Policies {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they keep anybody out for good.
    pub fn is_guarded(&self) -> bool {
        self.addresses != Addresses::default() || self.auth.is_some() || self.ask.is_some()
    }

    /// Why a request of this client goes nowhere, whoever asks; if it does not.
    pub fn refusal(&self, client: Client) -> Option<Refusal> {
        let among = |list: &[Network]| list.iter().any(|it| it.contains(client.ip));
        if let Some(it) = &self.maintenance
            && !among(&it.allow)
        {
            return Some(Refusal::Maintenance { retry_after_s: it.retry_after_s });
        }
        if self.https_only && !client.secure {
            return Some(Refusal::Insecure);
        }
        let Addresses { allow, deny } = &self.addresses;
        let admits = !among(deny) && (allow.is_empty() || among(allow));
        (!admits).then_some(Refusal::Address)
    }
}

impl Redirect {
    /// To HTTPS, and else as it came. At the usual port: which one is this balancer's own, outside, is not known.
    pub fn to_https() -> Self {
        Self { status: 308, scheme: Some("https"), host: None, path: None }
    }

    /// The value of `Location`; `host` is the request's, in the form that is matched, `target` its path and query.
    pub fn location(&self, client: Client, host: &str, target: &str) -> String {
        let target = self.path.as_deref().unwrap_or(target);
        let elsewhere = self.scheme.is_some() || self.host.is_some();
        let host = self.host.as_deref().unwrap_or(host);
        // Here, at whatever port that is outside; or an old client names no host.
        if !elsewhere || host.is_empty() {
            return target.to_owned();
        }
        let scheme = self.scheme.unwrap_or(if client.secure { "https" } else { "http" });
        format!("{scheme}://{host}{target}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(of: &[&str]) -> Vec<Network> {
        of.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn client(ip: &str, secure: bool) -> Client {
        Client { ip: ip.parse().unwrap(), secure }
    }

    #[test]
    fn a_denied_address_is_refused_and_where_some_are_allowed_all_others_are() {
        let only = Addresses { allow: networks(&["10.0.0.0/8"]), deny: networks(&["10.9.0.0/16"]) };
        let all_but = Addresses { allow: vec![], deny: networks(&["10.9.0.0/16", "2001:db8::/32"]) };
        for (addresses, ip, admits) in [
            (&only, "10.1.1.1", true),
            (&only, "::ffff:10.1.1.1", true),
            (&only, "10.9.1.1", false),
            (&only, "192.0.2.1", false),
            (&only, "2001:db8::1", false),
            (&all_but, "192.0.2.1", true),
            (&all_but, "::ffff:10.9.0.1", false),
            (&all_but, "2001:db8::1", false),
        ] {
            let policies = Policies { addresses: addresses.clone(), ..Policies::default() };
            assert_eq!(policies.refusal(client(ip, true)).is_none(), admits, "{ip}");
        }
    }

    #[test]
    fn policies_are_asked_in_one_order() {
        let mut policies = Policies {
            maintenance: Some(Maintenance { retry_after_s: Some(60), allow: networks(&["192.0.2.7"]) }),
            https_only: true,
            addresses: Addresses { allow: networks(&["10.0.0.0/8", "192.0.2.7"]), deny: vec![] },
            auth: None,
            ask: None,
            limits: Vec::new(),
            body_bytes_max: None,
            cache: None,
            compress: None,
        };
        let (stranger, tester) = (client("203.0.113.1", false), client("192.0.2.7", false));
        assert_eq!(policies.refusal(stranger), Some(Refusal::Maintenance { retry_after_s: Some(60) }));
        assert_eq!(policies.refusal(tester), Some(Refusal::Insecure));
        assert_eq!(policies.refusal(Client { secure: true, ..tester }), None);
        policies.maintenance = None;
        assert_eq!(policies.refusal(stranger), Some(Refusal::Insecure));
        assert_eq!(policies.refusal(Client { secure: true, ..stranger }), Some(Refusal::Address));
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_change() {
        let other = Redirect { status: 301, scheme: None, host: Some("b.test:81".into()), path: None };
        let plain = client("192.0.2.1", false);
        assert_eq!(other.location(plain, "a.test", "/x?y"), "http://b.test:81/x?y");
        assert_eq!(Redirect::to_https().location(plain, "a.test", "/x?y"), "https://a.test/x?y");
        assert_eq!(Redirect::to_https().location(plain, "", "/x?y"), "/x?y");
        let place = Redirect { path: Some("/new".into()), ..other };
        assert_eq!(
            place.location(Client { secure: true, ..plain }, "a.test", "/x?y"),
            "https://b.test:81/new"
        );
        let here = Redirect { host: None, ..place };
        assert_eq!(here.location(plain, "a.test", "/x?y"), "/new");
    }
}
