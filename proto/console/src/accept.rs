//! Content negotiation (RFC 9110, 12.5.1) between the few forms that an answer has.

use http::HeaderMap;
use http::header::ACCEPT;

/// How much a client wants a media type: its quality in thousandths, then how exactly it named
/// the type (4 with the version, 3 exact, 2 `type/*`, 1 `*/*`, 0 not at all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    quality: u16,
    exactness: u8,
}

impl Want {
    const NONE: Want = Want { quality: 0, exactness: 0 };

    pub fn is_some(self) -> bool {
        self.quality > 0
    }

    /// Whether the client named the type itself.
    pub fn is_exact(self) -> bool {
        self.is_some() && self.exactness >= 3
    }

    /// Whether the client named the type or its main type: not where anything will do.
    pub fn is_named(self) -> bool {
        self.is_some() && self.exactness >= 2
    }

    /// In thousandths.
    pub fn quality(self) -> u16 {
        self.quality
    }
}

/// How much the request's `Accept` wants `media_type` (without parameters, in lower case).
/// Without an `Accept` everything is wanted, by no name.
pub fn want(headers: &HeaderMap, media_type: &str) -> Want {
    want_of(headers, media_type, None)
}

/// [`want`], of a type that has a version: one that names another version is not meant.
pub fn want_version(headers: &HeaderMap, media_type: &str, version: &str) -> Want {
    want_of(headers, media_type, Some(version))
}

fn want_of(headers: &HeaderMap, media_type: &str, version: Option<&str>) -> Want {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() {
        return Want { quality: 1000, exactness: 1 };
    }
    let main_type = media_type.split('/').next().unwrap_or_default();
    let mut found = Want::NONE;
    for range in ranges.flat_map(|value| value.split(',')) {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let name = name.trim();
        let exactness = if name.eq_ignore_ascii_case(media_type) {
            match version.and_then(|version| Some(parameter(parameters, "version")? == version)) {
                None => 3,
                Some(true) => 4,
                Some(false) => continue,
            }
        } else if name == "*/*" {
            1
        } else {
            match name.strip_suffix("/*") {
                Some(main) if main.eq_ignore_ascii_case(main_type) => 2,
                _ => continue,
            }
        };
        // The most exact range counts, whatever the others say.
        if exactness > found.exactness {
            found = Want { quality: quality(parameters), exactness };
        }
    }
    found
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

fn quality(parameters: &str) -> u16 {
    let Some(value) = parameter(parameters, "q") else { return 1000 };
    (value.parse::<f32>().unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        headers
    }

    fn wants(accept: &str, media_type: &str) -> Want {
        want(&headers(accept), media_type)
    }

    #[test]
    fn the_most_exact_range_counts() {
        let accept = "text/*;q=0.3, text/plain;q=0.7, */*;q=0.5";
        assert_eq!(wants(accept, "text/plain"), Want { quality: 700, exactness: 3 });
        assert_eq!(wants(accept, "text/html"), Want { quality: 300, exactness: 2 });
        assert_eq!(wants(accept, "image/png"), Want { quality: 500, exactness: 1 });
    }

    #[test]
    fn a_range_of_another_version_is_of_another_type() {
        let accept = headers("a/b;version=2;q=0.9, a/b; Version=\"1\" ;Q=0.4, */*;q=0.1");
        assert_eq!(want_version(&accept, "a/b", "1"), Want { quality: 400, exactness: 4 });
        assert_eq!(want_version(&accept, "a/b", "3"), Want { quality: 100, exactness: 1 });
        assert_eq!(want_version(&headers("a/b"), "a/b", "3"), Want { quality: 1000, exactness: 3 });
    }

    #[test]
    fn a_quality_of_zero_is_a_refusal() {
        assert!(!wants("application/json;q=0, */*", "application/json").is_some());
    }

    #[test]
    fn without_the_header_everything_is_wanted_by_no_name() {
        let want = want(&HeaderMap::new(), "application/json");
        assert!(want.is_some() && !want.is_exact() && !want.is_named());
    }

    #[test]
    fn nonsense_is_wanted_by_nobody_and_no_panic() {
        for accept in ["", ";;;", "a", "/", "*/", "text/plain;q=NaN", ",,,", "*", "a/b;=;q"] {
            let _ = want_version(&headers(accept), "text/html", "1");
        }
        assert!(!wants("nonsense", "text/html").is_some());
    }
}
