//! Codes a body as it comes, a piece at a time. No I/O, no clock.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use skep_gateway::compress::Coding;
use zstd::stream::write::Encoder as ZstdEncoder;

/// How far a decoder of zstd has to look back, as a power of two: 128 KiB, of which RFC 9659 allows more, and a client
/// and this process then hold less.
const ZSTD_WINDOW_LOG: u32 = 17;
/// What an encoder holds at most, with what it has coded and nobody took yet, in bytes.
const GZIP_BYTES: usize = 512 * 1024;
const ZSTD_BYTES: usize = 1536 * 1024;
const ZSTD_BYTES_DEEP: usize = 2560 * 1024;

/// One body's.
pub(super) struct Encoder {
    way: Way,
    /// Something was added that may not be among what is coded.
    holds: bool,
    /// Bytes of the output that were taken.
    taken: usize,
}

enum Way {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

/// What one of them holds at most, in bytes.
pub(super) fn bytes_max(coding: Coding, level: u32) -> usize {
    match (coding, level) {
        (Coding::Gzip, _) => GZIP_BYTES,
        (Coding::Zstd, ..=1) => ZSTD_BYTES,
        (Coding::Zstd, _) => ZSTD_BYTES_DEEP,
    }
}

impl Encoder {
    pub(super) fn new(coding: Coding, level: u32) -> io::Result<Self> {
        let way = match coding {
            Coding::Gzip => Way::Gzip(GzEncoder::new(Vec::new(), Compression::new(level)).into()),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), i32::try_from(level).unwrap_or(1))?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Way::Zstd(encoder.into())
            }
        };
        Ok(Self { way, holds: false, taken: 0 })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.way {
            Way::Gzip(it) => it,
            Way::Zstd(it) => it,
        }
    }

    /// Takes all of a piece.
    pub(super) fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.holds |= !piece.is_empty();
        self.writer().write_all(piece)
    }

    /// All that was added is among what is coded: a client can read it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.holds) {
            self.writer().flush()?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.holds = false;
        match &mut self.way {
            Way::Gzip(it) => it.try_finish(),
            Way::Zstd(it) => it.do_finish(),
        }
    }

    /// What is coded and was not taken.
    pub(super) fn coded(&self) -> &[u8] {
        let all = match &self.way {
            Way::Gzip(it) => it.get_ref(),
            Way::Zstd(it) => it.get_ref(),
        };
        &all[self.taken..]
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        let all = match &mut self.way {
            Way::Gzip(it) => it.get_mut(),
            Way::Zstd(it) => it.get_mut(),
        };
        if self.taken >= all.len() {
            all.clear();
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;
    use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

    use super::*;

    const CODINGS: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut out).map(drop).unwrap(),
            Coding::Zstd => out = zstd::decode_all(coded).unwrap(),
        }
        out
    }

    fn taken(encoder: &mut Encoder, most: usize, out: &mut Vec<u8>) {
        while !encoder.coded().is_empty() {
            let n = encoder.coded().len().min(most);
            out.extend_from_slice(&encoder.coded()[..n]);
            encoder.take(n);
        }
    }

    #[test]
    fn what_was_added_can_be_read_once_it_is_flushed() {
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding, 1).unwrap();
            let mut out = Vec::new();
            encoder.add(b"first").unwrap();
            encoder.flush().unwrap();
            taken(&mut encoder, 7, &mut out);
            let mut read = [0; 5];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(out.as_slice()).read_exact(&mut read).unwrap(),
                Coding::Zstd => {
                    zstd::stream::read::Decoder::new(out.as_slice()).unwrap().read_exact(&mut read).unwrap()
                }
            }
            assert_eq!(&read, b"first");
            let length = out.len();
            encoder.flush().unwrap();
            assert!(encoder.coded().is_empty(), "there is nothing to be said twice");
            encoder.add(b", last").unwrap();
            encoder.finish().unwrap();
            taken(&mut encoder, 7, &mut out);
            assert!(out.len() > length);
            assert_eq!(decoded(coding, &out), b"first, last");
        }
    }

    #[test]
    fn an_encoder_holds_no_more_than_is_said_of_it() {
        let text: Vec<u8> =
            (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for level in 1..=3 {
            let mut context = CCtx::create();
            context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
            context.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG)).unwrap();
            let mut out = vec![0; 1 << 20];
            let mut input = InBuffer::around(&text);
            while input.pos() < text.len() {
                context.compress_stream(&mut OutBuffer::around(&mut out[..]), &mut input).unwrap();
            }
            let most = bytes_max(Coding::Zstd, level as u32);
            // Beside it, what it has coded: a block at most, and the writer's own piece.
            assert!(context.sizeof() + 256 * 1024 <= most, "{level}: {}", context.sizeof());
        }
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding, 1).unwrap();
            let mut most = 0;
            for piece in text.chunks(16 * 1024) {
                encoder.add(piece).unwrap();
                most = most.max(encoder.coded().len());
                encoder.take(encoder.coded().len());
            }
            assert!(most <= 160 * 1024, "{coding:?}: {most}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in_however_it_was_cut_and_flushed(
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..12),
            level in 1u32..4,
            most in 1usize..4000,
        ) {
            for coding in CODINGS {
                let mut encoder = Encoder::new(coding, level).unwrap();
                let (mut out, mut expected) = (Vec::new(), Vec::new());
                for (piece, flush) in &pieces {
                    encoder.add(piece).unwrap();
                    expected.extend_from_slice(piece);
                    if *flush {
                        encoder.flush().unwrap();
                    }
                    taken(&mut encoder, most, &mut out);
                }
                encoder.finish().unwrap();
                taken(&mut encoder, most, &mut out);
                prop_assert_eq!(decoded(coding, &out), expected);
            }
        }
    }
}
