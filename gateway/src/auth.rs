//! Who asks: the keys and passwords (`password`) that consumers have, the tokens that issuers sign (`jwt`), how a request
//! presents one, and who it is then (`consumers`); what costs as much for who is nobody (`decoys`). Pure.
//!
//! Of a key its SHA-256 is known and nothing else: that is what a presented one is looked up by, so that nothing here
//! is compared with a secret. A key that was made here is `skp_`, 256 bits and a checksum; others may be given.

mod consumers;
mod decoys;
pub mod jwt;
mod known;
pub mod password;

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest as _, Sha256};

pub use self::consumers::{Consumers, Denied, Proof};
pub use self::known::Known;
use self::password::Password;
use crate::fields;
use crate::query;

/// Shortest and longest key, in bytes.
pub const KEY_BYTES_MIN: usize = 16;
pub const KEY_BYTES_MAX: usize = 256;
/// What stands before the digits of what is kept of a key.
pub const KEPT_PREFIX: &str = "sha256:";

/// How a key begins that was made here.
const MADE_PREFIX: &str = "skp_";
/// Digits of such a key, and of its checksum.
const MADE_DIGITS: usize = 64;
const CHECK_DIGITS: usize = 8;
/// How answers name what a bearer is to prove.
const BEARER: &str = "Bearer realm=\"skep\"";
/// The same of a user (RFC 7617).
const BASIC: &str = "Basic realm=\"skep\", charset=\"UTF-8\"";
/// Digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 12;

/// The field that a key is in where nothing is said.
pub const HEADER: &str = "x-api-key";

/// What is known of a key: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({})", self.fingerprint())
    }
}

impl KeyDigest {
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Of its 64 digits, in lower case.
    pub fn read(digits: &str) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// As it is kept.
    pub fn kept(&self) -> String {
        format!("{KEPT_PREFIX}{}", hex(&self.0))
    }

    /// Its 64 digits.
    pub(crate) fn digits(&self) -> String {
        hex(&self.0)
    }

    /// What tells it from others to people.
    pub fn fingerprint(&self) -> String {
        hex(&self.0[..FINGERPRINT_DIGITS / 2])
    }
}

/// What tells a name from others: of its SHA-256 the begin.
pub(crate) fn digest_begin(name: &[u8]) -> u64 {
    Sha256::digest(name).iter().take(8).fold(0, |begin, byte| begin << 8 | u64::from(*byte))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key that is as good as random: made of 256 bits that are.
pub fn make_key(random: [u8; 32]) -> String {
    let key = format!("{MADE_PREFIX}{}", hex(&random));
    let check = checksum(&key);
    key + &check
}

/// Of a key that was made here, the digits that end it.
fn checksum(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes())[..CHECK_DIGITS / 2])
}

/// The digest of a key that is given as it is, where it can be one. No fault has it in it.
pub fn digest_of_given(key: &str) -> Result<KeyDigest, String> {
    if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
        return Err(format!("a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes"));
    }
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a key is of visible ASCII characters, without a space".to_owned());
    }
    if key.starts_with(MADE_PREFIX) {
        let is_whole = key.len() == MADE_PREFIX.len() + MADE_DIGITS + CHECK_DIGITS;
        // All of it is ASCII.
        let (body, check) = key.split_at(key.len() - CHECK_DIGITS);
        if !is_whole || checksum(body) != check {
            return Err(format!("it begins with {MADE_PREFIX}, and its checksum is wrong: is it mistyped?"));
        }
    }
    Ok(KeyDigest::of(key.as_bytes()))
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub digest: KeyDigest,
    /// What people call it; its fingerprint where nothing is said.
    pub label: String,
}

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumer {
    /// In order.
    pub groups: Vec<String>,
    pub keys: Vec<Key>,
    pub passwords: Vec<Password>,
}

/// Who is to prove what to a route: by a key, a token or a password, whichever of them it takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Auth {
    pub keys: Option<Keys>,
    pub tokens: Option<Tokens>,
    /// Users' passwords, in `Authorization: Basic`. That field is the gateway's alone then.
    pub basic: bool,
    /// In order: who asks is in one of them. None: any consumer.
    pub groups: Vec<String>,
}

