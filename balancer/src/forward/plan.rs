//! What is decided of a request before its head is written for a backend. Whoever decides has seen
//! its path and its fields; who forwards sees this.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use skep_gateway::compress::Coding;

use crate::core::cache::Realm;
use crate::core::routes::Via;
use crate::forward::dispatch::Dispatch;
use crate::forward::trial::Trial;

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
    /// Fields may come behind its body: else one of them could say what a service that was asked says.
    pub takes_trailers: bool,
    /// What the cache has to do with it; None where nothing.
    pub cache: Option<Rc<Want>>,
    /// It goes to the new service of a shift.
    pub trial: Option<Trial>,
    /// Who gets a copy of it.
    pub mirror: Option<Rc<Mirror>>,
    /// How its answer may be compressed; None where it may not, whatever it is.
    pub compress: Option<Squeeze>,
}

impl Plan {
    /// Nothing stands between a backend and the client.
    pub fn is_plain(&self) -> bool {
        self.cache.is_none() && self.compress.is_none()
    }
}

/// What a request says of how its answer may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squeeze {
    /// None: its client takes none.
    pub coding: Option<Coding>,
    pub has_cookie: bool,
}

/// A second service, which gets a copy of a request.
#[derive(Debug)]
pub struct Mirror {
    pub pool: Rc<Dispatch>,
    /// What it is asked for.
    pub host: Vec<u8>,
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
    /// It came by TLS.
    pub secure: bool,
    /// The mark of its service.
    pub service: u64,
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
