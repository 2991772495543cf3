//! The operators' token: `Authorization: Bearer ...`, and where a program has it from. It is never shown, not even
//! where it is wrong.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::Digest as _;
use skep_base::settings::{ConfigError, Kind, Layers, Secret, Setting, secret};

use crate::problem::{Problem, ProblemKind};

/// Shortest token, in bytes: it must not be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The token itself.
pub const OPERATOR_TOKEN: Setting =
    Setting { name: "operator-token", kind: Kind::Secret, value: "", default: "none", help: "" };

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

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the request comes from an operator, or why it is refused.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(given) = bearer(headers) else {
            let detail = "send the operators' token as Authorization: Bearer TOKEN";
            return Err(Problem::new(ProblemKind::NoOperator, detail));
        };
        let Some(expected) = &self.0 else {
            let detail = "no operators' token is set here: give one with --operator-token-file";
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

/// What stands behind `Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    })
}

/// The token that a program was given, itself or by `file`: what stands on the first line.
fn given(layers: &Layers, file: &Setting) -> Result<Option<String>, ConfigError> {
    let Some(Secret { text, origin, .. }) = secret(layers, &OPERATOR_TOKEN, file)? else { return Ok(None) };
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("expected a line of at least {TOKEN_BYTES_MIN} visible ASCII characters");
        return Err(ConfigError::Invalid { origin, reason });
    }
    Ok(Some(token.to_owned()))
}

/// What operators have to prove themselves with, where a program was given it.
pub fn to_ask_for(layers: &Layers, file: &Setting) -> Result<OperatorToken, ConfigError> {
    Ok(OperatorToken::new(given(layers, file)?.as_deref()))
}

/// What an operator's verb sends: the field's value, where there is a token.
pub fn to_send(layers: &Layers, file: &Setting) -> Result<Option<HeaderValue>, ConfigError> {
    let Some(token) = given(layers, file)? else { return Ok(None) };
    // Visible ASCII characters are a value.
    Ok(HeaderValue::from_str(&format!("Bearer {token}")).ok().map(|mut value| {
        value.set_sensitive(true);
        value
    }))
}
