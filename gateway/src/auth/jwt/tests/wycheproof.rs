//! Project Wycheproof's vectors of signatures and of sets of keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::Document;
use crate::auth::jwt::Issuer;

#[derive(Deserialize)]
struct Group {
    comment: String,
    keys: Json,
    tests: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(rename = "tcId")]
    id: u32,
    comment: String,
    /// A text, or the form in JSON.
    jws: Json,
    result: String,
}

/// An issuer with a set of keys; none where a document with it is refused.
fn issuer(keys: &Json) -> Option<Issuer> {
    let document = serde_json::json!({"issuers": {"i": {"iss": "i", "aud": "any", "keys": keys}}});
    let mut document = Document::read(&document.to_string()).ok()?;
    document.issuers.remove("i")
}

/// What comes to another end here than the vectors say; and how many were looked at.
fn other_ends(vectors: &str) -> (BTreeMap<u32, String>, usize, usize) {
    let groups: Vec<Group> = serde_json::from_str(vectors).unwrap();
    let (mut others, mut valid, mut invalid) = (BTreeMap::new(), 0, 0);
    for Group { comment, keys, tests } in groups {
        let issuer = issuer(&keys);
        for Vector { id, comment: of_test, jws, result } in tests {
            let token = jws.as_str().map_or_else(|| jws.to_string(), str::to_owned);
            let holds = issuer.as_ref().is_some_and(|it| it.payload(token.as_bytes()).is_ok());
            *(if holds { &mut valid } else { &mut invalid }) += 1;
            if holds != (result == "valid") {
                others.insert(id, format!("{comment}: {of_test}: {result}"));
            }
        }
    }
    (others, valid, invalid)
}

#[test]
fn signatures_hold_where_project_wycheproof_says_so_and_nowhere_else() {
    let (others, valid, invalid) = other_ends(include_str!("json_web_signature.json"));
    // Refused: a key for PS256 under a token that says PS384 (the key has the algorithm), ES512 by a key that calls it
    // ES521 (which is not done here), and texts that are base64 to who passes over what is none.
    let refused = [346, 347, 350, 351, 372, 373];
    // These two are, to the letter, the valid one that is 357.
    let taken = [367, 370];
    let mut known = [&refused[..], &taken].concat();
    known.sort_unstable();
    assert_eq!(others.keys().copied().collect::<Vec<_>>(), known, "{others:#?}");
    assert_eq!((valid, invalid), (42, 359));
}

#[test]
fn keys_are_taken_where_project_wycheproof_says_so_and_nowhere_else() {
    let (others, valid, invalid) = other_ends(include_str!("json_web_key.json"));
    assert_eq!(others, BTreeMap::new());
    assert_eq!((valid, invalid), (5, 21));
}
