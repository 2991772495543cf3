//! Certificates as somebody puts them: whatever their bytes are, they have a validity or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_gateway::document::validity_s;

fuzz_target!(init: seeds::write(seeds::gateway_certificates), |bytes: &[u8]| {
    let _ = bounded(bytes.len(), || validity_s(bytes));
});
