//! A request as the resources see it, and lists as Kong answers them. Pure.

use http::Method;
use serde_json::{Value, json};
use skep_gateway::auth::password::Salt;

use super::answer::{Answer, MORE};
use super::body::{Params, encoded};
use super::{Aliases, Closed};

/// Most that a list has at once, and where nothing is said.
const SIZE_MAX: usize = 1000;
const SIZE: usize = 100;

/// What a new entity has: drawn before anything is looked at, so that one that was put is known again.
#[derive(Debug, Clone)]
pub struct New {
    pub id: String,
    pub created_at: u64,
    /// A key for who gives none.
    pub key: String,
    /// For a password.
    pub salt: Salt,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// The path and its segments, decoded, without the slash at its end.
    pub path: String,
    pub segments: Vec<String>,
    pub query: Vec<(String, String)>,
    pub params: Params,
    /// What the door was asked by.
    pub host: String,
    pub new: New,
    pub aliases: Aliases,
    pub closed: Closed,
}

/// What became of it: an answer, and whether the document was changed.
#[derive(Debug, PartialEq)]
pub struct Done {
    pub answer: Answer,
    pub is_change: bool,
}

impl Done {
    pub fn read(answer: Answer) -> Result<Self, Answer> {
        Ok(Self { answer, is_change: false })
    }

    pub fn changed(answer: Answer) -> Result<Self, Answer> {
        Ok(Self { answer, is_change: true })
    }
}

impl Asked {
    /// A list of these, which are in order: those whose fields are what the query says, from the one that it names.
    pub fn list(&self, all: Vec<Value>, fields: &[&str]) -> Result<Done, Answer> {
        let (mut size, mut offset, mut all) = (SIZE, None, all);
        let mut filters = String::new();
        for (name, value) in &self.query {
            match name.as_str() {
                "size" => match value.parse() {
                    Ok(given) if (1..=SIZE_MAX).contains(&given) => size = given,
                    _ => return Err(Answer::field(400, name, format!("size is 1 to {SIZE_MAX}"))),
                },
                "offset" => offset = Some(value),
                _ if fields.contains(&name.as_str()) => {
                    filters += &format!("&{name}={}", encoded(value));
                    all.retain(|it| it[name] == **value);
                }
                _ => return Err(Answer::field(400, name, format!("{name} is an unknown field: {MORE}"))),
            }
        }
        if let Some(offset) = offset {
            let from = all.iter().position(|it| it["id"] == **offset);
            all.drain(..from.unwrap_or(all.len()));
        }
        let next = (all.len() > size).then(|| {
            let id = all[size]["id"].as_str().unwrap_or_default();
            let path: String = self.segments.iter().map(|it| format!("/{}", encoded(it))).collect();
            format!("http://{}{path}/?size={size}&offset={id}{filters}", self.host)
        });
        all.truncate(size);
        Done::read(Answer::ok(match next {
            Some(next) => json!({ "data": all, "next": next }),
            None => json!({ "data": all }),
        }))
    }

    /// What has this id, or this name.
    pub fn is_meant(&self, given: &str, id: &str, name: Option<&str>) -> bool {
        if is_uuid(given) { given == id } else { Some(given) == name }
    }

    /// That an entity that was made so is given the same or nothing, as by who sends back what it was shown.
    pub fn check_made(&self, id: &str, created_at: u64) -> Result<(), Answer> {
        for (name, own) in [("id", id), ("created_at", &created_at.to_string())] {
            let is_own = |given: &Value| match given {
                Value::String(text) => text == own,
                Value::Number(number) => number.to_string() == own,
                _ => false,
            };
            if self.params.get(name).is_some_and(|given| !is_own(given)) {
                return Err(Answer::field(400, name, format!("{name} cannot be updated")));
            }
        }
        Ok(())
    }

    /// The id of what is new: with PUT that which is given.
    pub fn new_id(&self) -> Result<String, Answer> {
        match self.params.get("id").filter(|it| !it.is_null()) {
            Some(given) if self.method == Method::PUT => {
                let given = given.as_str().filter(|it| is_uuid(it));
                given.map(str::to_owned).ok_or_else(|| Answer::field(400, "id", "id is not an id"))
            }
            _ => Ok(self.new.id.clone()),
        }
    }

    /// The fields that are given, without what no client gives an entity.
    pub fn given(&self) -> Params {
        let is_clients = |name: &str| !matches!(name, "id" | "created_at");
        self.params.clone().into_iter().filter(|(name, _)| is_clients(name)).collect()
    }

    /// These fields, and over them those that are given.
    pub fn over(&self, before: Value, without: &[&str]) -> Params {
        let mut fields = match before {
            Value::Object(fields) => fields,
            _ => Params::new(),
        };
        fields.retain(|name, _| !without.contains(&name.as_str()));
        fields.extend(self.given());
        fields
    }
}

/// As Kong tells ids from names.
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let is_part = |(part, length): (&str, usize)| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    text.split('-').count() == lengths.len() && text.split('-').zip(lengths).all(is_part)
}
