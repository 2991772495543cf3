//! How frames lie on a connection. Pure: bytes in, bodies out.
//!
//! A body is cut into pieces, each with a little-endian header of 32 bits: its length, and two
//! flags. A body in one piece stands alone. Longer ones are cut, so that something urgent passes
//! between two of their pieces; only one body is ever half sent.
//!
//! A length is checked before the bytes behind it are read, and memory grows only by bytes that
//! came.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use crate::wire::FRAME_BYTES_MAX;

/// Most bytes of a body in one piece.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Bytes before each piece.
pub const HEADER_BYTES: usize = 4;

/// The piece belongs to a body of several.
const PART: u32 = 1 << 31;
/// It is the last of them.
const LAST: u32 = 1 << 30;
const LENGTH: u32 = LAST - 1;

/// Bytes that are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("a piece of {0} bytes is longer than {PIECE_BYTES_MAX}")]
    PieceTooLong(usize),
    #[error("a frame is longer than {FRAME_BYTES_MAX} bytes")]
    FrameTooLong,
}

/// Puts bodies together from what arrives.
#[derive(Debug, Default)]
pub struct Assembler {
    half: Vec<u8>,
}

/// A whole body.
#[derive(Debug)]
pub enum Body {
    /// It stood in one piece.
    Whole(BytesMut),
    /// It was put together from several.
    Joined(Vec<u8>),
}

impl std::ops::Deref for Body {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Body::Whole(bytes) => bytes,
            Body::Joined(bytes) => bytes,
        }
    }
}

impl Assembler {
    /// Takes the next body out of `bytes`, or answers `None` where more must arrive first.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Body>, FramingError> {
        loop {
            let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
                return Ok(None);
            };
            let header = u32::from_le_bytes(*header);
            let length = (header & LENGTH) as usize;
            if length > PIECE_BYTES_MAX {
                return Err(FramingError::PieceTooLong(length));
            }
            if header & PART != 0 && self.half.len() + length > FRAME_BYTES_MAX {
                return Err(FramingError::FrameTooLong);
            }
            if bytes.len() < HEADER_BYTES + length {
                return Ok(None);
            }
            bytes.advance(HEADER_BYTES);
            let piece = bytes.split_to(length);
            if header & PART == 0 {
                return Ok(Some(Body::Whole(piece)));
            }
            self.half.extend_from_slice(&piece);
            if header & LAST != 0 {
                return Ok(Some(Body::Joined(std::mem::take(&mut self.half))));
            }
        }
    }
}

/// Appends one whole body, in one piece, to `out`. It must not be longer than a piece.
pub fn put_whole(body: &[u8], out: &mut Vec<u8>) {
    debug_assert!(body.len() <= PIECE_BYTES_MAX);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

/// Appends the piece of `body` that starts at `from` to `out`; answers where the next one starts,
/// or `None` after the last.
pub fn put_piece(body: &[u8], from: usize, out: &mut Vec<u8>) -> Option<usize> {
    let piece: Range<usize> = from..body.len().min(from + PIECE_BYTES_MAX);
    let last = piece.end == body.len();
    let flags = match (from, last) {
        (0, true) => 0,
        (_, true) => PART | LAST,
        (_, false) => PART,
    };
    out.extend_from_slice(&(piece.len() as u32 | flags).to_le_bytes());
    out.extend_from_slice(&body[piece.clone()]);
    (!last).then_some(piece.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = Some(0);
        while let Some(from) = at {
            at = put_piece(body, from, &mut out);
        }
        out
    }

    #[test]
    fn bodies_of_all_lengths_around_a_piece_come_out_as_they_went_in() {
        for length in [0, 1, PIECE_BYTES_MAX - 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 3 * PIECE_BYTES_MAX] {
            let body: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut bytes = BytesMut::from(&framed(&body)[..]);
            let out = Assembler::default().next(&mut bytes).unwrap().unwrap();
            assert_eq!(&*out, &body[..], "{length}");
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn a_whole_body_passes_between_two_pieces_of_a_long_one() {
        let long = vec![7; PIECE_BYTES_MAX + 1];
        let mut out = Vec::new();
        let next = put_piece(&long, 0, &mut out).unwrap();
        put_whole(b"now", &mut out);
        assert_eq!(put_piece(&long, next, &mut out), None);
        let mut bytes = BytesMut::from(&out[..]);
        let mut assembler = Assembler::default();
        assert_eq!(&*assembler.next(&mut bytes).unwrap().unwrap(), b"now");
        assert_eq!(&*assembler.next(&mut bytes).unwrap().unwrap(), &long[..]);
    }

    #[test]
    fn a_length_beyond_a_piece_is_refused_before_its_bytes_come() {
        let mut bytes = BytesMut::from(&(PIECE_BYTES_MAX as u32 + 1).to_le_bytes()[..]);
        assert_eq!(
            Assembler::default().next(&mut bytes).unwrap_err(),
            FramingError::PieceTooLong(PIECE_BYTES_MAX + 1)
        );
    }

    #[test]
    fn a_body_that_grows_beyond_a_frame_is_refused() {
        let mut assembler = Assembler::default();
        let mut piece = (PIECE_BYTES_MAX as u32 | PART).to_le_bytes().to_vec();
        piece.resize(HEADER_BYTES + PIECE_BYTES_MAX, 0);
        for _ in 0..FRAME_BYTES_MAX / PIECE_BYTES_MAX {
            assert!(assembler.next(&mut BytesMut::from(&piece[..])).unwrap().is_none());
        }
        let error = assembler.next(&mut BytesMut::from(&piece[..])).unwrap_err();
        assert_eq!(error, FramingError::FrameTooLong);
    }

    proptest! {
        #[test]
        fn arrival_in_any_parts_changes_nothing(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
            step in 1usize..50,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let mut assembler = Assembler::default();
            let mut bytes = BytesMut::new();
            let mut out = Vec::new();
            for part in stream.chunks(step) {
                bytes.extend_from_slice(part);
                while let Some(body) = assembler.next(&mut bytes).unwrap() {
                    out.push(body.to_vec());
                }
            }
            prop_assert_eq!(out, bodies);
        }

        #[test]
        fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..1024)) {
            let mut bytes = BytesMut::from(&garbage[..]);
            let mut assembler = Assembler::default();
            while let Ok(Some(_)) = assembler.next(&mut bytes) {}
        }
    }
}
