//! `{"message": "..."}`: one pass over the body, with an error that says what is wrong.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::problem::{Problem, ProblemKind};

/// The message's bytes. Members other than `message` are passed over.
pub(crate) fn message(body: &Bytes) -> Result<Bytes, Problem> {
    if body.is_empty() {
        let detail = "expected a JSON object, as in {\"message\":\"foo\"}";
        return Err(Problem::new(ProblemKind::EmptyBody, detail));
    }
    let text = std::str::from_utf8(body).map_err(Problem::invalid_utf8)?;
    let root: Root<'_> = serde_json::from_str(text)
        .map_err(|error| Problem::new(ProblemKind::InvalidJson, error.to_string()))?;
    let message = match root {
        Root::NoObject(kind) => {
            let detail = format!("expected a JSON object, as in {{\"message\":\"foo\"}}, not {kind}");
            return Err(Problem::new(ProblemKind::InvalidJson, detail));
        }
        Root::Object(None) => {
            let detail = "expected a member \"message\", as in {\"message\":\"foo\"}";
            return Err(Problem::new(ProblemKind::MessageMissing, detail));
        }
        Root::Object(Some(Member::Other(kind))) => {
            let detail = format!("\"message\" is {kind}; expected a string");
            return Err(Problem::new(ProblemKind::MessageNotAString, detail));
        }
        Root::Object(Some(Member::Text(text))) => text,
    };
    if message.is_empty() {
        return Err(Problem::new(ProblemKind::EmptyMessage, "a message has at least one byte"));
    }
    Ok(match message {
        // A string without escapes lies in the body as it is.
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    })
}

enum Root<'a> {
    Object(Option<Member<'a>>),
    NoObject(&'static str),
}

enum Member<'a> {
    Text(Cow<'a, str>),
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Root<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RootVisitor;
        impl<'de> Visitor<'de> for RootVisitor {
            type Value = Root<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Root<'de>, M::Error> {
                let mut message = None;
                while let Some(IsMessage(is_message)) = map.next_key()? {
                    if !is_message {
                        map.next_value::<IgnoredAny>()?;
                    } else if message.replace(map.next_value()?).is_some() {
                        return Err(M::Error::custom("\"message\" is there twice"));
                    }
                }
                Ok(Root::Object(message))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Root<'de>, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Root::NoObject("an array"))
            }
            fn visit_str<E: Error>(self, _: &str) -> Result<Root<'de>, E> {
                Ok(Root::NoObject("a string"))
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Root<'de>, E> {
                Ok(Root::NoObject("a boolean"))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Root<'de>, E> {
                Ok(Root::NoObject("a number"))
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Root<'de>, E> {
                Ok(Root::NoObject("a number"))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Root<'de>, E> {
                Ok(Root::NoObject("a number"))
            }
            fn visit_unit<E: Error>(self) -> Result<Root<'de>, E> {
                Ok(Root::NoObject("null"))
            }
        }
        deserializer.deserialize_any(RootVisitor)
    }
}

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;
        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Owned(text)))
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Member<'de>, M::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other("an object"))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Member<'de>, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Other("an array"))
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Member<'de>, E> {
                Ok(Member::Other("a boolean"))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Member<'de>, E> {
                Ok(Member::Other("a number"))
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Member<'de>, E> {
                Ok(Member::Other("a number"))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Member<'de>, E> {
                Ok(Member::Other("a number"))
            }
            fn visit_unit<E: Error>(self) -> Result<Member<'de>, E> {
                Ok(Member::Other("null"))
            }
        }
        deserializer.deserialize_any(MemberVisitor)
    }
}

/// Whether a member's name is `message`, escapes resolved.
struct IsMessage(bool);

impl<'de> Deserialize<'de> for IsMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = IsMessage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<IsMessage, E> {
                Ok(IsMessage(name == "message"))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Bytes, ProblemKind> {
        message(&Bytes::copy_from_slice(text.as_bytes())).map_err(|problem| problem.kind)
    }

    #[test]
    fn the_message_is_found_among_other_members_and_behind_escapes() {
        for text in [
            r#"{"message":"foo"}"#,
            r#" { "a" : [1, {"message": 2}], "message" : "f\u006fo", "b" : null } "#,
            r#"{"m\u0065ssage":"foo"}"#,
        ] {
            assert_eq!(read(text), Ok(Bytes::from_static(b"foo")), "{text}");
        }
    }

    #[test]
    fn each_kind_of_wrong_body_is_told_apart() {
        for (text, kind) in [
            ("", ProblemKind::EmptyBody),
            ("foo", ProblemKind::InvalidJson),
            (r#"{"message":"foo""#, ProblemKind::InvalidJson),
            (r#"{"message":"foo"} x"#, ProblemKind::InvalidJson),
            (r#"{"message":"\ud800"}"#, ProblemKind::InvalidJson),
            (r#"{"message":"a","message":"b"}"#, ProblemKind::InvalidJson),
            (r#"["message"]"#, ProblemKind::InvalidJson),
            (r#""message""#, ProblemKind::InvalidJson),
            ("1", ProblemKind::InvalidJson),
            ("null", ProblemKind::InvalidJson),
            ("{}", ProblemKind::MessageMissing),
            (r#"{"Message":"foo"}"#, ProblemKind::MessageMissing),
            (r#"{"message":1}"#, ProblemKind::MessageNotAString),
            (r#"{"message":-1.5}"#, ProblemKind::MessageNotAString),
            (r#"{"message":null}"#, ProblemKind::MessageNotAString),
            (r#"{"message":true}"#, ProblemKind::MessageNotAString),
            (r#"{"message":{"a":[]}}"#, ProblemKind::MessageNotAString),
            (r#"{"message":["foo"]}"#, ProblemKind::MessageNotAString),
            (r#"{"message":""}"#, ProblemKind::EmptyMessage),
        ] {
            assert_eq!(read(text), Err(kind), "{text}");
        }
        let nested = format!("{{\"message\":{}", "[".repeat(100_000));
        assert_eq!(read(&nested), Err(ProblemKind::InvalidJson));
    }

    #[test]
    fn invalid_utf_8_is_named_with_its_place() {
        let problem = message(&Bytes::from_static(b"{\"message\":\"\xff\"}")).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::InvalidUtf8);
        assert!(problem.detail.contains("12"), "{}", problem.detail);
    }

    proptest! {
        #[test]
        fn any_string_survives_the_way_through_json(text in ".+") {
            let body = serde_json::json!({ "message": text }).to_string();
            prop_assert_eq!(read(&body), Ok(Bytes::from(text.into_bytes())));
        }

        #[test]
        fn any_bytes_are_an_answer_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = message(&Bytes::from(bytes));
        }
    }
}
