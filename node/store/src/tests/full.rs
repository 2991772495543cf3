//! A full disk: a small file system of its own, where the tests may mount one.

use std::process::Command as Process;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use skep_raft::types::TypeConfig;
use skep_state::level::Level;

use super::*;

/// A tmpfs of some bytes, or nothing where it cannot be mounted.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(bytes: u64) -> Option<Mount> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Process::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Mount(dir));
        }
        println!("skipped: a file system can be mounted by root alone");
        None
    }

    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Process::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[tokio::test]
async fn on_a_full_disk_appends_wait_and_then_complete_with_nothing_lost() {
    let Some(mount) = Mount::new(2 * 1024 * 1024) else { return };
    let dir = mount.0.path().join("data");
    let config = StoreConfig { log_segment_bytes_max: 64 * 1024, ..small(&dir) };
    let mut store = open(config.clone()).unwrap();
    store.append(puts(1, 0..10)).await;
    let ballast = mount.fill();
    let mut waiting = Vec::new();
    for index in (10..2010).step_by(20) {
        let (sender, receiver) = TypeConfig::oneshot();
        store.log.append(puts(1, index..index + 20), IOFlushed::signal(sender)).await.unwrap();
        waiting.push(receiver);
    }
    let mut health = store.health.clone();
    health.wait_for(|health| health.full.is_some()).await.unwrap();
    // What waits can be read.
    assert_eq!(store.entries().await.len(), 2010);
    std::fs::remove_file(ballast).unwrap();
    for receiver in waiting {
        receiver.await.unwrap().unwrap();
    }
    health.wait_for(|health| health.full.is_none()).await.unwrap();
    drop(store);
    assert_eq!(open(config).unwrap().entries().await, puts(1, 0..2010));
}

#[tokio::test]
async fn on_a_full_disk_applying_waits_and_then_goes_on_while_reads_are_served() {
    let Some(mount) = Mount::new(2 * 1024 * 1024) else { return };
    let dir = mount.0.path().join("data");
    let config = StoreConfig { message_segment_bytes_max: 64 * 1024, ..small(&dir) };
    let mut store = open(config).unwrap();
    store.apply(puts(1, 0..10)).await;
    let ballast = mount.fill();
    let (reader, mut health) = (store.reader.clone(), store.health.clone());
    let applying = tokio::spawn(async move {
        for index in (10..2010).step_by(20) {
            store.apply(puts(1, index..index + 20)).await;
        }
        store.apply(vec![normal(1, 2010, vec![put(vec![3; 300_000])])]).await;
        store.checkpoint().await;
        store
    });
    health.wait_for(|health| health.full.is_some()).await.unwrap();
    assert!(reader.page(0, 10, 10_000).unwrap().len() == 10);
    std::fs::remove_file(ballast).unwrap();
    let store = applying.await.unwrap();
    assert_eq!(store.reader.last_seq(), 2011);
    assert_eq!(store.messages().len(), 2011);
    assert!(store.health.borrow().full.is_none());
}

#[tokio::test]
async fn on_a_full_disk_keys_wait_for_their_files_and_none_is_lost() {
    let Some(mount) = Mount::new(2 * 1024 * 1024) else { return };
    let dir = mount.0.path().join("data");
    let config = StoreConfig { claim_file_claims_max: 64, ..small(&dir) };
    let mut store = open(config.clone()).unwrap();
    let keyed = |index: u64| {
        let key = ClaimKey(index.into());
        let claim = Op::Claim { key, fingerprint: 1, time_ms: 1_000, ttl_ms: 50_000 };
        normal(1, index, vec![claim, text(index.into(), "a text")])
    };
    store.apply(vec![normal(1, 0, vec![Op::Level { level: Level::NEWEST }])]).await;
    store.apply((1..100).map(keyed).collect()).await;
    let ballast = mount.fill();
    let mut health = store.health.clone();
    let applying = tokio::spawn(async move {
        for index in 100..1_000 {
            store.apply(vec![keyed(index)]).await;
        }
        store.checkpoint().await;
        store
    });
    health.wait_for(|health| health.full.is_some()).await.unwrap();
    std::fs::remove_file(ballast).unwrap();
    let store = applying.await.unwrap();
    assert_eq!(store.reader.stats().claims, 999);
    health.wait_for(|health| health.full.is_none()).await.unwrap();
    drop(store);
    assert_eq!(open(config).unwrap().reader.stats().claims, 999);
    assert!(crate::verify(&dir).unwrap().rotten.is_empty());
}

#[tokio::test]
async fn a_store_that_is_closed_on_a_full_disk_does_not_hang() {
    let Some(mount) = Mount::new(1024 * 1024) else { return };
    let dir = mount.0.path().join("data");
    let mut store = open(small(&dir)).unwrap();
    store.append(puts(1, 0..10)).await;
    let ballast = mount.fill();
    store.log.append(puts(1, 10..500), IOFlushed::noop()).await.unwrap();
    store.health.clone().wait_for(|health| health.full.is_some()).await.unwrap();
    drop(store);
    std::fs::remove_file(ballast).unwrap();
    let entries = open(small(&dir)).unwrap().entries().await;
    assert!(entries.len() >= 10);
    assert_eq!(entries, puts(1, 0..entries.len() as u64));
}
