//! What a browser may be made to send from a page of somebody else's.
//!
//! A page of any site may open a WebSocket to any address, and send what HTML forms can send; what comes
//! back it may not read, but a WebSocket it may. So where a browser says that the page is of another origin
//! (`Sec-Fetch-Site`, else `Origin` against `Host`), a WebSocket and a method that changes something are
//! refused, unless the origin is one of those that are allowed. Who is no browser says neither, and is let
//! pass. Pure.
//!
//! An address that is meant for operators takes names that are this machine's alone: by a name of its own
//! that it points here (DNS rebinding) a page's requests are of its own origin. What comes by way of a balancer of ours
//! is a client's, whatever name it has: a route that leads to such an address opens it to nobody.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderName, ORIGIN, UPGRADE, VIA};
use http::{HeaderMap, Method, Uri};

use crate::problem::{Problem, ProblemKind};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Most origins that may be allowed.
pub const ORIGINS_MAX: usize = 64;

/// Origins whose pages may do what pages of this origin may: `https://app.example`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Arc<[String]>);

impl Origins {
    /// Reads a list with commas between.
    pub fn parse(text: &str) -> Result<Self, String> {
        let origins: Vec<_> = text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect();
        if origins.len() > ORIGINS_MAX {
            return Err(format!("{} origins; at most {ORIGINS_MAX} may be allowed", origins.len()));
        }
        for origin in &origins {
            let is_one = origin.parse::<Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                    && matches!(uri.path(), "" | "/")
                    && uri.query().is_none()
            });
            if !is_one {
                return Err(format!("{origin:?} is no origin; expected one as in https://app.example:8443"));
            }
        }
        Ok(Self(origins.iter().map(|origin| as_browsers_say(origin)).collect()))
    }

    fn have(&self, origin: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }

    /// Whether a page may send this, or why not.
    pub fn judge(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if is_safe && !headers.contains_key(UPGRADE) {
            return Ok(());
        }
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
        let (origin, site) = (text(ORIGIN), text(SEC_FETCH_SITE));
        if origin.is_some_and(|origin| self.have(origin)) {
            return Ok(());
        }
        let is_own = match (site, origin) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => is_of_host(origin, text(HOST).unwrap_or_default()),
            (None, None) => true,
        };
        if is_own {
            return Ok(());
        }
        let detail = format!(
            "a page of {} may not send this here; --allow-origins names those that may",
            origin.unwrap_or("another site")
        );
        Err(Problem::new(ProblemKind::ForeignOrigin, detail))
    }
}

/// What this machine is called.
pub fn own_names() -> Arc<[String]> {
    let name = rustix::system::uname();
    name.nodename().to_str().map(str::to_owned).into_iter().collect()
}

/// An origin as a browser writes it: in lower case, without the scheme's own port.
fn as_browsers_say(origin: &str) -> String {
    let origin = origin.trim_end_matches('/').to_ascii_lowercase();
    let port = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(port).unwrap_or(&origin).to_owned()
}

/// Whether an origin is the host that was asked, whatever the scheme: TLS may end before it comes here.
fn is_of_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let without_default = |text: &str| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    without_default(authority) == without_default(host)
}

/// Whether an operators' address is asked by whoever is there, and not by way of a balancer of ours, which says so in a
/// field that no document edits.
pub fn judge_way(headers: &HeaderMap) -> Result<(), Problem> {
    let is_ours = |hop: &str| hop.split_whitespace().nth(1).is_some_and(|by| by.eq_ignore_ascii_case("skep"));
    let fields = headers.get_all(VIA).iter().filter_map(|it| it.to_str().ok());
    if fields.flat_map(|it| it.split(',')).any(is_ours) {
        let detail = "this address is for operators, and not asked by way of a balancer";
        return Err(Problem::new(ProblemKind::ForeignHost, detail));
    }
    Ok(())
}

