//! A message as lists and the live feed show it: one JSON object.
//!
//! Written by hand, because a list of a million messages is made of nothing else.

use serde::Serialize;
use skep_state::message::StoredMessage;

use super::as_text;
use crate::http::encode::{base64, time_rfc3339};
use crate::http::headers::essence;

/// How the message itself is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A text as a JSON string, whatever it says.
    Text,
    /// What was stored as JSON as the value that it is, everything else as [`Form::Text`].
    Value,
}

/// Appends the message's JSON object, which has no line break in it.
pub(crate) fn push(message: &StoredMessage, form: Form, json: &mut Vec<u8>) -> serde_json::Result<()> {
    json.reserve(256 + message.body.len());
    json.extend_from_slice(br#"{"seq":"#);
    push_number(message.seq, json);
    json.extend_from_slice(br#","digest":""#);
    push_hex(&message.digest.0, json);
    json.extend_from_slice(br#"","time":""#);
    time_rfc3339(message.time_ms, json);
    json.extend_from_slice(br#"","content_type":"#);
    message.content_type.as_str().serialize(&mut serde_json::Serializer::new(&mut *json))?;
    json.extend_from_slice(br#","message":"#);
    if form == Form::Value && is_json(message) {
        // A raw line break stands between a document's tokens alone, where a space means the same.
        json.extend(message.body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    } else if let Some(text) = as_text(message) {
        text.serialize(&mut serde_json::Serializer::new(&mut *json))?;
    } else {
        json.push(b'"');
        json.extend_from_slice(base64(&message.body).as_bytes());
        json.extend_from_slice(br#"","encoding":"base64"#);
        json.push(b'"');
    }
    json.push(b'}');
    Ok(())
}

/// Whether the bytes are a JSON document. Their type alone does not say it: it is the client's word.
fn is_json(message: &StoredMessage) -> bool {
    essence(&message.content_type).eq_ignore_ascii_case("application/json")
        && std::str::from_utf8(&message.body)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn push_number(number: u64, json: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    json.extend_from_slice(&digits[at..]);
}

fn push_hex(bytes: &[u8; 32], json: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    json.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};
    use skep_state::message::Digest;

    use super::*;

    fn shown(content_type: &str, body: &'static [u8], form: Form) -> Value {
        let body = Bytes::from_static(body);
        let digest = Digest::of(&body);
        let message =
            StoredMessage { seq: u64::MAX, time_ms: 7, digest, content_type: content_type.into(), body };
        let mut text = Vec::new();
        push(&message, form, &mut text).unwrap();
        assert!(!text.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["digest"], digest.to_string());
        assert_eq!(
            (value["seq"].as_u64(), &value["time"]),
            (Some(u64::MAX), &json!("1970-01-01T00:00:00.007Z"))
        );
        assert_eq!(value["content_type"], content_type);
        value
    }

    #[test]
    fn a_text_is_a_string_bytes_are_base64_and_json_is_a_value_where_that_is_wanted() {
        assert_eq!(shown("text/plain", b"a\"\n\x01", Form::Text)["message"], "a\"\n\u{1}");
        let bytes = shown("image/png", b"\xff\x00", Form::Value);
        assert_eq!((&bytes["message"], &bytes["encoding"]), (&json!("/wA="), &json!("base64")));
        let document = b"{\"a\":\n[1,\r\n\"b\\n\"]}";
        assert_eq!(shown("application/json", document, Form::Value)["message"], json!({"a": [1, "b\n"]}));
        assert_eq!(shown("application/json", b"[1]", Form::Text)["message"], "[1]");
    }

    #[test]
    fn what_only_claims_to_be_json_is_a_string() {
        for body in [&b"{\"a\":"[..], b"1 2", b""] {
            assert!(shown("application/json", body, Form::Value)["message"].is_string());
        }
        assert_eq!(shown("application/json", b"\xff", Form::Value)["encoding"], "base64");
    }
}
