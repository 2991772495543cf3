//! Who is known, and by what: consumers by their keys and passwords, and those whom an issuer's token names.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::decoys::Decoys;
use super::jwt::{self, Issuer, Issuers, Token, Verified, VerifyKey};
use super::known::Known;
use super::password::{Check, Checked, Login, Password, PasswordHash};
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
    /// It presents no user's password.
    Password,
    /// Nobody has looked yet whether it presents the user's password.
    Unchecked(Box<Check>),
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
    Password {
        /// The consumer's place.
        consumer: usize,
        user: Rc<str>,
        /// Of what is kept of it.
        kept: KeyDigest,
    },
}

/// Consumers' places. Strangers put nothing in, and what they look for is a SHA-256: a simple hash does.
type ByKey = HashMap<KeyDigest, usize, foldhash::fast::RandomState>;

/// All who may be known, by what they prove.
#[derive(Debug, Default, Clone)]
pub struct Consumers {
    list: Arc<Vec<Known>>,
    by_key: Arc<ByKey>,
    /// Each with its consumer's place.
    passwords: Arc<Vec<(usize, PasswordHash)>>,
    /// Their places.
    by_user: Arc<HashMap<String, usize>>,
    /// For those who are not there.
    decoys: Arc<Decoys>,
    issuers: Arc<Issuers>,
}

impl Consumers {
    /// Of which no two have the same key, or a user of the same name.
    pub fn new(consumers: BTreeMap<String, Consumer>, issuers: BTreeMap<String, Issuer>) -> Self {
        let (mut list, mut by_key) = (Vec::new(), ByKey::default());
        let (mut all, mut by_user) = (Vec::new(), HashMap::new());
        for (at, (name, Consumer { groups, keys, passwords })) in consumers.into_iter().enumerate() {
            by_key.extend(keys.into_iter().map(|key| (key.digest, at)));
            for Password { user, hash } in passwords {
                by_user.insert(user, all.len());
                all.push((at, hash));
            }
            list.push(Known::new(name, groups));
        }
        let issuers = Arc::new(Issuers(issuers));
        let decoys = Decoys::of(all.iter().map(|(_, hash)| hash)).into();
        Self {
            list: list.into(),
            by_key: by_key.into(),
            passwords: all.into(),
            by_user: by_user.into(),
            decoys,
            issuers,
        }
    }

    /// The same, where issuers publish these keys.
    pub fn with_published(&self, keys: impl IntoIterator<Item = (String, Arc<[VerifyKey]>)>) -> Self {
        let mut issuers = Issuers::clone(&self.issuers);
        for (name, keys) in keys {
            if let Some(issuer) = issuers.0.get_mut(&name).filter(|it| it.is_published) {
                issuer.keys = keys;
            }
        }
        Self { issuers: Arc::new(issuers), ..self.clone() }
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
            Proof::Key { consumer, .. } | Proof::Password { consumer, .. } => self.list.get(*consumer),
            Proof::Token(token) => Some(&token.known),
        }
    }

    /// Who sent these fields and this query, where the route is for it. `verified` remembers tokens, where it is there;
    /// `checked` says of a password what is known of it, where somebody is called so by what is kept of theirs.
    pub fn authenticate<'a>(
        &self,
        auth: &Auth,
        verified: Option<&mut Verified>,
        now_s: u64,
        checked: impl FnOnce(&Login, Option<&PasswordHash>) -> Checked,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Result<Proof, Denied> {
        let credential = match auth.presented(fields, query) {
            Presented::None => return Err(Denied::Missing),
            Presented::Several => return Err(Denied::Several),
            Presented::One(it) => it,
        };
        if !credential.is_key && !credential.is_token && !credential.is_login {
            return Err(Denied::Missing);
        }
        let proof = match (self.by_key(&credential), &auth.tokens) {
            (Some(proof), _) => proof,
            (None, Some(tokens)) if credential.is_token && is_tried(&credential) => {
                self.by_token(tokens, verified, now_s, &credential.text).map_err(Denied::Token)?
            }
            (None, _) if credential.is_login => self.by_password(checked, &credential.text)?,
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
            Proof::Password { user, kept, .. } => {
                let now = self.by_user.get(&**user).and_then(|at| self.passwords.get(*at));
                let now = now.filter(|(_, hash)| hash.id() == *kept).and_then(|(at, _)| self.list.get(*at));
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

    fn by_password(
        &self,
        checked: impl FnOnce(&Login, Option<&PasswordHash>) -> Checked,
        text: &[u8],
    ) -> Result<Proof, Denied> {
        let login = Login::read(text).ok_or(Denied::Password)?;
        let known = self.by_user.get(&login.user).and_then(|at| self.passwords.get(*at));
        match (checked(&login, known.map(|(_, hash)| hash)), known) {
            (Checked::NotYet, _) => {
                let against = known.map(|(_, hash)| hash.clone());
                Err(Denied::Unchecked(Check { login, against }.into()))
            }
            (Checked::Right, Some((consumer, hash))) => {
                Ok(Proof::Password { consumer: *consumer, user: login.user.into(), kept: hash.id() })
            }
            (Checked::Right | Checked::Wrong, _) => Err(Denied::Password),
        }
    }

    /// What a password is looked at by that is nobody's, so that it takes as long as if it were somebody's: by its user's
    /// name the same each time.
    pub fn decoy(&self, user: &str) -> PasswordHash {
        self.decoys.draw(user)
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
