//! Content codings of answers: which a client takes (RFC 9110, 12.5.3), and which answers gain by one. Pure.

use std::fmt;

/// Shortest answer that is compressed where nothing is said, in bytes; and the most that may be said.
pub const LENGTH_MIN: u64 = 1024;
pub const LENGTH_MIN_MAX: u64 = 1 << 20;
/// How much is done for it where nothing is said, and at most.
pub const LEVEL: u32 = 1;
pub const LEVEL_MAX: u32 = 3;
/// Most types that a route names.
pub const TYPES_MAX: usize = 64;
/// Types that gain, where nothing is said; `+` begins a suffix of whatever type (RFC 6838, 4.2.8).
pub const TYPES: [&str; 8] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/wasm",
    "application/xml",
    "image/svg+xml",
    "+json",
    "+xml",
];

/// Which of a route's answers are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// In lower case, as [`TYPES`].
    pub types: Vec<String>,
    /// In bytes; an answer whose length is not known is long.
    pub length_min: u64,
    pub level: u32,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    /// RFC 8878, RFC 9659.
    Zstd,
}

impl Default for Compress {
    fn default() -> Self {
        Self { types: TYPES.map(str::to_owned).into(), length_min: LENGTH_MIN, level: LEVEL }
    }
}

impl Coding {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl Compress {
    /// Whether answers with this `Content-Type` gain. Events are to be there as they come, and never do.
    pub fn is_for(&self, content_type: &[u8]) -> bool {
        let Some(essence) =
            content_type.split(|b| *b == b';').next().and_then(|it| std::str::from_utf8(it).ok())
        else {
            return false;
        };
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let Some((kind, _)) = essence.split_once('/') else { return false };
        let fits = |it: &String| match it.strip_suffix("/*") {
            Some(whole) => whole == kind,
            None if it.starts_with('+') => essence.ends_with(it.as_str()),
            None => *it == essence,
        };
        essence != "text/event-stream" && self.types.iter().any(fits)
    }
}

/// What a document may name: `text/html`, `text/*`, `+json`.
pub fn type_of(text: &str) -> Result<String, String> {
    let folded = text.to_ascii_lowercase();
    let is_token = |it: &str| {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !it.is_empty() && it.len() <= 127 && it.bytes().all(is_part)
    };
    let fits = match folded.split_once('/') {
        Some((kind, "*")) => is_token(kind),
        Some((kind, sub)) => is_token(kind) && is_token(sub),
        None => folded.strip_prefix('+').is_some_and(is_token),
    };
    let is_events = folded == "text/event-stream";
    match fits && !is_events {
        true => Ok(folded),
        false if is_events => Err("events are to be there as they come: they are not compressed".to_owned()),
        false => Err(format!("{text:?} is no type: expected as in text/html, text/* or +json")),
    }
}

/// The coding that a client would have most, by its `Accept-Encoding` lines; None: it would have the answer as it is.
pub fn accepted<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Coding> {
    let (mut gzip, mut zstd, mut identity, mut any) = (None, None, None, None);
    for item in lines.flat_map(|line| line.split(|b| *b == b',')) {
        let (name, weight) = match item.iter().position(|b| *b == b';') {
            Some(at) => (&item[..at], weight(&item[at + 1..])),
            None => (item, Some(WEIGHT_MAX)),
        };
        let name = name.trim_ascii();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let known = if is("gzip") || is("x-gzip") {
            &mut gzip
        } else if is("zstd") {
            &mut zstd
        } else if is("identity") {
            &mut identity
        } else if is("*") {
            &mut any
        } else {
            continue;
        };
        // What is malformed is wanted by nobody; of what stands there twice the least counts.
        let weight = weight.unwrap_or_default();
        *known = Some(known.map_or(weight, |before: u16| before.min(weight)));
    }
    // Who takes whatever there is has not heard of all there is. The answer as it is may always be had, and where nothing
    // is said of it, it is had least.
    let (gzip, zstd) = (gzip.or(any).unwrap_or_default(), zstd.unwrap_or_default());
    let (best, coding) = if zstd >= gzip { (zstd, Coding::Zstd) } else { (gzip, Coding::Gzip) };
    (best > 0 && best >= identity.unwrap_or_default()).then_some(coding)
}

/// The weight of what is wanted most, in thousandths.
const WEIGHT_MAX: u16 = 1000;

/// A weight (RFC 9110, 12.4.2), in thousandths; None where it is none.
fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at(parameter.iter().position(|b| *b == b'=')?);
    if !name.trim_ascii().eq_ignore_ascii_case(b"q") {
        return None;
    }
    let value = value[1..].trim_ascii();
    let (whole, digits) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut thousandths = 0;
    for at in 0..3 {
        let digit = digits.get(at).copied().unwrap_or(b'0');
        thousandths = thousandths * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(WEIGHT_MAX),
        _ => None,
    }
}

