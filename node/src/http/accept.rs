//! Content negotiation (RFC 9110, 12.5.1) between JSON and another representation.

use http::HeaderMap;
use http::header::ACCEPT;

/// How much a client wants a media type: its quality in thousandths, then how exactly it named
/// the type (3 exact, 2 `type/*`, 1 `*/*`, 0 not at all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Want {
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
        self.is_some() && self.exactness == 3
    }
}

/// How much the request's `Accept` wants `media_type` (without parameters, in lower case).
/// Without an `Accept` everything is wanted, by no name.
pub(crate) fn want(headers: &HeaderMap, media_type: &str) -> Want {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() {
        return Want { quality: 1000, exactness: 1 };
    }
    let main_type = media_type.split('/').next().unwrap_or_default();
    let mut found = Want::NONE;
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let exactness = if name.eq_ignore_ascii_case(media_type) {
            3
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
            found = Want { quality: quality(parts), exactness };
        }
    }
    found
}

fn quality<'a>(parameters: impl Iterator<Item = &'a str>) -> u16 {
    for parameter in parameters {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            let quality = value.trim().parse::<f32>().unwrap_or(1.0);
            return (quality.clamp(0.0, 1.0) * 1000.0) as u16;
        }
    }
    1000
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wants(accept: &str, media_type: &str) -> Want {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        want(&headers, media_type)
    }

    #[test]
    fn the_most_exact_range_counts() {
        let accept = "text/*;q=0.3, text/plain;q=0.7, */*;q=0.5";
        assert_eq!(wants(accept, "text/plain"), Want { quality: 700, exactness: 3 });
        assert_eq!(wants(accept, "text/html"), Want { quality: 300, exactness: 2 });
        assert_eq!(wants(accept, "image/png"), Want { quality: 500, exactness: 1 });
    }

    #[test]
    fn a_quality_of_zero_is_a_refusal() {
        assert!(!wants("application/json;q=0, */*", "application/json").is_some());
    }

    #[test]
    fn without_the_header_everything_is_wanted_by_no_name() {
        let want = want(&HeaderMap::new(), "application/json");
        assert!(want.is_some() && !want.is_exact());
    }

    #[test]
    fn nonsense_is_wanted_by_nobody_and_no_panic() {
        for accept in ["", ";;;", "a", "/", "*/", "text/plain;q=NaN", ",,,", "*"] {
            let _ = wants(accept, "text/html");
        }
        assert!(!wants("nonsense", "text/html").is_some());
    }
}
