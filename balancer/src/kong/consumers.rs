//! `/consumers` and the keys of each. A key goes in as it is given, and its SHA-256 is what the document and every later
//! answer have. Pure.

use http::Method;
use serde_json::Value;
use skep_gateway::auth::digest_of_given;

use super::answer::{Answer, Errors};
use super::asked::{Asked, Done};
use super::body::Params;
use super::entities::{Consumer, Document, KnownConsumer, KnownKey, shown};
use super::fields::Fields;

const FIELDS: [&str; 3] = ["id", "custom_id", "username"];
const FIELDS_OF_KEYS: [&str; 2] = ["id", "consumer_id"];
const NEITHER: &str = "At least a 'custom_id' or a 'username' must be specified";

/// `/consumers/`.
pub fn all(asked: &Asked, document: &mut Document) -> Result<Done, Answer> {
    let consumers = document.consumers();
    if asked.method == Method::GET {
        return asked.list(consumers.iter().map(|it| shown(&it.consumer)).collect(), &FIELDS);
    }
    let replaced = asked.params.get("id").and_then(|id| consumers.iter().find(|it| *id == it.consumer.id));
    match (&asked.method, replaced) {
        (&Method::PUT, Some(known)) => {
            asked.check_made(&known.consumer.id, known.consumer.created_at)?;
            update(document, known, asked.given(), &consumers)
        }
        (&Method::PUT | &Method::POST, _) => create(asked, document, &consumers),
        _ => Err(Answer::method_not_allowed()),
    }
}

fn create(asked: &Asked, document: &mut Document, others: &[KnownConsumer]) -> Result<Done, Answer> {
    if let Some(known) = others.iter().find(|it| it.consumer.id == asked.new.id) {
        return Done::read(Answer::created(shown(&known.consumer)));
    }
    let consumer = read(asked.given(), &asked.new_id()?, asked.new.created_at)?;
    check_unique(&consumer, others)?;
    let object = document.name_of_consumer(&consumer);
    // Its name may be of an id that the client says.
    if document.object("consumers", &object).is_some() {
        let detail = format!("consumers/{object} is there, and is none of this door's: it would be lost");
        return Err(Answer::message(409, detail));
    }
    let known = KnownConsumer { consumer, object, keys: Vec::new(), passwords: Vec::new() };
    document.put_consumer(&known);
    Done::changed(Answer::created(shown(&known.consumer)))
}

/// `/consumers/{username or id}`.
pub fn one(asked: &Asked, document: &mut Document, given: &str) -> Result<Done, Answer> {
    let consumers = document.consumers();
    let known = find(asked, &consumers, given)?;
    match asked.method {
        Method::GET => Done::read(Answer::ok(shown(&known.consumer))),
        Method::PUT | Method::PATCH => {
            asked.check_made(&known.consumer.id, known.consumer.created_at)?;
            let fields = match asked.method {
                Method::PUT => asked.given(),
                _ => asked.over(shown(&known.consumer), &["id", "created_at"]),
            };
            update(document, known, fields, &consumers)
        }
        Method::DELETE => {
            document.is_own("consumers", &known.object)?;
            document.remove("consumers", &known.object);
            Done::changed(Answer::no_content())
        }
        _ => Err(Answer::method_not_allowed()),
    }
}

pub(super) fn find<'a>(
    asked: &Asked,
    all: &'a [KnownConsumer],
    given: &str,
) -> Result<&'a KnownConsumer, Answer> {
    let is_it = |it: &&KnownConsumer| asked.is_meant(given, &it.consumer.id, it.consumer.username.as_deref());
    all.iter().find(is_it).ok_or_else(Answer::not_found)
}

fn update(
    document: &mut Document,
    known: &KnownConsumer,
    fields: Params,
    others: &[KnownConsumer],
) -> Result<Done, Answer> {
    let consumer = read(fields, &known.consumer.id, known.consumer.created_at)?;
    check_unique(&consumer, others)?;
    document.is_own("consumers", &known.object)?;
    let next = KnownConsumer { consumer, ..known.clone() };
    document.put_consumer(&next);
    Done::changed(Answer::ok(shown(&next.consumer)))
}

