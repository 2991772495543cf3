//! What balancers tell one another of limits and of stored answers: frames that are read back, or refused, within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_gateway::exchange::{Body, ENTRIES_MAX, Frame, debts, voids};
use skep_gateway::limit::{By, Limit, Per, Scope};

fuzz_target!(init: seeds::write(seeds::gateway_frames), |bytes: &[u8]| {
    let limit = Limit { rate: 3, per: Per::Second, burst: 5, by: By::Route, scope: Scope::Cluster, is_shared: false };
    if let Ok(kept) = bounded(bytes.len(), || debts::Kept::decode(bytes)) {
        assert_eq!(kept.encode(), bytes);
        for debt in kept.left(1) {
            assert!(limit.owe_at_least(0, 0, debt.owed, debt.step) <= limit.owe(0, 0, u32::MAX));
        }
    }
    if let Ok(frame) = bounded(bytes.len(), || debts::Frame::decode(bytes)) {
        assert_eq!(frame.encode(), bytes);
        if let debts::Body::Page { debts, .. } = frame.body {
            assert!(debts.len() <= debts::DEBTS_MAX);
        }
    }
    if let Ok(frame) = bounded(bytes.len(), || voids::Frame::decode(bytes)) {
        assert_eq!(frame.encode(), bytes);
        let mut waiting = frame.voids.clone().into();
        let next = voids::Frame::next(&mut waiting);
        assert!(next.is_none_or(|it| it.encode().len() <= voids::FRAME_BYTES_MAX));
    }
    let Ok(frame) = bounded(bytes.len(), || Frame::decode(bytes)) else { return };
    assert_eq!(frame.encode(), bytes);
    let Body::Counts(entries) = frame.body else { return };
    assert!(entries.len() <= ENTRIES_MAX);
    for entry in entries {
        // Whoever says so, what is owed is over within some time.
        let tat = limit.owe(entry.limit, frame.number, entry.count);
        assert!(tat >= entry.limit.max(frame.number));
    }
});
