//! What a route says of pages of other origins.

use super::methods::{self, METHODS_MAX};
use crate::cors::Cors;
use crate::fault::Faults;
use crate::fields;
use crate::host;
use crate::reader::Spot;

/// Most origins that a route admits, and fields that it names for them.
const ORIGINS_MAX: usize = 64;
const FIELDS_MAX: usize = 64;
/// What any page may send (Fetch, CORS-safelisted methods).
const SIMPLE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
/// How long a browser may remember an answer where nothing is said, and the longest, in seconds.
const MAX_AGE_S: u32 = 600;
const MAX_AGE_S_MAX: u32 = 24 * 3600;

pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Cors> {
    let mut fields = spot.fields(faults)?;
    let origins = match fields.take("origins") {
        Some(it) => origins(&it, faults),
        None => {
            faults.add(&spot.pointer, "there are no \"origins\"");
            Vec::new()
        }
    };
    let methods = fields.take("methods").map(|it| it.some_items(METHODS_MAX, faults));
    let methods = match methods {
        Some(items) => items.iter().filter_map(|it| it.read(methods::read, faults)).collect(),
        None => SIMPLE_METHODS.map(str::to_owned).into(),
    };
    let mut names = |name: &str, faults: &mut Faults| -> Vec<String> {
        let items = fields.take(name).map(|it| it.some_items(FIELDS_MAX, faults)).unwrap_or_default();
        items.iter().filter_map(|it| it.read(fields::name, faults)).collect()
    };
    let (headers, expose) = (names("headers", faults), names("expose", faults));
    let credentials = fields.take("credentials");
    let allowed = credentials.as_ref().and_then(|it| it.switch(faults)).unwrap_or_default();
    if let Some(it) = credentials.filter(|_| allowed && origins.is_empty()) {
        faults.add(
            &it.pointer,
            "with credentials, origins are named: any page would act as whoever looks at it",
        );
    }
    let max_age_s = fields.take("max_age_s").and_then(|it| it.whole(0..=MAX_AGE_S_MAX, faults));
    fields.end(faults);
    let max_age_s = max_age_s.unwrap_or(MAX_AGE_S);
    Some(Cors { origins, methods, headers, expose, credentials: allowed, max_age_s })
}

/// Those that are named; `["*"]` is any.
fn origins(spot: &Spot<'_>, faults: &mut Faults) -> Vec<String> {
    let items = spot.some_items(ORIGINS_MAX, faults);
    if let [only] = items.as_slice()
        && only.is("*")
    {
        return Vec::new();
    }
    items.iter().filter_map(|it| it.read(origin, faults)).collect()
}

/// As browsers write it: in lower case, without a path or the scheme's own port.
fn origin(text: &str) -> Result<String, String> {
    let fault = || format!("{text:?} is no origin: expected as in https://app.example.org, or \"*\" alone");
    let (scheme, authority) = text.split_once("://").ok_or_else(fault)?;
    let (name, port) =
        authority.rsplit_once(':').map_or((authority, None), |(name, port)| (name, Some(port)));
    let own = if scheme == "https" { "443" } else { "80" };
    let port_fits = port.is_none_or(|port| port != own && port.parse::<u16>().is_ok_and(|port| port != 0));
    let is_folded = !text.bytes().any(|b| b.is_ascii_uppercase());
    if matches!(scheme, "http" | "https") && host::is_name(name) && port_fits && is_folded {
        return Ok(text.to_owned());
    }
    Err(fault())
}
