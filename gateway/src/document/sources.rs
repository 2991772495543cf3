//! Whose an object is: each has a source, which changes and takes out its own and nobody else's. It is a member of the
//! object (`source`), says nothing of requests, and where there is none it is the API's.

use std::collections::BTreeMap;

use super::{KINDS, name};
use crate::fault::{Fault, Faults, Refused, below};
use crate::value::Value;

/// Of objects that are put one by one, or in whole documents, and say nothing else.
pub const API: &str = "api";
/// Of those that came by a balancer's door for Kong's clients.
pub const KONG: &str = "kong";

/// The member that says it.
const MEMBER: &str = "source";

/// A source that has a part of the document: not those that have theirs by other ways.
pub fn read(text: &str) -> Result<String, String> {
    if [API, KONG].contains(&text) {
        return Err(format!("{text:?} is the source of what comes by another way: choose another name"));
    }
    name(text)
}

/// Whose an object is.
pub(crate) fn of(object: &Value) -> &str {
    match object {
        Value::Object(fields) => match fields.get(MEMBER) {
            Some(Value::Text(source)) => source,
            _ => API,
        },
        _ => API,
    }
}

/// Who else than this source has that object.
pub(crate) fn other<'a>(document: &'a Value, kind: &str, name: &str, source: &str) -> Option<&'a str> {
    let Value::Object(members) = document else { return None };
    let Some(Value::Object(objects)) = members.get(kind) else { return None };
    objects.get(name).map(of).filter(|it| *it != source)
}

/// That another source has it.
pub(crate) fn anothers(kind: &str, name: &str, source: &str) -> Fault {
    let fault = format!(
        "{kind}/{name} is of the source {source:?}, which would lose it: it is taken from there by take (--take)"
    );
    Fault { pointer: below(&below("", kind), name), fault }
}

/// The same, of who would have it gone.
pub(crate) fn not_its(kind: &str, name: &str, source: &str) -> Fault {
    let fault = format!(
        "{kind}/{name} is of the source {source:?}: who takes it out says so (?source={source}), or takes it (?take=true)"
    );
    Fault { pointer: below(&below("", kind), name), fault }
}

/// What a source says, with whose it is in each object.
pub(crate) fn part(tree: Value, source: &str) -> Result<Value, Refused> {
    let mut faults = Faults::default();
    let Value::Object(mut members) = tree else {
        return Err(Refused::whole(format!("this is {}; expected is an object", tree.kind())));
    };
    for (kind, value) in &mut members {
        let pointer = below("", kind);
        let objects = match value {
            _ if !KINDS.contains(&kind.as_str()) => {
                faults.add(
                    &pointer,
                    "a source has objects alone (services, routes, consumers, issuers, certificates): this is the whole document's",
                );
                continue;
            }
            Value::Object(objects) => objects,
            other => {
                faults.add(&pointer, format!("this is {}; expected is an object", other.kind()));
                continue;
            }
        };
        for (name, object) in objects {
            let pointer = below(&pointer, name);
            let Value::Object(fields) = object else {
                faults.add(&pointer, format!("this is {}; expected is an object", object.kind()));
                continue;
            };
            let said = fields.insert(MEMBER.to_owned(), Value::Text(source.to_owned()));
            if said.is_some_and(|it| it != Value::Text(source.to_owned())) {
                faults.add(&below(&pointer, MEMBER), format!("what is put here is of {source:?}"));
            }
        }
    }
    faults.none_or(Value::Object(members))
}

/// The objects of a source, as it would say them; none where it has none.
pub(crate) fn all_of(document: &Value, source: &str) -> Option<Value> {
    let Value::Object(members) = document else { return None };
    let own = KINDS.iter().filter_map(|kind| {
        let Some(Value::Object(objects)) = members.get(*kind) else { return None };
        let own: BTreeMap<String, Value> = objects
            .iter()
            .filter(|(_, it)| of(it) == source)
            .map(|(name, it)| (name.clone(), it.clone()))
            .collect();
        (!own.is_empty()).then(|| ((*kind).to_owned(), Value::Object(own)))
    });
    let own: BTreeMap<String, Value> = own.collect();
    (!own.is_empty()).then_some(Value::Object(own))
}

/// A document in which a source has what is in `part`, and nothing else.
pub(crate) fn replaced(document: &Value, source: &str, part: &Value, takes: bool) -> Result<Value, Refused> {
    let (Value::Object(members), Value::Object(own)) = (document, part) else {
        return Err(Refused::whole("this is no document"));
    };
    let mut members = members.clone();
    for kind in KINDS {
        if let Some(Value::Object(objects)) = members.get_mut(kind) {
            objects.retain(|_, it| of(it) != source);
        }
    }
    let mut faults = Faults::default();
    for (kind, objects) in own {
        let (Value::Object(own), Value::Object(there)) =
            (objects, members.entry(kind.clone()).or_insert_with(|| Value::Object(BTreeMap::new())))
        else {
            return Err(Refused::whole("this is no document"));
        };
        for (name, object) in own {
            // What was the source's own is out already.
            if let Some(other) = there.insert(name.clone(), object.clone()).filter(|_| !takes) {
                let Fault { pointer, fault } = anothers(kind, name, of(&other));
                faults.clash(&pointer, fault);
            }
        }
    }
    // As documents are written that have none of a kind.
    members.retain(|kind, it| {
        !(KINDS.contains(&kind.as_str()) && matches!(it, Value::Object(objects) if objects.is_empty()))
    });
    faults.none_or(Value::Object(members))
}

#[cfg(test)]
mod tests;
