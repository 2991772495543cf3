//! Public keys in PEM: `BEGIN PUBLIC KEY` (RFC 7468, 13; RFC 5280, 4.1.2.7), of the types that tokens are signed by.

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use super::material::{Curve, Material};

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// Longest text.
const PEM_BYTES_MAX: usize = 4096;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;

/// What stands before the key: its type, and its curve.
const OF_RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const OF_P256: &[u8] =
    &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const OF_P384: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];
const OF_ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];

/// What a public key in PEM is made of.
pub fn read_pem(text: &str) -> Result<Material, String> {
    let text = text.trim();
    if text.len() > PEM_BYTES_MAX {
        return Err(format!("{} bytes are too many: at most {PEM_BYTES_MAX}", text.len()));
    }
    // Whoever reads the document would read it.
    if text.contains("PRIVATE KEY") {
        return Err(
            "this is a private key, which nobody should have seen: expected is the public one".to_owned()
        );
    }
    if !text.starts_with(BEGIN) || !text.ends_with(END) || text.matches(BEGIN).count() != 1 {
        return Err(format!("expected is one public key in PEM: {BEGIN} and so on"));
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "the key is not in PEM, or not whole".to_owned())?;
    read(&der).ok_or_else(|| "no key of RSA, P-256, P-384 or Ed25519 is written so".to_owned())
}

fn read(mut der: &[u8]) -> Option<Material> {
    let mut all = take(&mut der, SEQUENCE).filter(|_| der.is_empty())?;
    let kind = take(&mut all, SEQUENCE)?;
    let key = take(&mut all, BITS).filter(|_| all.is_empty())?.strip_prefix(&[0])?;
    let point = |curve: Curve| {
        let is_whole = key.len() == 1 + 2 * curve.bytes() && key[0] == 4;
        is_whole.then(|| Material::Point(curve, key.to_vec()))
    };
    match kind {
        OF_RSA => rsa(key),
        OF_P256 => point(Curve::P256),
        OF_P384 => point(Curve::P384),
        OF_ED25519 => Some(Material::Ed25519(key.to_vec())),
        _ => None,
    }
}

fn rsa(mut key: &[u8]) -> Option<Material> {
    let mut numbers = take(&mut key, SEQUENCE).filter(|_| key.is_empty())?;
    let mut number = || {
        let number = take(&mut numbers, INTEGER)?;
        // Without the zero that says that it is not below none.
        Some(number.strip_prefix(&[0]).unwrap_or(number).to_vec())
    };
    let (n, e) = (number()?, number()?);
    numbers.is_empty().then_some(Material::Rsa { n, e })
}

/// The contents of what begins here with this tag (X.690, 8.1 and 10.1).
fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    // In the shortest form alone.
    let (length, rest) = match (first, rest) {
        (0..=0x7f, _) => (usize::from(*first), rest),
        (0x81, [length, rest @ ..]) if *length > 0x7f => (usize::from(*length), rest),
        (0x82, [high, low, rest @ ..]) if *high > 0 => (usize::from(*high) << 8 | usize::from(*low), rest),
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some(contents)
}
