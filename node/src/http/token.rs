//! The operators' token: `Authorization: Bearer ...`.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::Digest as _;

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
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
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
