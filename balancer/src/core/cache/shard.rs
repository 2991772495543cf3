//! A part of the cache: what is stored of some of all places, and what is fetched for them.
//!
//! Bounded by the bytes that all parts have together. What goes first is what came first and was not used since it was
//! last looked at.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use skep_cache::Field;

use super::flight::Flight;
use super::room::Room;
use super::stored::Stored;
use super::{Found, Realm, VARIANTS_MAX};

/// Places that are gone and still stand in the order, before that is made anew.
const GONE_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Shard {
    sites: HashMap<Arc<[u8]>, Site>,
    order: VecDeque<(Arc<[u8]>, u64)>,
    /// Places that there are.
    places: usize,
    next: u64,
}

/// What there is of one URL.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// The newest last.
    places: Vec<Place>,
    pub(super) open: Vec<Open>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    realm: Realm,
    what: What,
}

#[derive(Debug)]
enum What {
    Stored(Arc<Stored>),
    /// Answers are not stored: nobody waits for one.
    Not {
        until: Instant,
        _room: Room,
    },
}

/// What is fetched.
#[derive(Debug)]
pub(super) struct Open {
    pub realm: Realm,
    pub joins: bool,
    pub flight: Arc<Flight>,
}

impl Site {
    pub(super) fn find<'a>(
        &self,
        realm: Realm,
        fields: impl Iterator<Item = Field<'a>> + Clone,
        for_all: bool,
        now: Instant,
    ) -> Found {
        let mut found = Found::Nothing;
        for place in self.places.iter().rev().filter(|it| it.realm == realm) {
            match &place.what {
                What::Stored(stored) => {
                    let head = &stored.head;
                    if (!for_all || head.kept.is_shared) && head.variant.matches(fields.clone()) {
                        return Found::Stored(stored.clone());
                    }
                }
                What::Not { until, .. } if now < *until => found = Found::NotStored,
                What::Not { .. } => {}
            }
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.open.is_empty()
    }
}

impl Shard {
    pub(super) fn site(&self, key: &[u8]) -> Option<&Site> {
        self.sites.get(key)
    }

    /// Something is fetched for that.
    pub(super) fn open(&mut self, key: &Arc<[u8]>, open: Open) {
        self.sites.entry(key.clone()).or_default().open.push(open);
    }

    /// The flight is over; or it is stored nowhere.
    pub(super) fn close(&mut self, key: &[u8], flight: &Arc<Flight>) {
        let Some(site) = self.sites.get_mut(key) else { return };
        site.open.retain(|it| !Arc::ptr_eq(&it.flight, flight));
        if site.open.is_empty() {
            // Most are fetched once: what held that is not kept beside what is stored.
            site.open = Vec::new();
        }
        self.sweep(key);
    }

    /// Puts an answer in the place of those that it stands for; what goes for it is dropped by the caller.
    pub(super) fn put(&mut self, key: &Arc<[u8]>, realm: Realm, stored: Arc<Stored>) -> Vec<Arc<Stored>> {
        let variant = &stored.head.variant;
        let is_over = |place: &Place| {
            place.realm == realm
                && match &place.what {
                    What::Stored(it) => it.head.variant == *variant,
                    What::Not { .. } => true,
                }
        };
        let mut gone = self.take_out(key, is_over);
        let site = self.sites.entry(key.clone()).or_default();
        if site.places.len() >= VARIANTS_MAX {
            // Those that nobody has asked for again go first: they push out none that is asked for.
            let is_used = |place: &Place| matches!(&place.what, What::Stored(it) if it.is_used());
            let at = site.places.iter().position(|it| !is_used(it)).unwrap_or(0);
            let oldest = site.places.remove(at);
            self.places -= 1;
            gone.extend(oldest.what.stored());
        }
        // Where both are for a request, the newer is: which that is, only a look at all of them says.
        for place in site.places.iter().filter(|it| it.realm == realm) {
            if let What::Stored(it) = &place.what
                && !it.head.variant.is_by_the_same(&stored.head.variant)
            {
                it.let_go();
            }
        }
        self.add(key, realm, What::Stored(stored));
        gone
    }

