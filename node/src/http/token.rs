//! The operators' token, and the workers': `Authorization: Bearer ...`.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::Digest as _;
use skep_members::key::KeyRing;

use super::problem::{Problem, ProblemKind};

/// What operators prove themselves with; without one, nobody can. Kept as its hash.
#[derive(Clone, Default)]
pub struct OperatorToken(Option<Arc<[u8; 32]>>);

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OperatorToken(set)" } else { "OperatorToken(none)" })
    }
}

impl OperatorToken {
    pub fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| Arc::new(sha2::Sha256::digest(token.as_bytes()).into())))
    }

    /// Whether the request comes from an operator, or why it is refused.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let given = bearer(headers);
        let Some(given) = given else {
            let detail = "send the operators' token as Authorization: Bearer TOKEN";
            return Err(Problem::new(ProblemKind::NoOperator, detail));
        };
        let Some(expected) = &self.0 else {
            let detail = "no operators' token is set at this node: give it one with --operator-token-file";
            return Err(Problem::new(ProblemKind::NoOperators, detail));
        };
        // How long it takes to compare hashes says nothing of the token.
        let given: [u8; 32] = sha2::Sha256::digest(given.as_bytes()).into();
        match given == **expected {
            true => Ok(()),
            false => Err(Problem::new(ProblemKind::NoOperator, "the operators' token is another one")),
        }
    }
}

/// What a worker's token is good for, and nothing else.
const WORKER: &str = "worker";

/// What workers prove themselves with: it is derived from the cluster key, so that whoever runs what comes from
/// anywhere has that alone. Without a key, which is on loopback alone, everybody is a worker.
#[derive(Clone, Default)]
pub struct WorkerToken(Option<Arc<KeyRing>>);

impl fmt::Debug for WorkerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "WorkerToken(set)" } else { "WorkerToken(none)" })
    }
}

impl WorkerToken {
    pub fn new(keys: Option<&KeyRing>) -> Self {
        Self(keys.map(|keys| Arc::new(keys.clone())))
    }

    /// The token of these keys, to be given to workers. `None` never happens.
    pub fn of(keys: &KeyRing) -> Option<String> {
        keys.proof(WORKER, b"")
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
        match keys.proves(WORKER, b"", given) {
            true => Ok(()),
            false => Err(Problem::new(ProblemKind::NoWorker, "the workers' token is another one")),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn bearing(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[test]
    fn a_workers_token_is_one_of_any_key_of_the_ring_and_no_other() {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        let ring = |text: &str| KeyRing::parse(text).unwrap();
        let token = WorkerToken::new(Some(&ring(&format!("{new}\n{old}"))));
        for key in [&old, &new] {
            token.check(&bearing(&WorkerToken::of(&ring(key)).unwrap())).unwrap();
        }
        let stranger = WorkerToken::of(&ring(&KeyRing::generate_line())).unwrap();
        for headers in [HeaderMap::new(), bearing(&stranger), bearing(&new), bearing("")] {
            assert_eq!(token.check(&headers).unwrap_err().kind, ProblemKind::NoWorker);
        }
    }

    #[test]
    fn without_a_key_everybody_is_a_worker() {
        WorkerToken::new(None).check(&HeaderMap::new()).unwrap();
    }
}
