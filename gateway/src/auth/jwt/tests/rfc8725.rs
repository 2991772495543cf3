//! What RFC 8725 asks of who takes tokens, by the numbers of its items. That points are on their curves (3.4) and keys are
//! none that can be guessed (3.5) is the document's: `document/issuer/tests.rs`.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use serde_json::json;

use super::*;

/// A public key as `openssl` writes it, but for the lines.
fn pem(der: &[u8]) -> String {
    let text = encode(der).replace('-', "+").replace('_', "/");
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    format!("-----BEGIN PUBLIC KEY-----\n{text}{padding}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn rfc8725_3_1_the_key_has_the_algorithm_whatever_the_token_says() {
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", "HS256 ",
        "A256KW",
    ] {
        let head = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(corp(&token(&head, CLAIMS)), Err(Refused::Key), "{alg}");
    }
    for head in [r#"{"typ":"JWT"}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":null}"#, r#"{"alg":{"HS256":1}}"#] {
        assert_eq!(corp(&token(head, CLAIMS)), Err(Refused::Header), "{head}");
    }
    for head in
        [r#"{"alg":"none","alg":"HS256"}"#, r#"{"alg":"HS256","\u0061lg":"none"}"#, "[]", "", "{", "{} {}"]
    {
        assert_eq!(corp(&token(head, CLAIMS)), Err(Refused::Malformed), "{head}");
    }
    // Unsigned, as a library might take it.
    let unsigned = format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(CLAIMS.as_bytes()));
    assert_eq!(corp(&unsigned), Err(Refused::Key));
    let unsigned = format!("{}.{}.", encode(HEAD.as_bytes()), encode(CLAIMS.as_bytes()));
    assert_eq!(corp(&unsigned), Err(Refused::Signature));
    // A public key that is taken for a secret: signed by what everybody has.
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
    let all = consumers(&format!("[{jwk}]"));
    for secret in [pair.public_key().as_ref(), jwk.to_string().as_bytes(), x] {
        let token = sign(r#"{"alg":"HS256"}"#, CLAIMS, hs256(secret));
        assert_eq!(who(&all, &auth(&["corp"], &[]), &token, NOW), Err(Refused::Key));
        let token = sign(r#"{"alg":"ES256"}"#, CLAIMS, hs256(secret));
        assert_eq!(who(&all, &auth(&["corp"], &[]), &token, NOW), Err(Refused::Signature));
    }
}

#[test]
fn rfc8725_3_2_each_algorithm_holds_by_its_own_key_alone() {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (p256, p384) = (
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    );
    let edwards = Ed25519KeyPair::generate().unwrap();
    let secret = [7_u8, 3].repeat(32);
    let point = |pair: &EcdsaKeyPair, crv: &str| {
        let numbers = &pair.public_key().as_ref()[1..];
        let (x, y) = numbers.split_at(numbers.len() / 2);
        json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
    };
    let der: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let rsa_pem = pem(der.as_ref());
    let jwk_of = |alg: &str| {
        let mut jwk = match &alg[..2] {
            "HS" => json!({"kty": "oct", "k": encode(&secret)}),
            "RS" | "PS" => json!({"pem": rsa_pem}),
            "ES" if alg == "ES256" => point(&p256, "P-256"),
            "ES" => point(&p384, "P-384"),
            _ => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(edwards.public_key().as_ref())}),
        };
        jwk["alg"] = alg.into();
        jwk
    };
    let by_rsa = |encoding: &'static dyn aws_lc_rs::signature::RsaEncoding, signed: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &random, signed, &mut signature).unwrap();
        signature
    };
    let signature = |alg: &str, signed: &[u8]| match alg {
        "HS256" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed).as_ref().to_vec(),
        "HS384" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, &secret), signed).as_ref().to_vec(),
        "HS512" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, &secret), signed).as_ref().to_vec(),
        "RS256" => by_rsa(&RSA_PKCS1_SHA256, signed),
        "RS384" => by_rsa(&RSA_PKCS1_SHA384, signed),
        "RS512" => by_rsa(&RSA_PKCS1_SHA512, signed),
        "PS256" => by_rsa(&RSA_PSS_SHA256, signed),
        "PS384" => by_rsa(&RSA_PSS_SHA384, signed),
        "PS512" => by_rsa(&RSA_PSS_SHA512, signed),
        "ES256" => p256.sign(&random, signed).unwrap().as_ref().to_vec(),
        "ES384" => p384.sign(&random, signed).unwrap().as_ref().to_vec(),
        _ => edwards.sign(signed).as_ref().to_vec(),
    };
    for (key_alg, _) in Algorithm::WORDS {
        let all = consumers(&format!("[{}]", jwk_of(key_alg)));
        let auth = auth(&["corp"], &[]);
        for (alg, _) in Algorithm::WORDS {
            let head = format!(r#"{{"alg":"{alg}"}}"#);
            let whole = sign(&head, CLAIMS, |signed| signature(alg, signed));
            let expected = if alg == key_alg { Ok("corp/alice".to_owned()) } else { Err(Refused::Key) };
            assert_eq!(who(&all, &auth, &whole, NOW), expected, "{key_alg} {alg}");
            // Whoever signs it: that it says the key's algorithm is not enough.
            let head = format!(r#"{{"alg":"{key_alg}"}}"#);
            let other = sign(&head, CLAIMS, |signed| signature(alg, signed));
            assert_eq!(who(&all, &auth, &other, NOW).is_ok(), alg == key_alg, "{key_alg} {alg}");
        }
        let head = format!(r#"{{"alg":"{key_alg}"}}"#);
        for change in [0, 1, 2] {
            let changed = sign(&head, CLAIMS, |signed| {
                let mut signature = signature(key_alg, signed);
                match change {
                    0 => signature[7] ^= 1,
                    1 => drop(signature.pop()),
                    _ => signature.insert(0, 0),
                }
                signature
            });
            assert_eq!(who(&all, &auth, &changed, NOW), Err(Refused::Signature), "{key_alg} {change}");
        }
        let zeros = sign(&head, CLAIMS, |signed| vec![0; signature(key_alg, signed).len()]);
        assert_eq!(who(&all, &auth, &zeros, NOW), Err(Refused::Signature), "{key_alg}");
    }
}

/// And nothing is decrypted, nor made larger.
#[test]
fn rfc8725_3_6_a_token_that_is_encrypted_or_compressed_is_none() {
    let whole = token(HEAD, CLAIMS);
    assert_eq!(corp(&format!("{whole}.AAAA.AAAA")), Err(Refused::Malformed));
    for member in [r#""zip":"DEF""#, r#""enc":"A256GCM""#] {
        let head = format!(r#"{{"alg":"HS256",{member}}}"#);
        assert_eq!(corp(&token(&head, CLAIMS)), Err(Refused::Header), "{member}");
    }
}

#[test]
fn rfc8725_3_7_a_token_is_in_utf_8_and_has_one_spelling() {
    for at in [10, 30, CLAIMS.len() - 4] {
        let mut claims = CLAIMS.as_bytes().to_vec();
        claims[at] = 0xe4;
        let signed = format!("{}.{}", encode(HEAD.as_bytes()), encode(&claims));
        let signature = hs256(SECRET.as_bytes())(signed.as_bytes());
        assert_eq!(corp(&format!("{signed}.{}", encode(&signature))), Err(Refused::Malformed), "{at}");
    }
    let whole = token(HEAD, CLAIMS);
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let (head, payload) = signed.split_once('.').unwrap();
    for other in [
        signed.to_owned(),
        format!("{whole}."),
        format!("{whole}.x"),
        format!("{whole}="),
        format!("{head}=.{payload}.{signature}"),
        format!("{head}.{payload} .{signature}"),
        format!("{head}.{payload}\t.{signature}"),
        format!("{head}..{payload}.{signature}"),
        format!("{head}..{signature}"),
        whole.replace('_', "/").replace('-', "+") + "/",
        format!("{{\"payload\":\"{payload}\",\"protected\":\"{head}\",\"signature\":\"{signature}\"}}"),
        "..".to_owned(),
        ".".to_owned(),
        String::new(),
        "x".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        assert_eq!(corp(&other), Err(Refused::Malformed), "{other}");
    }
    // A last letter whose bits say nothing.
    let last = signature.as_bytes()[signature.len() - 1];
    for letter in (b'A'..=b'Z').chain(b'a'..=b'z').filter(|it| *it != last) {
        let other = format!("{}{}", &whole[..whole.len() - 1], char::from(letter));
        assert!(corp(&other).is_err(), "{other}");
    }
    for payload in ["\"text\"", "[]", "", "{", "null", "\u{feff}{}", &format!("{}{CLAIMS}", "[".repeat(4000))]
    {
        assert_eq!(corp(&token(HEAD, payload)), Err(Refused::Malformed), "{payload:.20}");
    }
    let twice = CLAIMS.replace("\"sub\"", "\"sub\":\"root\",\"sub\"");
    assert_eq!(corp(&token(HEAD, &twice)), Err(Refused::Malformed));
    let nested = CLAIMS.replace("[\"b\",\"a\"]", r#"[],"x":{"a":1,"a":2}"#);
    assert_eq!(corp(&token(HEAD, &nested)), Err(Refused::Malformed));
    let fits = |len: usize| {
        let token = |filling: usize| {
            token(HEAD, &CLAIMS.replace('}', &format!(",\"x\":\"{}\"}}", "x".repeat(filling))))
        };
        (0..).map(token).find(|it| it.len() >= len).unwrap()
    };
    assert!(corp(&fits(TOKEN_BYTES_MAX - 2)).is_ok());
    assert_eq!(corp(&fits(TOKEN_BYTES_MAX + 1)), Err(Refused::Malformed));
}

#[test]
fn rfc8725_3_8_and_3_9_a_token_is_of_an_issuer_that_is_asked_and_for_who_is_meant() {
    for (iss, refused) in [
        ("https://other.test/", Refused::Issuer),
        ("https://corp.test", Refused::Issuer),
        ("https://CORP.test/", Refused::Issuer),
        ("", Refused::Issuer),
    ] {
        assert_eq!(corp(&token(HEAD, &CLAIMS.replace("https://corp.test/", iss))), Err(refused), "{iss}");
    }
    // Its own issuer, by another one's key.
    let (all, both) = (usual(), auth(&["corp", "other"], &[]));
    assert_eq!(who(&all, &both, &token(HEAD, CLAIMS), NOW).as_deref(), Ok("corp/alice"));
    let claims = CLAIMS.replace("corp.test", "other.test");
    assert_eq!(who(&all, &both, &token(HEAD, &claims), NOW), Err(Refused::Signature));
    let others = sign(HEAD, &claims, hs256(b"another secret of thirty-two byte"));
    assert_eq!(who(&all, &both, &others, NOW).as_deref(), Ok("other/alice"));
    assert_eq!(who(&all, &auth(&["corp"], &[]), &others, NOW), Err(Refused::Issuer));
    assert_eq!(who(&all, &auth(&["other"], &[]), &token(HEAD, CLAIMS), NOW), Err(Refused::Issuer));
    for (aud, expected) in [
        (r#""bills""#, Ok(())),
        (r#"["x","bills"]"#, Ok(())),
        (r#""order""#, Err(Refused::Audience)),
        (r#""Orders""#, Err(Refused::Audience)),
        (r#"[]"#, Err(Refused::Audience)),
        (r#""""#, Err(Refused::Audience)),
        (r#""any""#, Err(Refused::Audience)),
        ("7", Err(Refused::Claims)),
        ("null", Err(Refused::Claims)),
        (r#"["orders",7]"#, Err(Refused::Claims)),
        (r#"{"orders":1}"#, Err(Refused::Claims)),
    ] {
        let token = token(HEAD, &CLAIMS.replace("\"orders\"", aud));
        assert_eq!(corp(&token).map(drop), expected, "{aud}");
    }
    assert_eq!(corp(&token(HEAD, &CLAIMS.replace("\"aud\":\"orders\",", ""))), Err(Refused::Audience));
    // Where any will do, it need not be there; but what is there is a text or texts.
    let any = |claims: &str| {
        let token = sign(HEAD, claims, hs256(b"another secret of thirty-two byte"));
        who(&all, &auth(&["other"], &[]), &token, NOW)
    };
    assert!(any(&claims).is_ok() && any(&claims.replace("\"aud\":\"orders\",", "")).is_ok());
    assert_eq!(any(&claims.replace("\"orders\"", "7")), Err(Refused::Claims));
}

#[test]
fn rfc8725_3_10_a_token_brings_no_key_and_asks_for_nothing() {
    for member in [
        r#""jku":"https://evil.test/""#,
        r#""x5u":"https://evil.test/""#,
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""x5c":["AAAA"]"#,
        r#""crit":["exp"],"exp":1"#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""cty":"JWT""#,
        r#""kid":7"#,
        r#""typ":["JWT"]"#,
    ] {
        let head = format!(r#"{{"alg":"HS256",{member}}}"#);
        assert_eq!(corp(&token(&head, CLAIMS)), Err(Refused::Header), "{member}");
    }
    // The name of a key is compared, and nothing else is done with it.
    for kid in ["../../dev/null", "' or 1=1", "0", ""] {
        let head = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        assert!(corp(&token(&head, CLAIMS)).is_ok(), "the key has no name: it is tried");
        let named = consumers(&format!(r#"[{{"secret": "{SECRET}", "kid": "a"}}]"#));
        assert_eq!(
            who(&named, &auth(&["corp"], &[]), &token(&head, CLAIMS), NOW),
            Err(Refused::Key),
            "{kid}"
        );
    }
}

#[test]
fn rfc8725_3_11_a_token_of_another_kind_is_refused() {
    for typ in [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "JOSE",
        "",
        "JWT ",
        "application/application/jwt",
        "id+jwt",
    ] {
        let head = format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#);
        assert_eq!(corp(&token(&head, CLAIMS)), Err(Refused::Header), "{typ}");
    }
}
