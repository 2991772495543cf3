//! What a route says of who may ask.

use super::consumer::{GROUPS_MAX, groups};
use crate::auth::{Auth, Keys, Tokens, key_field};
use crate::fault::Faults;
use crate::query;
use crate::reader::Spot;

/// Most issuers whose tokens a route takes.
const ISSUERS_MAX: usize = 16;

pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Auth> {
    let mut fields = spot.fields(faults)?;
    let (keys, jwt) = (fields.take("keys"), fields.take("jwt"));
    let basic = fields.take("basic");
    let groups = fields.take("groups").map(|it| groups(&it, &it.some_items(GROUPS_MAX, faults), faults));
    fields.end(faults);
    if keys.is_none() && jwt.is_none() && basic.is_none() {
        let fault = "nothing says how they prove it: expected is keys = true, basic = true, or jwt with names of issuers";
        faults.add(&spot.pointer, fault);
        return None;
    }
    let keys = keys.map(|it| keys_of(&it, faults).unwrap_or_default());
    let tokens = jwt.as_ref().and_then(|it| tokens_of(it, faults));
    if let (Some(keys), Some(tokens), Some(jwt)) = (&keys, &tokens, &jwt)
        && tokens.forward
        && keys.authorization
    {
        let fault = "keys would be sent on as well, for they may stand where tokens do: say keys.authorization = false";
        faults.add(&jwt.pointer, fault);
    }
    if let Some(it) = &basic
        && it.switch(faults) == Some(false)
    {
        faults.add(&it.pointer, "expected is true: leave it out where there are no passwords");
    }
    Some(Auth { keys, tokens, basic: basic.is_some(), groups: groups.unwrap_or_default() })
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

/// Names of issuers, or an object that says more.
fn tokens_of(spot: &Spot<'_>, faults: &mut Faults) -> Option<Tokens> {
    if spot.is_list() {
        return Some(Tokens { issuers: issuers(spot, faults), forward: false });
    }
    let mut fields = spot.fields(faults)?;
    let (named, forward) = (fields.take("issuers"), fields.take("forward"));
    fields.end(faults);
    if named.is_none() {
        faults.add(&spot.pointer, "there is no \"issuers\"");
    }
    let forward = forward.and_then(|it| it.switch(faults)).unwrap_or_default();
    Some(Tokens { issuers: issuers(&named?, faults), forward })
}

fn issuers(spot: &Spot<'_>, faults: &mut Faults) -> Vec<String> {
    let items = spot.some_items(ISSUERS_MAX, faults);
    let mut names: Vec<String> = items.iter().filter_map(|it| it.read(super::name, faults)).collect();
    names.sort_unstable();
    if names.windows(2).any(|two| two[0] == two[1]) {
        faults.add(&spot.pointer, "an issuer stands here twice");
    }
    names
}
