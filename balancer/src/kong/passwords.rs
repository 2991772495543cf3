//! Passwords of each consumer's users (`/basicauth`). One goes in as it is given, and its hash is what the document and
//! every answer have. Pure: takes the processor for long.

use http::Method;
use serde_json::Value;
use skep_gateway::auth::password::{PasswordHash, check_given, user};

use super::answer::Answer;
use super::asked::{Asked, Done};
use super::body::Params;
use super::consumers::find;
use super::entities::{Document, KnownConsumer, KnownPassword};
use super::fields::Fields;

const FIELDS: [&str; 3] = ["id", "consumer_id", "username"];

/// `/consumers/{username or id}/basicauth/`.
pub fn all(asked: &Asked, document: &mut Document, given: &str) -> Result<Done, Answer> {
    let consumers = document.consumers();
    let known = find(asked, &consumers, given)?;
    match asked.method {
        Method::GET => {
            let all: Vec<Value> = known.passwords.iter().map(|it| it.shown(&known.consumer)).collect();
            asked.list(all, &FIELDS)
        }
        Method::POST | Method::PUT => add(asked, document, known, &consumers),
        _ => Err(Answer::method_not_allowed()),
    }
}

fn add(
    asked: &Asked,
    document: &mut Document,
    known: &KnownConsumer,
    others: &[KnownConsumer],
) -> Result<Done, Answer> {
    if let Some(there) = known.passwords.iter().find(|it| it.id == asked.new.id) {
        return Done::read(Answer::created(there.shown(&known.consumer)));
    }
    let id = asked.new_id()?;
    document.is_own("consumers", &known.object)?;
    // PUT says which one it is.
    if known.passwords.iter().any(|it| it.id == id) {
        return one(asked, document, &known.consumer.id, &id);
    }
    if others.iter().any(|it| it.passwords.iter().any(|it| it.id == id)) {
        return Err(Answer::field(409, "id", format!("id already exists with value '{id}'")));
    }
    let made = read(asked, document, asked.given(), known, (&id, asked.new.created_at))?;
    let answer = Answer::created(made.shown(&known.consumer));
    let mut next = known.clone();
    next.passwords.push(made);
    document.put_consumer(&next);
    Done::changed(answer)
}

/// `/consumers/{username or id}/basicauth/{id}`.
pub fn one(asked: &Asked, document: &mut Document, given: &str, id: &str) -> Result<Done, Answer> {
    let consumers = document.consumers();
    let known = find(asked, &consumers, given)?;
    let at = known.passwords.iter().position(|it| it.id == id).ok_or_else(Answer::not_found)?;
    let there = &known.passwords[at];
    if asked.method == Method::GET {
        return Done::read(Answer::ok(there.shown(&known.consumer)));
    }
    document.is_own("consumers", &known.object)?;
    let mut next = known.clone();
    match asked.method {
        Method::DELETE => {
            next.passwords.remove(at);
            document.put_consumer(&next);
            return Done::changed(Answer::no_content());
        }
        Method::PUT | Method::PATCH => {}
        _ => return Err(Answer::method_not_allowed()),
    }
    let mut fields = asked.given();
    if asked.method == Method::PATCH {
        fields.entry("username".to_owned()).or_insert_with(|| there.user.clone().into());
        if !fields.contains_key("password") {
            fields.insert("password".to_owned(), there.kept.clone().into());
        }
    }
    let made = read(asked, document, fields, known, (&there.id, there.created_at))?;
    let answer = Answer::ok(made.shown(&known.consumer));
    next.passwords[at] = made;
    document.put_consumer(&next);
    Done::changed(answer)
}

/// A password of these fields, which may be what was shown of one. Made is its id, and when it was.
fn read(
    asked: &Asked,
    document: &Document,
    given: Params,
    known: &KnownConsumer,
    made: (&str, u64),
) -> Result<KnownPassword, Answer> {
    let mut fields = Fields::of("", given);
    let (name, password) = (fields.text("username"), fields.text("password"));
    if fields.text("consumer_id").is_some_and(|it| it != known.consumer.id) {
        fields.add("consumer_id", "it is another consumer's than the path says");
    }
    for (field, it) in [("username", &name), ("password", &password)] {
        if it.is_none() && !fields.errors.has(field) {
            fields.add(field, format!("{field} is required"));
        }
    }
    let name = name.and_then(|it| user(&it).map_err(|why| fields.add("username", why)).ok());
    let kept = password.and_then(|it| {
        let is_shown = PasswordHash::read(&it).is_ok();
        let checked = if is_shown { Ok(()) } else { check_given(&it) };
        checked.map_err(|why| fields.add("password", why)).ok().map(|()| (it, is_shown))
    });
    fields.end().none_or(400, ())?;
    let (user, (password, is_shown)) = name.zip(kept).ok_or_else(Answer::not_found)?;
    if document
        .users()
        .any(|it| it == user && !known.passwords.iter().any(|it| it.user == user && it.id == made.0))
    {
        return Err(Answer::field(409, "username", format!("username already exists with value '{user}'")));
    }
    let kept = match is_shown {
        true => password,
        false => PasswordHash::of(password.as_bytes(), asked.new.salt)
            .ok_or_else(|| Answer::message(500, "An unexpected error occurred"))?
            .kept(),
    };
    Ok(KnownPassword { id: made.0.to_owned(), created_at: made.1, user, kept })
}
