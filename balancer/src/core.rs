//! What one core has for itself: timers, buffers, pipes, counters, the time of day, its side of the
//! log.
//!
//! `worker` is all of it together; `shared` is what all cores and the control task share, by limits that
//! are atomics and by values that are replaced as a whole, as `routes`. Nothing here knows what a request is but
//! for `trail`, which says what became of one.

pub(crate) mod access_log;
pub mod account;
pub(crate) mod buffer;
pub mod cache;
pub(crate) mod connections;
pub(crate) mod date;
pub mod following;
pub mod mirrors;
pub mod passwords;
pub mod published;
pub(crate) mod pulse;
pub mod rates;
pub mod routes;
pub mod settings;
pub mod shared;
pub mod shifts;
pub(crate) mod splice;
pub mod stats;
pub(crate) mod timer;
pub(crate) mod trail;
pub(crate) mod worker;
