//! Secrets through changes of documents, of the ring, and of the cluster.

use skep_members::settings::Given;

use super::*;

const SECRET: &str = "a hidden secret of thirty-two bytes";
const OTHER: &str = "another hidden one of thirty-two bytes";

fn line() -> String {
    KeyRing::generate_line()
}

fn of(lines: &[&str]) -> Secrets {
    let ring = KeyRing::parse(&lines.join("\n")).unwrap();
    Secrets::new(Some(Keys::of_node(Given::from(ring)).unwrap()))
}

fn document(secrets: &[(&str, &str)]) -> Kept {
    let issuer = |(name, secret): &(&str, &str)| {
        format!(
            "issuers.{name} = {{iss = \"{name}\", aud = \"any\", keys = [{{kid = \"k\", secret = \"{secret}\"}}]}}\n"
        )
    };
    Kept::read(&secrets.iter().map(issuer).collect::<String>()).unwrap()
}

fn text(stored: &Stored) -> &str {
    std::str::from_utf8(&stored.document).unwrap()
}

fn revision(number: u64) -> Revision {
    Revision { lineage: 8, number }
}

#[test]
fn secrets_are_sealed_where_the_members_agree_and_there_is_a_key_and_lie_open_elsewhere() {
    let [old, new] = [line(), line()];
    let given = document(&[("a", SECRET)]);
    let secrets = of(&[&old]);
    let sealed = secrets.keep(&given, &[], true).unwrap();
    assert!(sealed.is_sealed() && !text(&sealed).contains("hidden"), "{}", text(&sealed));
    let opened = of(&[&new, &old]).open(&sealed).unwrap();
    assert!(opened.since(&given).is_none() && opened.secrets_absent() == 0);
    for open in [secrets.keep(&given, &[], false), Secrets::new(None).keep(&given, &[], true)] {
        let open = open.unwrap();
        assert!(!open.is_sealed() && text(&open).contains(SECRET));
    }
    let without = secrets.keep(&document(&[]), &[], true).unwrap();
    assert!(!without.is_sealed(), "the version before reads what has no secrets");
}

#[test]
fn what_is_put_after_is_sealed_under_the_same_key_and_what_is_the_same_stays_to_the_letter() {
    let secrets = of(&[&line()]);
    let first = secrets.keep(&document(&[("a", SECRET)]), &[], true).unwrap();
    let before = secrets.open(&first).unwrap();
    let of_before = [Opened { kept: &before, keys: &first.keys }];
    let same = secrets.keep(&document(&[("a", SECRET)]), &of_before, true).unwrap();
    assert_eq!(same, first);
    let more = secrets.keep(&document(&[("a", SECRET), ("b", OTHER)]), &of_before, true).unwrap();
    assert_eq!(more.keys, first.keys);
    let kept = before.json().unwrap();
    assert!(!text(&more).contains("hidden") && kept.contains("hidden"));
    let sealed = text(&first).split('"').find(|it| it.starts_with("sealed1:")).unwrap();
    assert!(text(&more).contains(sealed), "{}", text(&more));
}

