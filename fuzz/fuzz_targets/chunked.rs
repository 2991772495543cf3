//! Chunked bodies: they end in the same place however their bytes are cut as they arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_balancer::wire::body::{Body, Piece};
use skep_balancer::wire::chunked::{ChunkError, Decoder};
use skep_balancer::wire::request_head::BodyLength;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

/// How many bytes belong to the body, and whether it is over.
fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(usize, bool), ChunkError> {
    let (mut decoder, mut taken) = (Decoder::of_request(), 0);
    for piece in pieces {
        let (n, done) = decoder.scan(piece)?;
        assert!(done || n == piece.len(), "bytes of an unfinished body are all its own");
        taken += n;
        if done {
            return Ok((taken, true));
        }
    }
    Ok((taken, false))
}

/// The content alone, and whether the body is over.
fn data(mut bytes: &[u8]) -> Result<(Vec<u8>, bool), ChunkError> {
    let (mut body, mut out) = (Body::from(BodyLength::Chunked), Vec::new());
    while !body.is_done() && !bytes.is_empty() {
        let n = match body.take_data(bytes)? {
            Piece::Pass(n) => {
                out.extend_from_slice(&bytes[..n]);
                n
            }
            Piece::Skip(n) | Piece::Trailer(n) => n,
        };
        bytes = &bytes[n..];
    }
    Ok((out, body.is_done()))
}

fuzz_target!(init: seeds::write(seeds::chunked_bodies), |bytes: &[u8]| {
    let whole = bounded(bytes.len(), || scan([bytes].into_iter()));
    for size in [1, 2, 3, 7] {
        assert_eq!(scan(bytes.chunks(size)), whole, "cut at every {size}");
    }
    let content = data(bytes);
    assert_eq!(content.as_ref().map(|(_, done)| *done).map_err(|error| *error), whole.map(|(_, done)| done));
});