fn read(fields: Params, id: &str, created_at: u64) -> Result<Consumer, Answer> {
    let mut fields = Fields::of("", fields);
    let (username, custom_id) = (fields.text("username"), fields.text("custom_id"));
    if username.is_none() && custom_id.is_none() {
        for name in ["custom_id", "username"] {
            if !fields.errors.has(name) {
                fields.add(name, NEITHER);
            }
        }
    }
    fields.end().none_or(400, Consumer { id: id.to_owned(), created_at, username, custom_id })
}

fn check_unique(consumer: &Consumer, others: &[KnownConsumer]) -> Result<(), Answer> {
    let mut errors = Errors::default();
    for other in others.iter().map(|it| &it.consumer).filter(|it| it.id != consumer.id) {
        let both = [
            ("username", &consumer.username, &other.username),
            ("custom_id", &consumer.custom_id, &other.custom_id),
        ];
        for (name, own, _) in both.iter().filter(|(_, own, theirs)| own.is_some() && own == theirs) {
            let value = own.as_deref().unwrap_or_default();
            errors.add(name, format!("{name} already exists with value '{value}'"));
        }
    }
    errors.none_or(409, ())
}

/// `/consumers/{username or id}/keyauth/`.
pub fn keys(asked: &Asked, document: &mut Document, given: &str) -> Result<Done, Answer> {
    let consumers = document.consumers();
    let known = find(asked, &consumers, given)?;
    match asked.method {
        Method::GET => {
            let all: Vec<Value> = known.keys.iter().map(|it| it.shown(&known.consumer, None)).collect();
            asked.list(all, &FIELDS_OF_KEYS)
        }
        Method::POST | Method::PUT => add_key(asked, document, known, &consumers),
        _ => Err(Answer::method_not_allowed()),
    }
}

fn add_key(
    asked: &Asked,
    document: &mut Document,
    known: &KnownConsumer,
    all: &[KnownConsumer],
) -> Result<Done, Answer> {
    let mut fields = Fields::of("", asked.given());
    let key = fields.text("key");
    if fields.text("consumer_id").is_some_and(|it| it != known.consumer.id) {
        fields.add("consumer_id", "it is another consumer's than the path says");
    }
    fields.end().none_or(400, ())?;
    let key = key.unwrap_or_else(|| asked.new.key.clone());
    if let Some(there) = known.keys.iter().find(|it| it.id == asked.new.id) {
        return Done::read(Answer::created(there.shown(&known.consumer, Some(&key))));
    }
    let kept = digest_of_given(&key).map_err(|why| Answer::field(400, "key", why))?.kept();
    if all.iter().flat_map(|it| &it.keys).any(|it| it.kept == kept) {
        return Err(Answer::field(409, "key", format!("key already exists with value '{key}'")));
    }
    let made = KnownKey { id: asked.new.id.clone(), created_at: asked.new.created_at, kept };
    let answer = Answer::created(made.shown(&known.consumer, Some(&key)));
    document.is_own("consumers", &known.object)?;
    let mut next = known.clone();
    next.keys.push(made);
    document.put_consumer(&next);
    Done::changed(answer)
}

/// `/consumers/{username or id}/keyauth/{id}`.
pub fn key(asked: &Asked, document: &mut Document, given: &str, id: &str) -> Result<Done, Answer> {
    let consumers = document.consumers();
    let known = find(asked, &consumers, given)?;
    let key = known.keys.iter().find(|it| it.id == id).ok_or_else(Answer::not_found)?;
    match asked.method {
        Method::GET => Done::read(Answer::ok(key.shown(&known.consumer, None))),
        Method::DELETE => {
            document.is_own("consumers", &known.object)?;
            let mut next = known.clone();
            next.keys.retain(|it| it.id != id);
            document.put_consumer(&next);
            Done::changed(Answer::no_content())
        }
        Method::PATCH => {
            Err(Answer::field(400, "key", "a key is not changed: add another, and delete this one"))
        }
        _ => Err(Answer::method_not_allowed()),
    }
}

#[cfg(test)]
mod tests;