/// What stands at the end of a tag that was strong, where its answer is compressed.
const TAG_END: &[u8] = b"--skep";

/// The tag of a compressed answer whose own this is: weak, for its bytes are others; None where that is none.
pub fn tag(own: &[u8]) -> Option<Vec<u8>> {
    match own {
        [b'W', b'/', rest @ ..] if is_tag(rest) => Some(own.to_vec()),
        [inner @ .., b'"'] if is_tag(own) => Some([b"W/", inner, TAG_END, b"\""].concat()),
        _ => None,
    }
}

/// `If-None-Match` as the service is to get it: with the tags that answers had before they were compressed. None where
/// there is none of those.
pub fn tags_asked(value: &[u8]) -> Option<Vec<u8>> {
    let end = [TAG_END, b"\""].concat();
    let mut out = Vec::new();
    let (mut rest, mut is_other) = (value, false);
    // A tag has no quotes in it (RFC 9110, 8.8.3), but commas.
    while let Some(begin) = rest.iter().position(|b| *b == b'"') {
        let length = rest[begin + 1..].iter().position(|b| *b == b'"')?;
        let (before, tag) = (&rest[..begin], &rest[begin..begin + length + 2]);
        match (before.strip_suffix(b"W/"), tag.strip_suffix(end.as_slice())) {
            (Some(before), Some(own)) => {
                is_other = true;
                [before, own, b"\""].iter().for_each(|part| out.extend_from_slice(part));
            }
            _ => [before, tag].iter().for_each(|part| out.extend_from_slice(part)),
        }
        rest = &rest[begin + length + 2..];
    }
    out.extend_from_slice(rest);
    is_other.then_some(out)
}

