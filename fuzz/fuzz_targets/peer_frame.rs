//! What a peer, or whoever passes for one, says on a connection.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;
use skep_raft::peers::Assembler;
use skep_raft::wire;

/// The bodies in these bytes, and whether the rest of them can be any.
fn bodies<'a>(arriving: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut assembler, mut buffer, mut found) = (Assembler::default(), BytesMut::new(), Vec::new());
    for bytes in arriving {
        buffer.extend_from_slice(bytes);
        loop {
            match assembler.next(&mut buffer) {
                Ok(Some(body)) => found.push(body.to_vec()),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, true)
}

fuzz_target!(init: seeds::write(seeds::frames), |bytes: &[u8]| {
    let Some((choice, body)) = bytes.split_first() else { return };
    match choice % 4 {
        0 => {
            let Ok(frame) = bounded(body.len(), || wire::decode_frame(body)) else { return };
            let once = wire::encode_frame(&frame).expect("what was decoded can be encoded");
            let again = wire::decode_frame(&once).expect("what was encoded can be decoded");
            assert_eq!(wire::encode_frame(&again).expect("it was encoded before"), once);
        }
        1 => {
            if let Ok(hello) = bounded(body.len(), || wire::decode_hello(body)) {
                let _ = (hello.is_peer(), hello.common_protocol());
            }
        }
        2 => {
            let _ = bounded(body.len(), || wire::decode_hello_answer(body));
        }
        _ => {
            // The same bodies come out, however the bytes are cut as they arrive.
            let whole = bounded(body.len(), || bodies([body].into_iter()));
            assert_eq!(bodies(body.chunks(3)), whole);
        }
    }
});
