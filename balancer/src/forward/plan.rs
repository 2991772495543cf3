//! What is decided of a request before its head is written for a backend. Whoever decides has seen
//! its path and its fields; who forwards sees this.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::core::cache::Realm;
use crate::core::routes::Via;
use crate::forward::dispatch::Dispatch;

/// Where a request goes, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    pub pool: Rc<Dispatch>,
    /// Doing it twice is the same as doing it once.
    pub repeatable: bool,
    /// Those with the same key go to the same backend, where that can have them.
    pub key: Option<u64>,
    /// Time from its head to its answer's, over all attempts.
    pub answer_within: Duration,
    /// Its answer may wait for something to happen: how long it takes says nothing of the backend.
    pub waits: bool,
    /// The route that has it.
    pub via: Option<Via>,
    /// Largest body that the route admits, in bytes.
    pub body_bytes_max: Option<u64>,
    /// What the cache has to do with it; None where nothing.
    pub cache: Option<Rc<Want>>,
}

/// What the cache has to do with a request.
#[derive(Debug, Clone)]
pub struct Want {
    /// Of the URL that was asked for.
    pub key: Arc<[u8]>,
    /// In the form that is matched.
    pub host: String,
    /// None where it is no request that is answered from there: it may change what is stored.
    pub keeps: Option<Keeps>,
    /// Who asks proved who that is.
    pub is_known: bool,
}

/// By what answers to a request are stored.
#[derive(Debug, Clone, Copy)]
pub struct Keeps {
    pub realm: Realm,
    /// Largest body that is stored.
    pub entry_bytes_max: u64,
    /// How long what says nothing of it is used beyond its time, in seconds.
    pub grace_s: u64,
}
