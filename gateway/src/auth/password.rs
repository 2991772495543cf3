//! Passwords: what is kept of one (Argon2id, RFC 9106), and what a request presents (RFC 7617). Pure: salts come from
//! outside.
//!
//! Kept is a text of the PHC string format, `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`, in one spelling alone. What is
//! given may cost more or less than what is made here, between bounds: one that costs nothing is guessed by who reads the
//! document, and one that costs much is work that anybody who asks has done for it.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::KeyDigest;
use super::jwt;

/// Shortest and longest password, and longest user's name, in bytes.
pub const PASSWORD_BYTES_MIN: usize = 8;
pub const PASSWORD_BYTES_MAX: usize = 256;
pub const USER_BYTES_MAX: usize = 128;
/// How what is kept of one begins.
pub const PASSWORD_KEPT_PREFIX: &str = "$argon2";

/// What is made here: what OWASP's Password Storage Cheat Sheet says.
const USUAL: Cost = Cost { memory_kib: 19_456, passes: 2, lanes: 1 };
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// The least and the most that one may cost which is given, each by itself and memory times passes.
const LEAST: Cost = Cost { memory_kib: 7_168, passes: 1, lanes: 1 };
const MOST: Cost = Cost { memory_kib: 65_536, passes: 16, lanes: 4 };
const WORK_MIN: u32 = 35_840;
const WORK_MAX: u32 = 262_144;
/// Of one that is given.
const SALT_BYTES_RANGE: std::ops::RangeInclusive<usize> = 8..=48;
const HASH_BYTES_RANGE: std::ops::RangeInclusive<usize> = 16..=64;
/// Longest text of one.
const KEPT_BYTES_MAX: usize = 256;
/// Longest text behind `Basic` that can be anybody's.
const PRESENTED_BYTES_MAX: usize = (USER_BYTES_MAX + 1 + PASSWORD_BYTES_MAX).div_ceil(3) * 4;

/// As good as random.
pub type Salt = [u8; SALT_BYTES];
/// Where salts come from; None where there is no chance to be had.
pub type Salts<'a> = &'a dyn Fn() -> Option<Salt>;

/// What proving one costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// Of its text, `m=19456,t=2,p=1`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut number = |name: &str| {
            let digits = parts.next()?.strip_prefix(name)?.strip_prefix('=')?;
            let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            is_plain.then(|| digits.parse().ok()).flatten()
        };
        let cost = Self { memory_kib: number("m")?, passes: number("t")?, lanes: number("p")? };
        parts.next().is_none().then_some(cost)
    }

    fn check(self) -> Result<Self, String> {
        let within = |least: u32, it: u32, most: u32| (least..=most).contains(&it);
        let work = self.memory_kib.saturating_mul(self.passes);
        if within(LEAST.memory_kib, self.memory_kib, MOST.memory_kib)
            && within(LEAST.passes, self.passes, MOST.passes)
            && within(LEAST.lanes, self.lanes, MOST.lanes)
            && within(WORK_MIN, work, WORK_MAX)
        {
            return Ok(self);
        }
        Err(format!(
            "this costs too little or too much: m is {} to {}, t {} to {}, p {} to {}, and m times t {WORK_MIN} to \
             {WORK_MAX}; best is m={},t={},p={}",
            LEAST.memory_kib,
            MOST.memory_kib,
            LEAST.passes,
            MOST.passes,
            LEAST.lanes,
            MOST.lanes,
            USUAL.memory_kib,
            USUAL.passes,
            USUAL.lanes
        ))
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    cost: Cost,
    salt: Vec<u8>,
    hash: Vec<u8>,
    /// What tells it from others.
    id: KeyDigest,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({})", self.id.fingerprint())
    }
}

impl Default for PasswordHash {
    /// Nobody's, which costs what is usual.
    fn default() -> Self {
        Self::new(USUAL, vec![0; SALT_BYTES], vec![0; HASH_BYTES])
    }
}

impl PasswordHash {
    fn new(cost: Cost, salt: Vec<u8>, hash: Vec<u8>) -> Self {
        let id = KeyDigest::of(written(cost, &salt, &hash).as_bytes());
        Self { cost, salt, hash, id }
    }

    /// Of a password. None where there is no memory for it.
    pub fn of(password: &[u8], salt: Salt) -> Option<Self> {
        let hash = run(USUAL, password, &salt, HASH_BYTES)?;
        Some(Self::new(USUAL, salt.to_vec(), hash))
    }

