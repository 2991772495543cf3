//! What a balancer tells a node that asks how it does: requests, refusals, routes and services in numbers. Pure.
//!
//! ```text
//! magic 1 | version 1 | kind 1
//! ask      0 | node 8 | number 8
//! part     1 | number 8 | part 1 | of 1 | records, to the end
//! record   0 over (ms) | counts                  of the whole balancer
//!          1 name | counts                       of a route
//!          2 name | servers | able               of a service
//!          3 routes | services | counts of the routes     what there was no room for
//! counts   recent | 6 answers by class | 7 refusals by reason
//! name     length 1, ASCII
//! ```
//!
//! Integers of fixed length are big-endian; all others have seven bits a byte, the lowest first, in the shortest form.
//! The number is a random one of the node's for one balancer: who does not know it cannot answer. A version that knows
//! nothing of it answers nothing, for the magic is no version of `exchange`.

use std::ops::Range;

use crate::names::is_name;

/// Why a request came no further, as the access log says it.
pub const REASONS: [&str; 7] = [
    "maintenance",
    "address-refused",
    "rate-limited",
    "unauthenticated",
    "group-refused",
    "not-found",
    "ambiguous-path",
];
/// Answers by the first digit of their status; the first for none.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Largest part: with what is around it, it fits into a frame of Ethernet.
pub const PART_BYTES_MAX: usize = 1300;
/// Most parts of an answer.
pub const PARTS_MAX: usize = 6;
/// Most services of which an answer tells one by one.
pub const SERVICES_MAX: usize = 32;

const MAGIC: u8 = 0x66;
const VERSION: u8 = 1;
const ASK: u8 = 0;
const PART: u8 = 1;
const ALL: u8 = 0;
const ROUTE: u8 = 1;
const SERVICE: u8 = 2;
const REST: u8 = 3;
/// Of a part: where its number is.
const NUMBER: Range<usize> = 3..11;
/// Of a part: what comes before its records.
const HEAD_BYTES: usize = 3 + 8 + 2;
/// Of an integer of any length.
const INTEGER_BYTES_MAX: usize = 10;
/// Of what the first part has beside routes and services.
const WHOLE_BYTES_MAX: usize = 2 + (3 + 2 * (1 + CLASSES.len() + REASONS.len())) * INTEGER_BYTES_MAX;

/// The bytes are none that a program of this version says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no figures: {0}")]
pub struct Malformed(&'static str);

/// What a node asks a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Who asks: it is answered where gossip shows that node, whoever sent this.
    pub node: u64,
    pub number: u64,
}

impl Ask {
    pub fn encode(&self) -> Vec<u8> {
        let numbers = [self.node, self.number].map(u64::to_be_bytes);
        [&[MAGIC, VERSION, ASK][..], &numbers.concat()].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        input.begin(ASK)?;
        let (node, number) = (input.number()?, input.number()?);
        if !input.0.is_empty() {
            return Err(Malformed("bytes behind its end"));
        }
        Ok(Self { node, number })
    }
}

/// Requests that were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Within the time that the figures are over.
    pub recent: u64,
    /// Since the balancer began, in the order of [`CLASSES`].
    pub answers: [u64; CLASSES.len()],
    /// Since then, in the order of [`REASONS`].
    pub refused: [u64; REASONS.len()],
}

impl Counts {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.numbers_mut().into_iter().zip(other.numbers());
        pairs.for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.answers.iter().fold(0, |sum, more| sum.saturating_add(*more))
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        [self.recent].into_iter().chain(self.answers).chain(self.refused)
    }

    fn numbers_mut(&mut self) -> Vec<&mut u64> {
        let Self { recent, answers, refused } = self;
        [recent].into_iter().chain(answers).chain(refused).collect()
    }
}

/// A service's servers, as one balancer sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    pub name: String,
    pub known: u64,
    /// Of them, those that requests may go to and that were seen to answer.
    pub able: u64,
}

/// What there was no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    pub routes: u64,
    pub services: u64,
    /// Of these routes.
    pub counts: Counts,
}

