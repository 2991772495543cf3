//! Secrets that are sealed, opened, shown and put back. What seals here is a stand-in: that a place is part of it shows.

mod certificates;

use std::cell::Cell;

use crate::kept::{Kept, Sealer};

const SECRET: &str = "a hidden secret of thirty-two bytes";
const OTHER: &str = "another hidden one of thirty-two bytes";

fn sealed(place: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    Some([&(place.len() as u64).to_le_bytes()[..], place, plain].concat())
}

fn opened(place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = sealed.split_first_chunk::<8>()?;
    let (of, plain) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    (of == place).then(|| plain.to_vec())
}

/// References that are not drawn, so that they can be told apart.
fn counted() -> impl Fn() -> Option<[u8; 32]> {
    let next = Cell::new(0);
    move || {
        next.set(next.get() + 1);
        Some([next.get(); 32])
    }
}

fn document(secrets: &[(&str, &str)]) -> Kept {
    let issuer = |(name, secret): &(&str, &str)| {
        format!(
            "issuers.{name} = {{iss = \"{name}\", aud = \"any\", keys = [{{kid = \"k\", secret = \"{secret}\"}}]}}\n"
        )
    };
    Kept::read(&secrets.iter().map(issuer).collect::<String>()).unwrap()
}

/// As nodes keep it.
fn kept(document: &Kept) -> String {
    let sealer = Sealer { stays: &|_| true, seal: &sealed, draw: &counted() };
    document.sealed(&[], &sealer).unwrap().json().unwrap()
}

fn reopened(json: &str) -> Kept {
    Kept::opened(json, opened).unwrap()
}

fn unopened(json: &str) -> Kept {
    Kept::opened(json, |_, _| None).unwrap()
}

#[test]
fn what_is_sealed_opens_again_and_what_is_shown_of_it_is_its_reference() {
    let document = document(&[("a", SECRET), ("b", OTHER)]);
    let json = kept(&document);
    assert!(!json.contains("hidden"), "{json}");
    let again = reopened(&json);
    assert!(again.since(&document).is_none());
    assert_eq!((again.secrets_open(), again.secrets_absent()), (2, 0));
    let shown = Kept::trusted(&json).unwrap().shown().json().unwrap();
    assert_eq!(shown, again.shown().json().unwrap(), "opened or not");
    assert!(shown.contains(&format!("\"sealed:{}\"", "01".repeat(32))), "{shown}");
    assert!(Kept::trusted(&json).unwrap().has_secrets() && !shown.contains("sealed1"), "{shown}");
}

/// As it lies in logs and checkpoints: every later version must read what this one has written.
#[test]
fn how_a_secret_is_kept_is_pinned() {
    let json = kept(&document(&[("a", "0123456789abcdef0123456789abcdef")]));
    let reference = "01".repeat(32);
    let place =
        [&1_u64.to_le_bytes()[..], b"a", &0_u64.to_le_bytes(), reference.as_bytes(), b"secret"].concat();
    let sealed = sealed(&place, b"0123456789abcdef0123456789abcdef").unwrap();
    let text = format!("sealed1:{reference}:{}", crate::auth::jwt::encode(&sealed));
    let expected = format!(
        r#"{{"issuers":{{"a":{{"aud":"any","iss":"a","keys":[{{"kid":"k","secret":"{text}"}}]}}}}}}"#
    );
    assert_eq!(json, expected);
}

