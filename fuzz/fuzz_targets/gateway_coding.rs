//! Which coding a client takes, which types gain, and tags on their way there and back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::seeds;
use skep_gateway::compress::{Compress, accepted, tag, tags_asked};

fuzz_target!(init: seeds::write(seeds::gateway_codings), |bytes: &[u8]| {
    let lines = || bytes.split(|b| *b == b'\n');
    let of_lines = accepted(lines());
    // Several lines are one list, and its order says nothing.
    let joined: Vec<u8> = lines().collect::<Vec<_>>().join(&b","[..]);
    assert_eq!(accepted([joined.as_slice()].into_iter()), of_lines);
    let turned: Vec<&[u8]> = lines().collect::<Vec<_>>().into_iter().rev().collect();
    assert_eq!(accepted(turned.into_iter()), of_lines);
    let refused = [b"gzip;q=0,zstd;q=0,", bytes].concat();
    assert_eq!(accepted([refused.as_slice()].into_iter()), None, "what is refused once is not sent");
    Compress::default().is_for(bytes);
    if let Some(sent) = tag(bytes) {
        assert!(sent.starts_with(b"W/\""), "the bytes are others");
    }
    if let Some(asked) = tags_asked(bytes) {
        assert!(asked.len() < bytes.len());
    }
});
