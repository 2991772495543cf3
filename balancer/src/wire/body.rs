//! Where a body ends, for bytes that pass by without being owned. Pure.

use crate::wire::chunked::{ChunkError, Decoder, Stretch};
use crate::wire::request_head::BodyLength;
use crate::wire::response_head::AnswerLength;

/// How much of a body is still to come.
#[derive(Debug, Clone)]
pub enum Body {
    Done,
    /// Bytes, never 0.
    Length(u64),
    Chunked(Box<Decoder>),
    /// All until the connection ends.
    Close,
}

/// What is to be done with bytes of a body that is wanted as data alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Pass(usize),
    Skip(usize),
    Trailer(usize),
}

impl Body {
    fn length(bytes: u64) -> Self {
        if bytes == 0 { Self::Done } else { Self::Length(bytes) }
    }

    /// Of a request; `trailers`: fields may come behind it.
    pub fn of_request(length: BodyLength, trailers: bool) -> Self {
        match length {
            BodyLength::Chunked if !trailers => Self::Chunked(Box::new(Decoder::without_trailers())),
            length => length.into(),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// How many of the bytes at hand belong to this body; `is_done` afterwards says whether they
    /// are its last. To be called once for each byte.
    pub fn take(&mut self, buf: &[u8]) -> Result<usize, ChunkError> {
        match self {
            Self::Done => Ok(0),
            Self::Close => Ok(buf.len()),
            Self::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *self = Self::length(*left - n as u64);
                Ok(n)
            }
            Self::Chunked(decoder) => {
                let (n, done) = decoder.scan(buf)?;
                if done {
                    *self = Self::Done;
                }
                Ok(n)
            }
        }
    }

    /// As [`Self::take`], for the first stretch alone of a chunked body.
    pub fn take_data(&mut self, buf: &[u8]) -> Result<Piece, ChunkError> {
        let Self::Chunked(decoder) = self else { return self.take(buf).map(Piece::Pass) };
        Ok(match decoder.next(buf)? {
            Stretch::Data(n) => Piece::Pass(n),
            Stretch::Framing(n) => Piece::Skip(n),
            Stretch::Trailer(n) => Piece::Trailer(n),
            Stretch::End(n) => {
                *self = Self::Done;
                Piece::Skip(n)
            }
        })
    }
}

impl From<BodyLength> for Body {
    fn from(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Self::Done,
            BodyLength::Length(bytes) => Self::length(bytes),
            BodyLength::Chunked => Self::Chunked(Box::new(Decoder::of_request())),
        }
    }
}

impl From<AnswerLength> for Body {
    fn from(length: AnswerLength) -> Self {
        match length {
            AnswerLength::None => Self::Done,
            AnswerLength::Length(bytes) => Self::length(bytes),
            AnswerLength::Chunked => Self::Chunked(Box::new(Decoder::of_answer())),
            AnswerLength::Close => Self::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_by_length_takes_no_byte_of_the_next_request() {
        let mut body = Body::from(BodyLength::Length(5));
        assert_eq!(body.take(b"abc"), Ok(3));
        assert_eq!(body.take(b"deGET /"), Ok(2));
        assert!(body.is_done());
        assert_eq!(body.take(b"GET /"), Ok(0));
    }

    proptest! {
        #[test]
        fn a_chunked_body_ends_in_the_same_place_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            trailers in 0usize..3,
            cuts in proptest::collection::vec(1usize..17, 1..40),
        ) {
            let mut coded = Vec::new();
            for (i, chunk) in chunks.iter().enumerate() {
                let extension = if i % 2 == 0 { "" } else { ";name=\"value\"" };
                coded.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                coded.extend(chunk);
                coded.extend(b"\r\n");
            }
            coded.extend(b"0\r\n");
            for i in 0..trailers {
                coded.extend(format!("X-T{i}: v\r\n").bytes());
            }
            coded.extend(b"\r\n");
            let end = coded.len();
            coded.extend(b"GET /next");
            let mut body = Body::from(BodyLength::Chunked);
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while !body.is_done() {
                let upto = (at + cuts.next().unwrap()).min(coded.len());
                at += body.take(&coded[at..upto]).unwrap();
            }
            prop_assert_eq!(at, end);
        }
    }
}