#[test]
fn what_is_shown_means_the_secret_that_is_there_also_in_another_place_and_what_was_shown_while_it_lay_open() {
    let open = document(&[("a", SECRET)]);
    let before = reopened(&kept(&open));
    for shown in [open.shown(), before.shown()] {
        let same = Kept::read_after(&shown.json().unwrap(), &before, &|| None).unwrap();
        assert!(same.since(&before).is_none());
        let object = shown.object("issuers", "a").unwrap().replace(r#""iss":"a""#, r#""iss":"b""#);
        let moved = before.with("issuers", "b", &object, false, &|| None).unwrap();
        assert_eq!((moved.since(&before).added, moved.secrets_open()), (vec!["issuers/b".to_owned()], 2));
    }
    let strange = before.shown().json().unwrap().replace("sealed:01", "sealed:02");
    let refused = Kept::read_after(&strange, &before, &|| None).unwrap_err();
    assert_eq!(refused.faults[0].pointer, "/issuers/a/keys/0/secret");
    assert!(refused.faults[0].fault.contains("put the secret itself"), "{refused:?}");
    // Where nobody knows any, what is named is taken for granted.
    assert!(Kept::read_alone(&before.shown().json().unwrap(), &|| None).is_ok());
}

#[test]
fn nobody_puts_what_is_kept_of_a_secret() {
    let json = kept(&document(&[("a", SECRET)]));
    let before = reopened(&json);
    for known in [&before, &Kept::default(), &unopened(&kept(&document(&[("b", SECRET)])))] {
        let refused = Kept::read_after(&json, known, &|| None).unwrap_err();
        assert!(refused.faults[0].fault.contains("how nodes keep a secret"), "{refused:?}");
    }
    assert!(Kept::read(&json).is_err() && Kept::read_alone(&json, &|| None).is_err());
}

#[test]
fn a_secret_stays_sealed_as_it_is_where_it_is_the_same_and_keeps_its_reference_under_another_key() {
    let json = kept(&document(&[("a", SECRET), ("b", OTHER)]));
    let before = reopened(&json);
    let none = || -> Option<[u8; 32]> { panic!("nothing is drawn") };
    let nothing = |_: &[u8], _: &[u8]| -> Option<Vec<u8>> { panic!("nothing is sealed") };
    let again = before.sealed(&[&before], &Sealer { stays: &|_| true, seal: &nothing, draw: &none });
    assert_eq!(again.unwrap().json().unwrap(), json);
    // The same secret that is given as it is, too; another one is sealed anew.
    let changed = document(&[("a", SECRET), ("b", "yet another hidden of thirty-two bytes")]);
    let nines = || Some([9; 32]);
    let changed = changed.sealed(&[&before], &Sealer { stays: &|_| true, seal: &sealed, draw: &nines });
    let changed = reopened(&changed.unwrap().json().unwrap()).shown().json().unwrap();
    assert!(changed.contains(&"01".repeat(32)) && changed.contains(&"09".repeat(32)), "{changed}");
    // Under another key all are, and what is shown stays.
    let other = |place: &[u8], plain: &[u8]| sealed(place, &[plain, b"!"].concat());
    let anew = before.sealed(&[&before], &Sealer { stays: &|_| false, seal: &other, draw: &none }).unwrap();
    assert_eq!(anew.shown(), before.shown());
    assert_ne!(anew.json().unwrap(), json);
    let failing = |_: &[u8], _: &[u8]| None;
    let unsealed = before.sealed(&[], &Sealer { stays: &|_| true, seal: &failing, draw: &counted() });
    assert!(unsealed.is_none(), "what cannot be sealed is not kept");
    assert!(!format!("{before:?}").contains("hidden"), "{before:?}");
}

#[test]
fn a_sealed_secret_that_is_moved_does_not_open() {
    let json = kept(&document(&[("a", SECRET), ("b", OTHER)]));
    let moved = json.replace("\"a\":{", "\"c\":{");
    assert_eq!(reopened(&moved).secrets_absent(), 1);
    let swapped = json.replace(&"01".repeat(32), &"03".repeat(32));
    assert_eq!(reopened(&swapped).secrets_absent(), 1, "another reference");
}

#[test]
fn a_secret_that_does_not_open_stays_as_it_is_kept_in_its_place_and_what_is_told_of_it_nobody_knows() {
    let json = kept(&document(&[("a", SECRET), ("b", OTHER)]));
    let before = unopened(&json);
    assert_eq!((before.secrets_open(), before.secrets_absent()), (0, 2));
    // Others are changed beside it; it is shown as before, and can be put so.
    let service = r#"{"urls":["http://a:1"]}"#;
    let after = before.with("services", "w", service, false, &|| None).unwrap();
    assert_eq!((after.since(&before).added, after.secrets_absent()), (vec!["services/w".to_owned()], 2));
    let whole = before.shown().json().unwrap();
    assert!(Kept::read_after(&whole, &before, &|| None).unwrap().since(&before).is_none());
    let object = before.shown().object("issuers", "a").unwrap();
    let refused = before.with("issuers", "c", &object, false, &|| None).unwrap_err();
    assert_eq!(refused.faults[0].pointer, "/issuers/c/keys/0/secret", "in its place alone");
    // One that is put anew lies open; one that is taken out is gone.
    let given = object.replace(&format!("sealed:{}", "01".repeat(32)), SECRET);
    let mixed = before.with("issuers", "a", &given, false, &|| None).unwrap();
    assert_eq!((mixed.secrets_open(), mixed.secrets_absent()), (1, 1));
    let without = mixed.without("issuers", "b", crate::document::sources::API, false).unwrap();
    assert_eq!((without.secrets_open(), without.secrets_absent()), (1, 0));
    // A balancer reads it.
    let told = before.told(&|_| Some([7; 32])).unwrap().json().unwrap();
    assert_eq!(told.matches(&"07".repeat(32)).count(), 2);
    assert!(Kept::read(&told).is_ok());
    assert!(before.told(&|_| None).is_none(), "nothing is told where nothing is drawn");
    assert!(before.clone().judged_again().is_ok());
}

#[test]
fn secrets_of_sets_of_keys_are_sealed_as_well() {
    let key = crate::auth::jwt::encode(SECRET.as_bytes());
    let given = format!(
        r#"{{"issuers":{{"a":{{"iss":"a","aud":"any","keys":{{"keys":[{{"kty":"oct","k":"{key}","alg":"HS256"}}]}}}}}}}}"#
    );
    let document = Kept::read(&given).unwrap();
    let json = kept(&document);
    assert!(json.contains("\"k\":\"sealed1:") && !json.contains(&format!("\"{key}\"")), "{json}");
    assert!(reopened(&json).since(&document).is_none());
    let told = unopened(&json).told(&|_| Some([7; 32])).unwrap().json().unwrap();
    assert!(Kept::read(&told).is_ok());
    assert!(Kept::read_alone(&Kept::trusted(&json).unwrap().shown().json().unwrap(), &|| None).is_ok());
}
