//! Which of a route's services has a request: by weights and chance, by who asks where the route says so, and by the
//! shift of the route that is open.

use std::sync::Arc;

use skep_gateway::Table;
use skep_gateway::auth::Known;
use skep_gateway::limit::Neighbours;
use skep_gateway::sticky::{Key, PLACES, Sticky, cookie, place_in};
use skep_gateway::table::Entry;

use super::{Asked, Gateway};
use crate::core::shifts::Turn;

/// The service, by its place in the table.
#[derive(Debug)]
pub(super) struct Chosen {
    pub service: usize,
    /// The shift that is open, where there is one.
    pub turn: Option<Arc<Turn>>,
    /// What the answer says, for the client to be known again.
    pub cookie: Option<Arc<str>>,
}

impl Gateway {
    /// Of a route with several services; none where none weighs anything.
    pub(super) fn choose(
        &self,
        table: &Table,
        entry: &Entry,
        asked: &Asked<'_>,
        consumer: Option<&Known>,
    ) -> Option<Chosen> {
        let turn = self.worker.shared.shifts.of(&entry.name);
        let chance = || self.worker.random.borrow_mut().next_u64();
        let (mut key, mut cookie) = (None, None);
        match &entry.route.sticky {
            None => {}
            // One whose route lets in whoever it is has none.
            Some(Sticky::Consumer) => key = consumer.map(|it| Key::of_consumer(it.id)),
            Some(Sticky::Address) => key = Some(Key::of_address(Neighbours::of(asked.client.ip))),
            Some(Sticky::Cookie(name)) => {
                let place = place(asked, name).unwrap_or_else(|| {
                    let place = chance() % PLACES;
                    cookie = Some(self::cookie(name, place, asked.client.secure).into());
                    place
                });
                key = Some(Key::of_place(place));
            }
        }
        let service = match key {
            None => entry.service(chance())?,
            Some(key) => {
                let all = entry.services.iter().map(|(at, weight)| (table.services[*at].0.as_str(), *weight));
                entry.services[key.choose(all)?].0
            }
        };
        let over = turn.as_ref().filter(|it| table.services[service].0 == it.from);
        let over = over.filter(|it| it.is_over(key.map_or_else(chance, Key::drawn)));
        let service = over.and_then(|it| table.service_of(entry, &it.to)).unwrap_or(service);
        Some(Chosen { service, turn, cookie })
    }
}

/// The place that its cookies say; HTTP/2 has several fields of them.
fn place(asked: &Asked<'_>, name: &str) -> Option<u64> {
    let buf = asked.buf;
    let cookies = asked.head.fields.iter().filter(|it| it.name.of(buf).eq_ignore_ascii_case(b"cookie"));
    cookies.map(|it| it.value.of(buf)).find_map(|it| place_in(it, name))
}
