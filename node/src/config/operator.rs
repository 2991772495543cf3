//! The operators' token. It is never shown, not even where it is wrong.

use skep_base::settings::{ConfigError, Layers, Secret, secret};

use super::settings::{OPERATOR_TOKEN, OPERATOR_TOKEN_FILE};
use crate::http::OperatorToken;

/// Shortest token, in bytes: it must not be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// What stands on the first line.
pub(super) fn token(layers: &Layers) -> Result<OperatorToken, ConfigError> {
    let Some(Secret { text, origin, .. }) = secret(layers, &OPERATOR_TOKEN, &OPERATOR_TOKEN_FILE)? else {
        return Ok(OperatorToken::default());
    };
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("expected a line of at least {TOKEN_BYTES_MIN} visible ASCII characters");
        return Err(ConfigError::Invalid { origin, reason });
    }
    Ok(OperatorToken::new(Some(token)))
}
