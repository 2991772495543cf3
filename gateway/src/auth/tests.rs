//! Who asks, by what a request presents.

use std::collections::BTreeMap;

use skep_base::random::Random;

use super::password::{Checked, PasswordHash};
use super::*;
use crate::{Document, Table};

const ALICE: &str = "0123456789abcdef";
const BOB: &str = "fedcba9876543210";

fn consumers() -> Consumers {
    let consumer = |key: &str, groups: &[&str]| {
        let digest = digest_of_given(key).unwrap();
        let groups = groups.iter().map(|it| (*it).to_owned()).collect();
        Consumer { groups, keys: vec![Key { digest, label: digest.fingerprint() }], ..Consumer::default() }
    };
    let all = [("alice", consumer(ALICE, &["ops", "staff"])), ("bob", consumer(BOB, &[]))];
    Consumers::new(all.map(|(name, it)| (name.to_owned(), it)).into(), BTreeMap::new())
}

fn auth(keys: Keys, groups: &[&str]) -> Auth {
    Auth {
        keys: Some(keys),
        tokens: None,
        basic: false,
        groups: groups.iter().map(|it| (*it).to_owned()).collect(),
    }
}

/// The name of who sends these fields and this query, or why it is nobody.
fn who(auth: &Auth, fields: &[(&str, &str)], query: &str) -> Result<String, Why> {
    let all = consumers();
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let name = |proof: &Proof| all.known(proof).unwrap().name.clone();
    match all.authenticate(auth, None, 0, |_, _| panic!("there are no passwords"), fields, query.as_bytes()) {
        Ok(proof) => Ok(name(&proof)),
        Err(Denied::Missing) => Err(Why::Missing),
        Err(Denied::Several) => Err(Why::Several),
        Err(Denied::Unknown) => Err(Why::Unknown),
        Err(Denied::Group(proof)) => Err(Why::Group(name(&proof))),
        Err(other) => panic!("{other:?}"),
    }
}

/// Why it is nobody; or who, where it is none of the groups.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Missing,
    Several,
    Unknown,
    Group(String),
}

#[test]
fn a_key_is_pinned_and_one_that_was_made_here_is_told_when_it_is_mistyped() {
    let key = make_key([7; 32]);
    assert_eq!(key, format!("skp_{}a79e51bf", "07".repeat(32)));
    assert!(digest_of_given(&key).is_ok());
    for at in 4..key.len() {
        let mut other = key.clone().into_bytes();
        other[at] = if other[at] == b'0' { b'1' } else { b'0' };
        assert!(digest_of_given(std::str::from_utf8(&other).unwrap()).is_err(), "{at}");
    }
    let digest = KeyDigest::of(b"abc");
    // FIPS 180-4's own.
    let kept = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((&*digest.kept(), &*digest.fingerprint()), (kept, "ba7816bf8f01"));
    assert_eq!(KeyDigest::read(&kept[7..]), Some(digest));
    assert_eq!(format!("{digest:?}"), "KeyDigest(ba7816bf8f01)");
}

