//! Who is known, and by what: consumers by their keys, and those whom an issuer's token names.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::jwt::{self, Issuer, Issuers, Token, Verified};
use super::known::Known;
use super::{Auth, Consumer, Credential, KEY_BYTES_MAX, KEY_BYTES_MIN, KeyDigest, Presented, Tokens};

/// Why a request goes nowhere.
#[derive(Debug, Clone)]
pub enum Denied {
    /// It presents nothing.
    Missing,
    /// It presents several.
    Several,
    /// Nobody has the key that it presents.
    Unknown,
    /// The token that it presents proves nothing.
    Token(jwt::Refused),
    /// Who proved this is in none of the groups.
    Group(Proof),
}

/// What proves who asks.
#[derive(Debug, Clone)]
pub enum Proof {
    Key {
        /// The consumer's place.
        consumer: usize,
        key: KeyDigest,
    },
    Token(Rc<Token>),
}

/// All who may be known, by what they prove.
#[derive(Debug, Default)]
pub struct Consumers {
    list: Vec<Known>,
    by_key: HashMap<KeyDigest, usize>,
    issuers: Arc<Issuers>,
}

impl Consumers {
    /// Of which no two have the same key.
    pub fn new(consumers: BTreeMap<String, Consumer>, issuers: BTreeMap<String, Issuer>) -> Self {
        let mut all = Self { issuers: Arc::new(Issuers(issuers)), ..Self::default() };
        for (at, (name, Consumer { groups, keys })) in consumers.into_iter().enumerate() {
            all.by_key.extend(keys.into_iter().map(|key| (key.digest, at)));
            all.list.push(Known::new(name, groups));
        }
        all
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// Who proved that.
    pub fn known<'a>(&'a self, proof: &'a Proof) -> Option<&'a Known> {
        match proof {
            Proof::Key { consumer, .. } => self.list.get(*consumer),
            Proof::Token(token) => Some(&token.known),
        }
    }

    /// Who sent these fields and this query, where the route is for it. `verified` remembers tokens, where it is there.
    pub fn authenticate<'a>(
        &self,
        auth: &Auth,
        verified: Option<&mut Verified>,
        now_s: u64,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Result<Proof, Denied> {
        let credential = match auth.presented(fields, query) {
            Presented::None => return Err(Denied::Missing),
            Presented::Several => return Err(Denied::Several),
            Presented::One(it) => it,
        };
        let proof = match (self.by_key(&credential), &auth.tokens) {
            (Some(proof), _) => proof,
            (None, Some(tokens)) if credential.is_token && is_tried(&credential) => {
                self.by_token(tokens, verified, now_s, &credential.text).map_err(Denied::Token)?
            }
            _ => return Err(Denied::Unknown),
        };
        if self.known(&proof).is_some_and(|it| auth.is_for(it)) {
            return Ok(proof);
        }
        Err(Denied::Group(proof))
    }

    /// Whether who proved that before, to a route that asked for that, could again. A key is of who had it, by name.
    pub fn still_hold(&self, auth: &Auth, name: &str, proof: &Proof, now_s: u64) -> bool {
        match proof {
            Proof::Key { key, .. } => {
                let now = self.of_key(*key).and_then(|at| self.list.get(at));
                now.is_some_and(|it| it.name == name && auth.is_for(it))
            }
            Proof::Token(token) => {
                let is_asked = auth.tokens.as_ref().is_some_and(|it| it.issuers.contains(&token.issuer));
                is_asked && self.issuers.still_prove(token, now_s) && auth.is_for(&token.known)
            }
        }
    }

    fn of_key(&self, key: KeyDigest) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    fn by_key(&self, credential: &Credential<'_>) -> Option<Proof> {
        // What can be nobody's is not hashed: a head has room for much.
        let can_be = credential.is_key && (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&credential.text.len());
        let key = can_be.then(|| KeyDigest::of(&credential.text))?;
        self.of_key(key).map(|consumer| Proof::Key { consumer, key })
    }

    fn by_token(
        &self,
        tokens: &Tokens,
        verified: Option<&mut Verified>,
        now_s: u64,
        token: &[u8],
    ) -> Result<Proof, jwt::Refused> {
        let Some(verified) = verified else {
            return self.issuers.verify(&tokens.issuers, token, now_s).map(Rc::new).map(Proof::Token);
        };
        if token.len() > jwt::TOKEN_BYTES_MAX {
            return Err(jwt::Refused::Malformed);
        }
        if let Some(kept) = verified.find(&self.issuers, &tokens.issuers, token, now_s) {
            return Ok(Proof::Token(kept));
        }
        let proved = Rc::new(self.issuers.verify(&tokens.issuers, token, now_s)?);
        verified.keep(token, &proved);
        Ok(Proof::Token(proved))
    }
}

/// Whether it is looked at as a token: where it may be a key as well, it looks like one.
fn is_tried(credential: &Credential<'_>) -> bool {
    !credential.is_key || jwt::is_like_token(&credential.text)
}
