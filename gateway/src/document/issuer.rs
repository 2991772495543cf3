//! An issuer: what its tokens say of themselves, and the keys that they are signed by. A set of keys may stand here as
//! its issuer publishes it (RFC 7517), as long as nothing of it is private.

mod set;

use std::collections::HashSet;
use std::time::Duration;

use skep_base::settings::values;

pub use self::set::{KeySet, SET_BYTES_MAX};
use super::jwks::Jwks;
use super::secrets;
use crate::auth::jwt::{self, Algorithm, Audience, Curve, Issuer, Material, VerifyKey};
use crate::fault::Faults;
use crate::reader::{Fields, Spot};

/// Most keys of an issuer, and of those most without a name: a token that names none is tried with each.
pub const ISSUER_KEYS_MAX: usize = 32;
const NAMELESS_KEYS_MAX: usize = 4;
/// Most audiences.
const AUDIENCES_MAX: usize = 32;
/// Longest text that a token is compared with, and name of a key or of a claim, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// How far an issuer's clock and ours may be apart, where nothing is said and at most.
const LEEWAY: Duration = Duration::from_secs(30);
const LEEWAY_MAX: Duration = Duration::from_secs(600);

/// Claims that have a meaning of their own.
const CLAIMS: [&str; 7] = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"];
/// Members of a key that nobody but who signs by it may have (RFC 7518, 6.2.2 and 6.3.2).
const PRIVATE: [&str; 7] = ["d", "dp", "dq", "oth", "p", "q", "qi"];

/// With where its keys are fetched, where they are.
pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> (Issuer, Option<Jwks>) {
    let mut issuer = Issuer {
        iss: String::new(),
        audience: Audience::OneOf(Vec::new()),
        keys: [].into(),
        is_published: false,
        groups: None,
        leeway_s: LEEWAY.as_secs() as u32,
    };
    let Some(mut fields) = spot.fields(faults) else { return (issuer, None) };
    let [iss, aud] = ["iss", "aud"].map(|name| {
        let field = fields.take(name);
        if field.is_none() {
            faults.add(&spot.pointer, format!("there is no {name:?}"));
        }
        field
    });
    if let Some(iss) = iss.and_then(|it| it.read(text, faults)) {
        issuer.iss = iss;
    }
    if let Some(aud) = aud {
        issuer.audience = audience(&aud, faults);
    }
    let jwks = Jwks::read(&mut fields, faults);
    issuer.is_published = jwks.is_some();
    match (fields.take("keys"), &jwks) {
        (Some(keys), None) => issuer.keys = keys_of(&keys, faults).into(),
        (None, Some(_)) => {}
        (None, None) => faults.add(&spot.pointer, "there is no \"keys\", and no \"jwks\" where they are"),
        (Some(_), Some(_)) => {
            faults.add(&spot.pointer, "its keys are in \"keys\", or where \"jwks\" says: not both")
        }
    }
    issuer.groups = fields.take("groups").and_then(|it| it.read(claim, faults));
    if let Some(leeway_s) = fields.take("leeway").and_then(|it| it.read(leeway, faults)) {
        issuer.leeway_s = leeway_s;
    }
    super::take_source(&mut fields, faults);
    fields.end(faults);
    (issuer, jwks.flatten())
}

/// What tokens have to the letter.
fn text(text: &str) -> Result<String, String> {
    if (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("expected are 1 to {TEXT_BYTES_MAX} bytes of text"))
}

/// In whole seconds, as clocks of tokens are.
fn leeway(text: &str) -> Result<u32, String> {
    if text == "0s" {
        return Ok(0);
    }
    let leeway = values::duration_up_to(text, LEEWAY_MAX)?;
    if leeway.subsec_nanos() > 0 {
        return Err("expected are whole seconds".to_owned());
    }
    Ok(u32::try_from(leeway.as_secs()).unwrap_or_default())
}

fn claim(name: &str) -> Result<String, String> {
    if CLAIMS.contains(&name) {
        return Err(format!("the claim {name:?} says something else than groups"));
    }
    text(name)
}

/// `"any"`, a text, or a list of them.
fn audience(spot: &Spot<'_>, faults: &mut Faults) -> Audience {
    if spot.is("any") {
        return Audience::Any;
    }
    if spot.is_text() {
        return Audience::OneOf(spot.read(text, faults).into_iter().collect());
    }
    if spot.is_list_of_none() {
        faults.add(&spot.pointer, "tokens for nobody are none: \"any\" takes those for whomever");
    }
    let items = spot.items(AUDIENCES_MAX, faults);
    Audience::OneOf(items.iter().filter_map(|it| it.read(text, faults)).collect())
}

