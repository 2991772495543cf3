//! What balancers tell nodes of what they do: read back as it was written, or refused, within bounds; and put together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_gateway::figures::{Ask, Gathering, PARTS_MAX, Part, renumbered};
use skep_gateway::shift::report::Report;

fuzz_target!(init: seeds::write(seeds::gateway_figures), |bytes: &[u8]| {
    if let Ok(ask) = Ask::decode(bytes) {
        assert_eq!(ask.encode(), bytes);
    }
    if let Some(report) = bounded(bytes.len(), || Report::decode(bytes)) {
        assert_eq!(report.encode(), bytes);
    }
    let Ok(part) = bounded(bytes.len(), || Part::decode(bytes)) else { return };
    assert_eq!(part.encode(), bytes);
    let number = part.number;
    // To another who asks it says the same.
    let other = renumbered(bytes, !number);
    assert_eq!(Part::decode(&other).map(|it| it.number), Ok(!number));
    assert_eq!(renumbered(&other, number), bytes);
    if let Some(figures) = Gathering::default().add(part) {
        // Said again, it fits.
        assert!(figures.parts(number).len() <= PARTS_MAX);
    }
});
