//! The cluster key: the one secret that members share, and what is derived from it.
//!
//! Owns parsing and printing of keys and the HKDF that every derived secret goes through. No
//! tasks. Nothing here shows a key: `Debug` prints how many there are, errors name lines only.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

/// Bytes of one key.
pub const KEY_BYTES: usize = 32;

/// Most keys in a ring: a rotation needs two, the rest is room for a mistake.
pub const KEYS_MAX: usize = 8;

/// What every line with a key starts with: the version of the format.
const PREFIX: &str = "skep1:";

/// The salt of every derivation: keys of another program never give the same secrets.
const SALT: &[u8] = b"skep cluster key 1";

/// What a process without a key uses, on loopback alone; as public as this source.
const INSECURE: [u8; KEY_BYTES] = *b"skep: no key, for loopback only!";

/// One key; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([u8; KEY_BYTES]);

impl Key {
    /// The secret for one purpose: HKDF-SHA256 with `info` naming the purpose.
    ///
    /// `None` never happens for these sizes; the callers' errors carry it all the same.
    pub(crate) fn derive(&self, info: &[&[u8]]) -> Option<[u8; 32]> {
        let mut secret = [0; 32];
        let key = Salt::new(HKDF_SHA256, SALT).extract(&self.0);
        key.expand(info, HKDF_SHA256).ok()?.fill(&mut secret).ok()?;
        Some(secret)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from dropping the write to memory that is about to go.
        std::hint::black_box(&self.0);
    }
}

/// The cluster's keys: the first seals and signs, every one opens and is trusted.
///
/// To change the key with no interruption, every process goes through three steps, and each step
/// is taken everywhere before the next: `[old]`, `[old, new]`, `[new, old]`, `[new]`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// A text that is no key ring. Never shows the text: it may be a secret with a typing error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No line holds a key.
    #[error("there is no cluster key; `skep-node keygen` prints one")]
    Empty,
    /// More than [`KEYS_MAX`] keys.
    #[error("there are more than {KEYS_MAX} cluster keys")]
    TooMany,
    /// The line is no key.
    #[error("line {line} is no cluster key: expected `skep1:` and 64 hex digits")]
    Malformed { line: usize },
    /// The key stands on an earlier line also.
    #[error("line {line} repeats a cluster key")]
    Repeated { line: usize },
}