#[test]
fn a_key_is_known_where_the_route_looks_for_it_and_nowhere_else() {
    let usual = auth(Keys::default(), &[]);
    let bearer = format!("Bearer {ALICE}");
    for (fields, found) in [
        (&[][..], Err(Why::Missing)),
        (&[("x-api-key", ALICE)], Ok("alice")),
        (&[("X-API-Key", BOB)], Ok("bob")),
        (&[("authorization", &*bearer)], Ok("alice")),
        (&[("Authorization", "bearer   0123456789abcdef ")], Ok("alice")),
        (&[("authorization", "ApiKey 0123456789abcdef")], Ok("alice")),
        (&[("authorization", "Bearer\t0123456789abcdef")], Ok("alice")),
        (&[("x-api-key", ALICE), ("authorization", "Bearer\tfedcba9876543210")], Err(Why::Several)),
        (&[("x.api.key", ALICE)], Err(Why::Missing)),
        (&[("authorization", "Basic 0123456789abcdef")], Err(Why::Missing)),
        (&[("authorization", ALICE)], Err(Why::Missing)),
        (&[("authorization", "Bearer")], Err(Why::Unknown)),
        (&[("x-api-key", "")], Err(Why::Unknown)),
        (&[("x_api_key", ALICE)], Err(Why::Missing)),
        (&[("x-key", ALICE)], Err(Why::Missing)),
        (&[("x-api-key", "0123456789abcdeF")], Err(Why::Unknown)),
        (&[("x-api-key", "0123456789abcde")], Err(Why::Unknown)),
        (&[("x-api-key", "0123456789abcdef,0123456789abcdef")], Err(Why::Unknown)),
        // What is kept of a key is none.
        (
            &[("x-api-key", "sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f")],
            Err(Why::Unknown),
        ),
        (
            &[("x-api-key", "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f")],
            Err(Why::Unknown),
        ),
    ] {
        assert_eq!(who(&usual, fields, "?apikey=0123456789abcdef"), found.map(str::to_owned), "{fields:?}");
    }
    let narrow =
        auth(Keys { header: "x-token".into(), authorization: false, query: Some("apikey".into()) }, &[]);
    for (fields, query, found) in [
        (&[("x-token", ALICE)][..], "", Ok("alice")),
        (&[("x-api-key", ALICE)], "", Err(Why::Missing)),
        (&[("authorization", &*bearer)], "", Err(Why::Missing)),
        (&[], "?apikey=0123456789abcdef", Ok("alice")),
        (&[], "?a=b&APIKEY=%30123456789abcdef", Ok("alice")),
        (&[], "?apikey=", Err(Why::Unknown)),
        (&[("x-token", ALICE)], "?apikey=0123456789abcdef", Ok("alice")),
        (&[("x-token", BOB)], "?apikey=0123456789abcdef", Err(Why::Several)),
    ] {
        assert_eq!(who(&narrow, fields, query), found.map(str::to_owned), "{fields:?} {query}");
    }
}

#[test]
fn who_is_in_none_of_the_groups_is_known_and_denied() {
    let staff = auth(Keys::default(), &["nobody", "staff"]);
    assert_eq!(who(&staff, &[("x-api-key", ALICE)], ""), Ok("alice".into()));
    assert_eq!(who(&staff, &[("x-api-key", BOB)], ""), Err(Why::Group("bob".into())));
    assert_eq!(who(&staff, &[("x-api-key", "0123456789abcdeg")], ""), Err(Why::Unknown));
}

#[test]
fn who_proved_it_before_still_could_while_the_key_and_the_group_are_the_same_consumers() {
    let all = consumers();
    let proof = |key: &str| Proof::Key { consumer: 9, key: KeyDigest::of(key.as_bytes()) };
    let still = |auth: &Auth, name: &str, key: &str| all.still_hold(auth, name, &proof(key), 0);
    let (any, staff) = (auth(Keys::default(), &[]), auth(Keys::default(), &["staff"]));
    assert!(still(&any, "alice", ALICE) && still(&staff, "alice", ALICE));
    assert!(!still(&any, "bob", ALICE), "it is another's now");
    assert!(!still(&auth(Keys::default(), &["boss"]), "alice", ALICE));
    assert!(!still(&any, "alice", "0123456789abcdeg"));
    assert!(!still(&staff, "bob", BOB));
}

/// Whatever stands where: who is known presented one key and no other, which is that consumer's; and every field that
/// had one ends here.
#[test]
fn whoever_is_known_presented_one_key_alone() {
    const KEYS: [&str; 4] = [ALICE, BOB, "0123456789abcdeg", ""];
    let mut random = Random::new(11);
    let route = auth(Keys { query: Some("k".into()), ..Keys::default() }, &[]);
    for _ in 0..20_000 {
        let mut presented = Vec::new();
        let mut fields = Vec::new();
        let mut query = String::from("?");
        for _ in 0..random.below(4) {
            let key = KEYS[random.below(KEYS.len())];
            match random.below(5) {
                0 => fields.push(("X-Api-Key", key.to_owned())),
                1 => fields.push(("authorization", format!("Bearer {key}"))),
                2 => query += &format!("k={key}&"),
                3 => {
                    fields.push(("x_api_key", key.to_owned()));
                    continue;
                }
                _ => {
                    fields.push(("accept", key.to_owned()));
                    continue;
                }
            }
            presented.push(key);
        }
        let shown: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        presented.sort_unstable();
        presented.dedup();
        let expected = match presented.as_slice() {
            [] => Err(Why::Missing),
            [ALICE] => Ok("alice".to_owned()),
            [BOB] => Ok("bob".to_owned()),
            [_] => Err(Why::Unknown),
            _ => Err(Why::Several),
        };
        assert_eq!(who(&route, &shown, &query), expected, "{shown:?} {query}");
        for (name, value) in shown {
            assert_eq!(route.drops(name.as_bytes(), value.as_bytes()), name != "accept", "{name}");
        }
    }
}