#[test]
fn a_data_key_is_wrapped_for_the_ring_of_today_and_is_spent_once_a_key_is_taken_away() {
    let [old, new] = [line(), line()];
    let (old, new) = (&*old, &*new);
    let first = of(&[old]).keep(&document(&[("a", SECRET)]), &[], true).unwrap();
    let key = first.keys[0].clone();
    let wrap = |ring: &[&str], key: &DataKey| {
        let anew = of(ring).wrapped_anew([key].into_iter()).pop();
        // As the state takes it.
        anew.map(|anew| DataKey { version: key.version + 1, ..anew })
    };
    assert_eq!(wrap(&[old], &key), None, "it is as it is to be");
    assert!(!of(&[old, new]).are_wrapped([&key].into_iter()), "the new one does not open it yet");
    assert!(of(&[new]).has_absent([&key].into_iter()) && !of(&[new, old]).has_absent([&key].into_iter()));
    let both = wrap(&[old, new], &key).unwrap();
    assert!(!both.is_spent && of(&[new, old]).are_wrapped([&both].into_iter()));
    assert_eq!(wrap(&[new, old], &both), None);
    let anew = wrap(&[new], &both).unwrap();
    assert!(anew.is_spent && wrap(&[new], &anew).is_none());
    let moved = Stored { keys: vec![anew], ..first.clone() };
    assert_eq!(of(&[new]).open(&moved).unwrap().secrets_absent(), 0);
    assert_eq!(of(&[old]).open(&moved).unwrap().secrets_absent(), 1, "the old key opens it no more");
    assert_eq!(wrap(&[new], &key), None, "what no key opens stays as it is");
    // What is put then is under another, and is shown as before.
    for spent in [moved, Stored { keys: vec![both], ..first }] {
        let secrets = of(&[new]);
        let before = secrets.open(&spent).unwrap();
        let of_before = [Opened { kept: &before, keys: &spent.keys }];
        let after = secrets.keep(&document(&[("a", SECRET), ("b", OTHER)]), &of_before, true).unwrap();
        let [after_key] = &*after.keys else { panic!("{after:?}") };
        assert!(after_key.id != key.id && !after_key.is_spent);
        assert!(secrets.is_to_be_renewed(&spent) && !secrets.is_to_be_renewed(&after));
        let opened = secrets.open(&after).unwrap();
        assert_eq!(opened.shown().object("issuers", "a"), before.shown().object("issuers", "a"));
        assert_eq!(of(&[old]).open(&after).unwrap().secrets_absent(), 2);
    }
}