/// What a balancer does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Over which time requests are recent, in milliseconds; 0 where none is known to be, for nobody asked before.
    pub over_ms: u64,
    /// Of all requests, also those that have no route.
    pub all: Counts,
    /// The first ones matter most.
    pub routes: Vec<(String, Counts)>,
    pub services: Vec<Servers>,
    pub rest: Rest,
}

impl Figures {
    /// The datagrams that say so: as much of it as goes into them, and of what does not, the sums.
    pub fn parts(&self, number: u64) -> Vec<Vec<u8>> {
        let mut packed = Packed { parts: vec![Vec::new()] };
        let mut rest = self.rest;
        for (at, it) in self.services.iter().enumerate() {
            let mut record = vec![SERVICE];
            write_name(&it.name, &mut record);
            [it.known, it.able].into_iter().for_each(|it| write(it, &mut record));
            if at >= SERVICES_MAX || !packed.add(&record) {
                rest.services = rest.services.saturating_add(1);
            }
        }
        for (name, counts) in &self.routes {
            let mut record = vec![ROUTE];
            write_name(name, &mut record);
            counts.numbers().for_each(|it| write(it, &mut record));
            if !packed.add(&record) {
                rest.routes = rest.routes.saturating_add(1);
                rest.counts.add(counts);
            }
        }
        let mut whole = vec![ALL];
        write(self.over_ms, &mut whole);
        self.all.numbers().for_each(|it| write(it, &mut whole));
        whole.push(REST);
        [rest.routes, rest.services]
            .into_iter()
            .chain(rest.counts.numbers())
            .for_each(|it| write(it, &mut whole));
        let of = packed.parts.len() as u8;
        let part = |(at, records): (usize, Vec<u8>)| {
            let whole: &[u8] = if at == 0 { &whole } else { &[] };
            [&[MAGIC, VERSION, PART][..], &number.to_be_bytes(), &[at as u8, of], whole, &records].concat()
        };
        packed.parts.into_iter().enumerate().map(part).collect()
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::All { over_ms, counts } => (self.over_ms, self.all) = (over_ms, counts),
            Record::Route(name, counts) => self.routes.push((name, counts)),
            Record::Service(servers) => self.services.push(servers),
            Record::Rest(rest) => self.rest = rest,
        }
    }
}

/// A datagram of an answer, as one of an answer to another number.
pub fn renumbered(part: &[u8], number: u64) -> Vec<u8> {
    let mut part = part.to_vec();
    if let Some(place) = part.get_mut(NUMBER) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    part
}

/// Records by the parts that they go into.
struct Packed {
    parts: Vec<Vec<u8>>,
}

impl Packed {
    /// Whether there was room.
    fn add(&mut self, record: &[u8]) -> bool {
        let has_room = |at: usize, part: &[u8]| {
            let whole = if at == 0 { WHOLE_BYTES_MAX } else { 0 };
            HEAD_BYTES + whole + part.len() + record.len() <= PART_BYTES_MAX
        };
        let last = self.parts.len() - 1;
        if has_room(last, &self.parts[last]) {
            self.parts[last].extend_from_slice(record);
            return true;
        }
        let is_room = self.parts.len() < PARTS_MAX;
        if is_room {
            self.parts.push(record.to_vec());
        }
        is_room
    }
}

/// What a part says of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Record {
    All { over_ms: u64, counts: Counts },
    Route(String, Counts),
    Service(Servers),
    Rest(Rest),
}

/// One datagram of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub number: u64,
    at: usize,
    of: usize,
    records: Vec<Record>,
}

