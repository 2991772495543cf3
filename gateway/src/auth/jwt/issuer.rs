//! An issuer: whose tokens it signs, by which keys, and whom one of them proves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Refused;
use super::claims::{self, Audience, Claims};
use super::jws::Compact;
use super::key::VerifyKey;
use crate::auth::{KeyDigest, Known};

/// Whose word is taken for who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// As its tokens have it, to the letter.
    pub iss: String,
    pub audience: Audience,
    /// At most so many have no name, for a token that names none is tried with each.
    pub keys: Arc<[VerifyKey]>,
    /// They are as it publishes them. None: it is not known yet which.
    pub is_published: bool,
    /// The claim that names groups.
    pub groups: Option<String>,
    /// How far its clock and ours may be apart.
    pub leeway_s: u32,
}

/// What a token proved.
#[derive(Debug)]
pub struct Token {
    /// The issuer's name in the document, and by what it was proved there.
    pub issuer: String,
    iss: String,
    aud: Vec<String>,
    exp: f64,
    key: KeyDigest,
    groups_claim: Option<String>,
    leeway_s: u32,
    pub known: Known,
}

impl Token {
    pub fn is_over(&self, now_s: u64) -> bool {
        claims::is_over(self.exp, now_s, self.leeway_s)
    }

    /// About so many bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let claim = self.groups_claim.as_ref().map_or(0, String::len);
        let aud: usize = self.aud.iter().map(|it| it.len() + size_of::<String>()).sum();
        size_of::<Self>() + self.issuer.len() + self.iss.len() + aud + claim + self.known.bytes()
    }
}

impl Issuer {
    /// What a token says whose signature holds, whoever it is of: its payload.
    pub fn payload(&self, token: &[u8]) -> Result<Vec<u8>, Refused> {
        let compact = Compact::read(token)?;
        self.signed_by(&compact)?;
        Ok(compact.payload)
    }

    /// The key of ours that signed it.
    fn signed_by(&self, token: &Compact<'_>) -> Result<&VerifyKey, Refused> {
        let named =
            token.kid.as_ref().and_then(|kid| self.keys.iter().find(|it| it.kid.as_ref() == Some(kid)));
        let tried: Vec<&VerifyKey> = match (named, &*self.keys) {
            (Some(key), _) => vec![key],
            (None, [only]) if token.kid.is_none() => vec![only],
            // One that has a name is for tokens that say it.
            (None, keys) => keys.iter().filter(|it| it.kid.is_none()).collect(),
        };
        let mut refused = Refused::Key;
        for key in tried.into_iter().filter(|it| it.algorithm.name() == token.algorithm) {
            if key.verifies(token.signed, &token.signature) {
                return Ok(key);
            }
            refused = Refused::Signature;
        }
        Err(refused)
    }

    /// Why a token is refused that none of the keys has signed: where they are those that were seen to be published, the
    /// issuer, in that place, may have published others by now.
    fn refused(&self, token: &Compact<'_>, at: usize, why: Refused) -> Refused {
        let is_known = |kid: &String| self.keys.iter().any(|it| it.kid.as_ref() == Some(kid));
        match &token.kid {
            _ if !self.is_published => why,
            Some(kid) if !is_known(kid) => Refused::Unpublished(at),
            _ => Refused::Unfit(at),
        }
    }

    /// Whether what a token proved before still is, by what is asked of this issuer's tokens now.
    fn still_proves(&self, token: &Token, now_s: u64) -> bool {
        self.iss == token.iss
            && self.groups == token.groups_claim
            && self.audience.has_one_of(&token.aud)
            && self.keys.iter().any(|it| it.id == token.key)
            && !claims::is_over(token.exp, now_s, self.leeway_s)
    }
}

/// All issuers, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Issuers(pub BTreeMap<String, Issuer>);

impl Issuers {
    /// Whom a token proves to a route that takes those of the issuers of these names, of which no two are one.
    pub fn verify(&self, among: &[String], token: &[u8], now_s: u64) -> Result<Token, Refused> {
        let compact = Compact::read(token)?;
        let claims = Claims::read(&compact.payload)?;
        let mut asked = among.iter().enumerate().filter_map(|(at, name)| Some((at, name, self.0.get(name)?)));
        let (at, name, issuer) = asked.find(|(_, _, it)| it.iss == claims.iss).ok_or(Refused::Issuer)?;
        // What needs no key comes first: who guesses is to cost little.
        claims.check_audience(&issuer.audience)?;
        claims.check_time(now_s, issuer.leeway_s)?;
        let groups = issuer.groups.as_ref().map(|claim| claims.groups(claim)).transpose()?;
        if issuer.is_published && issuer.keys.is_empty() {
            return Err(Refused::NoKeys(at));
        }
        let key = issuer.signed_by(&compact).map_err(|why| issuer.refused(&compact, at, why))?.id;
        Ok(Token {
            known: Known::new(format!("{name}/{}", claims.sub), groups.unwrap_or_default()),
            issuer: name.clone(),
            iss: claims.iss,
            aud: claims.aud,
            exp: claims.exp,
            key,
            groups_claim: issuer.groups.clone(),
            leeway_s: issuer.leeway_s,
        })
    }

    /// Whether what a token proved before still is.
    pub fn still_prove(&self, token: &Token, now_s: u64) -> bool {
        self.0.get(&token.issuer).is_some_and(|it| it.still_proves(token, now_s))
    }
}