fn is_tag(text: &[u8]) -> bool {
    let is_part = |b: &u8| *b == 0x21 || (0x23..=0x7e).contains(b) || *b >= 0x80;
    matches!(text, [b'"', inner @ .., b'"'] if inner.iter().all(is_part))
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { types, length_min, level } = self;
        write!(
            f,
            "answers of {length_min} bytes and more, by zstd or gzip of level {level}: {}",
            types.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Option<Coding> {
        accepted(text.split('|').map(str::as_bytes))
    }

    #[test]
    fn a_client_gets_the_coding_that_it_would_have_most() {
        for (text, expected) in [
            ("", None),
            ("gzip", Some(Coding::Gzip)),
            ("X-GZip", Some(Coding::Gzip)),
            ("zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip|zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, zstd;q=0.5", Some(Coding::Gzip)),
            ("gzip ; q=0.5 ,identity;q=0.4", Some(Coding::Gzip)),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=0.000, zstd;q=0", None),
            ("gzip;q=0.001", Some(Coding::Gzip)),
            ("*", Some(Coding::Gzip)),
            ("*, zstd", Some(Coding::Zstd)),
            ("zstd;q=0, *", Some(Coding::Gzip)),
            ("gzip;q=0, zstd;q=0, *", None),
            ("*;q=0", None),
            ("*;q=0, gzip", Some(Coding::Gzip)),
            ("identity;q=0", None),
            ("identity;q=0, gzip;q=0.1", Some(Coding::Gzip)),
            ("identity", None),
            ("br, deflate", None),
            // What is malformed is wanted by nobody.
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.0001", None),
            ("gzip;q=.5", None),
            ("gzip;q=-1", None),
            ("gzip;q", None),
            ("gzip;level=9", None),
            ("gzip;q=1;q=0", None),
            ("gzip, gzip;q=0", None),
            ("gzip zstd", None),
            ("notgzip, zstdx", None),
        ] {
            assert_eq!(of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn types_that_gain_are_those_that_are_named() {
        let usual = Compress::default();
        for (text, is_for) in [
            ("text/html; charset=utf-8", true),
            (" TEXT/Plain ", true),
            ("application/json", true),
            ("application/problem+json", true),
            ("image/svg+xml", true),
            ("application/atom+xml;type=feed", true),
            ("text/event-stream", false),
            ("text/event-stream; charset=utf-8", false),
            ("image/png", false),
            ("application/octet-stream", false),
            ("application/jsonx", false),
            ("text", false),
            ("", false),
            ("\u{ff}", false),
        ] {
            assert_eq!(usual.is_for(text.as_bytes()), is_for, "{text:?}");
        }
        for (text, is_one) in [
            ("text/*", true),
            ("Text/HTML", true),
            ("+json", true),
            ("*/*", false),
            ("text", false),
            ("text/", false),
            ("text/event-stream", false),
            ("text/html; charset=utf-8", false),
        ] {
            assert_eq!(type_of(text).is_ok(), is_one, "{text}");
        }
    }

    #[test]
    fn a_tag_goes_there_and_back() {
        for (own, sent) in [
            ("\"a\"", Some("W/\"a--skep\"")),
            ("W/\"a\"", Some("W/\"a\"")),
            ("\"\"", Some("W/\"--skep\"")),
            ("a", None),
            ("\"a\"b\"", None),
            ("\"a", None),
            ("w/\"a\"", None),
        ] {
            assert_eq!(tag(own.as_bytes()).as_deref(), sent.map(str::as_bytes), "{own}");
        }
        for (value, expected) in [
            ("W/\"a--skep\"", Some("\"a\"")),
            ("W/\"b\", W/\"a,b--skep\" , \"c\"", Some("W/\"b\", \"a,b\" , \"c\"")),
            ("\"a--skep\"", None),
            ("W/\"a\"", None),
            ("*", None),
            ("", None),
            ("W/\"a--skep", None),
            ("W/\"a--skep\", \"", None),
        ] {
            assert_eq!(tags_asked(value.as_bytes()).as_deref(), expected.map(str::as_bytes), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            accepted([value.as_slice()].into_iter());
            tags_asked(&value);
            Compress::default().is_for(&value);
            if let Some(sent) = tag(&value) {
                prop_assert!(sent.starts_with(b"W/\""));
                let back = tags_asked(&sent).unwrap_or(sent);
                prop_assert_eq!(back, value);
            }
        }

        #[test]
        fn a_coding_that_is_not_wanted_is_not_chosen(
            others in proptest::collection::vec("(br|deflate|identity|zstd|\\*)(;q=(0(\\.[0-9]{1,3})?|1))?", 0..6),
            at in 0usize..6,
        ) {
            let mut items = others;
            items.insert(at.min(items.len()), "gzip;q=0".to_owned());
            prop_assert_ne!(of(&items.join(", ")), Some(Coding::Gzip));
        }

        #[test]
        fn the_order_and_the_lines_say_nothing(
            items in proptest::collection::vec("(gzip|zstd|identity|\\*|br)(;q=(0(\\.[0-9]{1,3})?|1))?", 1..6),
        ) {
            let mut turned = items.clone();
            turned.reverse();
            prop_assert_eq!(of(&items.join(",")), of(&turned.join("|")));
        }
    }
}