    /// Of its text.
    pub fn read(text: &str) -> Result<Self, String> {
        let other = || {
            format!(
                "behind {PASSWORD_KEPT_PREFIX} stands what this is of: expected is \
                 $argon2id$v=19$m={},t={},p={}$SALT$HASH, the last two in base64 without padding",
                USUAL.memory_kib, USUAL.passes, USUAL.lanes
            )
        };
        if text.len() > KEPT_BYTES_MAX {
            return Err(other());
        }
        let parts: Vec<&str> = text.split('$').collect();
        let ["", "argon2id", "v=19", cost, salt, hash] = parts[..] else { return Err(other()) };
        let cost = Cost::read(cost).ok_or_else(other)?.check()?;
        let bytes = |text: &str| of_base64(text.as_bytes()).ok_or_else(other);
        let (salt, hash) = (bytes(salt)?, bytes(hash)?);
        if !SALT_BYTES_RANGE.contains(&salt.len()) || !HASH_BYTES_RANGE.contains(&hash.len()) {
            return Err(format!(
                "a salt has {} to {} bytes, a hash {} to {}",
                SALT_BYTES_RANGE.start(),
                SALT_BYTES_RANGE.end(),
                HASH_BYTES_RANGE.start(),
                HASH_BYTES_RANGE.end()
            ));
        }
        Ok(Self::new(cost, salt, hash))
    }

    /// As it is kept.
    pub fn kept(&self) -> String {
        written(self.cost, &self.salt, &self.hash)
    }

    /// What tells it from others.
    pub fn id(&self) -> KeyDigest {
        self.id
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether it is that password's: that takes tens of milliseconds, and as many MiB. None where there is no memory for
    /// it.
    pub fn is_of(&self, password: &[u8]) -> Option<bool> {
        let hash = run(self.cost, password, &self.salt, self.hash.len())?;
        Some(verify_slices_are_equal(&hash, &self.hash).is_ok())
    }
}

fn written(cost: Cost, salt: &[u8], hash: &[u8]) -> String {
    let Cost { memory_kib, passes, lanes } = cost;
    format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}", to_base64(salt), to_base64(hash))
}

fn run(cost: Cost, password: &[u8], salt: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(bytes)).ok()?;
    let mut hash = vec![0; bytes];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, &mut hash).ok()?;
    Some(hash)
}

/// Bytes in the usual alphabet (RFC 4648, 4), without padding.
fn of_base64(text: &[u8]) -> Option<Vec<u8>> {
    let letter = |b: &u8| match b {
        b'+' => Some(b'-'),
        b'/' => Some(b'_'),
        b'-' | b'_' => None,
        other => Some(*other),
    };
    jwt::decode(&text.iter().map(letter).collect::<Option<Vec<u8>>>()?)
}

fn to_base64(bytes: &[u8]) -> String {
    jwt::encode(bytes).replace('-', "+").replace('_', "/")
}

/// What is wrong with a password that is given as it is, if something is. No fault has it in it.
pub fn check_given(password: &str) -> Result<(), String> {
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(format!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"));
    }
    if password.chars().any(char::is_control) {
        return Err("a password has no control characters".to_owned());
    }
    // What others keep of one: it would be taken for the password itself.
    let begins =
        ["$1$", "$2a$", "$2b$", "$2x$", "$2y$", "$5$", "$6$", "$apr1$", "$y$", "$scrypt$", "$pbkdf2", "{"];
    if begins.iter().any(|it| password.starts_with(it)) || password.starts_with(super::KEPT_PREFIX) {
        return Err(
            "this is what is kept of a password by a way that is not known here: that of Argon2id alone is"
                .to_owned(),
        );
    }
    Ok(())
}

/// The name by which a password is presented.
pub fn user(text: &str) -> Result<String, String> {
    let fits = (1..=USER_BYTES_MAX).contains(&text.len());
    if fits && !text.contains(':') && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("a user has a name of 1 to {USER_BYTES_MAX} bytes, without colon and control characters"))
}

/// Who somebody says to be, and the password that is to prove it.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Vec<u8>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Login {
    /// Of what stands behind `Basic`, where that can be anybody's.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        if text.len() > PRESENTED_BYTES_MAX || !text.len().is_multiple_of(4) {
            return None;
        }
        let padding = text.iter().rev().take(2).take_while(|b| **b == b'=').count();
        let mut user = of_base64(&text[..text.len() - padding])?;
        let colon = user.iter().position(|b| *b == b':')?;
        let password = user.split_off(colon + 1);
        user.truncate(colon);
        let user = self::user(std::str::from_utf8(&user).ok()?).ok()?;
        let is_one = (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len());
        is_one.then_some(Self { user, password })
    }
}

/// What is known of whether a password is a user's, before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    Right,
    Wrong,
    /// It has to be looked at, which takes its time.
    NotYet,
}

/// A password that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub login: Login,
    /// What is kept of the user's; None where nobody is called so.
    pub against: Option<PasswordHash>,
}

