//! The operators' token, and the gateway's, which is for its document alone: `Authorization: Bearer ...`, and where a
//! program has them from. They are never shown, not even where they are wrong.

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

/// The gateway's token itself.
pub const GATEWAY_TOKEN: Setting =
    Setting { name: "gateway-token", kind: Kind::Secret, value: "", default: "none", help: "" };

/// A token as its hash.
#[derive(Clone, Default, PartialEq, Eq)]
struct Hashed(Option<Arc<[u8; 32]>>);

impl Hashed {
    fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| Arc::new(sha2::Sha256::digest(token.as_bytes()).into())))
    }

    /// How long it takes to compare hashes says nothing of the token.
    fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = sha2::Sha256::digest(given.as_bytes()).into();
        self.0.as_ref().is_some_and(|expected| given == **expected)
    }

    fn shown(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{name}({})", if self.0.is_some() { "set" } else { "none" })
    }
}

/// What operators prove themselves with; without one, nobody can. Kept as its hash.
#[derive(Clone, Default)]
pub struct OperatorToken(Hashed);

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.shown("OperatorToken", f)
    }
}

/// What whoever proves itself with that may read and change the gateway's document, and do nothing else. Kept as its
/// hash.
#[derive(Clone, Default)]
pub struct GatewayToken(Hashed);

impl fmt::Debug for GatewayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.shown("GatewayToken", f)
    }
}

impl GatewayToken {
    pub fn new(token: Option<&str>) -> Self {
        Self(Hashed::new(token))
    }

    /// Whether it is the operators', which can do more.
    pub fn is_operators(&self, operators: &OperatorToken) -> bool {
        self.0.0.is_some() && self.0 == operators.0
    }

    /// Whether the request comes from who may change the gateway's document, as operators may too; or why it is
    /// refused.
    pub fn check_or(&self, operators: &OperatorToken, headers: &HeaderMap) -> Result<(), Problem> {
        if bearer(headers).is_some_and(|given| self.0.is(given)) {
            return Ok(());
        }
        operators.check(headers)
    }
}

impl OperatorToken {
    pub fn new(token: Option<&str>) -> Self {
        Self(Hashed::new(token))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.0.is_some()
    }

    /// Whether the request comes from an operator, or why it is refused.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(given) = bearer(headers) else {
            let detail = "send the operators' token as Authorization: Bearer TOKEN";
            return Err(Problem::new(ProblemKind::NoOperator, detail));
        };
        if !self.is_set() {
            let detail = "no operators' token is set here: give one with --operator-token-file";
            return Err(Problem::new(ProblemKind::NoOperators, detail));
        }
        match self.0.is(given) {
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

/// The token that a program was given, itself or by `file`: what stands on the first line. And what is to be said of its
/// file in the log.
fn given(
    layers: &Layers,
    token: &Setting,
    file: &Setting,
) -> Result<(Option<String>, Option<String>), ConfigError> {
    let Some(Secret { text, origin, warning }) = secret(layers, token, file)? else {
        return Ok((None, None));
    };
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("expected a line of at least {TOKEN_BYTES_MIN} visible ASCII characters");
        return Err(ConfigError::Invalid { origin, reason });
    }
    Ok((Some(token.to_owned()), warning))
}

/// What operators have to prove themselves with, where a program was given it.
pub fn to_ask_for(layers: &Layers, file: &Setting) -> Result<OperatorToken, ConfigError> {
    let (token, _) = given(layers, &OPERATOR_TOKEN, file)?;
    Ok(OperatorToken::new(token.as_deref()))
}

/// What has to be proved by who changes the gateway's document alone, where a program was given it. It is none that
/// operators have: that would be good for all.
pub fn gateway_to_ask_for(
    layers: &Layers,
    file: &Setting,
    operators: &OperatorToken,
    warnings: &mut Vec<String>,
) -> Result<GatewayToken, ConfigError> {
    let (token, warning) = given(layers, &GATEWAY_TOKEN, file)?;
    warnings.extend(warning);
    let token = GatewayToken::new(token.as_deref());
    if token.is_operators(operators) {
        let reason = "it is the operators' token, which is good for more: make another one".to_owned();
        return Err(ConfigError::Invalid { origin: layers.origin(file), reason });
    }
    Ok(token)
}

/// What an operator's verb sends: the field's value, where there is a token.
pub fn to_send(layers: &Layers, file: &Setting) -> Result<Option<HeaderValue>, ConfigError> {
    token_to_send(layers, &OPERATOR_TOKEN, file).map(|(value, _)| value)
}

/// The same of another token, and what is to be said of its file in the log.
pub fn token_to_send(
    layers: &Layers,
    token: &Setting,
    file: &Setting,
) -> Result<(Option<HeaderValue>, Option<String>), ConfigError> {
    let (token, warning) = given(layers, token, file)?;
    // Visible ASCII characters are a value.
    let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    let sensitive = |mut value: HeaderValue| {
        value.set_sensitive(true);
        value
    };
    Ok((value.map(sensitive), warning))
}