/// Where a route looks for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keys {
    /// The field that has nothing else, in lower case.
    pub header: String,
    /// `Authorization` may have one, too: `Bearer KEY` or `ApiKey KEY`.
    pub authorization: bool,
    /// The parameter of the query that may have one.
    pub query: Option<String>,
}

/// Whose tokens a route takes, in `Authorization: Bearer TOKEN` and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tokens {
    /// Names of issuers, in order, of which each says another `iss`.
    pub issuers: Vec<String>,
    /// The service gets the token, too.
    pub forward: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self { header: HEADER.to_owned(), authorization: true, query: None }
    }
}

/// What a request presents, where it may be one thing or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Credential<'a> {
    text: Cow<'a, [u8]>,
    is_key: bool,
    is_token: bool,
    is_login: bool,
}

/// All that a request presents.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    None,
    One(Credential<'a>),
    /// More than one, which differ: whoever reads another than we do would know another consumer.
    Several,
}

impl<'a> Presented<'a> {
    fn and(self, other: Credential<'a>) -> Self {
        match self {
            Self::None => Self::One(other),
            Self::One(it) if it.text == other.text => Self::One(Credential {
                is_key: it.is_key || other.is_key,
                is_token: it.is_token || other.is_token,
                is_login: it.is_login || other.is_login,
                text: it.text,
            }),
            _ => Self::Several,
        }
    }
}

impl Auth {
    /// What stands in a field of one that proves who asks, if it does.
    fn of_field<'a>(&self, name: &[u8], value: &'a [u8]) -> Option<Credential<'a>> {
        let nothing = |text: &'a [u8]| Credential {
            text: text.into(),
            is_key: false,
            is_token: false,
            is_login: false,
        };
        if self.keys.as_ref().is_some_and(|it| name.eq_ignore_ascii_case(it.header.as_bytes())) {
            return Some(Credential { is_key: true, ..nothing(value) });
        }
        if !name.eq_ignore_ascii_case(b"authorization") {
            return None;
        }
        let has_keys = self.keys.as_ref().is_some_and(|it| it.authorization);
        let (scheme, text) = of_authorization(value);
        let it = Credential {
            is_key: has_keys && matches!(scheme, Scheme::Bearer | Scheme::ApiKey),
            is_token: self.tokens.is_some() && scheme == Scheme::Bearer,
            is_login: self.basic && scheme == Scheme::Basic,
            ..nothing(text)
        };
        // Where passwords are taken there, a service would take another's word from the same field.
        (self.basic || it.is_key || it.is_token).then_some(it)
    }

    fn presented<'a>(
        &self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Presented<'a> {
        let in_fields = fields.filter_map(|(name, value)| self.of_field(name, value));
        let found = in_fields.fold(Presented::None, Presented::and);
        let in_query = |text| Credential { text, is_key: true, is_token: false, is_login: false };
        match self.query() {
            Some(name) => query::values(query, name).map(in_query).fold(found, Presented::and),
            None => found,
        }
    }

    /// The parameter of the query that may have a key.
    pub fn query(&self) -> Option<&String> {
        self.keys.as_ref()?.query.as_ref()
    }

    /// Whether a field of a request ends here: one that proves who asks, and any with `_` or another sign in its name
    /// that some servers read as `-`.
    pub fn drops(&self, name: &[u8], value: &[u8]) -> bool {
        let is_forwarded = self.tokens.as_ref().is_some_and(|it| it.forward);
        let goes_on = |it: Credential<'_>| it.is_token && !it.is_key && is_forwarded;
        !is_plain(name) || self.of_field(name, value).is_some_and(|it| !goes_on(it))
    }

    /// What a 403 says to who proved by a token who it is (RFC 6750, 3.1).
    pub fn scope_challenge(asker: &Proof) -> Option<String> {
        matches!(asker, Proof::Token(_)).then(|| format!("{BEARER}, error=\"insufficient_scope\""))
    }

    /// What a 401 says of how to prove it, a value each.
    pub fn challenges(&self, denied: &Denied) -> Vec<String> {
        let of_others = (self.keys.is_some() || self.tokens.is_some()).then(|| self.challenge(denied));
        of_others.into_iter().chain(self.basic.then(|| BASIC.to_owned())).collect()
    }

    /// RFC 6750 has words for a bearer's token, nobody for other fields.
    fn challenge(&self, denied: &Denied) -> String {
        match (&self.keys, denied) {
            (Some(keys), _) if !keys.authorization && self.tokens.is_none() => {
                format!("ApiKey realm=\"skep\", header=\"{}\"", keys.header)
            }
            (_, Denied::Missing | Denied::Password | Denied::Unchecked(_)) => BEARER.to_owned(),
            (_, Denied::Several) => format!("{BEARER}, error=\"invalid_request\""),
            (_, Denied::Token(refused)) => {
                format!("{BEARER}, error=\"invalid_token\", error_description=\"{}\"", refused.why())
            }
            (_, Denied::Unknown | Denied::Group(_)) => format!("{BEARER}, error=\"invalid_token\""),
        }
    }

    /// What is taken, in a word each.
    pub fn words(&self) -> Vec<&'static str> {
        let all = [(self.keys.is_some(), "key"), (self.tokens.is_some(), "token"), (self.basic, "password")];
        all.into_iter().filter(|(is_taken, _)| *is_taken).map(|(_, word)| word).collect()
    }

    fn is_for(&self, consumer: &Known) -> bool {
        let is_one = |group: &String| self.groups.binary_search(group).is_ok();
        self.groups.is_empty() || consumer.groups.iter().any(is_one)
    }
}

