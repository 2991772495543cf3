//! Passwords of consumers in a document's tree: they go in as they are, and what is kept of each is its hash.

use crate::auth::password::{self, PASSWORD_KEPT_PREFIX, PasswordHash, Salts};
use crate::fault::Refused;
use crate::value::Value;

/// Most that a document has as they are: each takes as long as a look at one does.
pub const PASSWORDS_GIVEN_MAX: usize = 64;

/// A password in a tree: its consumer's name, its user's, and its text.
struct Place<'a> {
    consumer: &'a str,
    user: String,
    text: &'a mut String,
}

/// Each that can be one, in the form of an object.
fn each(document: &mut Value, mut with: impl FnMut(Place<'_>)) {
    let Value::Object(members) = document else { return };
    let Some(Value::Object(consumers)) = members.get_mut("consumers") else { return };
    for (consumer, fields) in consumers {
        let Value::Object(fields) = fields else { continue };
        let Some(Value::List(passwords)) = fields.get_mut("passwords") else { continue };
        for password in passwords {
            if let Value::Text(_) = password {
                let text = std::mem::replace(password, Value::Null);
                let user = Value::Text(consumer.clone());
                let members = [("password", text), ("user", user)];
                *password = Value::Object(members.map(|(name, value)| (name.to_owned(), value)).into());
            }
            let Value::Object(fields) = password else { continue };
            let user = fields.entry("user".to_owned()).or_insert_with(|| Value::Text(consumer.clone()));
            let Value::Text(user) = user else { continue };
            let user = user.clone();
            if let Some(Value::Text(text)) = fields.get_mut("password") {
                with(Place { consumer, user, text });
            }
        }
    }
}

/// In one form for all that say the same.
pub(super) fn write_out(document: &mut Value) {
    each(document, |_| {});
}

fn is_given(text: &str) -> bool {
    !text.starts_with(PASSWORD_KEPT_PREFIX) && password::check_given(text).is_ok()
}

/// Puts what is kept of each password that is given as it is in its place: what `before` keeps of it, where that user had it
/// already, so that the same is no change. Takes the processor for long.
pub(crate) fn keep(document: &mut Value, before: Option<&Value>, salts: Salts<'_>) -> Result<(), Refused> {
    let mut given = 0;
    each(document, |it| given += usize::from(is_given(it.text)));
    if given == 0 {
        return Ok(());
    }
    if given > PASSWORDS_GIVEN_MAX {
        return Err(Refused::whole(format!(
            "{given} passwords are given as they are, and each takes its time: at most {PASSWORDS_GIVEN_MAX} at once; \
             of others put what skep-node config password says"
        )));
    }
    let mut known = Vec::new();
    each(&mut before.cloned().unwrap_or(Value::Null), |it| {
        if let Ok(hash) = PasswordHash::read(it.text) {
            known.push((it.consumer.to_owned(), it.user, hash));
        }
    });
    let mut failed = false;
    each(document, |it| {
        if !is_given(it.text) || failed {
            return;
        }
        let same = known.iter().find(|(consumer, user, _)| consumer == it.consumer && *user == it.user);
        let same = same.filter(|(.., hash)| hash.is_of(it.text.as_bytes()) == Some(true));
        let hash = match same {
            Some((.., hash)) => Some(hash.clone()),
            None => salts().and_then(|salt| PasswordHash::of(it.text.as_bytes(), salt)),
        };
        match hash {
            Some(hash) => *it.text = hash.kept(),
            None => failed = true,
        }
    });
    match failed {
        false => Ok(()),
        true => Err(Refused::whole("there is no chance or no memory here to hash passwords")),
    }
}

#[cfg(test)]
mod tests;