#[test]
fn what_is_said_to_who_is_not_known_is_that_of_the_place_where_keys_are() {
    let usual = auth(Keys::default(), &[]);
    assert_eq!(usual.challenge(&Denied::Missing), "Bearer realm=\"skep\"");
    assert!(usual.challenge(&Denied::Unknown).ends_with("error=\"invalid_token\""));
    assert!(usual.challenge(&Denied::Several).ends_with("error=\"invalid_request\""));
    let narrow = auth(Keys { authorization: false, ..Keys::default() }, &[]);
    assert_eq!(narrow.challenge(&Denied::Unknown), "ApiKey realm=\"skep\", header=\"x-api-key\"");
}

const PASSWORD: &str = "open sesame";

/// Of "Aladdin" with that password, and of others.
const ALADDIN: &str = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
const NOBODY: &str = "Basic bm9ib2R5Om9wZW4gc2VzYW1l";
const WRONG: &str = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZg==";

/// Routes that take passwords, beside other things.
fn with_passwords() -> Table {
    let hash = PasswordHash::of(PASSWORD.as_bytes(), [1; 16]).unwrap().kept();
    let document = format!(
        r#"
        services.app.urls = ["http://a:1"]
        consumers.alice = {{keys = ["{ALICE}"], passwords = [{{user = "Aladdin", password = "{hash}"}}]}}
        [routes.basic]
        match.path = "/basic"
        service = "app"
        auth.basic = true
        [routes.both]
        match.path = "/both"
        service = "app"
        auth = {{basic = true, keys = true}}
        [routes.other]
        match.path = "/other"
        service = "app"
        auth = {{basic = true, keys = {{authorization = false}}, groups = ["g"]}}
        "#
    );
    Table::compile(Document::read(&document).unwrap()).unwrap()
}

#[test]
fn a_password_is_one_where_the_route_takes_some_and_nothing_else_goes_on_in_its_field() {
    let table = with_passwords();
    let auth = |at: usize| table.routes[at].route.policies.auth.as_ref().unwrap();
    let checked = |login: &password::Login, known: Option<&PasswordHash>| {
        let is_it = known.is_some_and(|it| it.is_of(&login.password) == Some(true));
        if is_it { Checked::Right } else { Checked::Wrong }
    };
    let bearer = format!("Bearer {ALICE}");
    let (basic, both, other) = (0, 1, 2);
    for (route, fields, expected) in [
        (basic, vec![("authorization", ALADDIN)], "alice"),
        (basic, vec![("Authorization", "BASIC \tQWxhZGRpbjpvcGVuIHNlc2FtZQ== ")], "alice"),
        (basic, vec![("authorization", ALADDIN), ("authorization", ALADDIN)], "alice"),
        (basic, vec![("authorization", ALADDIN), ("authorization", WRONG)], "Several"),
        (basic, vec![("authorization", ALADDIN), ("authorization", "Bearer x")], "Several"),
        (basic, vec![("authorization", "Bearer x")], "Missing"),
        (basic, vec![("x-api-key", ALICE)], "Missing"),
        (basic, vec![], "Missing"),
        (basic, vec![("authorization", WRONG)], "Password"),
        (basic, vec![("authorization", NOBODY)], "Password"),
        (basic, vec![("authorization", "Basic")], "Password"),
        (basic, vec![("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ")], "Password"),
        (both, vec![("authorization", ALADDIN)], "alice"),
        (both, vec![("authorization", &bearer)], "alice"),
        (both, vec![("x-api-key", ALICE)], "alice"),
        (both, vec![("x-api-key", ALICE), ("authorization", ALADDIN)], "Several"),
        (both, vec![("authorization", "Bearer 0123456789abcdeg")], "Unknown"),
        // No key is taken there, but nothing else goes on there either.
        (other, vec![("x-api-key", ALICE), ("authorization", &bearer)], "Group"),
        (other, vec![("x-api-key", ALICE), ("authorization", "Bearer x")], "Several"),
        (other, vec![("authorization", ALADDIN)], "Group"),
    ] {
        let as_bytes = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let found = table.consumers.authenticate(auth(route), None, 0, checked, as_bytes, b"");
        let found = match &found {
            Ok(proof) => table.consumers.known(proof).unwrap().name.clone(),
            Err(Denied::Group(proof)) if route == other => {
                assert_eq!(table.consumers.known(proof).unwrap().name, "alice");
                "Group".to_owned()
            }
            Err(denied) => format!("{denied:?}"),
        };
        assert_eq!(found, expected, "{route} {fields:?}");
        for (name, value) in fields {
            let is_proof = !name.eq_ignore_ascii_case("x-api-key") || route != basic;
            assert_eq!(auth(route).drops(name.as_bytes(), value.as_bytes()), is_proof, "{name}: {value}");
        }
    }
}

