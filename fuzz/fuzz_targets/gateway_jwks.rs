//! Sets of keys as issuers publish them: read within bounds, of public keys alone, and to the same in whatever order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_gateway::document::{ISSUER_KEYS_MAX, KeySet, SET_BYTES_MAX};

fuzz_target!(init: seeds::write(seeds::gateway_key_sets), |bytes: &[u8]| {
    let Ok(set) = bounded(bytes.len(), || KeySet::read(bytes)) else { return };
    assert!((1..=ISSUER_KEYS_MAX).contains(&set.keys.len()) && bytes.len() <= SET_BYTES_MAX);
    assert!(set.keys.iter().all(|it| !it.is_secret()));
    assert!(set.keys.is_sorted_by(|a, b| (&a.kid, a.id) <= (&b.kid, b.id)));
});
