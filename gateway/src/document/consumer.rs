//! A consumer: who may ask, by which keys and passwords, in which groups; and what is kept of a key that is given as it is.

use std::collections::HashMap;

use super::NOTE_BYTES_MAX;
use crate::auth::password::{self, PASSWORD_KEPT_PREFIX, Password, PasswordHash};
use crate::auth::{Consumer, KEPT_PREFIX, Key, KeyDigest, digest_of_given};
use crate::fault::Faults;
use crate::reader::Spot;
use crate::value::Value;

/// Most keys that a consumer has at once, and groups that it is in or that a route is for.
pub const KEYS_MAX: usize = 16;
/// The same of its users.
pub const PASSWORDS_MAX: usize = 16;
pub const GROUPS_MAX: usize = 32;
/// Longest label of a key, in bytes.
const LABEL_BYTES_MAX: usize = 64;

/// Each key and each user's name that was read so far, and whose it is.
#[derive(Debug, Default)]
pub(super) struct Owners {
    keys: HashMap<KeyDigest, String>,
    users: HashMap<String, String>,
}

pub(super) fn read(name: &str, spot: &Spot<'_>, owners: &mut Owners, faults: &mut Faults) -> Consumer {
    let mut consumer = Consumer::default();
    let Some(mut fields) = spot.fields(faults) else { return consumer };
    if let Some(it) = fields.take("groups") {
        consumer.groups = groups(&it, &it.items(GROUPS_MAX, faults), faults);
    }
    let keys = fields.take("keys").map(|it| it.items(KEYS_MAX, faults)).unwrap_or_default();
    for spot in &keys {
        let Some(key) = key(spot, faults) else { continue };
        match owners.keys.insert(key.digest, name.to_owned()) {
            None => {}
            Some(other) if other == name => faults.add(&spot.pointer, "this key stands here twice"),
            // Who has it would be one or the other.
            Some(other) => faults.clash(&spot.pointer, format!("the consumer {other:?} has this key, too")),
        }
        consumer.keys.push(key);
    }
    let passwords = fields.take("passwords").map(|it| it.items(PASSWORDS_MAX, faults)).unwrap_or_default();
    for spot in &passwords {
        let Some(password) = password(name, spot, faults) else { continue };
        match owners.users.insert(password.user.clone(), name.to_owned()) {
            None => {}
            Some(other) if other == name => {
                faults.add(&spot.pointer, format!("the user {:?} stands here twice", password.user));
            }
            Some(other) => {
                let fault = format!("the consumer {other:?} has a user {:?}, too", password.user);
                faults.clash(&spot.pointer, fault);
            }
        }
        consumer.passwords.push(password);
    }
    super::take_source(&mut fields, faults);
    if let Some(it) = fields.take("kong") {
        it.note(NOTE_BYTES_MAX, faults);
    }
    fields.end(faults);
    consumer
}

/// The names of these groups, in order.
pub(super) fn groups(spot: &Spot<'_>, items: &[Spot<'_>], faults: &mut Faults) -> Vec<String> {
    let mut groups: Vec<String> = items.iter().filter_map(|it| it.read(super::name, faults)).collect();
    groups.sort_unstable();
    if groups.windows(2).any(|two| two[0] == two[1]) {
        faults.add(&spot.pointer, "a group stands here twice");
    }
    groups
}

/// A key, or one with a label.
fn key(spot: &Spot<'_>, faults: &mut Faults) -> Option<Key> {
    let of = |digest: KeyDigest| Key { digest, label: digest.fingerprint() };
    if spot.is_text() {
        return spot.read(digest, faults).map(of);
    }
    let mut fields = spot.fields(faults)?;
    let (key, label) = (fields.take("key"), fields.take("label"));
    fields.end(faults);
    if key.is_none() {
        faults.add(&spot.pointer, "there is no \"key\"");
    }
    let label = label.map(|it| it.read(label_of, faults));
    let key = key?.read(digest, faults).map(of)?;
    match label {
        None => Some(key),
        Some(label) => Some(Key { label: label?, ..key }),
    }
}

/// A password of the user who is called as the consumer, or of another one.
fn password(consumer: &str, spot: &Spot<'_>, faults: &mut Faults) -> Option<Password> {
    if spot.is_text() {
        return Some(Password { user: consumer.to_owned(), hash: spot.read(hash, faults)? });
    }
    let mut fields = spot.fields(faults)?;
    let (user, password) = (fields.take("user"), fields.take("password"));
    fields.end(faults);
    if password.is_none() {
        faults.add(&spot.pointer, "there is no \"password\"");
    }
    let user = match user {
        None => Some(consumer.to_owned()),
        Some(it) => it.read(password::user, faults),
    };
    let hash = password?.read(hash, faults)?;
    Some(Password { user: user?, hash })
}

/// What is kept of a password. One that is given as it is was hashed before, where somebody does that.
fn hash(text: &str) -> Result<PasswordHash, String> {
    if text.starts_with(PASSWORD_KEPT_PREFIX) {
        return PasswordHash::read(text);
    }
    password::check_given(text)?;
    Err("this is a password as it is, and nothing but what is kept of one may stand here: \
         skep-node config password says it"
        .to_owned())
}

/// The digest of a key, which is given as it is or as it is kept.
fn digest(text: &str) -> Result<KeyDigest, String> {
    match text.strip_prefix(KEPT_PREFIX) {
        None => digest_of_given(text),
        Some(digits) => KeyDigest::read(digits)
            .ok_or_else(|| format!("behind {KEPT_PREFIX} stand 64 hex digits, in lower case")),
    }
}

fn label_of(text: &str) -> Result<String, String> {
    let fits = (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.trim() == text;
    if fits && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Ok(text.to_owned());
    }
    Err(format!("a label is 1 to {LABEL_BYTES_MAX} visible ASCII characters, with spaces between them alone"))
}

/// Puts what is kept of each key of all consumers in its place; the document was read, and holds.
pub(crate) fn keep(document: &mut Value) {
    super::passwords::write_out(document);
    let Value::Object(members) = document else { return };
    let Some(Value::Object(consumers)) = members.get_mut("consumers") else { return };
    for consumer in consumers.values_mut() {
        let Value::Object(fields) = consumer else { continue };
        if let Some(Value::List(keys)) = fields.get_mut("keys") {
            keys.iter_mut().for_each(keep_key);
        }
    }
}

fn keep_key(key: &mut Value) {
    let (text, label) = match key {
        Value::Text(text) => (&*text, None),
        Value::Object(fields) => match fields.get("key") {
            Some(Value::Text(text)) => (text, fields.get("label").cloned()),
            _ => return,
        },
        _ => return,
    };
    let Ok(digest) = digest(text) else { return };
    let label = label.unwrap_or_else(|| Value::Text(digest.fingerprint()));
    let members = [("key", Value::Text(digest.kept())), ("label", label)];
    *key = Value::Object(members.map(|(name, value)| (name.to_owned(), value)).into());
}
