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

/// Issuers by which one token may hold: of different routes.
const ISSUERS_MAX: usize = 4;

/// Those that were seen to hold by what these issuers say.
#[derive(Debug)]
pub struct Verified {
    issuers: Arc<Issuers>,
    /// What each proves, by each issuer by which it was seen to.
    tokens: HashMap<Rc<[u8]>, Vec<Rc<Token>>, RandomState>,
    /// All of them, the oldest first: also those whose time is over, until others push them out.
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
        (self.order.len(), self.bytes)
    }

    /// What it proves by one of the issuers of these names, where that was seen before. Where issuers say something else
    /// than before, all are forgotten.
    pub fn find(
        &mut self,
        issuers: &Arc<Issuers>,
        among: &[String],
        token: &[u8],
        now_s: u64,
    ) -> Option<Rc<Token>> {
        if !Arc::ptr_eq(&self.issuers, issuers) {
            if self.issuers != *issuers {
                self.tokens.clear();
                self.order.clear();
                self.bytes = 0;
            }
            self.issuers = issuers.clone();
        }
        let found = self.tokens.get(token)?.iter().find(|it| among.contains(&it.issuer));
        found.filter(|it| !it.is_over(now_s)).cloned()
    }

    /// Keeps what was just seen to hold by what those issuers say who were asked for last.
    pub fn keep(&mut self, token: &[u8], proved: &Rc<Token>) {
        let more = proved.bytes();
        if OVERHEAD_BYTES + token.len() + more > KEPT_BYTES_MAX {
            return;
        }
        if let Some(known) = self.tokens.get_mut(token) {
            // It keeps its place in the order: who comes again pushes nobody out.
            let has_room = known.len() < ISSUERS_MAX;
            match known.iter_mut().find(|it| it.issuer == proved.issuer) {
                Some(before) => {
                    self.bytes = self.bytes - before.bytes() + more;
                    *before = proved.clone();
                }
                None if has_room => {
                    self.bytes += more;
                    known.push(proved.clone());
                }
                None => {}
            }
        } else {
            let token: Rc<[u8]> = token.into();
            self.bytes += OVERHEAD_BYTES + token.len() + more;
            self.order.push_back(token.clone());
            self.tokens.insert(token, vec![proved.clone()]);
        }
        while self.order.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            let proved = self.tokens.remove(&oldest).unwrap_or_default();
            let proved: usize = proved.iter().map(|it| it.bytes()).sum();
            self.bytes -= OVERHEAD_BYTES + oldest.len() + proved;
        }
    }
}