/// A list, or a set as it is published.
fn keys_of(spot: &Spot<'_>, faults: &mut Faults) -> Vec<VerifyKey> {
    let set;
    let list = if spot.is_list() {
        spot
    } else {
        // It may have more members, which say nothing here (RFC 7517, 5).
        let Some(found) = spot.fields(faults).map(|mut it| it.take("keys")) else { return Vec::new() };
        let Some(found) = found else {
            faults.add(&spot.pointer, "this is no set of keys: there is no \"keys\"");
            return Vec::new();
        };
        set = found;
        &set
    };
    let spots = list.items(ISSUER_KEYS_MAX, faults);
    if list.is_list_of_none() {
        faults.add(&list.pointer, "without a key no token could be looked at");
    }
    let (mut keys, mut names, mut ids) = (Vec::new(), HashSet::new(), HashSet::new());
    for spot in &spots {
        let Some(key) = key(spot, faults) else { continue };
        if key.kid.as_ref().is_some_and(|kid| !names.insert(kid.clone())) {
            faults.add(&spot.pointer, "another key has this \"kid\": which of them is meant is not known");
        } else if !ids.insert(key.id) {
            faults.add(&spot.pointer, "this key stands here twice");
        }
        keys.push(key);
    }
    let nameless = keys.iter().filter(|it| it.kid.is_none()).count();
    if nameless > NAMELESS_KEYS_MAX {
        let fault = format!(
            "{nameless} keys have no \"kid\", and at most {NAMELESS_KEYS_MAX} may: tokens are tried with each"
        );
        faults.add(&list.pointer, fault);
    }
    if keys.iter().any(VerifyKey::is_secret) && !keys.iter().all(VerifyKey::is_secret) {
        faults.add(&list.pointer, "secrets and public keys do not go together: make them two issuers");
    }
    keys
}

/// Of what kind it is is said by what stands in it.
fn key(spot: &Spot<'_>, faults: &mut Faults) -> Option<VerifyKey> {
    if spot.is_text() {
        return spot.read(|pem| VerifyKey::new(&jwt::read_pem(pem)?, None, None), faults);
    }
    let mut fields = spot.fields(faults)?;
    let [kid, alg, pem, secret] = ["kid", "alg", "pem", "secret"].map(|name| fields.take(name));
    let is_jwk = pem.is_none() && secret.is_none();
    let kid = kid.map(|it| it.read(text, faults));
    let algorithm = alg.map(|it| it.word(&Algorithm::WORDS, faults));
    let material = match (&pem, &secret) {
        (Some(pem), None) => pem.read(jwt::read_pem, faults),
        (None, Some(secret)) => secret.read(secrets::of_text, faults).map(Material::Secret),
        (None, None) => of_jwk(&mut fields, faults),
        (Some(_), Some(_)) => {
            faults.add(&spot.pointer, "a key is in \"pem\" or a \"secret\", not both");
            None
        }
    };
    // What else a set says of its keys is for others (RFC 7517, 4).
    if !is_jwk {
        fields.end(faults);
    }
    let (kid, algorithm) =
        (kid.map_or(Some(None), |it| it.map(Some))?, algorithm.map_or(Some(None), |it| it.map(Some))?);
    VerifyKey::new(&material?, algorithm, kid).map_err(|fault| faults.add(&spot.pointer, fault)).ok()
}

/// A key as sets have them.
fn of_jwk(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Material> {
    const TYPES: [(&str, Type); 4] =
        [("oct", Type::Secret), ("RSA", Type::Rsa), ("EC", Type::Point), ("OKP", Type::Edwards)];
    // Whoever reads the document would read it.
    for name in PRIVATE {
        if let Some(private) = fields.take(name) {
            faults.add(
                &private.pointer,
                "this is of a private key, which nobody should have seen: leave it out",
            );
        }
    }
    if let Some(usage) = fields.take("use").filter(|it| !it.is("sig")) {
        faults.add(&usage.pointer, "this key is for something else than signatures");
    }
    if let Some(ops) = fields.take("key_ops")
        && !ops.items(ISSUER_KEYS_MAX, faults).iter().any(|it| it.is("verify"))
    {
        faults.add(&ops.pointer, "this key is for something else than looking at signatures");
    }
    let Some(kind) = fields.take("kty") else {
        faults.add(
            &fields.pointer,
            "this is no key: expected is a JWK (\"kty\"), {\"pem\": ...} or {\"secret\": ...}",
        );
        return None;
    };
    let kind = kind.word(&TYPES, faults)?;
    let mut member = |name: &str, faults: &mut Faults| {
        let Some(spot) = fields.take(name) else {
            faults.add(&fields.pointer, format!("a key of this type has {name:?}"));
            return None;
        };
        Some(spot)
    };
    let number = |spot: Spot<'_>, faults: &mut Faults| spot.read(bytes, faults);
    match kind {
        Type::Secret => member("k", faults)?.read(secrets::of_base64, faults).map(Material::Secret),
        Type::Rsa => {
            let [n, e] = ["n", "e"].map(|name| member(name, faults).and_then(|it| number(it, faults)));
            Some(Material::Rsa { n: n?, e: e? })
        }
        Type::Point => {
            let curve = member("crv", faults)?.word(&Curve::WORDS, faults)?;
            let mut point = vec![4];
            for name in ["x", "y"] {
                let spot = member(name, faults)?;
                let pointer = spot.pointer.clone();
                let half = number(spot, faults)?;
                if half.len() != curve.bytes() {
                    faults.add(&pointer, format!("expected are {} bytes", curve.bytes()));
                    return None;
                }
                point.extend(half);
            }
            Some(Material::Point(curve, point))
        }
        Type::Edwards => {
            member("crv", faults)?.word(&[("Ed25519", ())], faults)?;
            number(member("x", faults)?, faults).map(Material::Ed25519)
        }
    }
}

#[derive(Clone, Copy)]
enum Type {
    Secret,
    Rsa,
    Point,
    Edwards,
}

/// Longest number of a key in base64.
const NUMBER_BYTES_MAX: usize = 2048;

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let fits = text.len() <= NUMBER_BYTES_MAX;
    let fault = || "expected is base64url, without padding".to_owned();
    fits.then(|| jwt::decode(text.as_bytes())).flatten().ok_or_else(fault)
}

#[cfg(test)]
mod tests;
