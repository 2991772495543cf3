//! What a store of a size costs.

use std::time::{Duration, Instant};

use super::*;

const MESSAGES: u64 = 200_000;

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
