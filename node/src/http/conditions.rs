//! What a request makes its answer hang on: entity tags (RFC 9110, 13.1) and content codings (12.5.3). Pure.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::problem::{Problem, ProblemKind};

/// What becomes of a request for something that has the tag `etag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Send,
    /// The client has it: 304.
    NotModified,
}

/// Looks at `If-Match`, by the strong comparison, and at `If-None-Match`, by the weak one.
pub(crate) fn evaluate(headers: &HeaderMap, etag: &str) -> Result<Condition, Problem> {
    if headers.contains_key(IF_MATCH) && !names(headers, IF_MATCH, |tag| tag == etag) {
        let detail = format!("If-Match names no tag of this: {etag} is its own");
        return Err(Problem::new(ProblemKind::PreconditionFailed, detail));
    }
    let is_known = names(headers, IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag);
    Ok(if is_known { Condition::NotModified } else { Condition::Send })
}

fn names(headers: &HeaderMap, name: HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|tag| tag == "*" || is_it(tag))
}

/// Whether a content coding may be used. Without the field, any may.
pub(crate) fn takes_coding(headers: &HeaderMap, coding: &str) -> bool {
    let mut lists =
        headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).peekable();
    if lists.peek().is_none() {
        return true;
    }
    let mut any = None;
    for entry in lists.flat_map(|list| list.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // What is no number is passed over, as the whole parameter would be.
        let is_wanted = quality.is_none_or(|quality| quality.trim().parse::<f32>().map_or(true, |q| q > 0.0));
        let name = name.strip_prefix("x-").unwrap_or(name);
        if name.eq_ignore_ascii_case(coding) {
            return is_wanted;
        }
        if name == "*" {
            any = Some(is_wanted);
        }
    }
    any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn if_match_is_strong_and_if_none_match_weak() {
        let status = |fields: &[(HeaderName, &'static str)]| match evaluate(&asked(fields), "\"a\"") {
            Ok(Condition::Send) => 200,
            Ok(Condition::NotModified) => 304,
            Err(problem) => problem.kind.status().as_u16(),
        };
        for (value, if_match, if_none_match) in [
            ("\"a\"", 200, 304),
            ("*", 200, 304),
            ("\"b\"", 412, 200),
            ("\"b\", \"a\"", 200, 304),
            ("W/\"a\"", 412, 304),
            ("a", 412, 200),
        ] {
            assert_eq!(status(&[(IF_MATCH, value)]), if_match, "If-Match: {value}");
            assert_eq!(status(&[(IF_NONE_MATCH, value)]), if_none_match, "If-None-Match: {value}");
        }
        assert_eq!(status(&[]), 200);
        assert_eq!(status(&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]), 412, "If-Match comes first");
        assert_eq!(status(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]), 304);
    }

    #[test]
    fn a_coding_is_taken_by_its_own_word_else_by_that_of_any() {
        let takes = |value: &'static str| takes_coding(&asked(&[(ACCEPT_ENCODING, value)]), "gzip");
        for value in [
            "gzip",
            "GZIP",
            "x-gzip",
            "br, gzip;q=0.1",
            "*",
            "identity;q=0, *",
            "gzip;q=1.0, *;q=0",
            "br;q=0,gzip",
        ] {
            assert!(takes(value), "{value}");
        }
        for value in
            ["", "br", "identity", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;Q=0, *", "notgzip", "gzipped"]
        {
            assert!(!takes(value), "{value}");
        }
        assert!(takes_coding(&HeaderMap::new(), "gzip"));
    }
}
