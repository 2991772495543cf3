//! The gossip library's messages as bytes: read strictly, and written again.
//!
//! The library trusts whoever it hears. A message may take one member's keys apart so that an assertion of
//! it fails, or unfold to hundreds of megabytes, and who has the edge key alone can send one. So nothing
//! that came reaches the library as it came: it is read here, within bounds, and what `admission` leaves
//! of it is written anew. Of a message that the library itself wrote, that makes the same bytes.
//!
//! ```text
//! magic 2 | digests' form 1 | type 1 | digest | delta or name of the gossip      (what the type has)
//! digest   number 2, entries, or a stream of entries: id, heartbeat 8, floor 8, version 8
//! delta    a stream of operations:
//!          0 id, floor 8, from 8        the keys that follow are of this member
//!          1 key, value, version 8, status 1
//!          2 version 8                  of a member without keys
//! id       text, generation 8, address (4 or 6, its bytes, port 2)
//! text     length 2, UTF-8
//! stream   blocks: 1 length 2, zstd; 2 length 2, plain; 0 ends it
//! ```
//!
//! Integers are little-endian. Pure: no tasks, no I/O.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use chitchat::ChitchatId;

/// Most bytes that the digest or the delta of a message unfolds to.
pub const UNFOLDED_BYTES_MAX: usize = 256 * 1024;

/// Most members that the digest or the delta of a message has.
pub const LISTED_MAX: usize = 1024;

/// Most blocks of a stream, the end among them; each but the last has [`BLOCK_BYTES`].
const BLOCKS_MAX: usize = 64;

/// Plain bytes of a block that is written: as the library does.
const BLOCK_BYTES: usize = 16_384;

const MAGIC: u16 = 45_139;

const END: u8 = 0;
const COMPRESSED: u8 = 1;
const PLAIN: u8 = 2;

/// The bytes are no message that a member would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no gossip message: {0}")]
pub struct Malformed(pub(super) &'static str);

/// In which form a message has its digest; an answer has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    Listed,
    Streamed,
}

/// What members say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Syn { digest: Vec<Digest>, gossip: String },
    SynAck { digest: Vec<Digest>, delta: Vec<Delta> },
    Ack { delta: Vec<Delta> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub digests: Digests,
    pub body: Body,
}

/// How much of a member its sender knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub id: ChitchatId,
    pub heartbeat: u64,
    /// Up to which version deleted keys are forgotten.
    pub floor: u64,
    pub version: u64,
}

/// What is new of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    pub id: ChitchatId,
    pub floor: u64,
    /// It has all that came after this version.
    pub from: u64,
    /// By rising version.
    pub keys: Vec<Key>,
    /// Only of a member without keys.
    pub version: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub key: String,
    pub value: String,
    pub version: u64,
    pub status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Set,
    Deleted,
    DeletedLater,
}

/// Reads a message; allocates within the bounds above, whatever the bytes are.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut input = Input(bytes);
    if input.u16()? != MAGIC {
        return Err(Malformed("another magic number"));
    }
    let digests = match input.byte()? {
        0 => Digests::Listed,
        1 => Digests::Streamed,
        _ => return Err(Malformed("an unknown form of digests")),
    };
    let body = match input.byte()? {
        0 => {
            let digest = read_digest(&mut input, digests)?;
            Body::Syn { digest, gossip: input.text()?.to_owned() }
        }
        1 => {
            let digest = read_digest(&mut input, digests)?;
            Body::SynAck { digest, delta: read_delta(&mut input)? }
        }
        2 => Body::Ack { delta: read_delta(&mut input)? },
        _ => return Err(Malformed("of a type that no member sends")),
    };
    input.end()?;
    Ok(Message { digests, body })
}

/// The message's bytes, as the library writes them.
pub fn write(message: &Message) -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.push(match message.digests {
        Digests::Listed => 0,
        Digests::Streamed => 1,
    });
    match &message.body {
        Body::Syn { digest, gossip } => {
            out.push(0);
            write_digest(digest, message.digests, &mut out);
            write_text(gossip, &mut out);
        }
        Body::SynAck { digest, delta } => {
            out.push(1);
            write_digest(digest, message.digests, &mut out);
            write_delta(delta, &mut out);
        }
        Body::Ack { delta } => {
            out.push(2);
            write_delta(delta, &mut out);
        }
    }
    out
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed("a text that is not UTF-8"))
    }

    fn id(&mut self) -> Result<ChitchatId, Malformed> {
        let node_id = self.text()?;
        let generation_id = self.u64()?;
        let ip = match self.byte()? {
            4 => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed("an address that is neither IPv4 nor IPv6")),
        };
        Ok(ChitchatId::new(node_id, generation_id, SocketAddr::new(ip, self.u16()?)))
    }

    fn digest(&mut self) -> Result<Digest, Malformed> {
        Ok(Digest { id: self.id()?, heartbeat: self.u64()?, floor: self.u64()?, version: self.u64()? })
    }

    /// A stream's bytes.
    fn unfold(&mut self) -> Result<Vec<u8>, Malformed> {
        let no_unfolding = |_| Malformed("a block that does not unfold, or to too much");
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(no_unfolding)?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut unfolded = Vec::new();
        for _ in 0..BLOCKS_MAX {
            let kind = self.byte()?;
            if kind == END {
                return Ok(unfolded);
            }
            let length = usize::from(self.u16()?);
            let block = self.take(length)?;
            let room = (UNFOLDED_BYTES_MAX - unfolded.len()).min(buffer.len());
            match kind {
                PLAIN if length <= room => unfolded.extend(block),
                PLAIN => return Err(Malformed("more than a message unfolds to")),
                COMPRESSED => {
                    let length = decompressor
                        .decompress_to_buffer(block, &mut buffer[..room])
                        .map_err(no_unfolding)?;
                    unfolded.extend(&buffer[..length]);
                }
                _ => return Err(Malformed("a block of an unknown kind")),
            }
        }
        Err(Malformed("more blocks than a message has"))
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes behind its end")) }
    }
}

