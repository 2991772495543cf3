//! Tokens by which who asks proves who it is (RFC 7519), signed by an issuer whose keys the document has. Pure.
//!
//! ```text
//! base64 -> jws         the three parts of a token, read in one way or refused
//!           key         which algorithm a key is for, which is the key's to say; whether a signature holds
//!           material    what keys are made of; `der` as PEM has them, `weak` which are none
//!           claims      what is said of whom, for whom, and until when
//!           issuer      all of it of one issuer: whom a token proves
//!           verified    tokens that were proved before
//! ```
//!
//! What is not understood is refused (RFC 8725): nothing of a token chooses how it is looked at, but which of the
//! issuer's keys it names.

mod base64;
mod claims;
mod der;
mod issuer;
mod jws;
mod key;
mod material;
mod verified;
mod weak;

pub use self::base64::{decode, encode};
pub use self::claims::{Audience, SUBJECT_BYTES_MAX};
pub use self::der::read_pem;
pub use self::issuer::{Issuer, Issuers, Token};
pub use self::jws::TOKEN_BYTES_MAX;
pub(super) use self::jws::is_like_token;
pub use self::key::VerifyKey;
pub use self::material::{Algorithm, Curve, Material};
pub use self::verified::{KEPT_BYTES_MAX, KEPT_MAX, Verified};
pub use self::weak::SECRET_BYTES_MAX;

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is none: too long, not of three parts, or not written in the one way.
    Malformed,
    /// Its head asks for what is not done here.
    Header,
    /// No key of the issuer is meant by it, or the key is for another algorithm.
    Key,
    /// It names a key that the issuer was not seen to publish: it may have one more by now. The issuer's place among
    /// those that were asked.
    Unpublished(usize),
    /// None of the keys that its issuer was seen to publish has signed it: it may have another by now, of that name or of
    /// none. The issuer's place among those that were asked.
    Unfit(usize),
    /// What keys the issuer publishes is not known yet.
    NoKeys(usize),
    Signature,
    /// One of its claims is not there, or is no such thing.
    Claims,
    /// It is of an issuer that is not asked here.
    Issuer,
    Audience,
    Expired,
    NotYet,
}

impl Refused {
    /// In words, as who sent it is told.
    pub fn why(self) -> &'static str {
        match self {
            Self::Malformed => "it is no token that is understood here",
            Self::Header => "its head asks for what is not done here",
            Self::Key => "none of the issuer's keys is meant by it, or not for its algorithm",
            Self::Unpublished(_) => "its key is none that its issuer was seen to publish",
            Self::Unfit(_) => "none of the keys that its issuer was seen to publish has signed it",
            Self::NoKeys(_) => "the keys of its issuer are not known here yet",
            Self::Signature => "its signature does not hold",
            Self::Claims => "a claim that is needed is not there, or is no such thing",
            Self::Issuer => "it is of another issuer",
            Self::Audience => "it is for others",
            Self::Expired => "its time is over",
            Self::NotYet => "its time has not come yet",
        }
    }
}

#[cfg(test)]
mod tests;
