//! Heads in HTTP/1's form: of answers from the cache, to be read as a backend's are; and of what is fetched for it.

use skep_cache::asked::is_own;
use skep_cache::conditions::Validators;
use skep_cache::fields::lines;

use crate::core::cache::stored::Head;
use crate::wire::response_head::{AnswerLength, ResponseHead};
use crate::wire::write::{write_added, write_number};

/// Most fields and bytes of a head that is stored, so that what is added to it has room.
pub(super) const FIELDS_MAX: usize = 90;
pub(super) const BYTES_MAX: usize = 15 * 1024;

/// The name of the field that says what the cache did (RFC 9211).
pub(super) const CACHE_STATUS: &str = "cache-status";

/// Begins the head of an answer from what is stored: its line, and those of its fields that `says` wants.
pub(super) fn write_stored(
    head: &Head,
    status: u16,
    reason: &[u8],
    says: impl Fn(&[u8]) -> bool,
    out: &mut Vec<u8>,
) {
    write_status(head.is_old, status, reason, out);
    for (name, value) in lines(&head.lines).filter(|(name, _)| says(name)) {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

pub(super) fn write_length(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    write_number(bytes, out);
    out.extend_from_slice(b"\r\n");
}

fn write_status(is_old: bool, status: u16, reason: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    write_number(status.into(), out);
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// The head of an answer that is passed on as it came. Where its length is not known, it says nothing of it.
pub(super) fn passed(head: &ResponseHead, buf: &[u8], said: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len + 64);
    write_status(head.old, head.status, head.reason.of(buf), &mut out);
    // As short as it can be written: what came is to be read again, however long it is.
    for field in &head.fields {
        for part in [field.name.of(buf), b":", field.value.of(buf), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if let Some(said) = said.filter(|_| head.fields.len() < FIELDS_MAX && head.len < BYTES_MAX) {
        write_added(CACHE_STATUS, said, &mut out);
    }
    if let AnswerLength::Length(bytes) = head.body {
        out.extend_from_slice(b"content-length:");
        write_number(bytes, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(upgrade) = head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(upgrade.of(buf));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The head of what is fetched: all of the answer, or that what is stored still holds.
pub(super) fn fetched(request: &[u8], own: Option<Validators<'_>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len() + 128);
    // A GET, whatever was asked: who wants the head alone has it of that.
    let target = request.iter().position(|b| *b == b' ').unwrap_or_default();
    out.extend_from_slice(b"GET");
    let mut is_first = true;
    for line in request[target..].split_inclusive(|b| *b == b'\n') {
        if line == b"\r\n" {
            break;
        }
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        if is_first || !is_own(name) {
            out.extend_from_slice(line);
        }
        is_first = false;
    }
    let own = own.unwrap_or_default();
    for (name, value) in [("if-none-match", own.etag), ("if-modified-since", own.last_modified)] {
        if let Some(value) = value {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request_head::{HEAD_BYTES_MAX, Method};

    #[test]
    fn what_is_passed_on_can_be_read_again_however_long_it_is() {
        let mut text = "HTTP/1.1 200 OK\r\ncontent-length:3\r\n".to_owned();
        (0..90).for_each(|at| text += &format!("x{at}:{}\r\n", "y".repeat(170)));
        let left = HEAD_BYTES_MAX - text.len() - "z:\r\n\r\n".len();
        text += &format!("z:{}\r\n\r\n", "y".repeat(left));
        let (mut head, mut again) = (ResponseHead::default(), ResponseHead::default());
        assert_eq!((head.parse(text.as_bytes(), Method::Get), text.len()), (Ok(true), HEAD_BYTES_MAX));
        let out = passed(&head, text.as_bytes(), Some("skep; fwd=miss"));
        assert_eq!(again.parse(&out, Method::Get), Ok(true));
        assert_eq!((again.fields.len(), again.body), (91, AnswerLength::Length(3)));
    }

    #[test]
    fn what_is_fetched_is_all_of_it_or_what_is_stored_still() {
        let head = b"HEAD /if-match:x HTTP/1.1\r\nhost: a\r\nIf-None-Match: \"x\"\r\nrange: bytes=0-1\r\nx: y\r\n\r\n";
        let plain = "GET /if-match:x HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n";
        assert_eq!(String::from_utf8(fetched(head, None)).unwrap(), plain);
        let own = Validators { etag: Some(b"\"e\""), last_modified: Some(b"Sun"), date: None };
        let expected = "GET /if-match:x HTTP/1.1\r\nhost: a\r\nx: y\r\nif-none-match: \"e\"\r\n\
                        if-modified-since: Sun\r\n\r\n";
        assert_eq!(String::from_utf8(fetched(head, Some(own))).unwrap(), expected);
    }
}
