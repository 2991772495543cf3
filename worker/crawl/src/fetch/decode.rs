//! Content codings (RFC 9110, 8.4.1): gzip, deflate, br and zstd, decoded as they are read. Nothing is
//! decoded ahead, so that who stops reading has stopped a bomb. Pure.

use std::io::{self, BufRead, BufReader, Read};

use brotli_decompressor::Decompressor;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What is asked for.
pub const ACCEPTED: &str = "gzip, deflate, br, zstd";
/// Most codings, one inside the other: what lies between two would have no bound, for what is read is behind
/// both.
const CODINGS_MAX: usize = 1;
/// Read at once of what is coded.
const CHUNK_BYTES: usize = 8 * 1024;
/// Largest window of zstd: what RFC 9659 has for a coding of HTTP. Brotli's is 16 MiB, but for its large ones.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings of an answer, in the order in which they were applied; else what is not known of them.
pub fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().unwrap_or("not text").split(',').map(str::trim) {
            found.push(match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(format!("content coding {name:?} is not known")),
            });
        }
    }
    match found.len() <= CODINGS_MAX {
        true => Ok(found),
        false => Err(format!("{} content codings are one inside the other", found.len())),
    }
}

/// What the bytes are without their codings.
pub fn decoded<'a>(bytes: &'a [u8], codings: &[Coding]) -> Box<dyn Read + 'a> {
    let mut source: Box<dyn Read + 'a> = Box::new(bytes);
    // Nothing at all is nothing, whatever its coding.
    for coding in codings.iter().rev().filter(|_| !bytes.is_empty()) {
        let inner = BufReader::with_capacity(CHUNK_BYTES, source);
        source = match coding {
            Coding::Gzip => Box::new(Gzip { decoder: MultiGzDecoder::new(inner), has_begun: false }),
            Coding::Deflate => Box::new(Deflate::Waits(Some(inner))),
            Coding::Brotli if bytes[0] & 0x7f == LARGE_WINDOW => Box::new(NoBrotli),
            Coding::Brotli => Box::new(Decompressor::new(inner, CHUNK_BYTES)),
            Coding::Zstd => Box::new(Zstd::new(inner)),
        };
    }
    source
}

/// How brotli begins that looks back on more than RFC 7932 has.
const LARGE_WINDOW: u8 = 0x11;

struct NoBrotli;

impl Read for NoBrotli {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "brotli with a large window is none of HTTP's"))
    }
}

/// Several members count, and what is behind them does not, if it is none.
struct Gzip<R> {
    decoder: MultiGzDecoder<R>,
    has_begun: bool,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.decoder.read(out) {
            Ok(read) => {
                self.has_begun |= read > 0;
                Ok(read)
            }
            Err(error) if self.has_begun && error.kind() == io::ErrorKind::InvalidInput => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// With zlib's head, as it should be, or without it, as some servers send it.
enum Deflate<R> {
    Waits(Option<R>),
    Zlib(ZlibDecoder<R>),
    Raw(DeflateDecoder<R>),
}

impl<R: BufRead> Read for Deflate<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Zlib(decoder) => decoder.read(out),
            Self::Raw(decoder) => decoder.read(out),
            Self::Waits(source) => {
                let Some(mut source) = source.take() else { return Ok(0) };
                // A buffer that was just filled has more than a byte, but of the shortest bodies.
                let is_zlib = match source.fill_buf()? {
                    [first, second, ..] => {
                        first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0
                    }
                    _ => false,
                };
                *self = match is_zlib {
                    true => Self::Zlib(ZlibDecoder::new(source)),
                    false => Self::Raw(DeflateDecoder::new(source)),
                };
                self.read(out)
            }
        }
    }
}

/// Frames behind each other; those to be skipped are.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self { source, decoder, in_frame: false }
    }

    /// Begins the next frame; whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(invalid(&error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame && !self.begin()? {
                return Ok(0);
            }
            self.in_frame = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(|error| invalid(&error))?;
            }
            let read = self.decoder.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            self.in_frame = false;
        }
    }
}

