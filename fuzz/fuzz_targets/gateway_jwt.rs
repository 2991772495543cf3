//! Tokens as the gateway reads them: refused, for nobody signed them, within bounds; and base64 that has one spelling.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_gateway::auth::jwt::{Issuers, decode, encode};
use skep_gateway::{Document, Table};

/// One with a public key and one with a secret, whose tokens say what the seeds do.
static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let document = r#"{"issuers": {
        "a": {"iss": "a", "aud": ["x"], "groups": "g", "keys": [{"kty": "OKP", "crv": "Ed25519",
              "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "k"}]},
        "b": {"iss": "b", "aud": "any", "keys": [{"secret": "a secret of thirty-two bytes or more"}]}
    }}"#;
    let table = Document::read(document).and_then(Table::compile).expect("it holds");
    table.consumers.issuers().clone()
});

fuzz_target!(init: seeds::write(seeds::gateway_tokens), |bytes: &[u8]| {
    if let Some(decoded) = decode(bytes) {
        assert_eq!(encode(&decoded).as_bytes(), bytes);
    }
    let names = ["a".to_owned(), "b".to_owned()];
    let (head, signature) = (encode(br#"{"alg":"HS256"}"#), "A".repeat(43));
    let tokens = [
        bytes.to_vec(),
        format!("{}.{}.{signature}", encode(bytes), encode(br#"{"iss":"b","sub":"s","exp":9}"#)).into_bytes(),
        format!("{head}.{}.{signature}", encode(bytes)).into_bytes(),
    ];
    for token in tokens {
        assert!(bounded(token.len(), || ISSUERS.verify(&names, &token, 7)).is_err());
    }
});