#[test]
fn a_password_that_nobody_has_looked_at_is_to_be_looked_at_whoever_it_is_said_to_be_of() {
    let table = with_passwords();
    let auth = table.routes[0].route.policies.auth.as_ref().unwrap();
    let ask = |value: &str| {
        let fields = [(&b"authorization"[..], value.as_bytes())];
        table.consumers.authenticate(auth, None, 0, |_, _| Checked::NotYet, fields.into_iter(), b"")
    };
    for (value, user, is_known) in
        [(ALADDIN, "Aladdin", true), (WRONG, "Aladdin", true), (NOBODY, "nobody", false)]
    {
        let Err(Denied::Unchecked(check)) = ask(value) else { panic!("{value}") };
        assert_eq!((&*check.login.user, check.against.is_some()), (user, is_known));
        assert!(!format!("{check:?}").contains("sesame"), "{check:?}");
    }
    // Nobody is looked at by what costs as much as somebody.
    let known = PasswordHash::of(PASSWORD.as_bytes(), [1; 16]).unwrap();
    assert_eq!(table.consumers.decoy("nobody"), known);
    assert_eq!(Consumers::default().decoy("nobody"), PasswordHash::default());
}

#[test]
fn who_proved_it_by_a_password_still_could_while_that_is_kept_and_is_the_same_consumers() {
    let table = with_passwords();
    let auth = table.routes[0].route.policies.auth.as_ref().unwrap();
    let hash = PasswordHash::of(PASSWORD.as_bytes(), [1; 16]).unwrap();
    let still = |user: &str, name: &str, hash: &PasswordHash| {
        let proof = Proof::Password { consumer: 9, user: user.into(), kept: hash.id() };
        table.consumers.still_hold(auth, name, &proof, 0)
    };
    assert!(still("Aladdin", "alice", &hash));
    assert!(!still("Aladdin", "bob", &hash) && !still("aladdin", "alice", &hash));
    assert!(!still("Aladdin", "alice", &PasswordHash::of(PASSWORD.as_bytes(), [2; 16]).unwrap()), "another");
}

#[test]
fn what_is_said_to_who_has_no_password_is_that_one_may_be_sent() {
    let table = with_passwords();
    let said =
        |at: usize| table.routes[at].route.policies.auth.as_ref().unwrap().challenges(&Denied::Password);
    let basic = "Basic realm=\"skep\", charset=\"UTF-8\"";
    assert_eq!(said(0), [basic]);
    assert_eq!(said(1), ["Bearer realm=\"skep\"", basic]);
    assert_eq!(said(2), ["ApiKey realm=\"skep\", header=\"x-api-key\"", basic]);
}
