//! How a page's bytes are text: by its byte order mark, else as its answer's field says, else as it says of
//! itself in its first bytes (WHATWG's "prescan"), else as they look.

use std::io::{self, Read};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

/// How far a page is searched for what it says of itself.
const PRESCAN_BYTES: usize = 1024;
/// How much of a page is looked at for a guess.
const GUESS_BYTES: usize = 64 * 1024;
/// Read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// A page's bytes, as UTF-8.
pub struct Text<R> {
    source: R,
    /// What was read ahead.
    ahead: Vec<u8>,
    decoder: Decoder,
    /// Decoded, and not yet asked for.
    ready: Vec<u8>,
    at: usize,
    ended: bool,
    encoding: &'static Encoding,
}

impl<R: Read> Text<R> {
    /// `content_type` is the answer's field, `tld` what the host's name ends with, which helps a guess.
    pub fn new(mut source: R, content_type: Option<&str>, tld: Option<&str>) -> io::Result<Self> {
        let mut ahead = Vec::with_capacity(CHUNK_BYTES);
        let mut ended = !fill(&mut source, &mut ahead, PRESCAN_BYTES)?;
        let encoding = match declared(&ahead, content_type) {
            Some(encoding) => encoding,
            None => {
                if !ended {
                    ended = !fill(&mut source, &mut ahead, GUESS_BYTES)?;
                }
                guess(&ahead, ended, tld)
            }
        };
        let decoder = encoding.new_decoder();
        Ok(Self { source, ahead, decoder, ready: Vec::new(), at: 0, ended, encoding })
    }

    /// What the text is taken for, which a query in a URL is written in (never UTF-16).
    pub fn encoding(&self) -> &'static Encoding {
        self.encoding.output_encoding()
    }

    pub fn source(&self) -> &R {
        &self.source
    }

    fn decode(&mut self, bytes: &[u8], last: bool) {
        let most = self.decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len() * 3 + 16);
        self.ready.resize(most, 0);
        let (result, _, written, _) = self.decoder.decode_to_utf8(bytes, &mut self.ready, last);
        debug_assert_eq!(result, CoderResult::InputEmpty);
        self.ready.truncate(written);
        self.at = 0;
    }
}

impl<R: Read> Read for Text<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() {
            let ahead = std::mem::take(&mut self.ahead);
            if !ahead.is_empty() {
                self.decode(&ahead, self.ended);
                continue;
            }
            if self.ended {
                return Ok(0);
            }
            let mut chunk = [0; CHUNK_BYTES];
            let read = self.source.read(&mut chunk)?;
            self.ended = read == 0;
            self.decode(&chunk[..read], self.ended);
        }
        let ready = &self.ready[self.at..];
        let taken = ready.len().min(out.len());
        out[..taken].copy_from_slice(&ready[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// Reads until there are so many bytes; whether there may be more.
fn fill(source: &mut impl Read, into: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let missing = most.saturating_sub(into.len());
    let read = source.by_ref().take(missing as u64).read_to_end(into)?;
    Ok(read == missing)
}

/// What is said of a page's encoding.
fn declared(bytes: &[u8], content_type: Option<&str>) -> Option<&'static Encoding> {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return Some(encoding);
    }
    let of_field = content_type.and_then(charset_of);
    of_field.and_then(|label| Encoding::for_label(label.as_bytes())).or_else(|| prescan(bytes))
}

/// What bytes look like.
fn guess(bytes: &[u8], all: bool, tld: Option<&str>) -> &'static Encoding {
    // A character may be cut at the end.
    let is_utf_8 = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !all && error.error_len().is_none(),
    };
    if is_utf_8 {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, all);
    let tld = tld.filter(|it| it.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    detector.guess(tld.map(str::as_bytes), Utf8Detection::Allow)
}

/// The `charset` in a content type: WHATWG's "extract a character encoding from a meta element".
fn charset_of(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let at = find_word(rest, "charset")?;
        rest = rest[at + "charset".len()..].trim_start_matches(super::is_space);
        if let Some(value) = rest.strip_prefix('=') {
            let value = value.trim_start_matches(super::is_space);
            return match value.chars().next()? {
                quote @ ('"' | '\'') => value[1..].split_once(quote).map(|(label, _)| label),
                _ => value.split(|c| super::is_space(c) || c == ';').next(),
            };
        }
    }
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|it| it.eq_ignore_ascii_case(word.as_bytes()))
}

