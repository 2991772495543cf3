//! Tokens by which who asks proves who it is (RFC 7519), signed by an issuer whose keys the document has. Pure.
//!
//! ```text
//! base64       as tokens and keys have it: one text for each bytes
//! key          which algorithm a key is for, which is the key's to say; whether a signature holds
//! material     what keys are made of; `der` as PEM has them, `weak` which are none
//! ```

mod base64;
mod der;
mod key;
mod material;
mod weak;

pub use self::base64::{decode, encode};
pub use self::der::read_pem;
pub use self::key::VerifyKey;
pub use self::material::{Algorithm, Curve, Material};
pub use self::weak::SECRET_BYTES_MAX;
