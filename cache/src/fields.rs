//! What is stored of a head, and what a 304 changes of it (RFC 9111, 3.1 and 3.2).

use memchr::memchr;

use crate::Field;

/// Fields that end at this hop, are of the framing, or are said anew with each use.
const NOT_STORED: [&str; 16] = [
    "age",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "skep-unprocessed",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "warning",
];

/// What describes the stored bytes, which a 304 does not bring: to read them as something else than they came as is not
/// safe (RFC 9111, 3.2).
const OF_THE_BYTES: [&str; 8] = [
    "accept-ranges",
    "content-digest",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-range",
    "content-type",
    "repr-digest",
];

fn is_among(name: &[u8], list: &[&str]) -> bool {
    list.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

/// Whether a field is stored with its answer.
pub fn is_stored(name: &[u8]) -> bool {
    !is_among(name, &NOT_STORED)
}

/// Writes fields as lines, those alone that are stored.
pub fn write<'a>(fields: impl Iterator<Item = Field<'a>>, out: &mut Vec<u8>) {
    for (name, value) in fields.filter(|(name, _)| is_stored(name)) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The fields of lines that [`write`] has written.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Field<'_>> + Clone {
    let mut left = text;
    let lines = std::iter::from_fn(move || {
        let end = memchr(b'\n', left).or((!left.is_empty()).then_some(left.len()))?;
        let line = &left[..end];
        left = left.get(end + 1..).unwrap_or_default();
        Some(line)
    });
    lines.filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr(b':', line)?;
        let value = &line[colon + 1..];
        Some((&line[..colon], value.strip_prefix(b" ").unwrap_or(value)))
    })
}

/// Writes the stored fields as a 304 changes them: what it says takes the place of all of that name.
pub fn write_updated<'a>(
    stored: impl Iterator<Item = Field<'a>>,
    new: impl Iterator<Item = Field<'a>> + Clone,
    out: &mut Vec<u8>,
) {
    let updates = |name: &[u8]| is_stored(name) && !is_among(name, &OF_THE_BYTES);
    let is_said = |name: &[u8]| new.clone().any(|(other, _)| other.eq_ignore_ascii_case(name));
    write(stored.filter(|(name, _)| !(updates(name) && is_said(name))), out);
    write(new.clone().filter(|(name, _)| updates(name)), out);
}

/// Whether a 304 that is made of a stored answer says this (RFC 9110, 15.4.5).
pub fn is_in_304(name: &[u8]) -> bool {
    !["content-type", "content-encoding", "content-language", "content-range", "last-modified"]
        .iter()
        .any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(fields: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = Field<'a>> + Clone {
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    #[test]
    fn what_ends_at_this_hop_or_is_of_one_client_is_not_stored() {
        let mut out = Vec::new();
        let fields = [("ETag", "\"a\""), ("Set-Cookie", "a=b"), ("AGE", "5"), ("Keep-Alive", "5"), ("X", "")];
        write(of(&fields), &mut out);
        assert_eq!(out, b"ETag: \"a\"\r\nX: \r\n");
        let read: Vec<Field<'_>> = lines(&out).collect();
        assert_eq!(read, [(&b"ETag"[..], &b"\"a\""[..]), (b"X", b"")]);
    }

    #[test]
    fn a_304_changes_what_it_says_but_for_what_is_of_the_bytes() {
        let stored = [
            ("A", "1"),
            ("a", "2"),
            ("B", "3"),
            ("Content-Encoding", "gzip"),
            ("Content-Type", "text/plain"),
        ];
        let new = [
            ("a", "4"),
            ("Content-Encoding", "br"),
            ("Content-Type", "text/html"),
            ("Content-Length", "0"),
            ("Set-Cookie", "x=y"),
            ("Connection", "close"),
            ("C", "5"),
        ];
        let mut out = Vec::new();
        write_updated(of(&stored), of(&new), &mut out);
        let expected = "B: 3\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\na: 4\r\nC: 5\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
