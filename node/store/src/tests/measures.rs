//! What a store of a size costs: held to a time, so that nothing runs beside it.

use std::time::{Duration, Instant};

use skep_state::level::Level;

use super::*;

const MESSAGES: u64 = 200_000;
const CLAIMS: u64 = 300_000;

#[tokio::test]
async fn a_large_store_opens_fast_and_small_after_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { message_segment_bytes_max: 8 * 1024 * 1024, ..StoreConfig::new(dir.path()) };
    let mut store = open(config.clone()).unwrap();
    for index in 0..MESSAGES / 100 {
        let ops = (0..100).map(|n| put(format!("{:0100}", index * 100 + n))).collect();
        store.apply(vec![normal(1, index, ops)]).await;
    }
    store.checkpoint().await;
    drop(store);
    let started = Instant::now();
    let store = open(config).unwrap();
    let took = started.elapsed();
    assert_eq!(store.reader.last_seq(), MESSAGES);
    println!("opened {MESSAGES} messages in {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_store_of_many_claims_opens_fast_and_holds_little_of_each() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig::new(dir.path());
    let mut store = open(config.clone()).unwrap();
    store.apply(vec![normal(1, 0, vec![Op::Level { level: Level::NEWEST }])]).await;
    for index in 0..CLAIMS / 500 {
        let claimed = |n: u64| {
            let key = ClaimKey((index * 500 + n).into());
            [Op::Claim { key, fingerprint: 1, time_ms: 1, ttl_ms: 1_000 }, text(key.0, "a text")]
        };
        store.apply(vec![normal(1, 1 + index, (0..500).flat_map(claimed).collect())]).await;
    }
    let captured = Instant::now();
    drop(store.reader.core().capture());
    let captured = captured.elapsed();
    store.checkpoint().await;
    drop(store);
    let started = Instant::now();
    let store = open(config.clone()).unwrap();
    let took = started.elapsed();
    let stats = store.reader.stats();
    let checkpoint = std::fs::metadata(dir.path().join("checkpoint")).unwrap().len();
    println!(
        "captured {CLAIMS} claims in {captured:?}, opened them in {took:?}; a checkpoint of {checkpoint} bytes"
    );
    assert_eq!(stats.claims, CLAIMS);
    assert!(stats.claim_index_bytes <= 16 * CLAIMS, "{} bytes in memory", stats.claim_index_bytes);
    assert!(stats.claim_bytes < 65 * CLAIMS, "{} bytes on disk", stats.claim_bytes);
    // The texts that are remembered are most of it.
    assert!(checkpoint < 256 * 1024, "{checkpoint} bytes");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