#[test]
fn a_secret_that_no_key_opens_stays_as_it_is_and_others_are_put_beside_it_one_by_one() {
    let first = of(&[&line()]).keep(&document(&[("a", SECRET), ("b", OTHER)]), &[], true).unwrap();
    let secrets = of(&[&line()]);
    let before = secrets.open(&first).unwrap();
    assert_eq!(before.secrets_absent(), 2);
    let of_before = [Opened { kept: &before, keys: &first.keys }];
    let after = before.with("services", "w", r#"{"urls":["http://a:1"]}"#, false, &|| None).unwrap();
    let after = secrets.keep(&after, &of_before, true).unwrap();
    assert_eq!(after.keys, first.keys);
    // One is put itself: the other stays under its own key.
    let issuer = |name: &str, secret: &str| {
        format!(r#"{{"iss":"{name}","aud":"any","keys":[{{"kid":"k","secret":"{secret}"}}]}}"#)
    };
    let one = before.with("issuers", "a", &issuer("a", OTHER), false, &|| None).unwrap();
    let one = secrets.keep(&one, &of_before, true).unwrap();
    assert_eq!((one.keys.len(), secrets.open(&one).unwrap().secrets_absent()), (2, 1));
    assert_eq!(one.keys[0], first.keys[0]);
    let opened = secrets.open(&one).unwrap();
    let both = opened.with("issuers", "b", &issuer("b", SECRET), false, &|| None).unwrap();
    let both = secrets.keep(&both, &[Opened { kept: &opened, keys: &one.keys }], true).unwrap();
    assert_eq!(both.keys, one.keys[1..], "the key that nobody opens goes with the last of its secrets");
    assert_eq!(secrets.open(&both).unwrap().secrets_absent(), 0);
    // A way back to what was absent, after it.
    assert_eq!(secrets.keep(&before, &of_before, true).unwrap(), first);
    // Without any key it can be changed beside its secrets, too.
    let without = Secrets::new(None);
    assert_eq!(without.keep(&without.open(&first).unwrap(), &of_before, true).unwrap(), first);
}

#[test]
fn what_may_be_secret_is_in_no_text_for_people() {
    let stored = Stored { document: document(&[("a", SECRET)]).json().unwrap().into(), keys: vec![] };
    assert!(!format!("{stored:?}").contains("hidden"), "{stored:?}");
}

#[tokio::test]
async fn what_balancers_are_told_is_made_once_for_each_revision_and_has_for_absent_secrets_what_nobody_knows()
{
    let [old, new] = [line(), line()];
    let given = document(&[("a", SECRET)]);
    let stored = of(&[&old]).keep(&given, &[], true).unwrap();
    let secrets = of(&[&old]);
    let told = secrets.told(revision(1), &stored).await.unwrap();
    assert_eq!((&*told.document, told.absent), (given.json().unwrap().as_bytes(), 0));
    let again = secrets.told(revision(1), &stored).await.unwrap();
    assert!(Arc::ptr_eq(&told, &again));
    let open = Stored { document: given.json().unwrap().into(), keys: vec![] };
    let before = of(&[&old]).told(revision(1), &open).await.unwrap();
    assert_eq!(before.digest, told.digest, "who was told it open is not told again");
    // Once the data key is wrapped for what is here it is looked at again.
    let late = of(&[&new]);
    assert_eq!(late.told(revision(1), &stored).await.unwrap().absent, 1);
    let key = of(&[&old, &new]).wrapped_anew(stored.keys.iter()).pop().unwrap();
    let wrapped = Stored { keys: vec![DataKey { version: 1, ..key }], ..stored.clone() };
    assert_eq!(late.told(revision(1), &wrapped).await.unwrap().absent, 0);
    // Nodes with the same keys tell the same.
    let [one, two] = [of(&[&new]), of(&[&new])];
    let [one, two] =
        [one.told(revision(1), &stored).await.unwrap(), two.told(revision(1), &stored).await.unwrap()];
    assert_eq!((one.absent, &one.document), (1, &two.document));
    let said = std::str::from_utf8(&one.document).unwrap();
    assert!(Kept::read(said).is_ok() && !said.contains("sealed1") && !said.contains("hidden"), "{said}");
    // Without any key it is drawn.
    let without = Secrets::new(None).told_of(&stored);
    assert!(without.is_some());
    assert_ne!(without, Secrets::new(None).told_of(&stored));
}

#[test]
fn what_is_restored_is_under_a_data_key_of_its_own_or_stays_absent() {
    let [old, new] = [line(), line()];
    let past = of(&[&old]).keep(&document(&[("a", SECRET)]), &[], true).unwrap();
    let id = past.keys[0].id;
    let restored = of(&[&new, &old]).keep_anew(past.clone(), true).unwrap();
    let [key] = &*restored.keys else { panic!("{restored:?}") };
    assert!(key.id != id && !key.is_spent);
    assert_eq!(of(&[&new]).open(&restored).unwrap().secrets_absent(), 0);
    assert_eq!(Kept::trusted(text(&restored)).unwrap().shown(), Kept::trusted(text(&past)).unwrap().shown());
    // Nobody opens it here: it is as it was, and good for nothing new, even once the old key is there.
    let absent = of(&[&new]).keep_anew(past.clone(), true).unwrap();
    let [key] = &*absent.keys else { panic!("{absent:?}") };
    assert!(key.id == id && key.is_spent && absent.document == past.document);
    let secrets = of(&[&new, &old]);
    let before = secrets.open(&absent).unwrap();
    let of_before = [Opened { kept: &before, keys: &absent.keys }];
    assert!(secrets.is_to_be_renewed(&absent), "the leader seals it under another");
    let after = secrets.keep(&document(&[("a", OTHER)]), &of_before, true).unwrap();
    assert!(after.keys.iter().all(|key| key.id != id));
    // What lay open is sealed, where it may be.
    let open = Stored { document: document(&[("a", SECRET)]).json().unwrap().into(), keys: vec![] };
    assert!(secrets.keep_anew(open.clone(), true).unwrap().is_sealed());
    assert_eq!(secrets.keep_anew(open.clone(), false), Ok(open));
}

#[test]
fn since_when_an_old_key_may_go_is_told_for_as_long_as_it_may() {
    let secrets = of(&[&line()]);
    let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let told = |secrets: &Secrets| secrets.status().unwrap().old_key_may_go_since;
    assert_eq!(told(&secrets), None);
    let may = |may_old_go| Counts { open: 1, absent: 2, past_absent: 3, may_old_go };
    secrets.note(may(true), at(60));
    secrets.note(may(true), at(90));
    assert_eq!(told(&secrets).as_deref(), Some("1970-01-01T00:01:00Z"));
    secrets.note(may(false), at(120));
    assert_eq!(told(&secrets), None);
    assert_eq!(secrets.counts(), may(false));
    assert!(Secrets::new(None).status().is_none());
}
