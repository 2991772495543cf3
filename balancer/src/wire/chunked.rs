//! The chunked coding (RFC 9112, 7.1), read as it passes.
//!
//! A forwarder need not take a chunked body apart, only know where it ends, and that no other
//! reader could see another end: sizes are plain hexadecimal, lines end with CRLF, and trailers are
//! fields. The decoder says of each stretch of bytes whether it is data or framing. Pure.

use crate::wire::fields::{is_token_byte, may_trail_a_request, may_trail_an_answer};

/// Most hexadecimal digits in a chunk's size.
const SIZE_DIGITS_MAX: u8 = 15;
/// Most bytes of extensions in one chunk's line.
const EXTENSION_BYTES_MAX: u32 = 256;
/// Most bytes of trailers.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;
/// How much of a trailer's name is looked at: longer than each that is known.
const NAME_BYTES_MAX: usize = 32;

/// What is wrong with a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a malformed chunk size")]
    Size,
    #[error("a malformed or overlong chunk extension")]
    Extension,
    #[error("a chunk that does not end where its size says")]
    End,
    #[error("malformed or overlong trailers")]
    Trailer,
    #[error("a trailer that may only come before the body")]
    Misplaced,
}

/// A stretch of the body's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// Bytes of the content.
    Data(usize),
    /// Bytes of the coding; zero where more input is needed.
    Framing(usize),
    /// Bytes of a trailer's line, CRLF included or still to come.
    Trailer(usize),
    /// Bytes of the coding, and the body is over.
    End(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Blanks, behind which only an extension may come.
    Blank,
    /// Before an extension's name, its `=`, its value; and within them.
    ExtensionStart,
    ExtensionName,
    ExtensionNamed,
    ExtensionEquals,
    ExtensionValue,
    ExtensionQuoted,
    ExtensionEscaped,
    ExtensionUnquoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Reads a chunked body, however it is cut up.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    left: u64,
    digits: u8,
    extension: u32,
    trailer: u32,
    /// The trailer's name that is being read, as far as it is looked at.
    name: [u8; NAME_BYTES_MAX],
    name_len: usize,
    may_trail: fn(&[u8]) -> bool,
    /// Extensions are read as the grammar has them, and not only to their end.
    strict: bool,
    /// What is wrong is wrong for ever: who asks again with the same bytes is not to get another reading.
    failed: Option<ChunkError>,
}

impl Decoder {
    pub fn of_request() -> Self {
        Self::new(may_trail_a_request, true)
    }

    /// The same, behind which no field may come.
    pub fn without_trailers() -> Self {
        Self::new(|_| false, true)
    }

    /// Of one that is half passed on already: what does no harm does not end it.
    pub fn of_answer() -> Self {
        Self::new(may_trail_an_answer, false)
    }

    fn new(may_trail: fn(&[u8]) -> bool, strict: bool) -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            extension: 0,
            trailer: 0,
            name: [0; NAME_BYTES_MAX],
            name_len: 0,
            may_trail,
            strict,
            failed: None,
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes of `buf` belong to the body, and whether it ends with them.
    pub fn scan(&mut self, buf: &[u8]) -> Result<(usize, bool), ChunkError> {
        let mut at = 0;
        while at < buf.len() {
            match self.next(&buf[at..])? {
                Stretch::End(n) => return Ok((at + n, true)),
                Stretch::Data(n) | Stretch::Framing(n) | Stretch::Trailer(n) => at += n,
            }
        }
        Ok((at, self.is_done()))
    }

