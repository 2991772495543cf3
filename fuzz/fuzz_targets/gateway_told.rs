//! Lines in which nodes tell balancers of the gateway: read, or refused; what was read is written as it is meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::seeds;
use skep_gateway::shift;
use skep_gateway::told::Told;

fuzz_target!(init: seeds::write(seeds::gateway_lines), |bytes: &[u8]| {
    let Ok(told) = Told::decode(bytes) else { return };
    if let Told::Shifts { shifts, .. } = told {
        let _ = shift::read_told(shifts);
    }
    let line = told.encode();
    assert_eq!(line.iter().filter(|it| **it == b'\n').count(), 1);
    let again = Told::decode(&line).unwrap();
    assert_eq!(again.encode(), line);
});