fn read_digest(input: &mut Input<'_>, form: Digests) -> Result<Vec<Digest>, Malformed> {
    let mut listed = Vec::new();
    match form {
        Digests::Listed => {
            for _ in 0..input.u16()? {
                listed.push(input.digest()?);
            }
        }
        Digests::Streamed => {
            let unfolded = input.unfold()?;
            let mut input = Input(&unfolded);
            while !input.0.is_empty() {
                listed.push(input.digest()?);
            }
        }
    }
    each_once(listed.iter().map(|digest| &digest.id))?;
    Ok(listed)
}

fn read_delta(input: &mut Input<'_>) -> Result<Vec<Delta>, Malformed> {
    let unfolded = input.unfold()?;
    let mut input = Input(&unfolded);
    let mut members: Vec<Delta> = Vec::new();
    while !input.0.is_empty() {
        let operation = input.byte()?;
        if operation == 0 {
            let (id, floor, from) = (input.id()?, input.u64()?, input.u64()?);
            members.push(Delta { id, floor, from, keys: Vec::new(), version: None });
            continue;
        }
        let member = members.last_mut().ok_or(Malformed("a key of no member"))?;
        if member.version.is_some() {
            return Err(Malformed("a version that is not a member's last word"));
        }
        match operation {
            1 => {
                let (key, value, version) = (input.text()?, input.text()?, input.u64()?);
                if version <= member.keys.last().map_or(0, |last| last.version) {
                    return Err(Malformed("versions that do not rise"));
                }
                let status = match input.byte()? {
                    0 => Status::Set,
                    1 => Status::Deleted,
                    2 => Status::DeletedLater,
                    _ => return Err(Malformed("an unknown status of a key")),
                };
                member.keys.push(Key { key: key.to_owned(), value: value.to_owned(), version, status });
            }
            2 if member.keys.is_empty() => member.version = Some(input.u64()?),
            2 => return Err(Malformed("a version beside keys, which have their own")),
            _ => return Err(Malformed("an unknown operation")),
        }
    }
    each_once(members.iter().map(|member| &member.id))?;
    Ok(members)
}

/// Whether there are few enough, and none twice.
fn each_once<'a>(mut ids: impl ExactSizeIterator<Item = &'a ChitchatId>) -> Result<(), Malformed> {
    if ids.len() > LISTED_MAX {
        return Err(Malformed("more members than a message may have"));
    }
    let mut known = HashSet::with_capacity(ids.len());
    if ids.all(|id| known.insert(id)) { Ok(()) } else { Err(Malformed("a member twice")) }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // It was read from a length of 16 bits.
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_id(id: &ChitchatId, out: &mut Vec<u8>) {
    write_text(&id.node_id, out);
    out.extend(id.generation_id.to_le_bytes());
    match id.gossip_advertise_addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(id.gossip_advertise_addr.port().to_le_bytes());
}

fn write_digest(digest: &[Digest], form: Digests, out: &mut Vec<u8>) {
    let mut plain = Vec::new();
    for Digest { id, heartbeat, floor, version } in digest {
        write_id(id, &mut plain);
        for number in [heartbeat, floor, version] {
            plain.extend(number.to_le_bytes());
        }
    }
    match form {
        Digests::Listed => {
            out.extend((digest.len() as u16).to_le_bytes());
            out.extend(plain);
        }
        Digests::Streamed => fold(&plain, out),
    }
}

fn write_delta(delta: &[Delta], out: &mut Vec<u8>) {
    let mut plain = Vec::new();
    for member in delta {
        plain.push(0);
        write_id(&member.id, &mut plain);
        plain.extend(member.floor.to_le_bytes());
        plain.extend(member.from.to_le_bytes());
        for Key { key, value, version, status } in &member.keys {
            plain.push(1);
            write_text(key, &mut plain);
            write_text(value, &mut plain);
            plain.extend(version.to_le_bytes());
            plain.push(*status as u8);
        }
        if let Some(version) = member.version {
            plain.push(2);
            plain.extend(version.to_le_bytes());
        }
    }
    fold(&plain, out);
}

/// Writes a stream.
fn fold(plain: &[u8], out: &mut Vec<u8>) {
    for block in plain.chunks(BLOCK_BYTES) {
        let mut folded = vec![0; block.len()];
        // What does not become shorter stays plain.
        let (kind, body) = match zstd::bulk::compress_to_buffer(block, &mut folded[..], 0) {
            Ok(length) => (COMPRESSED, &folded[..length]),
            Err(_) => (PLAIN, block),
        };
        out.push(kind);
        out.extend((body.len() as u16).to_le_bytes());
        out.extend(body);
    }
    out.push(END);
}

#[cfg(test)]
mod tests;