impl Part {
    /// Reads what came: no more than is in the bytes, whatever they are.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > PART_BYTES_MAX {
            return Err(Malformed("longer than a part is"));
        }
        let mut input = Input(bytes);
        input.begin(PART)?;
        let number = input.number()?;
        let [at, of] = input.array()?.map(usize::from);
        if at >= of || of > PARTS_MAX {
            return Err(Malformed("no part of an answer"));
        }
        let mut records = Vec::new();
        while !input.0.is_empty() {
            records.push(input.record()?);
        }
        Ok(Self { number, at, of, records })
    }

    /// The same bytes again.
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            [&[MAGIC, VERSION, PART][..], &self.number.to_be_bytes(), &[self.at as u8, self.of as u8]]
                .concat();
        for record in &self.records {
            match record {
                Record::All { over_ms, counts } => {
                    out.push(ALL);
                    [*over_ms].into_iter().chain(counts.numbers()).for_each(|it| write(it, &mut out));
                }
                Record::Route(name, counts) => {
                    out.push(ROUTE);
                    write_name(name, &mut out);
                    counts.numbers().for_each(|it| write(it, &mut out));
                }
                Record::Service(Servers { name, known, able }) => {
                    out.push(SERVICE);
                    write_name(name, &mut out);
                    [*known, *able].into_iter().for_each(|it| write(it, &mut out));
                }
                Record::Rest(Rest { routes, services, counts }) => {
                    out.push(REST);
                    let numbers = [*routes, *services].into_iter().chain(counts.numbers());
                    numbers.for_each(|it| write(it, &mut out));
                }
            }
        }
        out
    }
}

/// An answer, as its parts come in, in whatever order.
#[derive(Debug, Clone, Default)]
pub struct Gathering {
    of: usize,
    parts: [Option<Vec<Record>>; PARTS_MAX],
}

impl Gathering {
    /// The whole of it, once all parts are there.
    pub fn add(&mut self, part: Part) -> Option<Figures> {
        // Who says two things of one answer says nothing.
        if self.of != 0 && self.of != part.of {
            return None;
        }
        self.of = part.of;
        self.parts[part.at] = Some(part.records);
        let parts = &mut self.parts[..part.of];
        if parts.iter().any(Option::is_none) {
            return None;
        }
        let mut figures = Figures::default();
        parts.iter_mut().filter_map(Option::take).flatten().for_each(|record| figures.take(record));
        Some(figures)
    }
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    // Names of objects are shorter by far.
    out.push(name.len().min(u8::MAX.into()) as u8);
    out.extend_from_slice(name.as_bytes());
}

fn write(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn begin(&mut self, wanted: u8) -> Result<(), Malformed> {
        let [magic, version, kind] = self.array()?;
        match (magic, version) == (MAGIC, VERSION) && kind == wanted {
            true => Ok(()),
            false => Err(Malformed("of another kind or version")),
        }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn integer(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for at in 0..INTEGER_BYTES_MAX {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * at as u32;
            if bits.checked_shl(shift).is_none_or(|it| it >> shift != bits) {
                return Err(Malformed("a number beyond all"));
            }
            number |= bits << shift;
            if byte < 0x80 {
                // One form for each.
                return if byte == 0 && at > 0 { Err(Malformed("a number with a tail")) } else { Ok(number) };
            }
        }
        Err(Malformed("a number without an end"))
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let [length] = self.array()?;
        let (name, rest) = self.0.split_at_checked(length.into()).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        let name = std::str::from_utf8(name).ok().filter(|it| is_name(it));
        name.map(str::to_owned).ok_or(Malformed("no name"))
    }

    fn counts(&mut self) -> Result<Counts, Malformed> {
        let mut counts = Counts::default();
        for number in counts.numbers_mut() {
            *number = self.integer()?;
        }
        Ok(counts)
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        let [kind] = self.array()?;
        Ok(match kind {
            ALL => Record::All { over_ms: self.integer()?, counts: self.counts()? },
            ROUTE => Record::Route(self.name()?, self.counts()?),
            SERVICE => {
                Record::Service(Servers { name: self.name()?, known: self.integer()?, able: self.integer()? })
            }
            REST => {
                let (routes, services) = (self.integer()?, self.integer()?);
                Record::Rest(Rest { routes, services, counts: self.counts()? })
            }
            _ => return Err(Malformed("of an unknown kind")),
        })
    }
}

#[cfg(test)]
mod tests;
