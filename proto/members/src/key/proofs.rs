//! Words that only a holder of a key can say, and anyone with the same key can check.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{Hint, KEY_BYTES, Key, KeyRing, Secret, hex};

/// Hexadecimal digits of a [short proof](KeyRing::short_root_proof): 128 bits, for each goes with every
/// change of a record.
pub(crate) const SHORT_PROOF_DIGITS: usize = 32;

/// The cluster key that something was proved with, by its hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prover(Hint);

impl KeyRing {
    /// What only a holder of the first key can say of `words`, in hexadecimal: by the edge key first, then
    /// by the cluster key where it is here, for who is of the version before. `purpose` keeps it from
    /// being good for anything else.
    pub fn proofs(&self, purpose: &str, words: &[u8]) -> Vec<String> {
        let secrets = self.keys.first().into_iter().flat_map(Key::secrets);
        secrets.filter_map(|(_, secret)| proof(secret, purpose, words)).collect()
    }

    /// Whether a holder of one of the keys said so.
    pub fn proves(&self, purpose: &str, words: &[u8], said: &str) -> bool {
        self.keys.iter().flat_map(Key::secrets).any(|(_, secret)| {
            let own = proof(secret, purpose, words);
            own.is_some_and(|own| verify_slices_are_equal(own.as_bytes(), said.as_bytes()).is_ok())
        })
    }

    /// What only a holder of the first cluster key itself can say of `words`, in hexadecimal. None where
    /// that is an edge key.
    pub fn root_proof(&self, purpose: &str, words: &[u8]) -> Option<String> {
        proof(self.keys.first()?.root()?, purpose, words)
    }

    /// Whether a holder of one of the cluster keys themselves said so.
    pub fn root_proves(&self, purpose: &str, words: &[u8], said: &str) -> bool {
        self.prover_in(2 * KEY_BYTES, purpose, words, said).is_some()
    }

    /// [`KeyRing::root_proof`] in fewer digits, for what is said often.
    pub(crate) fn short_root_proof(&self, purpose: &str, words: &[u8]) -> Option<String> {
        let mut said = self.root_proof(purpose, words)?;
        said.truncate(SHORT_PROOF_DIGITS);
        Some(said)
    }

    /// Of which cluster key a holder said so, in [`KeyRing::short_root_proof`]'s form.
    pub(crate) fn short_root_prover(&self, purpose: &str, words: &[u8], said: &str) -> Option<Prover> {
        self.prover_in(SHORT_PROOF_DIGITS, purpose, words, said)
    }

    /// Whether that key is one of these.
    pub(crate) fn has_prover(&self, prover: Prover) -> bool {
        self.keys.iter().any(|key| key.root.is_some() && Prover(key.root_hint) == prover)
    }

    fn prover_in(&self, digits: usize, purpose: &str, words: &[u8], said: &str) -> Option<Prover> {
        let prover = self.keys.iter().find(|key| {
            let own = key.root().and_then(|root| proof(root, purpose, words));
            let own = own.as_ref().and_then(|own| own.as_bytes().get(..digits));
            own.is_some_and(|own| verify_slices_are_equal(own, said.as_bytes()).is_ok())
        })?;
        Some(Prover(prover.root_hint))
    }
}

fn proof(secret: &Secret, purpose: &str, words: &[u8]) -> Option<String> {
    let proof = secret.derive(&[b"proof\0", purpose.as_bytes(), b"\0", words])?;
    Some(hex(&proof))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge_of(root: &str) -> KeyRing {
        KeyRing::parse(&KeyRing::parse(root).unwrap().edge_lines().join("\n")).unwrap()
    }

    #[test]
    fn a_proof_is_of_these_words_for_this_purpose_by_one_of_the_keys() {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        let old_ring = KeyRing::parse(&old).unwrap();
        let both = KeyRing::parse(&format!("{new}\n{old}")).unwrap();
        let proofs = old_ring.proofs("a purpose", b"words");
        assert_eq!(proofs.len(), 2);
        for proof in &proofs {
            assert!(
                old_ring.proves("a purpose", b"words", proof) && both.proves("a purpose", b"words", proof)
            );
            assert!(!both.proves("a purpos", b"ewords", proof) && !both.proves("a purpose", b"word", proof));
            assert!(!KeyRing::parse(&new).unwrap().proves("a purpose", b"words", proof));
        }
        assert!(!both.proves("a purpose", b"words", ""));
        // An edge says and hears the edge key's.
        let edge = edge_of(&old);
        assert_eq!(edge.proofs("a purpose", b"words"), proofs[..1]);
        assert!(edge.proves("a purpose", b"words", &proofs[0]));
        assert!(!edge.proves("a purpose", b"words", &proofs[1]));
    }

    #[test]
    fn a_proof_of_the_cluster_key_itself_is_none_that_an_edge_can_make_or_see_through() {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        let ring = KeyRing::parse(&old).unwrap();
        let both = KeyRing::parse(&format!("{new}\n{old}")).unwrap();
        let said = ring.root_proof("a purpose", b"words").unwrap();
        let short = ring.short_root_proof("a purpose", b"words").unwrap();
        assert!(said.len() == 2 * KEY_BYTES && short == said[..SHORT_PROOF_DIGITS]);
        assert!(both.root_proves("a purpose", b"words", &said));
        assert!(both.short_root_prover("a purpose", b"words", &short).is_some());
        assert!(!both.root_proves("a purpose", b"words", &short));
        assert!(both.short_root_prover("a purpose", b"words", &said).is_none());
        let edge = edge_of(&old);
        assert_eq!(edge.root_proof("a purpose", b"words"), None);
        assert!(!edge.root_proves("a purpose", b"words", &said));
        for made in edge.proofs("a purpose", b"words") {
            assert!(!both.root_proves("a purpose", b"words", &made));
            assert!(both.short_root_prover("a purpose", b"words", &made[..SHORT_PROOF_DIGITS]).is_none());
        }
    }
}
