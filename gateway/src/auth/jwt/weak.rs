//! Keys that look like keys and are none: too short, of an exponent that hides nothing, of a generator that was broken.

/// Longest secret, in bytes; the shortest is as long as what its algorithm gives (RFC 7518, 3.2).
pub const SECRET_BYTES_MAX: usize = 1024;
/// Shortest and longest modulus of RSA, in bits.
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
/// Longest exponent that is looked at, in bits.
const EXPONENT_BITS_MAX: usize = 17;

/// Primes by which moduli of Infineon's library are known: they are powers of 65537 by each of them (ROCA,
/// CVE-2017-15361).
const ROCA_PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
const ROCA_GENERATOR: u32 = 65_537;

pub(super) fn check_secret(secret: &[u8], least: usize) -> Result<(), String> {
    if !(least..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(format!("a secret for this algorithm has {least} to {SECRET_BYTES_MAX} bytes"));
    }
    // Everybody has these: who signs by them as if they were secrets is whom one wants to keep out.
    if is_public_key(secret) {
        let why =
            "this is a key that others have, and no secret: put it as a text in PEM, as \"pem\", or as a JWK";
        return Err(why.to_owned());
    }
    if PUBLISHED.iter().any(|it| it.as_bytes() == secret) {
        return Err("this secret stands in examples, and everybody knows it".to_owned());
    }
    Ok(())
}

/// Secrets of examples that are copied.
const PUBLISHED: [&str; 4] = [
    "your-256-bit-secret-your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
];

/// Whether it is one in PEM, in DER (of RSA, P-256, P-384 or Ed25519) or in base64 of that, or a JWK.
fn is_public_key(secret: &[u8]) -> bool {
    const BEGINS: [&[u8]; 8] =
        [b"0\x82", b"0\x59\x30", b"0\x76\x30", b"0\x2a\x30", b"MII", b"MFkw", b"MHYw", b"MCow"];
    let has = |part: &[u8]| secret.windows(part.len()).any(|it| it == part);
    let text = secret.trim_ascii_start();
    let is_jwk = || text.first() == Some(&b'{') && has(b"\"kty\"");
    has(b"-----BEGIN") || BEGINS.iter().any(|it| text.starts_with(it)) || is_jwk()
}

pub(super) fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), String> {
    let bits = bits(n);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(format!("a key of RSA has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, and this one {bits}"));
    }
    if n.first() == Some(&0) || e.first() == Some(&0) {
        return Err("its numbers are written without zeros before them".to_owned());
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|it| it & 1 == 1);
    if !is_odd(n) || !is_odd(e) || e == [1] || self::bits(e) > EXPONENT_BITS_MAX {
        return Err("its numbers are none of a key that is safe: the usual exponent is AQAB".to_owned());
    }
    if ROCA_PRIMES.iter().all(|prime| is_power(remainder(n, *prime), *prime)) {
        return Err(
            "this key can be broken: it was made as ROCA (CVE-2017-15361) says, make another".to_owned()
        );
    }
    Ok(())
}

/// Points by which a signature would hold of anything (of small order), whatever the sign.
pub(super) fn check_ed25519(key: &[u8]) -> Result<(), String> {
    const TAIL_OF_P: [u8; 30] = [0xff; 30];
    const OF_ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let Ok(mut point): Result<[u8; 32], _> = key.try_into() else {
        return Err("a key of Ed25519 has 32 bytes".to_owned());
    };
    point[31] &= 0x7f;
    let is_zero_or_one = point[0] < 2 && point[1..].iter().all(|it| *it == 0);
    // One less than the field's prime, it, one more.
    let is_about_p = (0xec..=0xee).contains(&point[0]) && point[1..31] == TAIL_OF_P && point[31] == 0x7f;
    if is_zero_or_one || is_about_p || OF_ORDER_8.contains(&point) {
        return Err("this is no key: a signature by it would hold of anything".to_owned());
    }
    Ok(())
}

fn bits(number: &[u8]) -> usize {
    let number = &number[number.iter().take_while(|it| **it == 0).count()..];
    let first = number.first().map_or(0, |it| it.leading_zeros() as usize);
    number.len() * 8 - first
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime)
}

fn is_power(number: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 0..prime {
        if power == number {
            return true;
        }
        power = power * (ROCA_GENERATOR % prime) % prime;
    }
    false
}
