//! What a file that is read again changes, and what it leaves.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::settings::{cluster_key_in, edge_key_in};

/// Three keys' lines.
fn lines() -> [String; 3] {
    std::array::from_fn(|_| KeyRing::generate_line())
}

fn edge_of(lines: &[&String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.as_str()).collect();
    KeyRing::parse(&lines.join("\n")).unwrap().edge_lines().join("\n")
}

/// A file of keys.
struct Place(tempfile::TempDir);

impl Place {
    fn new(text: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(text);
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cluster.key")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn of_node(&self) -> Keys {
        Keys::of_node(cluster_key_in(&self.path(), "FILE").unwrap()).unwrap()
    }

    fn of_edge(&self) -> Keys {
        Keys::of_edge(edge_key_in(&self.path(), "FILE").unwrap()).unwrap()
    }
}

fn read(keys: &Keys) -> Result<Change, KeysError> {
    keys.read(keys.0.file.as_ref().unwrap())
}

/// Refused, with these words, without a word of a key, and with nothing changed.
fn is_left(keys: &Keys, place: &Place, text: &str, words: &str) {
    let (before, changes) = (keys.now(), keys.changes());
    place.write(text);
    let said = read(keys).unwrap_err().to_string();
    assert!(said.contains(words), "{said}");
    let shown = text.split(['\n', ':']).any(|part| part.len() > 20 && said.contains(part));
    assert!(!shown, "{said}");
    assert!(Arc::ptr_eq(&before, &keys.now()), "{words}: other keys are in force");
    assert!(!changes.has_changed().unwrap(), "{words}");
}

#[test]
fn each_step_of_a_rotation_is_in_force_once_its_file_is_read_again() {
    let [old, new, _] = lines();
    let place = Place::new(&old);
    let keys = place.of_node();
    for (text, added, removed, seals_anew) in [
        (format!("{old}\n{new}"), 1, 0, false),
        (format!("{new}\n{old}"), 0, 0, true),
        (new.clone(), 0, 1, false),
    ] {
        let mut changes = keys.changes();
        place.write(&text);
        let change = read(&keys).unwrap();
        assert_eq!((change.added, change.removed, change.seals_anew), (added, removed, seals_anew));
        assert!(keys.now().ring == KeyRing::parse(&text).unwrap());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        // Once more changes nothing, and ends no connection.
        let before = keys.now();
        read(&keys).unwrap();
        assert!(Arc::ptr_eq(&before, &keys.now()) && !changes.has_changed().unwrap());
    }
}

#[test]
fn a_file_that_is_no_ring_leaves_the_keys_as_they_are() {
    let [ours, other, _] = lines();
    let place = Place::new(&ours);
    let keys = place.of_node();
    is_left(&keys, &place, "# nothing\n", "no cluster key");
    is_left(&keys, &place, &format!("{ours}\n{}", &other[..60]), "line 2");
    is_left(&keys, &place, &format!("{ours}\n{ours}"), "repeats");
    is_left(&keys, &place, &format!("{ours}\n{}", edge_of(&[&other])), "an edge key is among the keys");
    is_left(&keys, &place, &other, "not among the keys in force");
    std::fs::remove_file(place.path()).unwrap();
    let said = read(&keys).unwrap_err().to_string();
    assert!(said.contains("cluster.key"), "{said}");
    // Nobody writes to it.
    assert!(std::process::Command::new("mkfifo").arg(place.path()).status().unwrap().success());
    let said = read(&keys).unwrap_err().to_string();
    assert!(said.contains("no regular file"), "{said}");
    std::fs::remove_file(place.path()).unwrap();
    // And what is right again is taken.
    place.write(&format!("{ours}\n{other}"));
    assert_eq!(read(&keys).unwrap().added, 1);
}

