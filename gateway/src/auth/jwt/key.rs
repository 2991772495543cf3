//! Keys that signatures are looked at by. A key is for one algorithm, which it says itself, or its type does: never the
//! token (RFC 8725, 3.1).

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaPublicKeyComponents,
};

use super::material::{Algorithm, Curve, Material};
use super::weak;
use crate::auth::KeyDigest;

#[derive(Clone)]
enum Checks {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// A key, and what it is for.
#[derive(Clone)]
pub struct VerifyKey {
    /// What tokens call it.
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    /// Tells it from others.
    pub id: KeyDigest,
    checks: Checks,
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl PartialEq for VerifyKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.kid == other.kid
    }
}

impl VerifyKey {
    /// Of a key that can be one and is not weak. No fault has anything of it.
    pub fn new(
        material: &Material,
        algorithm: Option<Algorithm>,
        kid: Option<String>,
    ) -> Result<Self, String> {
        let algorithm = algorithm.unwrap_or(material.usual_algorithm());
        if !material.is_for(algorithm) {
            return Err(format!("a key of this type is not for {}", algorithm.name()));
        }
        let no_key = |_| "this is no key: its numbers do not go together".to_owned();
        let (checks, bytes) = match material {
            Material::Secret(secret) => {
                let (hmac, least) = algorithm.hmac().ok_or("a secret is for HS256, HS384 or HS512")?;
                weak::check_secret(secret, least)?;
                (Checks::Secret(Box::new(hmac::Key::new(hmac, secret))), secret.clone())
            }
            Material::Rsa { n, e } => {
                weak::check_rsa(n, e)?;
                let parameters = algorithm.rsa().ok_or("it is of RSA")?;
                let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(no_key)?;
                (Checks::Public(key), [n.as_slice(), e].concat())
            }
            Material::Point(curve, point) => {
                let key = match curve {
                    Curve::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
                    Curve::P384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
                };
                (Checks::Public(key.map_err(no_key)?), point.clone())
            }
            Material::Ed25519(key) => {
                weak::check_ed25519(key)?;
                (Checks::Public(ParsedPublicKey::new(&ED25519, key).map_err(no_key)?), key.clone())
            }
        };
        let id = KeyDigest::of(&[algorithm.name().as_bytes(), b":", &bytes].concat());
        Ok(Self { kid, algorithm, id, checks })
    }

    pub fn is_secret(&self) -> bool {
        matches!(self.checks, Checks::Secret(_))
    }

    /// Whether that is this key's signature of it.
    pub fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.checks {
            Checks::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Checks::Public(key) => key.verify_sig(signed, signature).is_ok(),
        }
    }
}
