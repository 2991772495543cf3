//! Which answers are compressed, and what their heads say then. Pure.

use skep_cache::directives::{Directives, Seconds};
use skep_gateway::compress::{Coding, Compress, tag, tags_asked};

use crate::forward::plan::Squeeze;
use crate::wire::fields::has_token;
use crate::wire::request_head::Method;
use crate::wire::response_head::{AnswerLength, ResponseHead};

/// What says something of the very bytes of an answer, or has secrets that lengths would tell of (BREACH).
const BOUND: [&str; 9] = [
    "content-digest",
    "content-encoding",
    "content-md5",
    "content-range",
    "digest",
    "repr-digest",
    "set-cookie",
    "signature",
    "signature-input",
];
const VARY: &str = "accept-encoding";

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum Becomes {
    AsItIs,
    /// The same body below another head.
    Head(Box<ResponseHead>),
    /// It has a body, which is coded below the one head; and as it came, below the other.
    Coded {
        coded: Box<ResponseHead>,
        plain: Box<ResponseHead>,
        coding: Coding,
    },
}

/// Of an answer to a request of that method; `asked` is what of its `If-None-Match` came, where that names tags of what
/// was compressed.
pub(super) fn becomes(
    head: &ResponseHead,
    buf: &[u8],
    rules: &Compress,
    squeeze: Squeeze,
    method: Method,
    asked: Option<&[u8]>,
) -> Becomes {
    if head.status == 304 {
        let mut head = head.clone();
        if asked.is_some_and(|it| is_had_coded(&head, buf, it)) {
            weaken(&mut head, buf);
        }
        vary(&mut head, buf);
        return Becomes::Head(head.into());
    }
    if !gains(head, buf, rules, squeeze.has_cookie, method) {
        return Becomes::AsItIs;
    }
    let mut plain = head.clone();
    vary(&mut plain, buf);
    let Some(coding) = squeeze.coding else { return Becomes::Head(plain.into()) };
    let mut coded = plain.clone();
    if !weaken(&mut coded, buf) {
        return Becomes::AsItIs;
    }
    // A part of these bytes is not to be had.
    coded.drop_fields(buf, |name| name.eq_ignore_ascii_case(b"accept-ranges"));
    coded.say("content-encoding", coding.name().to_owned());
    coded.told_length = None;
    if head.body == AnswerLength::None {
        return Becomes::Head(coded.into());
    }
    coded.body = AnswerLength::Close;
    Becomes::Coded { coded: coded.into(), plain: plain.into(), coding }
}

/// Whether a client has what a 304 is about as it was compressed, and not as it is, by the tags that it named.
fn is_had_coded(head: &ResponseHead, buf: &[u8], asked: &[u8]) -> bool {
    let is_tag = |name: &[u8]| name.eq_ignore_ascii_case(b"etag");
    let own = head.fields.iter().find(|it| is_tag(it.name.of(buf))).map(|it| it.value.of(buf));
    let has = |text: &[u8]| asked.windows(text.len()).any(|it| it == text);
    own.is_some_and(|own| !own.is_empty() && !has(own) && tag(own).is_some_and(|it| has(&it)))
}

/// Whether it would be compressed for whoever takes that.
fn gains(head: &ResponseHead, buf: &[u8], rules: &Compress, has_cookie: bool, method: Method) -> bool {
    let is_long = |length: Option<u64>| length.is_none_or(|it| it >= rules.length_min);
    let fits = match head.body {
        AnswerLength::Length(bytes) => is_long(Some(bytes)),
        AnswerLength::Chunked | AnswerLength::Close => true,
        AnswerLength::None => method == Method::Head && is_long(head.told_length),
    };
    if !fits || !matches!(head.status, 200 | 203 | 403 | 404 | 410) {
        return false;
    }
    let (mut content_type, mut control, mut is_fixed) = (None, Directives::default(), false);
    let added = head.added().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    for (name, value) in head.fields.iter().map(|it| (it.name.of(buf), it.value.of(buf))).chain(added) {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if BOUND.iter().any(|it| is(it)) {
            return false;
        } else if is("content-type") {
            is_fixed |= content_type.replace(value).is_some();
        } else if is("cache-control") {
            control.read(value);
            is_fixed |= has_token(value, b"no-transform");
        } else if is("trailer") {
            // What comes behind it may say something of its bytes, too.
            is_fixed |= BOUND.iter().any(|it| has_token(value, it.as_bytes()));
        }
    }
    // By the name of the route: what it sets is not ours to weaken.
    is_fixed |= head.added().any(|(name, _)| name.eq_ignore_ascii_case("etag"));
    // Who has a cookie may be shown what others are not, unless the answer says that it is for all.
    let is_for_all = control.public || matches!(control.s_maxage, Seconds::Is(1..));
    let is_for_all = is_for_all && !control.private && !control.no_store && !control.is_ambiguous;
    let is_for = content_type.is_some_and(|it| rules.is_for(it));
    !is_fixed && is_for && (!has_cookie || is_for_all)
}

