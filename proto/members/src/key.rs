//! The cluster key: the one secret that members share, and what is derived from it.
//!
//! ```text
//! cluster key K ── peers' CA, gossip among who has it
//!        └─ edge key E = HKDF(K, "skep edge 1") ── edges' CA, gossip with edges, edges' proofs
//! ```
//!
//! Nodes have K, which is everything. Edges, which are balancers and holders of addresses, need E alone:
//! gossip is read with it, and nothing of Raft can be spoken, for K does not follow from E.
//!
//! Owns parsing and printing of keys and the HKDF that every derived secret goes through. No
//! tasks. Nothing here shows a key: `Debug` prints how many there are, errors name lines only.

mod proofs;

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

pub(crate) use self::proofs::{Prover, SHORT_PROOF_DIGITS};

/// Bytes of one key.
pub const KEY_BYTES: usize = 32;

/// Most keys in a ring: a rotation needs two, the rest is room for a mistake.
pub const KEYS_MAX: usize = 8;

/// What every line with a cluster key starts with: the version of the format.
const ROOT_PREFIX: &str = "skep1:";

/// The same of an edge key.
const EDGE_PREFIX: &str = "skep1-edge:";

/// The salt of every derivation: keys of another program never give the same secrets.
const SALT: &[u8] = b"skep cluster key 1";

/// What the edge key is derived for.
const EDGE_PURPOSE: &[u8] = b"skep edge 1";

/// What tells keys apart in the header of a datagram, with no word about the key.
const HINT_PURPOSE: &[u8] = b"skep datagram hint 1";

/// Bytes of it.
pub(crate) const HINT_BYTES: usize = 4;

pub(crate) type Hint = [u8; HINT_BYTES];

/// What a process without a key uses, on loopback alone; as public as this source.
const INSECURE: [u8; KEY_BYTES] = *b"skep: no key, for loopback only!";

/// Which of a key's two secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The edge key, which everyone has.
    Edge,
    /// The cluster key itself.
    Root,
}

/// A secret of 32 bytes; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret([u8; KEY_BYTES]);

impl Secret {
    pub(crate) fn of(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The secret for one purpose: HKDF-SHA256 with `info` naming the purpose.
    ///
    /// `None` never happens for these sizes; the callers' errors carry it all the same.
    pub(crate) fn derive(&self, info: &[&[u8]]) -> Option<[u8; KEY_BYTES]> {
        let mut secret = [0; KEY_BYTES];
        let key = Salt::new(HKDF_SHA256, SALT).extract(&self.0);
        key.expand(info, HKDF_SHA256).ok()?.fill(&mut secret).ok()?;
        Some(secret)
    }

    pub(crate) fn hint(&self) -> Option<Hint> {
        self.derive(&[HINT_PURPOSE])?.first_chunk().copied()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from dropping the write to memory that is about to go.
        std::hint::black_box(&self.0);
    }
}

/// One key of a ring: a cluster key with its edge key, or an edge key alone.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    root: Option<Secret>,
    edge: Secret,
    /// The cluster key's. An edge that has it tells its own cluster's members from strangers, also
    /// where it cannot open what they say; every datagram shows it.
    root_hint: Hint,
}

impl Key {
    fn of_root(root: Secret) -> Option<Self> {
        let edge = Secret(root.derive(&[EDGE_PURPOSE])?);
        let root_hint = root.hint()?;
        Some(Self { root: Some(root), edge, root_hint })
    }

    pub(crate) fn root(&self) -> Option<&Secret> {
        self.root.as_ref()
    }

    pub(crate) fn edge(&self) -> &Secret {
        &self.edge
    }

    pub(crate) fn root_hint(&self) -> Hint {
        self.root_hint
    }

    /// The secrets that it has.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (Form, &Secret)> {
        let root = self.root.iter().map(|root| (Form::Root, root));
        std::iter::once((Form::Edge, &self.edge)).chain(root)
    }
}

/// The cluster's keys: the first seals and signs, every one opens and is trusted.
///
/// To change the key with no interruption, every process goes through three steps, and each step
/// is taken everywhere before the next: `[old]`, `[old, new]`, `[new, old]`, `[new]`. Edges' rings go
/// through the same steps. A ring may have keys of both forms: of an edge key it has what an edge has.
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
    #[error("line {line} is no cluster key: expected `skep1:` and 64 hex digits, or `skep1-edge:` and 72")]
    Malformed { line: usize },
    /// The key stands on an earlier line also, or is the edge key of one there.
    #[error("line {line} repeats a cluster key")]
    Repeated { line: usize },
}

