//! The fields of an entity, read as Kong 0.4 does: texts are numbers, switches and lists where those are wanted, and what
//! is not known is an error. Pure.

use serde_json::{Map, Value};

use super::answer::{Errors, MORE};

/// Fields that were not looked at yet, and what is wrong with those that were.
#[derive(Debug)]
pub struct Fields {
    /// What stands before a name in what is said of it, as in `value.`.
    within: &'static str,
    left: Map<String, Value>,
    pub errors: Errors,
}

impl Fields {
    /// An empty text and null are as if they were not there.
    pub fn of(within: &'static str, fields: Map<String, Value>) -> Self {
        let is_there = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            _ => true,
        };
        let left = fields.into_iter().filter(|(_, value)| is_there(value)).collect();
        Self { within, left, errors: Errors::default() }
    }

    fn wrong(&mut self, name: &str, kind: &str) {
        let within = self.within;
        self.errors.add(&format!("{within}{name}"), format!("{name} is not a {kind}"));
    }

    /// Says what is wrong with one that was read.
    pub fn add(&mut self, name: &str, why: impl Into<String>) {
        let within = self.within;
        self.errors.add(&format!("{within}{name}"), why);
    }

    pub fn object(&mut self, name: &str) -> Map<String, Value> {
        match self.left.remove(name) {
            None => Map::new(),
            Some(Value::Object(members)) => members,
            Some(_) => {
                self.wrong(name, "table");
                Map::new()
            }
        }
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.left.remove(name)? {
            Value::String(text) => Some(text.trim().to_owned()),
            _ => {
                self.wrong(name, "string");
                None
            }
        }
    }

    pub fn switch(&mut self, name: &str) -> Option<bool> {
        let given = self.left.remove(name)?;
        let read = match &given {
            Value::Bool(it) => Some(*it),
            Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        if read.is_none() {
            self.wrong(name, "boolean");
        }
        read
    }

    pub fn number(&mut self, name: &str) -> Option<f64> {
        let given = self.left.remove(name)?;
        let read = match &given {
            Value::Number(it) => it.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let read = read.filter(|it: &f64| it.is_finite());
        if read.is_none() {
            self.wrong(name, "number");
        }
        read
    }

    /// A list, or a text with commas between.
    pub fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let texts = match self.left.remove(name)? {
            Value::String(text) => Some(text.split(',').map(|it| it.trim().to_owned()).collect()),
            Value::Array(items) => {
                let text = |it: &Value| it.as_str().map(|it| it.trim().to_owned());
                items.iter().map(text).collect::<Option<Vec<String>>>()
            }
            _ => None,
        };
        if texts.is_none() {
            self.wrong(name, "array");
        }
        texts
    }

    /// What was not asked for is not known.
    pub fn end(mut self) -> Errors {
        for name in std::mem::take(&mut self.left).keys() {
            let within = self.within;
            self.errors.add(&format!("{within}{name}"), format!("{name} is an unknown field: {MORE}"));
        }
        self.errors
    }
}