    /// Answers of that are not stored, for a while.
    pub(super) fn put_not(&mut self, key: &Arc<[u8]>, realm: Realm, until: Instant, room: Room) {
        let is_marked = |place: &Place| place.realm == realm && matches!(place.what, What::Not { .. });
        self.take_out(key, is_marked);
        if self.sites.get(key).is_none_or(|site| site.places.len() < VARIANTS_MAX) {
            self.add(key, realm, What::Not { until, _room: room });
        }
        self.sweep(key);
    }

    /// Forgets that they are not.
    pub(super) fn unmark(&mut self, key: &[u8], realm: Realm) {
        self.take_out(key, |place| place.realm == realm && matches!(place.what, What::Not { .. }));
        self.sweep(key);
    }

    pub(super) fn remove(&mut self, key: &[u8], stored: &Arc<Stored>) -> Vec<Arc<Stored>> {
        let is_it = |place: &Place| matches!(&place.what, What::Stored(it) if Arc::ptr_eq(it, stored));
        let gone = self.take_out(key, is_it);
        self.sweep(key);
        gone
    }

    /// Nothing of what is there is used again, and nothing of what is fetched is stored.
    pub(super) fn invalidate(&mut self, key: &[u8]) -> Vec<Arc<Stored>> {
        let gone = self.take_out(key, |_| true);
        gone.iter().for_each(|it| it.purge());
        for open in self.sites.get_mut(key).into_iter().flat_map(|site| &mut site.open) {
            open.flight.make_void();
            // Nor is what is asked for anew brought back by an error.
            open.flight.stale.iter().for_each(|it| it.purge());
            open.joins = false;
        }
        self.sweep(key);
        gone
    }

    /// Some that were not held to that number yet.
    pub(super) fn not_held_to(&self, number: u64, most: usize) -> Vec<(Arc<[u8]>, Realm, Arc<Stored>)> {
        let places = self.sites.iter().flat_map(|(key, site)| site.places.iter().map(move |it| (key, it)));
        let stored = places.filter_map(|(key, place)| match &place.what {
            What::Stored(it) if it.held_to() < number => Some((key.clone(), place.realm, it.clone())),
            _ => None,
        });
        stored.take(most).collect()
    }

    /// Evicts one: how many bytes it had, or None where each was used since it was last looked at.
    pub(super) fn evict(&mut self) -> Option<(u64, Option<Arc<Stored>>)> {
        for _ in 0..self.order.len() {
            let (key, id) = self.order.pop_front()?;
            let Some(site) = self.sites.get_mut(&key) else { continue };
            let Some(at) = site.places.iter().position(|it| it.id == id) else { continue };
            if let What::Stored(stored) = &site.places[at].what
                && stored.take_used()
            {
                self.order.push_back((key, id));
                continue;
            }
            let place = site.places.remove(at);
            self.places -= 1;
            self.sweep(&key);
            let stored = place.what.stored();
            return Some((stored.as_ref().map_or(super::stored::PLACE_BYTES, |it| it.bytes()), stored));
        }
        None
    }

    pub(super) fn count(&self) -> usize {
        self.places
    }

    fn add(&mut self, key: &Arc<[u8]>, realm: Realm, what: What) {
        let id = self.next;
        self.next += 1;
        self.places += 1;
        let site = self.sites.entry(key.clone()).or_default();
        // Most have one alone.
        site.places.reserve_exact(1);
        site.places.push(Place { id, realm, what });
        self.order.push_back((key.clone(), id));
        if self.order.len() > 2 * self.places + GONE_MAX {
            let sites = &self.sites;
            self.order.retain(|(key, id)| {
                sites.get(key).is_some_and(|site| site.places.iter().any(|it| it.id == *id))
            });
        }
    }

    fn take_out(&mut self, key: &[u8], is_out: impl Fn(&Place) -> bool) -> Vec<Arc<Stored>> {
        let Some(site) = self.sites.get_mut(key) else { return Vec::new() };
        let out: Vec<Place> = site.places.extract_if(.., |place| is_out(place)).collect();
        self.places -= out.len();
        out.into_iter().filter_map(|place| place.what.stored()).collect()
    }

    fn sweep(&mut self, key: &[u8]) {
        if self.sites.get(key).is_some_and(Site::is_empty) {
            self.sites.remove(key);
        }
    }
}

impl What {
    /// What it was, of a place that is taken out.
    fn stored(self) -> Option<Arc<Stored>> {
        match self {
            Self::Stored(stored) => {
                stored.let_go();
                Some(stored)
            }
            Self::Not { .. } => None,
        }
    }
}
