//! The header of a snapshot, from a peer or from an operator's file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_store::decode_header;

fuzz_target!(init: seeds::write(seeds::snapshot_headers), |bytes: &[u8]| {
    let Some((format, bytes)) = bytes.split_first() else { return };
    let format = u32::from(*format);
    let Ok(header) = bounded(bytes.len(), || decode_header(format, bytes)) else { return };
    // What was checked must add up.
    let _ = (header.messages(), header.last_seq(), header.message_bytes());
    let (format, again) = header.encode().expect("what was decoded can be encoded");
    assert_eq!(decode_header(format, &again).expect("what was encoded can be decoded"), header);
});
