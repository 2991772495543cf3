//! The header of a snapshot, from a peer or from an operator's file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_node::store::decode_header;
use skep_proto::codec;

fuzz_target!(init: seeds::write(seeds::snapshot_headers), |bytes: &[u8]| {
    let Ok(header) = bounded(bytes.len(), || decode_header(bytes)) else { return };
    // What was checked must add up.
    let _ = (header.messages(), header.message_bytes());
    let again = codec::encode(&header).expect("what was decoded can be encoded");
    assert_eq!(decode_header(&again).expect("what was encoded can be decoded"), header);
});