impl KeyRing {
    /// Reads a ring: one key a line, `skep1:` and 64 hex digits, the first seals; blank lines
    /// and those that start with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(line).ok_or(KeyError::Malformed { line: number })?;
            if keys.contains(&key) {
                return Err(KeyError::Repeated { line: number });
            }
            if keys.len() == KEYS_MAX {
                return Err(KeyError::TooMany);
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self { keys })
    }

    /// A fresh random key, as a line that [`KeyRing::parse`] reads; no line end.
    pub fn generate_line() -> String {
        use fmt::Write as _;
        let mut key = [0; KEY_BYTES];
        // The system's random source failing leaves no safe way on.
        aws_lc_rs::rand::fill(&mut key).expect("the system gives random bytes");
        let mut line = PREFIX.to_string();
        for byte in key {
            let _ = write!(line, "{byte:02x}");
        }
        line
    }

    /// The well-known ring of a process that was given no key. It keeps nobody out: the caller
    /// makes sure that every address is a loopback one.
    pub fn insecure_loopback() -> Self {
        Self { keys: vec![Key(INSECURE)] }
    }

    /// What only a holder of the key can say of `words`, in hexadecimal. `purpose` keeps it from being
    /// good for anything else. `None` never happens; see [`Key::derive`].
    pub fn proof(&self, purpose: &str, words: &[u8]) -> Option<String> {
        let proof = self.keys.first()?.derive(&proof_info(purpose, words))?;
        Some(proof.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether a holder of one of the keys said so.
    pub fn proves(&self, purpose: &str, words: &[u8], proof: &str) -> bool {
        self.keys.iter().any(|key| {
            let own = Self { keys: vec![key.clone()] }.proof(purpose, words);
            own.is_some_and(|own| verify_slices_are_equal(own.as_bytes(), proof.as_bytes()).is_ok())
        })
    }

    /// The keys, the sealing one first; never empty.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }
}

fn proof_info<'a>(purpose: &'a str, words: &'a [u8]) -> [&'a [u8]; 4] {
    [b"proof\0", purpose.as_bytes(), b"\0", words]
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

fn parse_line(line: &str) -> Option<Key> {
    let digits = line.strip_prefix(PREFIX)?.as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let nibble = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
    let mut key = Key([0; KEY_BYTES]);
    for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_line_is_read_back_and_is_never_the_same_twice() {
        let (one, two) = (KeyRing::generate_line(), KeyRing::generate_line());
        assert_ne!(one, two);
        assert_eq!(KeyRing::parse(&one).unwrap().keys().len(), 1);
        assert_ne!(KeyRing::parse(&one).unwrap(), KeyRing::parse(&two).unwrap());
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_the_order_is_kept() {
        let (one, two) = (KeyRing::generate_line(), KeyRing::generate_line());
        let ring = KeyRing::parse(&format!("# old\r\n\n  {one}  \r\n# new\n{two}\n")).unwrap();
        assert!(ring.keys()[0] == KeyRing::parse(&one).unwrap().keys()[0]);
        assert!(ring.keys()[1] == KeyRing::parse(&two).unwrap().keys()[0]);
    }

    #[test]
    fn what_is_no_ring_is_refused_with_the_line_and_without_the_text() {
        let line = KeyRing::generate_line();
        assert_eq!(KeyRing::parse(" \n# nothing\n"), Err(KeyError::Empty));
        for bad in ["skep1:", "skep2:00", &line[..line.len() - 1], &format!("{line}0"), &line[6..]] {
            assert_eq!(KeyRing::parse(&format!("#\n{bad}")), Err(KeyError::Malformed { line: 2 }), "{bad}");
        }
        assert_eq!(KeyRing::parse(&format!("{line}\n{line}")), Err(KeyError::Repeated { line: 2 }));
        let many: Vec<_> = (0..=KEYS_MAX).map(|_| KeyRing::generate_line()).collect();
        assert_eq!(KeyRing::parse(&many.join("\n")), Err(KeyError::TooMany));
        let error = KeyRing::parse("hunter2").unwrap_err().to_string();
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let line = KeyRing::generate_line();
        let shown = format!("{:?}", KeyRing::parse(&line).unwrap());
        assert_eq!(shown, "KeyRing { keys: 1, .. }");
    }

    #[test]
    fn each_purpose_and_each_key_has_its_own_secret() {
        let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
        let key = &ring.keys()[0];
        assert_eq!(key.derive(&[b"a"]), key.derive(&[b"a"]));
        assert_ne!(key.derive(&[b"a"]), key.derive(&[b"b"]));
        assert_ne!(key.derive(&[b"a"]), KeyRing::insecure_loopback().keys()[0].derive(&[b"a"]));
    }

    #[test]
    fn a_proof_is_of_these_words_for_this_purpose_by_one_of_the_keys() {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        let old_ring = KeyRing::parse(&old).unwrap();
        let both = KeyRing::parse(&format!("{new}\n{old}")).unwrap();
        let proof = old_ring.proof("a purpose", b"words").unwrap();
        assert!(old_ring.proves("a purpose", b"words", &proof) && both.proves("a purpose", b"words", &proof));
        assert!(!both.proves("a purpos", b"ewords", &proof) && !both.proves("a purpose", b"word", &proof));
        assert!(!KeyRing::parse(&new).unwrap().proves("a purpose", b"words", &proof));
        assert!(!both.proves("a purpose", b"words", ""));
    }
}
