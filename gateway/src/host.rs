//! Hosts: how a request's is read, and how a document names them.

use std::borrow::Cow;

/// Longest name of a host (RFC 1035, 2.3.4, without the root's dot), and of a label of it, in bytes.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Which hosts a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// All below this one, however deep, and not itself: `*.example.org`.
    Below(String),
}

impl HostPattern {
    pub fn read(text: &str) -> Result<Self, String> {
        let folded = text.to_ascii_lowercase();
        let (name, pattern): (&str, fn(String) -> Self) = match folded.strip_prefix("*.") {
            Some(name) => (name, Self::Below),
            None => (&folded, Self::Exact),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if is_name(name) || pattern(String::new()) == Self::Exact(String::new()) && is_ipv6(name) {
            return Ok(pattern(name.to_owned()));
        }
        Err(format!("{text:?} is no host: expected as in api.example.org or *.example.org, without a port"))
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// Whether it can be a host's name: `_` is no letter of one, and used all the same.
pub fn is_name(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && label.bytes().all(is_letter)
    };
    !name.is_empty() && name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label)
}

fn is_ipv6(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

/// A request's host as it is matched: in lower case, without its port and the root's dot. Of what is no text, none.
pub fn canonical(host: &[u8]) -> Cow<'_, str> {
    let (mut end, mut folds) = (host.len(), false);
    let is_ipv6 = host.first() == Some(&b'[');
    for (at, b) in host.iter().enumerate() {
        match b {
            b':' if !is_ipv6 => end = at,
            b']' if is_ipv6 => end = at + 1,
            b'A'..=b'Z' => {
                folds = true;
                continue;
            }
            _ => continue,
        }
        break;
    }
    let host = &host[..end];
    let host = std::str::from_utf8(host.strip_suffix(b".").unwrap_or(host)).unwrap_or_default();
    if folds { host.to_ascii_lowercase().into() } else { host.into() }
}

/// What `*.` may stand before, of that host: its parents, the nearest first.
pub fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').filter(|(at, _)| *at > 0).map(|(at, _)| &host[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_case_no_port_and_no_last_dot() {
        for (sent, read) in [
            ("a.test", "a.test"),
            ("A.Test", "a.test"),
            ("a.test:8080", "a.test"),
            ("a.test.", "a.test"),
            ("a.test.:80", "a.test"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(canonical(sent.as_bytes()), read, "{sent}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_all_that_is_below_one() {
        for (text, read) in [
            ("API.example.org", Some(HostPattern::Exact("api.example.org".into()))),
            ("example.org.", Some(HostPattern::Exact("example.org".into()))),
            ("*.Example.org", Some(HostPattern::Below("example.org".into()))),
            ("[::1]", Some(HostPattern::Exact("[::1]".into()))),
            ("10.0.0.1", Some(HostPattern::Exact("10.0.0.1".into()))),
            ("*.[::1]", None),
            ("*", None),
            ("", None),
            ("a..b", None),
            ("a.*.b", None),
            ("a*.b", None),
            ("a.test:80", None),
            ("a b", None),
            ("a/b", None),
            ("ä.test", None),
        ] {
            assert_eq!(HostPattern::read(text).ok(), read, "{text}");
        }
    }

    #[test]
    fn the_nearest_parent_comes_first() {
        assert_eq!(parents("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert!(parents("a").next().is_none() && parents(".a").next().is_none());
    }
}
