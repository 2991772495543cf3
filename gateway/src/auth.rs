//! Who asks: the keys that consumers have, how a request presents one, and who it is then. Pure.
//!
//! Of a key its SHA-256 is known and nothing else: that is what a presented one is looked up by, so that nothing here
//! is compared with a secret. A key that was made here is `skp_`, 256 bits and a checksum; others may be given.

pub mod jwt;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use sha2::{Digest as _, Sha256};

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

    /// What tells it from others to people.
    pub fn fingerprint(&self) -> String {
        hex(&self.0[..FINGERPRINT_DIGITS / 2])
    }
}

/// What tells a name from others: of its SHA-256 the begin.
pub(crate) fn digest_begin(name: &[u8]) -> u64 {
    Sha256::digest(name).iter().take(8).fold(0, |begin, byte| begin << 8 | u64::from(*byte))
}

fn hex(bytes: &[u8]) -> String {
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
}

/// Who is to prove what to a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    pub keys: Keys,
    /// In order: who asks is in one of them. None: any consumer.
    pub groups: Vec<String>,
}

/// Where a route looks for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The field that has nothing else, in lower case.
    pub header: String,
    /// `Authorization` may have one, too: `Bearer KEY` or `ApiKey KEY`.
    pub authorization: bool,
    /// The parameter of the query that may have one.
    pub query: Option<String>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { header: HEADER.to_owned(), authorization: true, query: None }
    }
}

/// The keys that a request presents.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    None,
    One(Cow<'a, [u8]>),
    /// More than one, which differ: whoever reads another than we do would know another consumer.
    Several,
}

impl<'a> Presented<'a> {
    fn and(self, key: Cow<'a, [u8]>) -> Self {
        match self {
            Self::None => Self::One(key),
            Self::One(other) if other == key => Self::One(other),
            _ => Self::Several,
        }
    }
}

impl Keys {
    /// The key that stands in a field, if one does.
    fn of_field<'a>(&self, name: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
        if name.eq_ignore_ascii_case(self.header.as_bytes()) {
            return Some(value);
        }
        let may_have = self.authorization && name.eq_ignore_ascii_case(b"authorization");
        may_have.then(|| of_authorization(value)).flatten()
    }

    fn presented<'a>(
        &self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Presented<'a> {
        let in_fields = fields.filter_map(|(name, value)| self.of_field(name, value).map(Cow::Borrowed));
        let found = in_fields.fold(Presented::None, Presented::and);
        match &self.query {
            Some(name) => query::values(query, name).fold(found, Presented::and),
            None => found,
        }
    }

    /// What a 401 says of how to prove it: RFC 6750 has words for a bearer's token, nobody for other fields.
    pub fn challenge(&self, denied: Denied) -> String {
        match (self.authorization, denied) {
            (true, Denied::Missing) => "Bearer realm=\"skep\"".to_owned(),
            (true, Denied::Several) => "Bearer realm=\"skep\", error=\"invalid_request\"".to_owned(),
            (true, _) => "Bearer realm=\"skep\", error=\"invalid_token\"".to_owned(),
            (false, _) => format!("ApiKey realm=\"skep\", header=\"{}\"", self.header),
        }
    }
}

/// The key behind one of the schemes that have keys.
fn of_authorization(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(value.len());
    let (scheme, key) = value.split_at(end);
    let has_keys = scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"apikey");
    has_keys.then(|| key.trim_ascii())
}

impl Auth {
    /// Whether a field of a request ends here: one that has a key, and any with `_` or another sign in its name that
    /// some servers read as `-`.
    pub fn drops(&self, name: &[u8], value: &[u8]) -> bool {
        !is_plain(name) || self.keys.of_field(name, value).is_some()
    }

    fn is_for(&self, consumer: &Known) -> bool {
        let is_one = |group: &String| self.groups.binary_search(group).is_ok();
        self.groups.is_empty() || consumer.groups.iter().any(is_one)
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keys { header, authorization, query } = &self.keys;
        write!(f, "a key in {header}")?;
        if *authorization {
            f.write_str(", or Authorization: Bearer")?;
        }
        if let Some(name) = query {
            write!(f, ", or ?{name}")?;
        }
        match self.groups.as_slice() {
            [] => Ok(()),
            groups => write!(f, "; of a consumer in {}", groups.join(", ")),
        }
    }
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It presents no key.
    Missing,
    /// It presents several.
    Several,
    /// Nobody has the key that it presents.
    Unknown,
    /// The consumer at this place is in none of the groups.
    Group(usize),
}

/// A consumer as requests are told of it.
#[derive(Debug)]
pub struct Known {
    pub name: String,
    /// Tells it from others wherever the document is known.
    pub id: u64,
    groups: Vec<String>,
    /// They in one text.
    pub groups_said: String,
}

/// Who asks, and by which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The consumer's place.
    pub consumer: usize,
    pub key: KeyDigest,
}

/// All consumers, by what they prove.
#[derive(Debug, Default)]
pub struct Consumers {
    list: Vec<Known>,
    by_key: HashMap<KeyDigest, usize>,
}

impl Consumers {
    /// Of which no two have the same key.
    pub fn new(consumers: BTreeMap<String, Consumer>) -> Self {
        let mut all = Self::default();
        for (at, (name, Consumer { groups, keys })) in consumers.into_iter().enumerate() {
            all.by_key.extend(keys.into_iter().map(|key| (key.digest, at)));
            let groups_said = groups.join(",");
            let id = digest_begin(name.as_bytes());
            all.list.push(Known { name, id, groups, groups_said });
        }
        all
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, at: usize) -> Option<&Known> {
        self.list.get(at)
    }

    /// Who sent these fields and this query, where the route is for it.
    pub fn authenticate<'a>(
        &self,
        auth: &Auth,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        query: &'a [u8],
    ) -> Result<Proof, Denied> {
        let key = match auth.keys.presented(fields, query) {
            Presented::None => return Err(Denied::Missing),
            Presented::Several => return Err(Denied::Several),
            Presented::One(key) => key,
        };
        // What can be nobody's is not hashed: a head has room for much.
        let can_be = (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len());
        let found = can_be.then(|| self.of_key(KeyDigest::of(&key))).flatten();
        let proof = found.ok_or(Denied::Unknown)?;
        if self.get(proof.consumer).is_some_and(|it| auth.is_for(it)) {
            return Ok(proof);
        }
        Err(Denied::Group(proof.consumer))
    }

    /// Whether who proved that before, to a route that asked for that, could again.
    pub fn still_hold(&self, auth: &Auth, name: &str, key: KeyDigest) -> bool {
        let now = self.of_key(key).and_then(|it| self.get(it.consumer));
        now.is_some_and(|it| it.name == name && auth.is_for(it))
    }

    fn of_key(&self, key: KeyDigest) -> Option<Proof> {
        self.by_key.get(&key).map(|at| Proof { consumer: *at, key })
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
