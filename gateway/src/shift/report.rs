//! What a balancer tells nodes of the shifts that are open: how requests to the new service ended there of late. Pure.
//!
//! ```text
//! magic 1 | version 1 | balancer 8 | shift.., to the end
//! shift    id 8 | requests 4 | failed 4 | left 1    `left`: this balancer leads nothing there any more
//! ```
//!
//! Big-endian. Nothing is asked for, and nothing answered: who says it says it again and again, and a node that leads
//! believes it of a balancer that gossip shows.

use super::SHIFTS_MAX;
use super::window::Counts;

const MAGIC: u8 = 0x73;
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 2 + 8;
const SHIFT_BYTES: usize = 8 + 4 + 4 + 1;
/// With what is around it, the largest fits into a frame of Ethernet.
pub const BYTES_MAX: usize = HEAD_BYTES + SHIFTS_MAX * SHIFT_BYTES;

const _: () = assert!(BYTES_MAX <= 1300);

/// Of one shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub shift: u64,
    pub counts: Counts,
    /// The balancer saw its rule broken, and leads nothing there any more.
    pub has_left: bool,
}

/// What one balancer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub balancer: u64,
    pub seen: Vec<Seen>,
}

impl Report {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAGIC, VERSION];
        out.extend(self.balancer.to_be_bytes());
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
        for Seen { shift, counts, has_left } in self.seen.iter().take(SHIFTS_MAX) {
            out.extend(shift.to_be_bytes());
            out.extend(number(counts.requests));
            out.extend(number(counts.failed));
            out.push(u8::from(*has_left));
        }
        out
    }

    /// Reads what came, whatever it is; none where it is no such datagram.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let (magic, balancer) = head.split_at_checked(2)?;
        if magic != [MAGIC, VERSION] || rest.len() % SHIFT_BYTES != 0 || bytes.len() > BYTES_MAX {
            return None;
        }
        let balancer = u64::from_be_bytes(balancer.try_into().ok()?);
        let seen: Option<Vec<Seen>> = rest.chunks_exact(SHIFT_BYTES).map(seen).collect();
        Some(Self { balancer, seen: seen? })
    }
}

fn seen(bytes: &[u8]) -> Option<Seen> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?).into());
    let has_left = match bytes.last()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let counts = Counts { requests: number(8)?, failed: number(12)? };
    Some(Seen { shift: u64::from_be_bytes(*bytes.first_chunk()?), counts, has_left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(shifts: u64) -> Report {
        let counts = Counts { requests: 500, failed: 7 };
        let seen = |shift| Seen { shift, counts, has_left: shift % 2 == 1 };
        Report { balancer: 0xb1, seen: (0..shifts).map(seen).collect() }
    }

    #[test]
    fn a_report_is_pinned_and_read_back_and_nothing_else_is_one() {
        let bytes = report(2).encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let head = "730100000000000000b1";
        let seen = ["0000000000000000000001f40000000700", "0000000000000001000001f40000000701"];
        assert_eq!(hex, format!("{head}{}{}", seen[0], seen[1]));
        for shifts in [0, 1, 2, 64] {
            let bytes = report(shifts).encode();
            assert_eq!(Report::decode(&bytes), Some(report(shifts)));
            for end in (0..bytes.len())
                .filter(|end| end.checked_sub(HEAD_BYTES).is_none_or(|it| it % SHIFT_BYTES != 0))
            {
                assert_eq!(Report::decode(&bytes[..end]), None, "{end} of {shifts}");
            }
        }
        assert_eq!(Report::decode(&report(70).encode()).unwrap().seen.len(), SHIFTS_MAX);
        let long = [&report(64).encode()[..], &[0; SHIFT_BYTES]].concat();
        assert_eq!(Report::decode(&long), None);
        for (at, value) in [(0, 0x66), (1, 2), (bytes.len() - 1, 2)] {
            let mut bad = bytes.clone();
            bad[at] = value;
            assert_eq!(Report::decode(&bad), None, "{at}");
        }
        let many = Report {
            seen: vec![Seen { shift: 1, counts: Counts { requests: u64::MAX, failed: 1 }, has_left: false }],
            ..report(0)
        };
        assert_eq!(Report::decode(&many.encode()).unwrap().seen[0].counts.requests, u64::from(u32::MAX));
    }
}