fn invalid(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const PAGE: &[u8] = b"<img src=a.png>";
    /// The same, by Google's encoder.
    const BROTLI: &[u8] = b"\x1b\x0e\x00\xf8\xa5\x7c\xc2\x4a\x11\x61\xaa\x91\x81\xbe\x54\x00";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8], codings: &[Coding]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decoded(bytes, codings).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_coding_is_undone() {
        let skipped = b"\x50\x2a\x4d\x18\x02\x00\x00\x00xx".to_vec();
        for (bytes, codings, expected) in [
            (PAGE.to_vec(), &[][..], PAGE.to_vec()),
            (gzip(PAGE), &[Coding::Gzip], PAGE.to_vec()),
            ([gzip(PAGE), gzip(PAGE)].concat(), &[Coding::Gzip], PAGE.repeat(2)),
            (
                [gzip(PAGE), b"\0\0garbage that is no member".to_vec()].concat(),
                &[Coding::Gzip],
                PAGE.to_vec(),
            ),
            (zlib(PAGE), &[Coding::Deflate], PAGE.to_vec()),
            (deflate(PAGE), &[Coding::Deflate], PAGE.to_vec()),
            (BROTLI.to_vec(), &[Coding::Brotli], PAGE.to_vec()),
            (zstd(PAGE), &[Coding::Zstd], PAGE.to_vec()),
            ([skipped.clone(), zstd(PAGE), skipped, zstd(PAGE)].concat(), &[Coding::Zstd], PAGE.repeat(2)),
            (Vec::new(), &[Coding::Brotli], Vec::new()),
        ] {
            assert_eq!(read(&bytes, codings).unwrap(), expected, "{codings:?}");
        }
    }

    #[test]
    fn long_bodies_come_whole() {
        let long: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for (bytes, coding) in [
            (gzip(&long), Coding::Gzip),
            (zlib(&long), Coding::Deflate),
            (deflate(&long), Coding::Deflate),
            (zstd(&long), Coding::Zstd),
        ] {
            assert_eq!(read(&bytes, &[coding]).unwrap(), long, "{coding:?}");
        }
    }

    #[test]
    fn what_is_broken_or_short_is_an_error_and_nothing_else() {
        for (bytes, coding) in [
            (gzip(PAGE), Coding::Gzip),
            (zlib(PAGE), Coding::Deflate),
            (BROTLI.to_vec(), Coding::Brotli),
            (zstd(PAGE), Coding::Zstd),
        ] {
            for end in 1..bytes.len() {
                let short = read(&bytes[..end], &[coding]);
                assert!(
                    short.is_err() || short.is_ok_and(|it| it.len() < PAGE.len() + 1),
                    "{coding:?} {end}"
                );
            }
            for at in 0..bytes.len() {
                let mut broken = bytes.clone();
                broken[at] ^= 0xff;
                let _ = read(&broken, &[coding]);
            }
            assert!(read(b"\xff\xff no such thing", &[coding]).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn a_window_that_is_too_large_is_refused() {
        // A frame of a window of 16 MiB: more than HTTP's coding has.
        let frame = b"\x28\xb5\x2f\xfd\x00\x70\x01\x00\x00";
        assert!(read(frame, &[Coding::Zstd]).is_err());
        assert!(read(b"\x11\x1e\x03", &[Coding::Brotli]).is_err());
        let frame = b"\x28\xb5\x2f\xfd\x00\x68\x01\x00\x00";
        assert_eq!(read(frame, &[Coding::Zstd]).unwrap(), b"");
    }

    #[test]
    fn fields_are_read_and_what_is_not_known_is_named() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            codings(&headers)
        };
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["GZip"]), Ok(vec![Coding::Gzip]));
        assert_eq!(of(&["identity, x-gzip"]), Ok(vec![Coding::Gzip]));
        assert!(of(&["compress"]).unwrap_err().contains("compress"));
        assert!(of(&["gzip, br"]).is_err() && of(&["br", "gzip"]).is_err());
    }
}