impl KeyRing {
    /// Reads a ring: one key a line, `skep1:` and 64 hex digits for a cluster key, `skep1-edge:` and 72
    /// for an edge key; the first seals; blank lines and those that start with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(line).ok_or(KeyError::Malformed { line: number })?;
            if keys.iter().any(|known| known.edge == key.edge) {
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

    /// A fresh random cluster key, as a line that [`KeyRing::parse`] reads; no line end.
    pub fn generate_line() -> String {
        let mut key = [0; KEY_BYTES];
        // The system's random source failing leaves no safe way on.
        aws_lc_rs::rand::fill(&mut key).expect("the system gives random bytes");
        format!("{ROOT_PREFIX}{}", hex(&key))
    }

    /// The edge key of each key, as the lines of an edge's ring, in the same order; no line ends.
    pub fn edge_lines(&self) -> Vec<String> {
        let line = |key: &Key| format!("{EDGE_PREFIX}{}{}", hex(&key.edge.0), hex(&key.root_hint));
        self.keys.iter().map(line).collect()
    }

    /// Whether it has a cluster key itself: who has one may vote and write.
    pub fn has_root(&self) -> bool {
        self.keys.iter().any(|key| key.root.is_some())
    }

    /// Whether it has an edge key whose cluster key it has not: a node can do nothing with one, and who has
    /// one is an edge, whatever else it has.
    pub fn has_edge_alone(&self) -> bool {
        self.keys.iter().any(|key| key.root.is_none())
    }

    /// How many keys there are.
    pub fn size(&self) -> usize {
        self.keys.len()
    }

    /// Whether both seal with the same key in the same form.
    pub fn seals_as(&self, other: &Self) -> bool {
        self.keys.first() == other.keys.first()
    }

    /// Whether the other has the key that this one seals with, in whichever form.
    pub fn is_opened_by(&self, other: &Self) -> bool {
        self.keys.first().is_some_and(|first| other.keys.iter().any(|known| known.edge == first.edge))
    }

    /// How many of its keys the other has not.
    pub fn not_in(&self, other: &Self) -> usize {
        let is_there = |key: &&Key| other.keys.iter().any(|known| known.edge == key.edge);
        self.keys.len() - self.keys.iter().filter(is_there).count()
    }

    /// The well-known ring of a process that was given no key. It keeps nobody out: the caller
    /// makes sure that every address is a loopback one.
    pub fn insecure_loopback() -> Self {
        Self { keys: Key::of_root(Secret(INSECURE)).into_iter().collect() }
    }

    /// The keys, the sealing one first; never empty.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

fn parse_line(line: &str) -> Option<Key> {
    if let Some(digits) = line.strip_prefix(EDGE_PREFIX) {
        let (edge, root_hint) = digits.as_bytes().split_at_checked(2 * KEY_BYTES)?;
        return Some(Key { root: None, edge: Secret(bytes(edge)?), root_hint: bytes(root_hint)? });
    }
    let digits = line.strip_prefix(ROOT_PREFIX)?.as_bytes();
    Key::of_root(Secret(bytes(digits)?))
}

/// As many bytes as these hex digits are, neither more nor fewer.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edge_of(root: &str) -> String {
        KeyRing::parse(root).unwrap().edge_lines().remove(0)
    }

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
        let edge = edge_of(&line);
        let short = line.replace(ROOT_PREFIX, EDGE_PREFIX);
        for bad in ["skep1:", "skep2:00", &line[..line.len() - 1], &format!("{line}0"), &line[6..]]
            .into_iter()
            .chain([EDGE_PREFIX, &edge[..edge.len() - 1], &format!("{edge}0"), &edge[11..], &short])
        {
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
        let other = KeyRing::insecure_loopback();
        for (form, secret) in ring.keys()[0].secrets() {
            assert_eq!(secret.derive(&[b"a"]), secret.derive(&[b"a"]));
            assert_ne!(secret.derive(&[b"a"]), secret.derive(&[b"b"]));
            for (_, another) in other.keys()[0].secrets() {
                assert_ne!(secret.derive(&[b"a"]), another.derive(&[b"a"]), "{form:?}");
            }
        }
        let key = &ring.keys()[0];
        assert_ne!(key.root().unwrap().derive(&[b"a"]), key.edge().derive(&[b"a"]));
    }

    /// The key is of the fixed form and derivation that every later version must give.
    #[test]
    fn the_edge_key_of_a_cluster_key_is_pinned() {
        let root =
            KeyRing::parse(&format!("skep1:{}", "00112233445566778899aabbccddeeff".repeat(2))).unwrap();
        let edge = "skep1-edge:3c40e6e47641c1b82ba254c903474de97c1ce4e5b322f8859b7f577f8d814c55ba6581e4";
        assert_eq!(root.edge_lines(), [edge]);
        let parsed = KeyRing::parse(&edge.to_uppercase().replace("SKEP1-EDGE", "skep1-edge")).unwrap();
        assert_eq!(parsed.edge_lines(), [edge]);
        assert!(parsed.keys()[0].edge() == root.keys()[0].edge() && parsed.keys()[0].root().is_none());
        assert!(root.has_root() && !root.has_edge_alone() && parsed.has_edge_alone() && !parsed.has_root());
    }

    #[test]
    fn a_ring_may_have_both_forms_and_no_key_twice_in_whichever() {
        let (one, two) = (KeyRing::generate_line(), KeyRing::generate_line());
        let mixed = KeyRing::parse(&format!("{one}\n{}", edge_of(&two))).unwrap();
        assert!(mixed.has_root() && mixed.has_edge_alone());
        assert_eq!(mixed.edge_lines(), [edge_of(&one), edge_of(&two)]);
        for (first, second) in [(one.clone(), edge_of(&one)), (edge_of(&one), one.clone())] {
            let twice = KeyRing::parse(&format!("{first}\n{second}"));
            assert_eq!(twice, Err(KeyError::Repeated { line: 2 }));
        }
    }

    proptest! {
        #[test]
        fn hostile_key_files_never_panic_and_are_never_shown(
            lines in prop::collection::vec("(skep1(-edge)?:)?[0-9a-fg\u{e9}]{0,80}", 0..12),
        ) {
            if let Err(error) = KeyRing::parse(&lines.join("\n")) {
                let shown = error.to_string();
                let secret = lines.iter().filter(|line| line.len() > 24).all(|line| !shown.contains(&**line));
                prop_assert!(secret, "{}", shown);
            }
        }

        #[test]
        fn whatever_is_a_key_has_an_edge_key_that_is_read_back(key in any::<[u8; KEY_BYTES]>()) {
            let ring = KeyRing::parse(&format!("{ROOT_PREFIX}{}", hex(&key))).unwrap();
            let lines = ring.edge_lines();
            prop_assert_eq!(KeyRing::parse(&lines.join("\n")).unwrap().edge_lines(), lines);
        }
    }
}
