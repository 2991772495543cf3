//! A second service that gets a copy of a route's requests, whose answers nobody reads.

use super::service::SKEP;
use crate::fault::{Faults, below};
use crate::reader::Spot;

/// Who gets copies, and of how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub service: String,
    /// Of so many in a hundred.
    pub percent: u32,
    /// Also of requests that change something.
    pub takes_unsafe: bool,
}

impl Mirror {
    pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Self> {
        let mut fields = spot.fields(faults)?;
        let service = fields.take("service");
        let percent = fields.take("percent").map_or(Some(100), |it| it.whole(1..=100, faults));
        let takes_unsafe = fields.take("unsafe").map_or(Some(false), |it| it.switch(faults));
        fields.end(faults);
        let Some(service) = service else {
            faults.add(&spot.pointer, "expected is the service that gets the copies");
            return None;
        };
        let name = service.text(faults)?;
        if name == SKEP {
            faults.add(&below(&spot.pointer, "service"), "the nodes get no copies: each would be stored");
        }
        Some(Self { service: name.to_owned(), percent: percent?, takes_unsafe: takes_unsafe? })
    }
}
