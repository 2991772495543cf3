//! What a route says of who may ask.

use super::consumer::{GROUPS_MAX, groups};
use crate::auth::{Auth, Keys, key_field};
use crate::fault::Faults;
use crate::query;
use crate::reader::Spot;

pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Auth> {
    let mut fields = spot.fields(faults)?;
    let keys = fields.take("keys");
    let groups = fields.take("groups").map(|it| groups(&it, &it.some_items(GROUPS_MAX, faults), faults));
    fields.end(faults);
    let Some(keys) = keys else {
        faults.add(&spot.pointer, "nothing says how they prove it: expected is keys = true");
        return None;
    };
    Some(Auth { keys: keys_of(&keys, faults)?, groups: groups.unwrap_or_default() })
}

/// `true`, or an object that says where they are.
fn keys_of(spot: &Spot<'_>, faults: &mut Faults) -> Option<Keys> {
    if spot.is_switch() {
        if spot.switch(faults) == Some(false) {
            faults.add(&spot.pointer, "nobody could prove anything: expected is true, or no auth at all");
        }
        return Some(Keys::default());
    }
    let mut keys = Keys::default();
    let mut fields = spot.fields(faults)?;
    if let Some(header) = fields.take("header").and_then(|it| it.read(key_field, faults)) {
        keys.header = header;
    }
    if let Some(authorization) = fields.take("authorization").and_then(|it| it.switch(faults)) {
        keys.authorization = authorization;
    }
    keys.query = fields.take("query").and_then(|it| it.read(query::name, faults));
    fields.end(faults);
    Some(keys)
}