/// Puts the tag of what is compressed in the place of its own. Says whether there is none that is none.
fn weaken(head: &mut ResponseHead, buf: &[u8]) -> bool {
    let is_tag = |name: &[u8]| name.eq_ignore_ascii_case(b"etag");
    let mut tags = head.fields.iter().filter(|it| is_tag(it.name.of(buf))).map(|it| it.value.of(buf));
    let (Some(own), None) = (tags.next(), tags.next()) else {
        return !head.fields.iter().any(|it| is_tag(it.name.of(buf)));
    };
    let weak = tag(own).and_then(|it| String::from_utf8(it).ok()).filter(|it| it.is_ascii());
    let Some(weak) = weak else { return false };
    head.drop_fields(buf, is_tag);
    head.say("etag", weak);
    true
}

/// Says that it hangs on what codings a client takes.
fn vary(head: &mut ResponseHead, buf: &[u8]) {
    let is_vary = |name: &[u8]| name.eq_ignore_ascii_case(b"vary");
    let says = |value: &[u8]| has_token(value, VARY.as_bytes()) || has_token(value, b"*");
    let fields = head.fields.iter().filter(|it| is_vary(it.name.of(buf)));
    let is_said = fields.map(|it| it.value.of(buf)).any(says)
        || head.added().any(|(name, value)| is_vary(name.as_bytes()) && says(value.as_bytes()));
    if !is_said {
        head.say("vary", VARY.to_owned());
    }
}

/// Of what comes behind a body that is coded, what says nothing of the bytes that it had.
pub(super) fn trailing(trailers: &[u8]) -> Vec<u8> {
    let is_bound = |line: &[u8]| {
        let name = line.split(|b| *b == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"etag") || BOUND.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
    };
    let lines = trailers.split_inclusive(|b| *b == b'\n');
    lines.filter(|it| !is_bound(it)).flatten().copied().collect()
}

