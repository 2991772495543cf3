//! Heads between HTTP/2 and HTTP/1.1. Pure, but for the random key of a WebSocket.
//!
//! A request's head is written as HTTP/1.1 and then read by the same strict reader as every other:
//! one set of rules, whatever a request came by. An extended CONNECT (RFC 8441) becomes the upgrade
//! that it stands for.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    VIA,
};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use skep_console::problem::{PROBLEM_JSON, SKEP_UNPROCESSED};

use crate::core::routes::Added;
use crate::forward::problem::{MISPLACED_TRAILER, Problem};
use crate::gateway::Answer;
use crate::wire::fields::{is_of_connection, may_trail_a_request};
use crate::wire::request_head::{HEAD_BYTES_MAX, Refusal};
use crate::wire::response_head::{AnswerLength, ResponseHead};
use crate::wire::write::Date;

/// The one protocol that an extended CONNECT may ask for.
pub const WEBSOCKET: &str = "websocket";

/// Whether the request is an extended CONNECT.
pub fn is_websocket<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

/// Writes the head as HTTP/1.1 would carry it. `has_body`: DATA follows.
pub fn write_as_http1<B>(request: &Request<B>, has_body: bool, out: &mut Vec<u8>) -> Result<(), Problem> {
    let bad = |text| Problem::Refused(Refusal::BadRequest(text));
    let websocket = is_websocket(request);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let method = if websocket { "GET" } else { request.method().as_str() };
    // The path of an origin-form, or `*`; nothing that names another authority (RFC 9113, 8.3.1).
    let is_whole_server = target == "*" && request.method() == Method::OPTIONS;
    if !target.starts_with('/') && !is_whole_server {
        return Err(bad("a malformed :path"));
    }
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // `:authority` and Host must not differ (RFC 9113, 8.3.1).
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    match (authority, request.headers().get(HOST)) {
        (Some(authority), Some(host)) if !is_same(request.uri().scheme(), authority, host.as_bytes()) => {
            return Err(bad(":authority is not the Host"));
        }
        (Some(authority), _) => field(b"host", authority, out),
        (None, Some(host)) => field(b"host", host.as_bytes(), out),
        (None, None) => {}
    }
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(bad("more than one Host"));
    }
    let mut cookies = Vec::new();
    for (name, value) in request.headers() {
        if is_padded(value) {
            return Err(bad("white space around a field's value"));
        }
        match *name {
            HOST => {}
            // They came apart for compression's sake (RFC 9113, 8.2.3).
            COOKIE => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            TE => {
                field(b"connection", b"te", out);
                field(b"te", b"trailers", out);
            }
            _ => field(name.as_str().as_bytes(), value.as_bytes(), out),
        }
        if out.len() + cookies.len() > HEAD_BYTES_MAX {
            return Err(Problem::Refused(Refusal::HeadTooLarge));
        }
    }
    if !cookies.is_empty() {
        field(b"cookie", &cookies, out);
    }
    if websocket {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
        write_websocket_key(out);
        out.extend_from_slice(b"\r\n");
    } else if has_body && !request.headers().contains_key(CONTENT_LENGTH) {
        field(b"transfer-encoding", b"chunked", out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Whether two authorities are one: a scheme's own port may be left out (RFC 9110, 4.2.3).
fn is_same(scheme: Option<&Scheme>, one: &[u8], other: &[u8]) -> bool {
    let own: &[u8] = if scheme == Some(&Scheme::HTTPS) { b":443" } else { b":80" };
    let plain = |authority: &'_ [u8]| {
        let len = [own, b":"].into_iter().find(|port| authority.ends_with(port)).map_or(0, <[u8]>::len);
        authority[..authority.len() - len].to_ascii_lowercase()
    };
    one.eq_ignore_ascii_case(other) || plain(one) == plain(other)
}

/// What HTTP/1.1 allows around a value is no part of it; in HTTP/2 it is malformed (RFC 9113, 8.2.1).
fn is_padded(value: &HeaderValue) -> bool {
    let is_blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// 16 random bytes in base64 (RFC 6455, 4.1): HTTP/2 has no need of it, the backend has.
fn write_websocket_key(out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = [0; 18];
    // A weak key makes caches in between take this for another handshake: there are none.
    let _ = aws_lc_rs::rand::fill(&mut key[..16]);
    let mut text = [b'='; 24];
    for (three, four) in key.chunks(3).zip(text.chunks_mut(4)) {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for (i, digit) in four.iter_mut().enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
        }
    }
    out.extend_from_slice(&text[..22]);
    out.extend_from_slice(b"==");
}

/// The head that an HTTP/2 client gets, of an answer whose bytes are in `buf`.
pub fn answer(head: &ResponseHead, buf: &[u8], date: Date) -> Response<()> {
    let upgraded = head.status == 101;
    let mut response = Response::new(());
    // An extended CONNECT that worked is answered with 200 (RFC 8441, 5.1).
    let status = if upgraded { 200 } else { head.status };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.reserve(head.fields.len() + 3);
    // One piece of memory for all values.
    let shared = Bytes::copy_from_slice(&buf[..head.len]);
    for field in &head.fields {
        let name = field.name.of(buf);
        if upgraded && name.eq_ignore_ascii_case(b"sec-websocket-accept") {
            continue;
        }
        let value = shared.slice(field.value.start as usize..field.value.end as usize);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value)) {
            headers.append(name, value);
        }
    }
    for (name, value) in head.added() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.append(name, value);
        }
    }
    let length = match head.body {
        AnswerLength::Length(bytes) => Some(bytes),
        AnswerLength::None => head.told_length.filter(|_| head.status >= 200 && head.status != 204),
        _ => None,
    };
    if let Some(bytes) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    if !head.has_date && (head.status >= 200 || upgraded) {
        write_date(date, headers);
    }
    headers.append(VIA, HeaderValue::from_static(head.via()));
    response
}

