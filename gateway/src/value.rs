//! A document as it was read: a tree in which no name stands twice.
//!
//! Two readers that take different ones of two equal names would obey different documents.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::fault::Refused;

/// Largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What JSON and TOML have in common. As JSON it has one form: names in their order, and no spaces.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Null,
    Switch(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Reads the text of a document, or of an object of one.
    pub fn of_document(text: &str) -> Result<Self, Refused> {
        if text.len() > DOCUMENT_BYTES_MAX {
            let fault = format!("{} bytes are too many: at most {DOCUMENT_BYTES_MAX}", text.len());
            return Err(Refused::whole(fault));
        }
        Self::read(text).map_err(Refused::whole)
    }

    /// Reads a text: as JSON where it begins as an object of it does, else as TOML, in which nothing begins so.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))
        } else {
            toml::from_str(text).map_err(|error| toml_fault(text, &error))
        }
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Switch(_) => "true or false",
            Self::Whole(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// Without the line itself, which the error would show: a key may stand in it.
fn toml_fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.as_bytes().get(..span.start)).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    format!("it is no TOML: {}, in line {line}", error.message().trim_end().replace('\n', ", "))
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Switch(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(Value::Whole(it))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(i64::try_from(it).map_or(Value::Number(it as f64), Value::Whole))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(Value::Number(it))
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(Value::Text(it.to_owned()))
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(Value::Text(it))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut of: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = of.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut of: A) -> Result<Value, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((name, value)) = of.next_entry::<String, Value>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name:?} stands twice in one object")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_toml_of_one_meaning_are_one_tree() {
        let json = r#" {"a": {"b": [1, 2.5, "x", true]}}"#;
        assert_eq!(Value::read(json), Value::read("[a]\nb = [1, 2.5, \"x\", true]\n"));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"{"x": {"a": 1, "\u0061": 2}}"#, "a = 1\na = 1\n", "[a]\n[a]\n"]
        {
            assert!(Value::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_what_stands_there() {
        for text in [
            "\n\nkeys = [\"hidden-0123456789\"",
            "\n\nkeys = \"hidden",
            "\n\nhidden\nx = 1",
            "\n\nkeys = hidden",
        ] {
            let fault = Value::read(text).unwrap_err();
            assert!(fault.contains("in line 3") && !fault.contains("hidden"), "{fault}");
        }
        let fault = Value::read("{\"keys\": \"hidden\", hidden}").unwrap_err();
        assert!(fault.contains("line 1") && !fault.contains("hidden"), "{fault}");
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused_and_nothing_worse() {
        for text in [format!("{{\"a\":{}", "[".repeat(100_000)), format!("a = {}", "[".repeat(100_000))] {
            assert!(Value::read(&text).is_err());
        }
    }
}
