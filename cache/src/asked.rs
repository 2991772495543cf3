//! What a request asks of a cache (RFC 9111, 5.2.1; RFC 9110, 13 and 14).

use crate::Field;
use crate::directives::Directives;

/// A request, as far as a cache goes by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    pub directives: Directives,
    /// Lines of `If-None-Match`.
    pub if_none_match: Vec<&'a [u8]>,
    pub if_modified_since: Option<&'a [u8]>,
    /// For the origin alone to say: `If-Match`, `If-Unmodified-Since`; or by what it is another request than its line
    /// says, where the origin believes that.
    pub is_for_origin: bool,
    pub range: Option<&'a [u8]>,
    pub if_range: Option<&'a [u8]>,
    pub has_authorization: bool,
    pub has_cookie: bool,
    /// A field stands there twice that may stand once.
    pub is_ambiguous: bool,
}

impl<'a> Asked<'a> {
    pub fn read(fields: impl IntoIterator<Item = Field<'a>>) -> Self {
        let mut asked = Self::default();
        let mut pragma = false;
        for (name, value) in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let mut once = |of: &mut Option<&'a [u8]>| asked.is_ambiguous |= of.replace(value).is_some();
            match name.len() {
                5 if is("range") => once(&mut asked.range),
                6 if is("cookie") => asked.has_cookie = true,
                6 if is("pragma") => pragma |= has_no_cache(value),
                8 if is("if-match") => asked.is_for_origin = true,
                8 if is("if-range") => once(&mut asked.if_range),
                13 if is("cache-control") => asked.directives.read(value),
                13 if is("if-none-match") => asked.if_none_match.push(value),
                13 if is("authorization") => asked.has_authorization = true,
                17 if is("if-modified-since") => once(&mut asked.if_modified_since),
                19 if is("if-unmodified-since") => asked.is_for_origin = true,
                19 if is("proxy-authorization") => asked.has_authorization = true,
                _ => {}
            }
            asked.is_for_origin |= is_another(name);
        }
        // Where Cache-Control says something, that is what counts (RFC 9111, 5.4).
        asked.directives.no_cache |= pragma && !asked.directives.is_said;
        asked.directives.no_cache |= asked.directives.is_ambiguous;
        asked
    }

    /// Whether it says which answer it has already.
    pub fn is_conditional(&self) -> bool {
        !self.if_none_match.is_empty() || self.if_modified_since.is_some()
    }
}

/// Whether a field says that the method, the host or the target is another: frameworks believe such, and an answer by it
/// is none to the URL that was asked for.
fn is_another(name: &[u8]) -> bool {
    const ANOTHER: [&str; 10] = [
        "x-host",
        "x-http-host-override",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-method",
        "x-original-uri",
        "x-original-url",
        "x-rewrite-url",
    ];
    matches!(name, [b'x' | b'X', b'-', ..])
        && ANOTHER.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

fn has_no_cache(value: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
}

/// Whether a field makes a request conditional or asks for a part: such are not sent where an answer for all is fetched.
pub fn is_own(name: &[u8]) -> bool {
    const OWN: [&str; 6] =
        ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"];
    OWN.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(fields: &[(&'a str, &'a str)]) -> Asked<'a> {
        Asked::read(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    #[test]
    fn what_a_cache_goes_by_is_read() {
        let asked = of(&[
            ("Cache-Control", "max-age=5"),
            ("If-None-Match", "\"a\""),
            ("if-none-match", "\"b\""),
            ("Range", "bytes=0-1"),
            ("Authorization", "Basic x"),
            ("Cookie", "a=b"),
        ]);
        assert!(asked.is_conditional() && asked.has_authorization && asked.has_cookie && !asked.is_ambiguous);
        assert_eq!((asked.if_none_match.len(), asked.range), (2, Some(&b"bytes=0-1"[..])));
        for name in ["X-HTTP-Method-Override", "x-method-override", "X-Http-Method", "x-original-url"] {
            assert!(of(&[(name, "DELETE")]).is_for_origin, "{name}");
        }
        assert!(!of(&[("x-http", "a"), ("x-forwarded-host", "b")]).is_for_origin);
        assert!(of(&[("if-match", "*")]).is_for_origin && of(&[("If-Unmodified-Since", "x")]).is_for_origin);
    }

    #[test]
    fn what_stands_twice_is_ambiguous() {
        assert!(of(&[("range", "bytes=0-1"), ("Range", "bytes=0-2")]).is_ambiguous);
        assert!(of(&[("cache-control", "max-age=\"5")]).directives.no_cache);
    }

    #[test]
    fn pragma_counts_where_cache_control_says_nothing() {
        assert!(of(&[("pragma", "x, No-Cache")]).directives.no_cache);
        assert!(!of(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).directives.no_cache);
    }
}