    /// What the next bytes are. After `End`, always `End(0)`.
    pub fn next(&mut self, buf: &[u8]) -> Result<Stretch, ChunkError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let read = self.read(buf);
        self.failed = read.err();
        read
    }

    fn read(&mut self, buf: &[u8]) -> Result<Stretch, ChunkError> {
        match self.state {
            State::Done => return Ok(Stretch::End(0)),
            State::Data => {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
                self.left -= n as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Stretch::Data(n));
            }
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                return self.next_trailer(buf);
            }
            _ => {}
        }
        for (at, &b) in buf.iter().enumerate() {
            match self.state {
                State::Size => self.size_byte(b)?,
                State::SizeLf if b == b'\n' => {
                    self.state = if self.left == 0 { State::TrailerStart } else { State::Data };
                    (self.digits, self.extension) = (0, 0);
                    return Ok(Stretch::Framing(at + 1));
                }
                State::SizeLf => return Err(ChunkError::Size),
                State::DataCr if b == b'\r' => self.state = State::DataLf,
                State::DataLf if b == b'\n' => self.state = State::Size,
                State::DataCr | State::DataLf => return Err(ChunkError::End),
                State::EndLf if b == b'\n' => {
                    self.state = State::Done;
                    return Ok(Stretch::End(at + 1));
                }
                State::EndLf => return Err(ChunkError::Trailer),
                State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLf
                | State::Data
                | State::Done => return Ok(Stretch::Framing(at)),
                _ => self.extension_byte(b)?,
            }
        }
        Ok(Stretch::Framing(buf.len()))
    }

    fn size_byte(&mut self, b: u8) -> Result<(), ChunkError> {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            b'\r' if self.digits > 0 => {
                self.state = State::SizeLf;
                return Ok(());
            }
            b';' if self.digits > 0 => {
                self.state = State::ExtensionStart;
                return Ok(());
            }
            b' ' | b'\t' if self.digits > 0 => {
                self.state = State::Blank;
                return Ok(());
            }
            _ => return Err(ChunkError::Size),
        };
        if self.digits == SIZE_DIGITS_MAX {
            return Err(ChunkError::Size);
        }
        if self.digits == 0 {
            self.left = 0;
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(())
    }

    /// RFC 9112, 7.1.1: `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, a value being a token or quoted.
    fn extension_byte(&mut self, b: u8) -> Result<(), ChunkError> {
        use State::*;
        self.extension += 1;
        self.state = match (self.state, b) {
            _ if self.extension > EXTENSION_BYTES_MAX => return Err(ChunkError::Extension),
            (_, b'\r') if !self.strict => SizeLf,
            (_, b'\t' | b' '..=b'~' | 0x80..) if !self.strict => ExtensionValue,
            (ExtensionQuoted, b'"') => ExtensionUnquoted,
            (ExtensionQuoted, b'\\') => ExtensionEscaped,
            (ExtensionQuoted | ExtensionEscaped, b'\t' | b' '..=b'~' | 0x80..) => ExtensionQuoted,
            (ExtensionName | ExtensionValue | ExtensionUnquoted, b'\r') => SizeLf,
            (Blank | ExtensionName | ExtensionNamed | ExtensionValue | ExtensionUnquoted, b';') => {
                ExtensionStart
            }
            (ExtensionName | ExtensionNamed, b'=') => ExtensionEquals,
            (ExtensionEquals, b'"') => ExtensionQuoted,
            (Blank | ExtensionValue | ExtensionUnquoted, b' ' | b'\t') => Blank,
            (ExtensionName | ExtensionNamed, b' ' | b'\t') => ExtensionNamed,
            (state @ (ExtensionStart | ExtensionEquals), b' ' | b'\t') => state,
            (ExtensionStart | ExtensionName, b) if is_token_byte(b) => ExtensionName,
            (ExtensionEquals | ExtensionValue, b) if is_token_byte(b) => ExtensionValue,
            _ => return Err(ChunkError::Extension),
        };
        Ok(())
    }

    fn name_byte(&mut self, b: u8) {
        if let Some(slot) = self.name.get_mut(self.name_len) {
            *slot = b;
            self.name_len += 1;
        }
    }

    fn next_trailer(&mut self, buf: &[u8]) -> Result<Stretch, ChunkError> {
        for (at, &b) in buf.iter().enumerate() {
            match (self.state, b) {
                (State::TrailerStart, b'\r') => {
                    self.state = State::EndLf;
                    // The line before it is a stretch of its own.
                    return match buf.get(at + 1) {
                        Some(b'\n') => {
                            self.state = State::Done;
                            Ok(Stretch::End(at + 2))
                        }
                        Some(_) => Err(ChunkError::Trailer),
                        None => Ok(Stretch::Framing(at + 1)),
                    };
                }
                (State::TrailerStart, b) if is_token_byte(b) => {
                    self.state = State::TrailerName;
                    self.name_len = 0;
                    self.name_byte(b);
                }
                (State::TrailerName, b) if is_token_byte(b) => self.name_byte(b),
                (State::TrailerName, b':') if !(self.may_trail)(&self.name[..self.name_len]) => {
                    return Err(ChunkError::Misplaced);
                }
                (State::TrailerName, b':') => self.state = State::TrailerValue,
                (State::TrailerValue, b'\r') => self.state = State::TrailerLf,
                (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {}
                (State::TrailerLf, b'\n') => {
                    self.state = State::TrailerStart;
                    return Ok(Stretch::Trailer(at + 1));
                }
                _ => return Err(ChunkError::Trailer),
            }
            self.trailer += 1;
            if self.trailer > TRAILER_BYTES_MAX {
                return Err(ChunkError::Trailer);
            }
        }
        Ok(Stretch::Trailer(buf.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_stays_wrong_whatever_is_read_again() {
        // The same bytes from the state in which they failed would be another name, and another end.
        for (first, again) in [("0\r\nhost", ": x\r\n\r\n"), ("0\r\n\r", "\rX"), ("0\r\n\r", "x\n")] {
            let mut decoder = Decoder::of_request();
            assert!(decoder.scan(first.as_bytes()).is_ok(), "{first:?}");
            let error = decoder.scan(again.as_bytes()).unwrap_err();
            for rest in [again, "a: b\r\n\r\n", "\n", ": x\r\n\r\n"] {
                assert_eq!(decoder.scan(rest.as_bytes()), Err(error), "{first:?} {again:?} {rest:?}");
            }
            assert!(!decoder.is_done());
        }
    }

    #[test]
    fn an_answers_extensions_are_only_passed_over() {
        for text in ["5;\r\nhello\r\n0\r\n\r\n", "5;a b\r\nhello\r\n0\r\n\r\n"] {
            assert_eq!(Decoder::of_answer().scan(text.as_bytes()), Ok((text.len(), true)));
            assert_eq!(Decoder::of_request().scan(text.as_bytes()), Err(ChunkError::Extension));
        }
    }
}
