//! What requests have invalidated of stored answers, as balancers tell one another: said once, and not waited for. Pure.
//!
//! ```text
//! magic 1 | version 1 | from 8 | to 8 | what was invalidated, to the end
//! url      0 | length 2, key
//! group    1 | service 8 | secure 1 | group 8 | length 2, host
//! ```
//!
//! Integers are big-endian. A key is what an answer is found by; a service and a group are digests of their names. To
//! believe one that is not so costs a fetch and no more.

use std::collections::VecDeque;

use super::{Input, Malformed};

/// Most bytes of a frame: with all that is around it, it fits into a frame of Ethernet.
pub const FRAME_BYTES_MAX: usize = 1300;

const HEAD_BYTES: usize = 1 + 1 + 8 + 8;
const MAGIC: u8 = 0x76;
const VERSION: u8 = 1;
const URL: u8 = 0;
const GROUP: u8 = 1;

/// What was invalidated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Void {
    /// All that is found by this key.
    Url(Box<[u8]>),
    /// All of a group of an origin.
    Group { service: u64, secure: bool, group: u64, host: Box<[u8]> },
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub from: u64,
    pub to: u64,
    pub voids: Vec<Void>,
}

impl Void {
    fn bytes(&self) -> usize {
        match self {
            Self::Url(key) => 1 + 2 + key.len(),
            Self::Group { host, .. } => 1 + 8 + 1 + 8 + 2 + host.len(),
        }
    }

    /// Whether it can be told at all.
    pub fn fits(&self) -> bool {
        self.bytes() <= FRAME_BYTES_MAX - HEAD_BYTES
    }
}

impl Frame {
    /// As many of what waits as fit, for nobody yet; None where nothing waits. What does not fit alone is let go.
    pub fn next(waiting: &mut VecDeque<Void>) -> Option<Self> {
        let (mut voids, mut left) = (Vec::new(), FRAME_BYTES_MAX - HEAD_BYTES);
        while let Some(void) = waiting.pop_front() {
            if !void.fits() {
                continue;
            }
            if void.bytes() > left {
                waiting.push_front(void);
                break;
            }
            left -= void.bytes();
            voids.push(void);
        }
        (!voids.is_empty()).then_some(Self { from: 0, to: 0, voids })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAGIC, VERSION];
        for number in [self.from, self.to] {
            out.extend(number.to_be_bytes());
        }
        let text = |text: &[u8], out: &mut Vec<u8>| {
            // No longer than a frame.
            out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(text);
        };
        for void in &self.voids {
            match void {
                Void::Url(key) => {
                    out.push(URL);
                    text(key, &mut out);
                }
                Void::Group { service, secure, group, host } => {
                    out.push(GROUP);
                    out.extend(service.to_be_bytes());
                    out.push((*secure).into());
                    out.extend(group.to_be_bytes());
                    text(host, &mut out);
                }
            }
        }
        out
    }

    /// Reads what came; within the bounds above, whatever it is.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(Malformed("longer than a frame is"));
        }
        let mut input = Input(bytes);
        if input.array::<2>()? != [MAGIC, VERSION] {
            return Err(Malformed("another version"));
        }
        let (from, to) = (u64::from_be_bytes(input.array()?), u64::from_be_bytes(input.array()?));
        let mut voids = Vec::new();
        while !input.0.is_empty() {
            voids.push(match input.array()? {
                [URL] => Void::Url(input.text()?),
                [GROUP] => {
                    let service = u64::from_be_bytes(input.array()?);
                    let secure = match input.array()? {
                        [0] => false,
                        [1] => true,
                        [_] => return Err(Malformed("neither yes nor no")),
                    };
                    let group = u64::from_be_bytes(input.array()?);
                    Void::Group { service, secure, group, host: input.text()? }
                }
                [_] => return Err(Malformed("of an unknown kind")),
            });
        }
        Ok(Self { from, to, voids })
    }
}

impl Input<'_> {
    fn text(&mut self) -> Result<Box<[u8]>, Malformed> {
        let length = u16::from_be_bytes(self.array()?).into();
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(len: usize) -> Void {
        Void::Url(vec![b'x'; len].into())
    }

    fn group(host: &str) -> Void {
        Void::Group { service: 1, secure: true, group: 2, host: host.as_bytes().into() }
    }

    #[test]
    fn a_frame_is_pinned_and_read_back() {
        let voids = vec![Void::Url(b"ab".as_slice().into()), group("a.test")];
        let frame = Frame { from: 3, to: 4, voids };
        let bytes = frame.encode();
        let pinned = [
            &[0x76, 1][..],
            &3u64.to_be_bytes(),
            &4u64.to_be_bytes(),
            &[0, 0, 2, b'a', b'b', 1],
            &1u64.to_be_bytes(),
            &[1],
            &2u64.to_be_bytes(),
            &[0, 6],
            b"a.test",
        ];
        assert_eq!(bytes, pinned.concat());
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        for end in [0, 1, 9, 17, 19, 21, 22, 30, bytes.len() - 1] {
            assert!(Frame::decode(&bytes[..end]).is_err(), "{end}");
        }
        for (at, byte) in [(0, 0x64), (1, 2), (18, 2), (23, 2), (32, 2)] {
            let mut bad = bytes.clone();
            bad[at] = byte;
            assert!(Frame::decode(&bad).is_err(), "{at}");
        }
        assert!(Frame::decode(&[&bytes[..18], &[0; 1300][..]].concat()).is_err());
    }

    #[test]
    fn a_frame_takes_what_fits_and_leaves_the_rest() {
        let mut waiting: VecDeque<Void> =
            [url(600), url(600), url(5000), url(80), url(60), group("a")].into();
        let first = Frame::next(&mut waiting).unwrap();
        assert!(first.voids == [url(600), url(600)]);
        assert!(first.encode().len() <= FRAME_BYTES_MAX);
        assert!(Frame::next(&mut waiting).unwrap().voids == [url(80), url(60), group("a")]);
        assert_eq!(Frame::next(&mut waiting), None);
        assert!(
            url(FRAME_BYTES_MAX - HEAD_BYTES - 3).fits() && !url(FRAME_BYTES_MAX - HEAD_BYTES - 2).fits()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let bytes = [&[MAGIC, VERSION][..], &bytes].concat();
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