/// What a page says of itself: WHATWG's "prescan a byte stream to determine its encoding".
fn prescan(bytes: &[u8]) -> Option<&'static Encoding> {
    let bytes = &bytes[..bytes.len().min(PRESCAN_BYTES)];
    if bytes.starts_with(b"<\0?\0x\0") {
        return Some(UTF_16LE);
    }
    if bytes.starts_with(b"\0<\0?\0x") {
        return Some(UTF_16BE);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let behind = if rest.starts_with(b"<!--") {
            // The hyphens may be those of its beginning.
            rest[2..].windows(3).position(|it| it == b"-->").map(|at| 2 + at + 3)
        } else if is_meta(rest) {
            let mut attributes = Attributes { rest: &rest[5..] };
            if let Some(encoding) = encoding_of_meta(&mut attributes) {
                return Some(encoding);
            }
            Some(rest.len() - attributes.rest.len())
        } else if is_tag(rest) {
            let name = rest.iter().position(|b| is_space_byte(*b) || *b == b'>').unwrap_or(rest.len());
            let mut attributes = Attributes { rest: &rest[name..] };
            while attributes.next().is_some() {}
            Some(rest.len() - attributes.rest.len())
        } else if matches!(rest, [b'<', b'!' | b'/' | b'?', ..]) {
            rest.iter().position(|b| *b == b'>').map(|at| at + 1)
        } else {
            Some(1)
        };
        rest = behind.and_then(|at| rest.get(at.max(1)..)).unwrap_or_default();
    }
    of_xml(bytes)
}

fn is_meta(bytes: &[u8]) -> bool {
    let name = bytes.get(..5).is_some_and(|it| it.eq_ignore_ascii_case(b"<meta"));
    name && bytes.get(5).is_some_and(|b| is_space_byte(*b) || *b == b'/')
}

fn is_tag(bytes: &[u8]) -> bool {
    match bytes {
        [b'<', b'/', letter, ..] | [b'<', letter, ..] => letter.is_ascii_alphabetic(),
        _ => false,
    }
}

fn encoding_of_meta(attributes: &mut Attributes<'_>) -> Option<&'static Encoding> {
    let (mut is_pragma, mut needs_pragma, mut found) = (false, None, None);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    while let Some((name, value)) = attributes.next() {
        if seen.contains(&name) {
            continue;
        }
        match name.as_slice() {
            b"http-equiv" => is_pragma = value.eq_ignore_ascii_case(b"content-type"),
            b"content" if found.is_none() => {
                let text = String::from_utf8_lossy(&value);
                let encoding = charset_of(&text).and_then(|it| Encoding::for_label(it.as_bytes()));
                if encoding.is_some() {
                    (found, needs_pragma) = (encoding, Some(true));
                }
            }
            b"charset" => (found, needs_pragma) = (Encoding::for_label(&value), Some(false)),
            _ => {}
        }
        seen.push(name);
    }
    match needs_pragma {
        None => None,
        Some(true) if !is_pragma => None,
        _ => found.map(as_said),
    }
}

/// Who says these of itself in ASCII means another one.
fn as_said(encoding: &'static Encoding) -> &'static Encoding {
    if encoding == UTF_16BE || encoding == UTF_16LE {
        UTF_8
    } else if encoding == X_USER_DEFINED {
        WINDOWS_1252
    } else {
        encoding
    }
}

/// The `encoding` of an XML declaration.
fn of_xml(bytes: &[u8]) -> Option<&'static Encoding> {
    let declaration = bytes.strip_prefix(b"<?xml")?;
    let end = declaration.iter().position(|b| *b == b'>')?;
    let text = std::str::from_utf8(&declaration[..end]).ok()?;
    let (_, rest) = text.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (label, _) = rest[1..].split_once(quote)?;
    Encoding::for_label(label.as_bytes()).map(as_said)
}

/// The attributes of a tag, in lower case, until its end.
struct Attributes<'a> {
    rest: &'a [u8],
}

impl Attributes<'_> {
    fn next(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.skip(|b| is_space_byte(b) || b == b'/');
        if matches!(self.rest, [] | [b'>', ..]) {
            self.rest = self.rest.get(1..).unwrap_or_default();
            return None;
        }
        let mut name = vec![self.take().to_ascii_lowercase()];
        while let Some(b) =
            self.rest.first().copied().filter(|b| !matches!(b, b'=' | b'/' | b'>') && !is_space_byte(*b))
        {
            name.push(b.to_ascii_lowercase());
            self.rest = &self.rest[1..];
        }
        self.skip(is_space_byte);
        if self.rest.first() != Some(&b'=') {
            return Some((name, Vec::new()));
        }
        self.rest = &self.rest[1..];
        self.skip(is_space_byte);
        let value = match self.rest.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let behind = &self.rest[1..];
                let end = behind.iter().position(|b| b == quote).unwrap_or(behind.len());
                self.rest = behind.get(end + 1..).unwrap_or_default();
                &behind[..end]
            }
            _ => {
                let end = self.rest.iter().position(|b| is_space_byte(*b) || *b == b'>');
                let (value, behind) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = behind;
                value
            }
        };
        Some((name, value.to_ascii_lowercase()))
    }

    fn take(&mut self) -> u8 {
        let first = self.rest.first().copied().unwrap_or_default();
        self.rest = self.rest.get(1..).unwrap_or_default();
        first
    }

    fn skip(&mut self, what: impl Fn(u8) -> bool) {
        let end = self.rest.iter().position(|b| !what(*b)).unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
    }
}

