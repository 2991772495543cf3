//! Commands, as the log and the peers carry them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_base::codec;
use skep_state::command::Command;

fuzz_target!(init: seeds::write(seeds::commands), |bytes: &[u8]| {
    let Ok(command) = bounded(bytes.len(), || codec::decode::<Command>(bytes)) else { return };
    let _ = command.size_estimate();
    let again = codec::encode(&command).expect("what was decoded can be encoded");
    assert_eq!(codec::decode::<Command>(&again).expect("what was encoded can be decoded"), command);
});
