//! Bodies in a content coding: each comes to an end or to an error, in no more memory than its window has.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use skep_crawl::decode::{Coding, decoded};
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

/// What is read of one: a bomb has more.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Brotli's window of 16 MiB, while it grows, and tables; as bytes that came, of which each excuses 512.
const WINDOW_INPUT_BYTES: usize = (40 << 20) / 512;

fuzz_target!(init: seeds::write(seeds::coded), |bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let coding = match first % 4 {
        0 => Coding::Gzip,
        1 => Coding::Deflate,
        2 => Coding::Brotli,
        _ => Coding::Zstd,
    };
    let all = bounded(WINDOW_INPUT_BYTES + body.len(), || {
        let mut out = Vec::new();
        decoded(body, &[coding]).take(OUTPUT_BYTES_MAX).read_to_end(&mut out).map(|_| out)
    });
    let Ok(all) = all else { return };
    assert!(all.len() as u64 <= OUTPUT_BYTES_MAX);
    let (mut source, mut piece, mut slow) = (decoded(body, &[coding]).take(4096), [0; 3], Vec::new());
    while let Ok(read @ 1..) = source.read(&mut piece) {
        slow.extend_from_slice(&piece[..read]);
    }
    assert_eq!(slow, all[..all.len().min(4096)], "by three bytes");
});
