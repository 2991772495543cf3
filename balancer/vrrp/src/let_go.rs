//! Letting clients go whose address went elsewhere while the proxy stays.
//!
//! The holder of a virtual address may be another process, which is replaced now and then. It hands
//! the address over, and the new holder sends on what belongs to connections that are here, for a
//! while. They have to end in that while: an answer on them says that it is the last, as in a drain.
//! So the holder tells the proxy, with the question that it asks all the time ([`HEADER`] at
//! `/-/ready`), and proves by the edge key that it may: that path is open to everyone.
//!
//! No tasks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skep_members::in_force::Keys;
use skep_members::key::KeyRing;

/// Seconds since the Unix epoch, a dot, and the proof of them.
pub const HEADER: &str = "skep-let-go";
const PURPOSE: &str = "let go";
/// A proof is good for so long; both processes are on one host, and have one clock.
const AGE_MAX: Duration = Duration::from_secs(10);

/// What the holder says now, one after the other: by the edge key, and by the cluster key where it has
/// that, for a proxy of the version before.
pub fn words(keys: &KeyRing) -> Vec<String> {
    let now = now_s().to_string();
    keys.proofs(PURPOSE, now.as_bytes()).iter().map(|proof| format!("{now}.{proof}")).collect()
}

/// Which connections are to end.
#[derive(Debug, Default)]
pub struct LetGo {
    keys: OnceLock<Keys>,
    before: AtomicU32,
}

impl LetGo {
    /// Once, at the start.
    pub fn believe(&self, keys: Keys) {
        let _ = self.keys.set(keys);
    }

    /// Connections of an earlier generation than this are to end.
    pub fn generation(&self) -> u32 {
        self.before.load(Ordering::Relaxed)
    }

    /// All that are here are to end, if the word is true. Says whether it is.
    pub fn hear(&self, word: &str) -> bool {
        let Some(keys) = self.keys.get() else { return false };
        let Some((at, proof)) = word.split_once('.') else { return false };
        let is_new = at.parse().is_ok_and(|at: u64| now_s().abs_diff(at) <= AGE_MAX.as_secs());
        let is_true = is_new && keys.now().ring.proves(PURPOSE, at.as_bytes(), proof);
        if is_true {
            self.before.fetch_add(1, Ordering::Relaxed);
        }
        is_true
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> KeyRing {
        KeyRing::parse(&KeyRing::generate_line()).unwrap()
    }

    fn of(ring: &KeyRing) -> Keys {
        Keys::of_edge(ring.clone().into()).unwrap()
    }

    #[test]
    fn only_who_has_the_key_is_believed_and_only_now() {
        let (ours, let_go) = (keys(), LetGo::default());
        let edge = KeyRing::parse(&ours.edge_lines().join("\n")).unwrap();
        let said = words(&edge).remove(0);
        assert!(!let_go.hear(&said), "without a key nobody is believed");
        let_go.believe(of(&ours));
        let stale = now_s() - 60;
        let stale = format!("{stale}.{}", ours.proofs(PURPOSE, stale.to_string().as_bytes())[0]);
        for lie in ["", ".", "1.", &words(&keys())[0], &stale, &said.replace('.', "0.")] {
            assert!(!let_go.hear(lie), "{lie}");
        }
        assert_eq!(let_go.generation(), 0);
        assert!(let_go.hear(&said));
        assert_eq!(let_go.generation(), 1);
    }

    #[test]
    fn whichever_key_either_has_the_word_is_understood() {
        let ours = keys();
        let edge = KeyRing::parse(&ours.edge_lines().join("\n")).unwrap();
        for (holder, proxy) in [(&ours, &ours), (&ours, &edge), (&edge, &ours), (&edge, &edge)] {
            let let_go = LetGo::default();
            let_go.believe(of(proxy));
            assert!(words(holder).iter().any(|word| let_go.hear(word)));
        }
        // The version before has but this one.
        let last = words(&ours).pop().unwrap();
        let let_go = LetGo::default();
        let_go.believe(of(&edge));
        assert!(!let_go.hear(&last), "an edge cannot check what the cluster key says");
        let let_go = LetGo::default();
        let_go.believe(of(&ours));
        assert!(let_go.hear(&last));
    }
}
