//! The workers' token: `Authorization: Bearer ...`.

use std::fmt;

use http::HeaderMap;
use skep_console::token::bearer;
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;

use super::problem::{Problem, ProblemKind};

/// What a worker's token is good for, and nothing else.
const WORKER: &str = "worker";

/// What workers prove themselves with: it is derived from the cluster key, so that whoever runs what comes from
/// anywhere has that alone. Without a key, which is on loopback alone, everybody is a worker.
#[derive(Clone, Default)]
pub struct WorkerToken(Option<Keys>);

impl fmt::Debug for WorkerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "WorkerToken(set)" } else { "WorkerToken(none)" })
    }
}

impl WorkerToken {
    pub fn new(keys: Option<Keys>) -> Self {
        Self(keys)
    }

    /// The token of the first of these keys, to be given to workers; None where that is an edge key, of which it
    /// does not follow.
    pub fn of(keys: &KeyRing) -> Option<String> {
        keys.root_proof(WORKER, b"")
    }

    /// Whether the request comes from a worker, or why it is refused. Of each key of the ring there is one, so
    /// that workers and nodes need not change theirs in one moment.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(keys) = &self.0 else { return Ok(()) };
        let Some(given) = bearer(headers) else {
            let detail =
                "send the workers' token as Authorization: Bearer TOKEN; `skep-node worker-token` prints it";
            return Err(Problem::new(ProblemKind::NoWorker, detail));
        };
        match keys.now().ring.root_proves(WORKER, b"", given) {
            true => Ok(()),
            false => Err(Problem::new(ProblemKind::NoWorker, "the workers' token is another one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;

    fn bearing(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[test]
    fn a_workers_token_is_one_of_any_key_of_the_ring_and_no_other() {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        let ring = |text: &str| KeyRing::parse(text).unwrap();
        let token = WorkerToken::new(Some(Keys::of_node(ring(&format!("{new}\n{old}")).into()).unwrap()));
        for key in [&old, &new] {
            token.check(&bearing(&WorkerToken::of(&ring(key)).unwrap())).unwrap();
        }
        let stranger = WorkerToken::of(&ring(&KeyRing::generate_line())).unwrap();
        // Who has the edge key is no worker for it.
        let edge = ring(&ring(&new).edge_lines().remove(0));
        assert_eq!(WorkerToken::of(&edge), None);
        let of_edge = edge.proofs(WORKER, b"").remove(0);
        for headers in [HeaderMap::new(), bearing(&stranger), bearing(&new), bearing(&of_edge), bearing("")] {
            assert_eq!(token.check(&headers).unwrap_err().kind, ProblemKind::NoWorker);
        }
    }

    #[test]
    fn without_a_key_everybody_is_a_worker() {
        WorkerToken::new(None).check(&HeaderMap::new()).unwrap();
    }
}