/// One of a consumer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    pub user: String,
    pub hash: PasswordHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9106 has none of the usual form; this is what the reference implementation's own test has of it
    /// (`hashtest(version, 2, 16, 1, "password", "somesalt", ...)`, Argon2id).
    const REFERENCE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn a_password_is_known_by_what_others_have_kept_of_it_as_well() {
        let kept = PasswordHash::read(REFERENCE).unwrap();
        assert_eq!(kept.kept(), REFERENCE);
        assert_eq!(kept.is_of(b"password"), Some(true));
        assert_eq!(kept.is_of(b"differentpassword"), Some(false));
        let own = PasswordHash::of(b"correct horse", [7; 16]).unwrap();
        assert_eq!(PasswordHash::read(&own.kept()), Ok(own.clone()));
        assert!(own.kept().starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"));
        assert_eq!((own.is_of(b"correct horse"), own.is_of(b"correct horsf")), (Some(true), Some(false)));
        assert_ne!(own.id(), PasswordHash::of(b"correct horse", [8; 16]).unwrap().id());
        assert_eq!(PasswordHash::default().is_of(b""), Some(false), "nobody's");
    }

    #[test]
    fn what_costs_too_much_or_next_to_nothing_or_is_written_otherwise_is_none() {
        let with = |cost: &str| REFERENCE.replace("m=65536,t=2,p=1", cost);
        for cost in ["m=7168,t=5,p=1", "m=19456,t=2,p=1", "m=47104,t=1,p=1", "m=65536,t=4,p=4"] {
            assert_eq!(PasswordHash::read(&with(cost)).map(|it| it.kept()), Ok(with(cost)));
        }
        for cost in [
            "m=4194304,t=1,p=1",
            "m=65537,t=1,p=1",
            "m=65536,t=5,p=1",
            "m=16384,t=17,p=1",
            "m=19456,t=2,p=5",
            "m=19456,t=2,p=0",
            "m=19456,t=0,p=1",
            "m=7167,t=16,p=1",
            "m=4096,t=3,p=1",
            "m=19456,t=1,p=1",
            "m=4294967296,t=1,p=1",
            "m=19456,t=99999999999,p=1",
            "m=019456,t=2,p=1",
            "m=+19456,t=2,p=1",
            "m=19456,t=2",
            "t=2,m=19456,p=1",
            "m=19456,t=2,p=1,x=1",
            "",
        ] {
            assert!(PasswordHash::read(&with(cost)).is_err(), "{cost}");
        }
        for (from, to) in [
            ("argon2id", "argon2i"),
            ("argon2id", "argon2d"),
            ("v=19", "v=16"),
            ("$v=19", ""),
            ("c29tZXNhbHQ", ""),
            ("c29tZXNhbHQ", "c29t"),
            ("c29tZXNhbHQ", "c29tZXNhbHQ="),
            ("c29tZXNhbHQ", "c29tZXNhbHR"),
            ("CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "CTFh"),
            ("GRPPc", "GRPP-"),
            ("GRPPc", "GRPPc$"),
        ] {
            let text = REFERENCE.replace(from, to);
            let fault = PasswordHash::read(&text).unwrap_err();
            assert!(!fault.contains("c29tZXNhbHQ") && !fault.contains("FdXPJO1a"), "{fault}");
        }
        assert!(PasswordHash::read(&format!("{REFERENCE}{}", "A".repeat(1 << 20))).is_err());
    }

    #[test]
    fn what_is_presented_is_a_user_and_a_password_or_nothing() {
        let read = |text: &str| Login::read(text.as_bytes()).map(|it| (it.user, it.password));
        let said = |user: &str, password: &[u8]| Some((user.to_owned(), password.to_vec()));
        // RFC 7617's own, but for a longer password.
        assert_eq!(read("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), said("Aladdin", b"open sesame"));
        assert_eq!(read("dGVzdDoxMjM0NTY3OMKj"), said("test", "12345678£".as_bytes()));
        // A colon is the password's from the first one on.
        assert_eq!(read("YTpiOmM6ZDplOmY6Zw=="), said("a", b"b:c:d:e:f:g"));
        for text in [
            "",
            "=",
            "====",
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ=",
            "QWxhZGRpbjpvcGVuIHNlc2FtZR==",
            "QWxhZGRpbjpvcGVu IHNlc2FtZQ=",
            // Nobody's name, no colon, a short password, no UTF-8, a control character in the name.
            "OnBhc3N3b3JkMQ==",
            "bm8gY29sb24gaGVyZQ==",
            "YTpzaG9ydA==",
            "/zpwYXNzd29yZDEx",
            "YQBiOnBhc3N3b3JkMQ==",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"QWxh".repeat(1 << 16)), None);
        assert_eq!(format!("{:?}", Login { user: "a".into(), password: b"secret".to_vec() }), "Login(..)");
    }

    #[test]
    fn no_password_is_what_others_keep_of_one() {
        for text in ["correct horse", "12345678", "pässword", "$ecret-of-mine", &"x".repeat(256)] {
            assert_eq!(check_given(text), Ok(()), "{text}");
        }
        let longest = "x".repeat(257);
        let bcrypt = "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        for text in
            ["1234567", &longest, "a\u{0}bcdefgh", "with\nline", bcrypt, "{SHA}5en6G6MezRroT3XKqkdPOmY/"]
        {
            assert!(check_given(text).is_err(), "{text}");
        }
        for name in ["alice", "Jürgen", "a b", &"x".repeat(128)] {
            assert_eq!(user(name).as_deref(), Ok(name));
        }
        for name in ["", "a:b", "a\tb", "a\u{85}b", &"x".repeat(129)] {
            assert!(user(name).is_err(), "{name:?}");
        }
    }
}