/// A request's head as the service is to get it, where its client names tags of what was compressed; and those, as they
/// came.
pub(super) fn mapped(head: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut out, mut asked) = (Vec::new(), Vec::new());
    let mut is_mapped = false;
    for line in head.split_inclusive(|b| *b == b'\n') {
        let (name, value) = line.split_at(line.iter().position(|b| *b == b':').unwrap_or(line.len()));
        let is_it = name.eq_ignore_ascii_case(b"if-none-match");
        let own = is_it.then(|| tags_asked(value)).flatten();
        asked.extend_from_slice(if is_it { value } else { &[] });
        is_mapped |= own.is_some();
        out.extend_from_slice(name);
        out.extend_from_slice(own.as_deref().unwrap_or(value));
    }
    is_mapped.then_some((out, asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::response_head::write_response;
    use crate::wire::write::Framing;

    const TAKES: Squeeze = Squeeze { coding: Some(Coding::Gzip), has_cookie: false };
    const FIELDS: &str = "content-type: text/html\r\ncontent-length: 5000\r\n";

    /// The head that its client gets; and whether a body is coded.
    fn answered(status: u16, fields: &str, squeeze: Squeeze, method: Method) -> (String, bool) {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        let mut head = ResponseHead::default();
        assert_eq!(head.parse(text.as_bytes(), method), Ok(true), "{text}");
        let asked = Some(&b"W/\"a--skep\""[..]);
        let made = becomes(&head, text.as_bytes(), &Compress::default(), squeeze, method, asked);
        let (head, is_coded) = match made {
            Becomes::AsItIs => (head, false),
            Becomes::Head(head) => (*head, false),
            Becomes::Coded { coded, coding, .. } => {
                assert_eq!(Some(coding), squeeze.coding);
                (*coded, true)
            }
        };
        let date = *b"Sun, 06 Nov 1994 08:49:37 GMT";
        let framing = Framing { close: false, is_head: method == Method::Head, ..Framing::alone(date) };
        let mut out = Vec::new();
        write_response(&head, text.as_bytes(), framing, &mut out);
        (String::from_utf8(out).unwrap(), is_coded)
    }

    #[test]
    fn an_answer_that_is_compressed_says_so_and_nothing_of_its_bytes_before() {
        let fields = format!("{FIELDS}etag: \"a\"\r\naccept-ranges: bytes\r\nvary: cookie\r\n");
        let (head, is_coded) = answered(200, &fields, TAKES, Method::Get);
        assert!(is_coded, "{head}");
        for line in [
            "content-encoding: gzip",
            "etag: W/\"a--skep\"",
            "vary: accept-encoding",
            "transfer-encoding: chunked",
        ] {
            assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {head}");
        }
        assert!(
            !head.contains("content-length")
                && !head.contains("accept-ranges")
                && !head.contains("\r\netag: \"")
        );
        // Its head alone is the same.
        let (of_head, is_coded) = answered(200, &fields, TAKES, Method::Head);
        assert!(!is_coded);
        assert_eq!(of_head, head.replace("transfer-encoding: chunked\r\n", ""));
        // Who takes none gets it as it is, and caches are told.
        let (plain, is_coded) = answered(200, &fields, Squeeze { coding: None, ..TAKES }, Method::Get);
        assert!(
            !is_coded && plain.contains("etag: \"a\"") && plain.contains("vary: accept-encoding"),
            "{plain}"
        );
        assert!(plain.contains("content-length: 5000") && plain.contains("accept-ranges"), "{plain}");
        let (said, _) =
            answered(200, &format!("{FIELDS}vary: Cookie, Accept-Encoding\r\n"), TAKES, Method::Get);
        assert_eq!(said.to_ascii_lowercase().matches("accept-encoding").count(), 1, "{said}");
    }

    #[test]
    fn what_does_not_gain_or_must_not_be_changed_is_as_it_came() {
        for (status, fields) in [
            (206, FIELDS),
            (301, FIELDS),
            (500, FIELDS),
            (200, "content-length: 5000\r\n"),
            (200, "content-type: text/html\r\ncontent-length: 1023\r\n"),
            (200, "content-type: image/png\r\ncontent-length: 5000\r\n"),
            (200, "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"),
            (200, "content-type: text/html\r\ncontent-type: text/plain\r\n"),
            (200, &format!("{FIELDS}content-encoding: br\r\n")),
            (200, &format!("{FIELDS}Set-Cookie: a=b\r\n")),
            (200, &format!("{FIELDS}cache-control: max-age=60, No-Transform\r\n")),
            (200, &format!("{FIELDS}content-digest: x\r\n")),
            (200, &format!("{FIELDS}Repr-Digest: x\r\n")),
            (200, &format!("{FIELDS}signature-input: x\r\n")),
            (200, "content-type: text/html\r\ntransfer-encoding: chunked\r\ntrailer: x, Digest\r\n"),
            (200, &format!("{FIELDS}etag: a\r\n")),
            (200, &format!("{FIELDS}etag: \"\u{e4}\"\r\n")),
            (200, &format!("{FIELDS}etag: \"a\"\r\netag: \"b\"\r\n")),
        ] {
            let (head, is_coded) = answered(status, fields, TAKES, Method::Get);
            assert!(!is_coded && !head.contains("gzip") && !head.contains("--skep"), "{head}");
            assert_eq!(head.contains("content-length: 5000"), fields.contains("content-length: 5000"));
        }
    }

    #[test]
    fn who_has_a_cookie_gets_compressed_what_is_for_all() {
        let squeeze = Squeeze { has_cookie: true, ..TAKES };
        for (control, is_coded) in [
            ("", false),
            ("max-age=60", false),
            ("public", true),
            ("s-maxage=60", true),
            ("s-maxage=0", false),
            ("public, private", false),
            ("public, no-store", false),
            ("public, x=\"", false),
        ] {
            let fields = format!("{FIELDS}cache-control: {control}\r\n");
            assert_eq!(answered(200, &fields, squeeze, Method::Get).1, is_coded, "{control}");
        }
    }

    #[test]
    fn that_it_has_not_changed_is_said_of_the_tag_that_the_client_has() {
        let (head, _) = answered(304, "etag: \"a\"\r\n", TAKES, Method::Get);
        assert!(head.contains("etag: W/\"a--skep\"\r\n") && head.contains("vary: accept-encoding"), "{head}");
        let head =
            b"GET / HTTP/1.1\r\nhost: a\r\nIf-None-Match: W/\"a--skep\", W/\"b\"\r\nx: W/\"a--skep\"\r\n\r\n";
        let sent = b"GET / HTTP/1.1\r\nhost: a\r\nIf-None-Match: \"a\", W/\"b\"\r\nx: W/\"a--skep\"\r\n\r\n";
        let (mapped_head, asked) = mapped(head).unwrap();
        assert_eq!(mapped_head, sent);
        assert_eq!(asked, b": W/\"a--skep\", W/\"b\"\r\n");
        assert_eq!(mapped(sent), None);
        // Of a tag that it has not, or has as it is, nothing else is said.
        for fields in ["etag: \"c\"\r\n", "etag: W/\"a--skep\"\r\n"] {
            let (head, _) = answered(304, fields, TAKES, Method::Get);
            assert!(head.contains(fields) && head.contains("vary: accept-encoding"), "{head}");
        }
        let trailers = b"X-End: 1\r\nContent-Digest: x\r\nETag: \"a\"\r\nx: 2\r\n";
        assert_eq!(trailing(trailers), b"X-End: 1\r\nx: 2\r\n");
    }
}
