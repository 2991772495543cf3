//! Purges, as operators say them and nodes tell them: read, or refused; what was read is written as it is meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::seeds;
use skep_gateway::purge::{LIST_MAX, Purge, list, listed};

fuzz_target!(init: seeds::write(seeds::gateway_purges), |bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(purge) = Purge::read(text) {
        assert_eq!(Purge::told(&purge.json()), purge);
        assert_eq!(Purge::told(text), purge);
    }
    let purge = Purge::told(text);
    assert_eq!(Purge::told(&purge.json()), purge);
    if let Some(all) = listed(text) {
        assert!(all.len() <= LIST_MAX);
        let said: Vec<(u64, String)> = all.iter().map(|(number, it)| (*number, it.json())).collect();
        let again = listed(&list(said.iter().map(|(number, it)| (*number, it.as_str()))));
        assert_eq!(again, Some(all));
    }
});