#[test]
fn a_step_of_a_rotation_is_not_left_out_and_each_has_a_way_back() {
    let [old, new, third] = lines();
    let (first, second, last) = (format!("{old}\n{new}"), format!("{new}\n{old}"), new.clone());
    let place = Place::new(&old);
    let keys = place.of_node();
    let takes = |text: &str| {
        place.write(text);
        read(&keys).unwrap();
        assert!(keys.now().ring == KeyRing::parse(text).unwrap());
    };
    let leaves = |text: &str, words: &str| is_left(&keys, &place, text, words);
    // Of what others do not have yet nothing is sealed.
    leaves(&second, "not among the keys in force");
    leaves(&last, "not among the keys in force");
    takes(&first);
    takes(&old);
    takes(&first);
    // What others seal is opened.
    leaves(&last, "with which others may still seal");
    leaves(&format!("{new}\n{third}"), "with which others may still seal");
    takes(&second);
    leaves(&old, "with which others may still seal");
    takes(&first);
    takes(&second);
    takes(&last);
    leaves(&first, "not among the keys in force");
    takes(&second);
}

#[test]
fn an_edge_changes_from_one_form_of_the_key_to_the_other_by_a_restart_alone() {
    let [old, new, _] = lines();
    let place = Place::new(&old);
    let keys = place.of_edge();
    is_left(&keys, &place, &edge_of(&[&old]), "there is an edge key in it");
    is_left(&keys, &place, &format!("{old}\n{}", edge_of(&[&new])), "there is an edge key in it");
    place.write(&edge_of(&[&old]));
    let keys = place.of_edge();
    is_left(&keys, &place, &old, "there are cluster keys alone in it");
    // What began with both forms ends with the edge key.
    place.write(&format!("{}\n{old}", edge_of(&[&new])));
    let keys = place.of_edge();
    place.write(&edge_of(&[&new]));
    assert_eq!(read(&keys).unwrap().removed, 1);
}

#[test]
fn a_file_that_others_may_read_now_is_taken_and_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let [old, new, _] = lines();
    let place = Place::new(&old);
    let keys = place.of_node();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    place.write(&format!("{old}\n{new}"));
    let change = read(&keys).unwrap();
    assert_eq!((change.added, change.warnings.len()), (1, 1));
}

#[tokio::test]
async fn who_has_a_key_is_believed_until_it_is_taken_away() {
    let [old, new, _] = lines();
    let shown = |line: &String| {
        let ring = KeyRing::parse(line).unwrap();
        crate::tls::tests::own_leaf(&ring)
    };
    let place = Place::new(&format!("{old}\n{new}"));
    let keys = place.of_node();
    let (of_old, of_new) = (shown(&old), shown(&new));
    let (watching, shown_old) = (keys.clone(), of_old.clone());
    let old_is_gone = tokio::spawn(async move { watching.no_more(&shown_old).await });
    place.write(&format!("{new}\n{old}"));
    keys.read_again().await;
    assert!(!old_is_gone.is_finished() && keys.now().peers.believes(&of_old));
    place.write(&new);
    keys.read_again().await;
    tokio::time::timeout(Duration::from_secs(20), old_is_gone).await.expect("it is told").unwrap();
    assert!(keys.now().peers.believes(&of_new) && !keys.now().peers.believes(&of_old));
    // Who comes later is told at once.
    keys.no_more(&of_old).await;
}

#[tokio::test]
async fn tickets_and_proofs_are_those_of_the_keys_in_force() {
    use rustls::server::ProducesTickets as _;
    let [old, new, _] = lines();
    let place = Place::new(&old);
    let keys = place.of_edge();
    let ticket = keys.now().tickets.encrypt(b"session").unwrap();
    let proof = keys.now().ring.root_proof("worker", b"").unwrap();
    for (text, opens) in
        [(format!("{old}\n{new}"), true), (format!("{new}\n{old}"), true), (new.clone(), false)]
    {
        place.write(&text);
        keys.read_again().await;
        assert_eq!(keys.now().tickets.decrypt(&ticket).is_some(), opens);
        assert_eq!(keys.now().ring.root_proves("worker", b"", &proof), opens);
    }
}