/// The head of an answer of the balancer's own that is no problem.
pub fn own(answer: &Answer, date: Date) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    let headers = response.headers_mut();
    write_added(answer.fields(), headers);
    for (name, value) in answer.passed() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    write_date(date, headers);
    response
}

/// Fields whose names are in lower case.
fn write_added<'a>(fields: impl Iterator<Item = (&'static str, &'a str)>, headers: &mut HeaderMap) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

fn write_date(date: Date, headers: &mut HeaderMap) {
    if let Ok(date) = HeaderValue::from_bytes(&date) {
        headers.insert(DATE, date);
    }
}

/// The head of a problem of the balancer's own; `readers` says which pages may read it.
pub fn problem(problem: Problem, readers: &[Added], date: Date) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    write_date(date, headers);
    if let Some(seconds) = problem.retry_after_s() {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        if problem.is_unprocessed() {
            headers.insert(SKEP_UNPROCESSED, HeaderValue::from_static("1"));
        }
    }
    write_added(readers.iter().map(|(name, value)| (*name, value.as_str())), headers);
    response
}

/// Trailers in HTTP/1.1's form; the decoder has seen that they are fields. What is about that connection ends
/// here.
pub fn read_trailers(text: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in text.split(|b| *b == b'\n') {
        let mut parts = line.splitn(2, |b| *b == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if is_of_connection(name) {
            continue;
        }
        let value = HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            trailers.append(name, value);
        }
    }
    trailers
}

/// The same the other way round, where any `may` come; by the rules for HTTP/1.1, beside HTTP/2's own.
pub fn write_trailers(trailers: &HeaderMap, may: bool, out: &mut Vec<u8>) -> Result<(), Problem> {
    for (name, value) in trailers {
        let name = name.as_str().as_bytes();
        if is_padded(value) {
            return Err(Problem::BadBody("white space around a trailer's value"));
        }
        if !may || !may_trail_a_request(name) {
            return Err(MISPLACED_TRAILER);
        }
        field(name, value.as_bytes(), out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_as_http1_would_carry_it() {
        let request = Request::builder()
            .method("POST")
            .uri("https://a.test/x?y")
            .header("cookie", "a=1")
            .header("accept", "*/*")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut out = Vec::new();
        write_as_http1(&request, true, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /x?y HTTP/1.1\r\nhost: a.test\r\naccept: */*\r\nconnection: te\r\nte: trailers\r\n\
             cookie: a=1; b=2\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let request = Request::builder()
            .method("CONNECT")
            .uri("https://a.test/chat")
            .header("sec-websocket-version", "13")
            .extension(Protocol::from_static("websocket"))
            .body(())
            .unwrap();
        let mut out = Vec::new();
        write_as_http1(&request, true, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (before, key) = text.split_once("sec-websocket-key: ").unwrap();
        assert_eq!(
            before,
            "GET /chat HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\n"
        );
        assert!(key.len() == 28 && key.ends_with("==\r\n\r\n"), "{key:?}");
    }

    #[test]
    fn an_authority_is_the_host_but_for_case_and_the_schemes_own_port() {
        for (uri, host, is_one) in [
            ("https://a.test/", "b.test", false),
            ("http://a.test:80/", "A.test", true),
            ("http://a.test/", "a.test:80", true),
            ("https://a.test:443/", "a.test", true),
            ("https://a.test:80/", "a.test", false),
            ("http://a.test:443/", "a.test", false),
            ("http://a.test:8080/", "a.test", false),
            ("http://[::1]:80/", "[::1]", true),
        ] {
            let request = Request::builder().uri(uri).header("host", host).body(()).unwrap();
            assert_eq!(write_as_http1(&request, false, &mut Vec::new()).is_ok(), is_one, "{uri} {host}");
        }
    }

    #[test]
    fn trailers_of_a_connection_end_with_it_and_those_of_a_head_are_refused() {
        let trailers = read_trailers(b"x-sum: 1\r\nConnection: x\r\nkeep-alive: 5\r\n");
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("1")));
        for (name, value, may) in [
            ("x-sum", "1", true),
            ("host", "b", false),
            ("x-real-ip", "1.1.1.1", false),
            ("x-sum", "1 ", false),
        ] {
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert_eq!(write_trailers(&trailers, true, &mut Vec::new()).is_ok(), may, "{name}");
            assert!(write_trailers(&trailers, false, &mut Vec::new()).is_err());
        }
    }
}