/// Whether it is asked by a name that is this machine's own, an IP address, `localhost`, or one that it was given; and
/// directly.
pub fn judge_host(own: &[String], headers: &HeaderMap) -> Result<(), Problem> {
    judge_way(headers)?;
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    // A zone is this machine's own; a name may be written with its root.
    let name = name.split('%').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_own = name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || own.iter().any(|known| known.eq_ignore_ascii_case(name));
    if is_own {
        return Ok(());
    }
    let detail = format!(
        "this address is not asked by the name {name:?}: use an IP address, localhost or the machine's own name"
    );
    Err(Problem::new(ProblemKind::ForeignHost, detail))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn allowed(method: Method, fields: &[(&'static str, &'static str)]) -> bool {
        let origins = Origins::parse("https://app.example, http://127.0.0.1:3000/").unwrap();
        origins.judge(&method, &headers(fields)).is_ok()
    }

    #[test]
    fn who_is_no_browser_or_of_this_origin_may_write() {
        for fields in [
            &[("host", "a.example")][..],
            &[("host", "a.example"), ("origin", "http://a.example")],
            &[("host", "a.example:80"), ("origin", "http://A.example")],
            &[("host", "a.example"), ("origin", "https://a.example:443")],
            &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")],
            &[("host", "a.example"), ("origin", "https://app.example")],
            &[("host", "a.example"), ("origin", "https://app.example"), ("sec-fetch-site", "cross-site")],
            &[("host", "a.example"), ("origin", "http://127.0.0.1:3000")],
            &[("host", "a.example"), ("sec-fetch-site", "same-origin")],
            // The balancer may have been asked by another name than it asks the node.
            &[("host", "10.0.0.1:8080"), ("origin", "https://a.example"), ("sec-fetch-site", "same-origin")],
            &[("host", "a.example"), ("sec-fetch-site", "none")],
        ] {
            assert!(allowed(Method::POST, fields), "{fields:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_not_write_nor_open_a_websocket() {
        for fields in [
            &[("host", "a.example"), ("origin", "https://evil.example")][..],
            &[("host", "a.example"), ("origin", "null")],
            &[("host", "a.example"), ("origin", "")],
            &[("host", "a.example"), ("origin", "http://a.example.evil.example")],
            &[("host", "a.example"), ("origin", "http://a.example:8080")],
            &[("host", "a.example"), ("origin", "file://a.example")],
            &[("host", "a.example"), ("sec-fetch-site", "cross-site")],
            &[("host", "a.example"), ("sec-fetch-site", "same-site")],
            &[("host", "a.example"), ("origin", "http://a.example"), ("sec-fetch-site", "same-site")],
            &[("origin", "http://a.example")],
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                assert!(!allowed(method, fields), "{fields:?}");
            }
            let upgrade = [fields, &[("upgrade", "websocket")]].concat();
            assert!(!allowed(Method::GET, &upgrade), "{fields:?}");
            assert!(allowed(Method::GET, fields), "what it may not read may be sent: {fields:?}");
        }
    }

    #[test]
    fn what_is_no_origin_cannot_be_allowed() {
        assert_eq!(Origins::parse(""), Ok(Origins::default()));
        assert_eq!(
            Origins::parse("HTTPS://A.example:443/,http://b:80"),
            Origins::parse("https://a.example,http://b")
        );
        for text in
            ["a.example", "*", "null", "ftp://a", "https://a/b", "https://a?b", "https://u@a", "https://"]
        {
            assert!(Origins::parse(text).is_err(), "{text}");
        }
        assert!(Origins::parse(&vec!["http://a"; ORIGINS_MAX + 1].join(",")).is_err());
    }

    #[test]
    fn an_operators_address_goes_by_its_own_names() {
        let own = ["host-1".to_owned()];
        for host in [
            "127.0.0.1:9400",
            "127.0.0.1",
            "[::1]:9400",
            "10.0.0.9:9400",
            "localhost:9400",
            "localhost.:9400",
            "[fe80::1%2]:9400",
            "LOCALHOST",
            "Host-1:9400",
        ] {
            assert!(judge_host(&own, &headers(&[("host", host)])).is_ok(), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9400", "127.0.0.1.evil.example", "localhost.evil.example:9400", ""]
        {
            assert!(judge_host(&own, &headers(&[("host", host)])).is_err(), "{host}");
        }
        assert!(judge_host(&own, &HeaderMap::new()).is_err(), "without one");
        for (via, is_taken) in [
            ("1.1 skep", false),
            ("2.0 other, 1.1 skep", false),
            ("1.0 SKEP (a word)", false),
            ("1.1 skepsis", true),
            ("1.1 other", true),
        ] {
            let asked = headers(&[("host", "127.0.0.1:9400"), ("via", via)]);
            assert_eq!(judge_host(&own, &asked).is_ok(), is_taken, "{via}");
        }
    }
}
