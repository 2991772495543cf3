//! What one core has used of late, so that using it again writes nothing that other cores read.
//!
//! A place each for so many URLs, by a hash: another takes the place of what is there. What is not stored any more is
//! known by itself, and is let go at the next tick: until then it counts as held.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use skep_cache::Field;

use super::stored::Stored;
use super::{Cache, Place, Realm};

/// Answers that one core has at hand.
const HOT_MAX: usize = 1024;

/// One core's.
#[derive(Debug)]
pub struct Hot {
    hasher: RandomState,
    /// None until there is something.
    places: RefCell<Vec<Option<Rc<Entry>>>>,
}

/// A stored answer, counted by one core.
#[derive(Debug)]
pub struct Entry {
    key: Arc<[u8]>,
    realm: Realm,
    pub stored: Arc<Stored>,
}

impl Default for Hot {
    fn default() -> Self {
        Self { hasher: RandomState::new(), places: RefCell::default() }
    }
}

impl Hot {
    fn place_of(&self, key: &[u8]) -> usize {
        (self.hasher.hash_one(key) % HOT_MAX as u64) as usize
    }

    /// What is at hand for a request with these fields.
    pub fn find<'a>(
        &self,
        cache: &Cache,
        place: Place<'_>,
        fields: impl Iterator<Item = Field<'a>> + Clone,
    ) -> Option<Rc<Entry>> {
        let places = self.places.borrow();
        if places.is_empty() {
            return None;
        }
        let entry = places[self.place_of(place.key)].as_ref()?;
        let (stored, head) = (&entry.stored, &entry.stored.head);
        let is_it = entry.key == *place.key
            && entry.realm == place.realm
            && !stored.is_gone()
            && (!place.for_all || head.kept.is_shared)
            && head.variant.matches(fields)
            && cache.is_good(place, stored);
        is_it.then(|| entry.clone())
    }

    pub fn put(&self, place: Place<'_>, stored: &Arc<Stored>) {
        if stored.is_gone() {
            return;
        }
        let mut places = self.places.borrow_mut();
        if places.is_empty() {
            places.resize_with(HOT_MAX, || None);
        }
        let at = self.place_of(place.key);
        let entry = Entry { key: place.key.clone(), realm: place.realm, stored: stored.clone() };
        places[at] = Some(Rc::new(entry));
    }

    /// To be called at each tick: lets go of what is not stored any more.
    pub fn tick(&self) {
        for place in self.places.borrow_mut().iter_mut() {
            place.take_if(|it| it.stored.is_gone());
        }
    }
}
