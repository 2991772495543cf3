//! Answers in Kong's forms. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What those who want more than this version speaks are told.
pub const MORE: &str =
    "this speaks Kong 0.4; for more, put the gateway's document with `skep-node config apply`";

/// A status and a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// None: there is none.
    pub body: Option<Value>,
}

impl Answer {
    pub fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body) }
    }

    pub fn created(body: Value) -> Self {
        Self { status: 201, body: Some(body) }
    }

    pub fn no_content() -> Self {
        Self { status: 204, body: None }
    }

    /// What Kong says as a text.
    pub fn message(status: u16, text: impl Into<String>) -> Self {
        Self { status, body: Some(json!({ "message": text.into() })) }
    }

    pub fn not_found() -> Self {
        Self::message(404, "Not found")
    }

    pub fn method_not_allowed() -> Self {
        Self::message(405, "Method not allowed")
    }

    /// Of one field.
    pub fn field(status: u16, name: &str, why: impl Into<String>) -> Self {
        let mut errors = Errors::default();
        errors.add(name, why);
        errors.answer(status)
    }
}

/// What is wrong with the fields of an entity, by their names.
#[derive(Debug, Default, PartialEq)]
pub struct Errors(BTreeMap<String, Vec<String>>);

impl Errors {
    pub fn add(&mut self, name: &str, why: impl Into<String>) {
        self.0.entry(name.to_owned()).or_default().push(why.into());
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// `it`, where nothing is wrong.
    pub fn none_or<T>(self, status: u16, it: T) -> Result<T, Answer> {
        match self.0.is_empty() {
            true => Ok(it),
            false => Err(self.answer(status)),
        }
    }

    fn answer(self, status: u16) -> Answer {
        let texts = |mut texts: Vec<String>| match texts.len() {
            1 => Value::String(texts.swap_remove(0)),
            _ => texts.into(),
        };
        let body: Map<String, Value> = self.0.into_iter().map(|(name, why)| (name, texts(why))).collect();
        Answer { status, body: Some(body.into()) }
    }
}
