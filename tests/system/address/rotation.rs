//! The key of holders that stand alone is changed by SIGHUP alone.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use skep_kit::effort::machine_alone;
use skep_kit::hosts::lan::{Lan, possible};
use skep_kit::hosts::program::{Program, start_holder};
use skep_kit::programs::{write_edge_key, write_key};
use skep_kit::wait::{PATIENCE, pause, wait_for};

/// A new edge key.
fn edge_key_in(folder: &Path, name: &str) -> String {
    let (key, edge) = (folder.join(name), folder.join(name).with_extension("edge"));
    write_key(&key);
    write_edge_key(&key, &edge);
    std::fs::read_to_string(edge).unwrap().trim().to_owned()
}

fn start(lan: &Lan, at: usize, priority: &str, keys: &str) -> Program {
    let more = ["--advert-interval", "1s", "--admin", "127.0.0.1:9401", "--cluster-key-file", keys];
    start_holder(lan, at, "10.78.0.100/24", priority, &more, &[])
}

#[test]
fn holders_whose_key_is_rotated_by_sighup_keep_the_address_and_each_other() {
    if !possible("a rotation of the key of holders", &[]) {
        return;
    }
    let _machine = machine_alone();
    let lan = Lan::new(2);
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.key", "new.key"].map(|name| edge_key_in(folder.path(), name));
    let file = folder.path().join("keys");
    std::fs::write(&file, &old).unwrap();
    let keys = file.to_str().unwrap();
    let mut first = start(&lan, 0, "200", keys);
    wait_for("the first holds", PATIENCE, || lan.has(0, "10.78.0.100"));
    let second = start(&lan, 1, "150", keys);
    let is_named = || second.vrrp().iter().any(|it| it["successor"] == true);
    wait_for("the second is named", PATIENCE, is_named);
    for (count, text) in (1..).zip([format!("{old}\n{new}"), format!("{new}\n{old}"), new.clone()]) {
        std::fs::write(&file, text).unwrap();
        for holder in [&first, &second] {
            holder.signal(Signal::HUP);
            wait_for("it has read its keys", PATIENCE, || {
                holder.log().matches("the cluster keys read again").count() == count
            });
        }
    }
    // The connection that the old key made goes, and that is no death.
    pause(Duration::from_secs(1));
    wait_for("the second is named again", PATIENCE, is_named);
    assert_eq!((first.state(), second.state()), ("active".to_owned(), "backup".to_owned()));
    assert!(!second.log().contains("left as they were"), "{}", second.log());
    first.kill();
    second.wait_state("active");
    let reason = second.vrrp()[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("process ended"), "{reason}: they had nothing to say to each other");
    // It was a backup until then.
    assert_eq!(second.metric("skep_balancer_vrrp_transitions_total", ""), 2);
}