fn is_space_byte(b: u8) -> bool {
    matches!(b, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], content_type: Option<&str>) -> (String, &'static str) {
        let mut text = Text::new(bytes, content_type, None).unwrap();
        let name = text.encoding.name();
        let mut out = String::new();
        text.read_to_string(&mut out).unwrap();
        (out, name)
    }

    #[test]
    fn who_says_more_surely_counts() {
        for (bytes, content_type, expected) in [
            (&b"\xef\xbb\xbf<meta charset=koi8-r>"[..], Some("text/html; charset=big5"), "UTF-8"),
            (b"\xff\xfea\0", Some("text/html; charset=utf-8"), "UTF-16LE"),
            (b"<meta charset=koi8-r>", Some("text/html; charset=big5"), "Big5"),
            (b"<meta charset=koi8-r>", Some("text/html; charset=nonsense"), "KOI8-R"),
            (b"<meta charset=koi8-r>", Some("text/html"), "KOI8-R"),
            (b"<meta charset=koi8-r>", None, "KOI8-R"),
            (b"plain", None, "UTF-8"),
        ] {
            assert_eq!(read(bytes, content_type).1, expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_a_page_says_of_itself_is_read_as_browsers_read_it() {
        for (text, expected) in [
            ("<meta charset='koi8-r'>", Some("KOI8-R")),
            ("<META CHARSET = \"latin1\" >", Some("windows-1252")),
            ("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>", Some("KOI8-R")),
            ("<meta content='text/html; charset=\"koi8-r\"' http-equiv=content-type>", Some("KOI8-R")),
            ("<meta content='text/html; charset=koi8-r'>", None),
            ("<meta http-equiv=refresh content='text/html; charset=koi8-r'>", None),
            ("<meta content='charset charset = koi8-r;x' http-equiv=content-type>", Some("KOI8-R")),
            ("<!-- <meta charset=koi8-r> --><meta charset=big5>", Some("Big5")),
            ("<!--><meta charset=big5>", Some("Big5")),
            ("<!-- <meta charset=big5>", None),
            ("<!doctype html><title>x</title><meta charset=big5>", Some("Big5")),
            ("<a title='<meta charset=koi8-r>'><meta charset=big5>", Some("Big5")),
            ("</a title='>'><meta charset=big5>", Some("Big5")),
            ("<? <meta charset=big5>", None),
            ("<metax charset=big5>", None),
            ("<meta/charset=big5>", Some("Big5")),
            ("<meta charset=big5 charset=koi8-r>", Some("Big5")),
            ("<meta charset=utf-16>", Some("UTF-8")),
            ("<meta charset=x-user-defined>", Some("windows-1252")),
            ("<meta charset=nonsense><meta charset=big5>", Some("Big5")),
            ("<?xml version='1.0' encoding='koi8-r'?><html>", Some("KOI8-R")),
            ("<?xml version='1.0' encoding='koi8-r'?><meta charset=big5>", Some("Big5")),
            ("<", None),
            ("<meta ", None),
            ("<meta charset", None),
            ("<meta charset=", None),
            ("", None),
        ] {
            assert_eq!(prescan(text.as_bytes()).map(Encoding::name), expected, "{text:?}");
        }
        let late = format!("{}<meta charset=big5>", " ".repeat(PRESCAN_BYTES));
        assert_eq!(prescan(late.as_bytes()), None);
    }

    #[test]
    fn what_says_nothing_is_guessed() {
        let russian = "Съешь же ещё этих мягких французских булок, да выпей чаю".repeat(4);
        let (bytes, ..) = encoding_rs::WINDOWS_1251.encode(&russian);
        assert_eq!(read(&bytes, None), (russian.clone(), "windows-1251"));
        assert_eq!(read(russian.as_bytes(), None), (russian, "UTF-8"));
    }

    #[test]
    fn text_longer_than_what_is_read_ahead_comes_whole() {
        let text = "é€ü".repeat(60_000);
        assert_eq!(read(text.as_bytes(), None), (text.clone(), "UTF-8"));
        let (bytes, ..) = encoding_rs::SHIFT_JIS.encode("日本語日本語");
        let bytes = bytes.repeat(20_000);
        let read = read(&bytes, Some("text/html; charset=shift_jis")).0;
        assert_eq!(read, "日本語日本語".repeat(20_000));
    }
}
