//! What the cache has to do with a request whose route is found.

use std::rc::Rc;

use skep_cache::key::key;

use super::Asked;
use crate::core::cache::Realm;
use crate::core::routes::{Area, Parts};
use crate::forward::plan::{Keeps, Want};
use crate::wire::request_head::{BodyLength, Method};

/// `url` is the host in the form that is matched, and the path, as it was asked for, and the query without keys; `is_known`: who asks proved
/// who that is. To be asked where any route stores answers.
pub(super) fn want(
    routes: &Parts,
    (route, service): (usize, usize),
    asked: &Asked<'_>,
    url: [&[u8]; 3],
    is_known: bool,
) -> Option<Rc<Want>> {
    let head = asked.head;
    let keeps = if head.method.is_safe() {
        let is_read = matches!(head.method, Method::Get | Method::Head);
        // A body could say what is asked for, and nothing tells answers apart by it.
        let is_plain = head.body == BodyLength::None && head.upgrade.is_none() && !head.expects_continue;
        if !is_read || !is_plain {
            return None;
        }
        let rules = routes.table.routes[route].route.policies.cache?;
        let Area { digest, route, service } = routes.realm(route, service)?;
        let realm = Realm { secure: asked.client.secure, digest, route, service };
        Some(Keeps { realm, entry_bytes_max: rules.entry_bytes_max, grace_s: rules.grace_s })
    } else {
        // Whatever its route: another may have stored what it changes.
        None
    };
    let host = String::from_utf8_lossy(url[0]).into_owned();
    let (secure, service) = (asked.client.secure, routes.service_marks[service]);
    Some(Rc::new(Want { key: key(&url).into(), host, keeps, is_known, secure, service }))
}
