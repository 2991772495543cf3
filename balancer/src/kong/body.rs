//! What a request says: its body, a form or JSON, as one object, and its query. Any bytes: what is neither is an answer,
//! and no more is made of it than came. Pure.

use serde_json::{Map, Value};

use super::answer::Answer;

/// Largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most pairs of a form or a query.
const PAIRS_MAX: usize = 256;
/// Most names in one another, as in `value.limits.minute`.
const DEPTH_MAX: usize = 4;

/// The members of a body.
pub type Params = Map<String, Value>;

/// Reads a body of that type.
pub fn read(content_type: &str, body: &[u8]) -> Result<Params, Answer> {
    if body.is_empty() {
        return Ok(Params::new());
    }
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => nested(members),
            _ => Err(Answer::message(400, "Cannot parse JSON body")),
        };
    }
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let detail = "expected is application/x-www-form-urlencoded or application/json";
        return Err(Answer::message(415, detail));
    }
    nested(pairs(body)?.into_iter().map(|(name, value)| (name, Value::String(value))))
}

/// The pairs of a form or a query.
pub fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, Answer> {
    let bad =
        || Answer::message(400, "Cannot parse the form: a name or a value is not encoded as it must be");
    let mut pairs = Vec::new();
    for pair in text.split(|b| *b == b'&').filter(|it| !it.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(Answer::message(400, format!("a form has at most {PAIRS_MAX} fields")));
        }
        let end = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let value = pair.get(end + 1..).unwrap_or_default();
        pairs.push((decoded(&pair[..end], true).ok_or_else(bad)?, decoded(value, true).ok_or_else(bad)?));
    }
    Ok(pairs)
}

/// A text of which some bytes are encoded as `%41`, and in forms a space as `+`; None where it is none, or no UTF-8.
pub fn decoded(text: &[u8], is_form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.iter();
    while let Some(b) = left.next() {
        match b {
            b'%' => {
                let mut digit = || left.next().and_then(|b| char::from(*b).to_digit(16));
                bytes.push((digit()? * 16 + digit()?) as u8);
            }
            b'+' if is_form => bytes.push(b' '),
            b => bytes.push(*b),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A text as a part of a path, or of a query.
pub fn encoded(text: &str) -> String {
    let letter = |b: u8| match b {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// Members whose names have dots as members of members.
fn nested(members: impl IntoIterator<Item = (String, Value)>) -> Result<Params, Answer> {
    let mut all = Params::new();
    for (name, value) in members {
        let clash = || Answer::field(400, &name, format!("{name} stands here twice"));
        let names: Vec<&str> = name.splitn(DEPTH_MAX, '.').collect();
        let Some((last, above)) = names.split_last() else { continue };
        let mut at = &mut all;
        for name in above {
            let inner = at.entry(*name).or_insert_with(|| Params::new().into());
            at = inner.as_object_mut().ok_or_else(clash)?;
        }
        let is_object = at.get(*last).is_some_and(Value::is_object);
        match value {
            Value::Object(more) if is_object => {
                if let Some(Value::Object(there)) = at.get_mut(*last) {
                    there.extend(more);
                }
            }
            _ if is_object => return Err(clash()),
            value => drop(at.insert((*last).to_owned(), value)),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn a_form_and_json_that_say_the_same_are_the_same() {
        let form = read(FORM, b"name=a+b&value.minute=5&value.limits.x=%2Fr%20&&empty=").unwrap();
        let expected = json!({"name": "a b", "value": {"minute": "5", "limits": {"x": "/r "}}, "empty": ""});
        assert_eq!(Value::from(form), expected);
        let text = json!({"name": "a b", "value": {"minute": "5"}, "value.limits.x": "/r ", "empty": ""});
        let json = read("application/JSON; charset=utf-8", text.to_string().as_bytes()).unwrap();
        assert_eq!(Value::from(json), expected);
        assert_eq!(read("", b"").unwrap(), Params::new());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_body_or_an_answer(bytes: Vec<u8>, text in "[a-z.=&%+{}\\[\\]\":,0-9]*") {
            for bytes in [&bytes[..], text.as_bytes()] {
                for media in [FORM, "application/json"] {
                    if let Err(answer) = read(media, bytes) {
                        proptest::prop_assert_eq!(answer.status, 400);
                    }
                }
                let _ = decoded(bytes, true);
            }
        }
    }

    #[test]
    fn what_is_neither_is_refused_in_kongs_words() {
        for text in ["{", "[]", "7", "{\"a\":1}x"] {
            let answer = read("application/json", text.as_bytes()).unwrap_err();
            assert_eq!(answer, Answer::message(400, "Cannot parse JSON body"), "{text}");
        }
        assert_eq!(read("text/plain", b"x").unwrap_err().status, 415);
        for text in ["a=%", "a=%4", "a=%zz", "%ff=1", "a=1&a.b=2"] {
            assert_eq!(read(FORM, text.as_bytes()).unwrap_err().status, 400, "{text}");
        }
        let many = "a=1&".repeat(PAIRS_MAX + 1);
        assert_eq!(read(FORM, many.as_bytes()).unwrap_err().status, 400);
        let deep = format!("{}=1", "a.".repeat(1000));
        assert!(read(FORM, deep.as_bytes()).is_ok(), "what is deeper is a name with dots");
    }
}