/// The schemes of `Authorization` that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    ApiKey,
    Basic,
    Other,
}

/// The scheme of a value, and what stands behind it.
fn of_authorization(value: &[u8]) -> (Scheme, &[u8]) {
    let end = value.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(value.len());
    let (scheme, text) = value.split_at(end);
    let all = [("bearer", Scheme::Bearer), ("apikey", Scheme::ApiKey), ("basic", Scheme::Basic)];
    let found = all.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name.as_bytes()));
    match found {
        Some((_, scheme)) => (scheme, text.trim_ascii()),
        None => (Scheme::Other, value),
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Keys { header, authorization, query }) = &self.keys {
            write!(f, "a key in {header}")?;
            if *authorization {
                f.write_str(", or Authorization: Bearer")?;
            }
            if let Some(name) = query {
                write!(f, ", or ?{name}")?;
            }
        }
        if let Some(tokens) = &self.tokens {
            let or = if self.keys.is_some() { "; or " } else { "" };
            write!(f, "{or}a token of {} in Authorization: Bearer", tokens.issuers.join(" or "))?;
        }
        if self.basic {
            let or = if self.keys.is_some() || self.tokens.is_some() { "; or " } else { "" };
            write!(f, "{or}a password in Authorization: Basic")?;
        }
        match self.groups.as_slice() {
            [] => Ok(()),
            groups => write!(f, "; of a consumer in {}", groups.join(", ")),
        }
    }
}

/// Whether no server reads the name as another one.
fn is_plain(name: &[u8]) -> bool {
    name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// A field that has keys alone: not one that says other things as well, nor one that servers read in two ways.
pub(crate) fn key_field(text: &str) -> Result<String, String> {
    const OTHERS: [&str; 12] = [
        "authorization",
        "client-ip",
        "cookie",
        "idempotency-key",
        "origin",
        "proxy",
        "proxy-authorization",
        "range",
        "referer",
        "remote-user",
        "user-agent",
        "x-real-ip",
    ];
    /// What the protocol says otherwise, and what proxies say, which is read apart from what clients do.
    const BEGINS: [&str; 8] =
        ["accept", "access-control-", "content-", "if-", "sec-", "x-forwarded", "x-original-", "x-remote-"];
    let name = fields::name(text)?;
    if !is_plain(name.as_bytes()) {
        return Err(format!(
            "{text:?} is read as another name by some servers: letters, digits and '-' alone"
        ));
    }
    let is_other = OTHERS.contains(&name.as_str()) || BEGINS.iter().any(|it| name.starts_with(it));
    if is_other || fields::is_of_consumers(name.as_bytes()) {
        return Err(format!("{text:?} has something else to say: expected is a name as {HEADER}"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
