//! Tokens that one core has seen to hold: looked up by a keyed hash and compared whole, until their time is over.

use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;

use super::issuer::{Issuers, Token};

/// Most that are kept, with those that are no more, and bytes that they take.
pub const KEPT_MAX: usize = 4096;
pub const KEPT_BYTES_MAX: usize = 1 << 20;
/// What one takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 128;

/// Those that were seen to hold by what these issuers say.
#[derive(Debug)]
pub struct Verified {
    issuers: Arc<Issuers>,
    tokens: HashMap<Rc<[u8]>, Rc<Token>, RandomState>,
    /// The oldest first; those whose time is over may be there no more.
    order: VecDeque<Rc<[u8]>>,
    bytes: usize,
}

impl Verified {
    /// `chance`: nobody can have many tokens meet in one place.
    pub fn new(chance: RandomState) -> Self {
        Self {
            issuers: Arc::default(),
            tokens: HashMap::with_hasher(chance),
            order: VecDeque::new(),
            bytes: 0,
        }
    }

    /// How many there are, and how many bytes they take.
    pub fn fill(&self) -> (usize, usize) {
        (self.tokens.len(), self.bytes)
    }

    /// What it proves by what these issuers say, where that was seen before. Where they say something else than before, all are
    /// forgotten.
    pub fn find(&mut self, issuers: &Arc<Issuers>, token: &[u8], now_s: u64) -> Option<Rc<Token>> {
        if !Arc::ptr_eq(&self.issuers, issuers) {
            if self.issuers != *issuers {
                self.tokens.clear();
                self.order.clear();
                self.bytes = 0;
            }
            self.issuers = issuers.clone();
        }
        let found = self.tokens.get(token)?;
        if !found.is_over(now_s) {
            return Some(found.clone());
        }
        self.remove(token);
        None
    }

    /// Keeps what was just seen to hold by what those issuers say who were asked for last.
    pub fn keep(&mut self, token: &[u8], proved: &Rc<Token>) {
        let bytes = bytes(token, proved);
        if bytes > KEPT_BYTES_MAX {
            return;
        }
        // Of another issuer of the same name at the other side, maybe.
        self.remove(token);
        while self.order.len() >= KEPT_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(&oldest);
        }
        let token: Rc<[u8]> = token.into();
        self.bytes += bytes;
        self.order.push_back(token.clone());
        self.tokens.insert(token, proved.clone());
    }

    fn remove(&mut self, token: &[u8]) {
        if let Some(proved) = self.tokens.remove(token) {
            self.bytes -= bytes(token, &proved);
        }
    }
}

fn bytes(token: &[u8], proved: &Token) -> usize {
    OVERHEAD_BYTES + token.len() + proved.bytes()
}
