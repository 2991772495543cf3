//! Rules for nf_tables, said to the kernel in its own language: no `nft` program is needed.
//!
//! A table is **owned** by the socket that made it: the kernel takes it away when that closes, so
//! that no crash leaves a rule behind. Needs Linux 5.12. No tasks; the kernel answers at once.

mod sources;

use std::io;
use std::net::IpAddr;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

pub use self::sources::{MEMBERS_MAX, Sources};

/// Families of tables.
pub const FAMILY_IPV4: u8 = 2;
pub const FAMILY_ARP: u8 = 3;
pub const FAMILY_NETDEV: u8 = 5;
pub const FAMILY_IPV6: u8 = 10;

/// Where chains hang, as the kernel numbers it (`nf_inet_hooks`, `NF_ARP_IN`, `NF_ARP_OUT`,
/// `NF_NETDEV_INGRESS`).
pub const HOOK_PREROUTING: u32 = 0;
pub const HOOK_INPUT: u32 = 1;
pub const HOOK_OUTPUT: u32 = 3;
pub const HOOK_ARP_IN: u32 = 0;
pub const HOOK_ARP_OUT: u32 = 1;
pub const HOOK_INGRESS: u32 = 0;

const NEW_TABLE: u8 = 0;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;
const NEW_SET: u8 = 9;
const NEW_ELEMENTS: u8 = 12;
const SUBSYSTEM_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const MESSAGE_ERROR: u16 = 2;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAG_CREATE: u16 = 0x400;
const FLAG_APPEND: u16 = 0x800;
const TABLE_OWNER: u32 = 2;
const NESTED: u16 = 0x8000;
const HEADER_BYTES: usize = 16;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Where in a packet.
#[derive(Debug, Clone, Copy)]
pub enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// One rule, put together expression by expression.
#[derive(Debug, Clone, Default)]
pub struct Rule(Vec<u8>);

impl Rule {
    fn expression(mut self, name: &str, content: Vec<u8>) -> Self {
        let mut one = Vec::new();
        text(&mut one, 1, name);
        attribute(&mut one, 2 | NESTED, &content);
        attribute(&mut self.0, 1 | NESTED, &one);
        self
    }

    fn load(self, base: Base, offset: u32, len: u32) -> Self {
        let content = numbers(&[(1, 1), (2, base as u32), (3, offset), (4, len)]);
        self.expression("payload", content)
    }

    fn compare(self, equal: bool, value: &[u8]) -> Self {
        self.compare_by(u32::from(!equal), value)
    }

    /// By one of the kernel's operations (`nft_cmp_ops`).
    fn compare_by(self, operation: u32, value: &[u8]) -> Self {
        let mut content = numbers(&[(1, 1), (2, operation)]);
        attribute(&mut content, 3 | NESTED, &data(value));
        self.expression("cmp", content)
    }

    fn mask(self, mask: &[u8]) -> Self {
        let mut content = numbers(&[(1, 1), (2, 1), (3, mask.len() as u32)]);
        attribute(&mut content, 4 | NESTED, &data(mask));
        attribute(&mut content, 5 | NESTED, &data(&vec![0; mask.len()]));
        self.expression("bitwise", content)
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        let mut content = numbers(&[(1, register)]);
        attribute(&mut content, 2 | NESTED, &data(value));
        self.expression("immediate", content)
    }

    /// The packet has these bytes there.
    pub fn matches(self, base: Base, offset: u32, value: &[u8]) -> Self {
        self.load(base, offset, value.len() as u32).compare(true, value)
    }

    /// The byte there is no more than that.
    pub fn at_most(self, base: Base, offset: u32, value: u8) -> Self {
        const LESS_OR_EQUAL: u32 = 3;
        self.load(base, offset, 1).compare_by(LESS_OR_EQUAL, &[value])
    }

    fn protocol(self, protocol: u8) -> Self {
        const L4_PROTOCOL: u32 = 16;
        self.expression("meta", numbers(&[(1, 1), (2, L4_PROTOCOL)])).compare(true, &[protocol])
    }

    /// A TCP segment that begins a connection.
    pub fn tcp_first(self) -> Self {
        self.tcp_flags(true)
    }

    /// One that does not.
    pub fn tcp_not_first(self) -> Self {
        self.tcp_flags(false)
    }

    fn tcp_flags(self, is_first: bool) -> Self {
        const FLAGS_OFFSET: u32 = 13;
        const SYN: u8 = 2;
        const SYN_ACK: u8 = 0x12;
        self.protocol(TCP).load(Base::Transport, FLAGS_OFFSET, 1).mask(&[SYN_ACK]).compare(is_first, &[SYN])
    }

    /// An ICMPv6 message of this type.
    pub fn icmpv6(self, kind: u8) -> Self {
        self.protocol(ICMPV6).matches(Base::Transport, 0, &[kind])
    }

    /// Only a listening socket here would take it, one bound to the wildcard address.
    pub fn only_listener(self) -> Self {
        const WILDCARD: u32 = 2;
        self.expression("socket", numbers(&[(1, WILDCARD), (2, 1)])).compare(true, &[1])
    }

    /// Connection tracking knows it of no connection: it is new, or fits into none. The second is
    /// what becomes of a client's port that it had here before, for another connection: tracking
    /// remembers that one for two minutes after its end.
    pub fn untracked(self) -> Self {
        const STATE: u32 = 0;
        const INVALID: u32 = 1;
        const NEW: u32 = 8;
        let tracked = self.expression("ct", numbers(&[(1, 1), (2, STATE)]));
        tracked.mask(&(NEW | INVALID).to_ne_bytes()).compare(false, &[0; 4])
    }

    /// Writes bytes into the packet. `in_pseudo_header`: a checksum of the transport covers them.
    pub fn write(self, base: Base, offset: u32, value: &[u8], in_pseudo_header: bool) -> Self {
        let content = numbers(&[
            (2, base as u32),
            (3, offset),
            (4, value.len() as u32),
            (5, 1),
            (6, 0),
            (7, 0),
            (8, in_pseudo_header.into()),
        ]);
        self.immediate(1, value).expression("payload", content)
    }

    /// Sends a copy to a host on the interface.
    pub fn copy_to(self, host: IpAddr, index: u32) -> Self {
        let rule = self.immediate(1, &octets(host)).immediate(2, &index.to_ne_bytes());
        rule.expression("dup", numbers(&[(1, 1), (2, 2)]))
    }

    /// It goes by this interface.
    pub fn goes_by(self, index: u32) -> Self {
        const OUTPUT_INTERFACE: u32 = 5;
        let loaded = self.expression("meta", numbers(&[(1, 1), (2, OUTPUT_INTERFACE)]));
        loaded.compare(true, &index.to_ne_bytes())
    }

    /// It is for this host, whatever the interface made of the MAC that it was sent to.
    pub fn for_this_host(self) -> Self {
        const PACKET_TYPE: u32 = 19;
        const HOST: u32 = 0;
        self.immediate(1, &HOST.to_ne_bytes()).expression("meta", numbers(&[(2, PACKET_TYPE), (3, 1)]))
    }

    pub fn drop(self) -> Self {
        const DROP: u32 = 0;
        let mut verdict = Vec::new();
        attribute(&mut verdict, 2 | NESTED, &numbers(&[(1, DROP)]));
        let mut content = numbers(&[(1, 0)]);
        attribute(&mut content, 2 | NESTED, &verdict);
        self.expression("immediate", content)
    }
}

/// An address as it stands in a packet.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A chain and its rules.
#[derive(Debug)]
pub struct Chain {
    pub name: &'static str,
    pub hook: u32,
    pub priority: i32,
    /// The interface, where the hook is one's.
    pub device: Option<String>,
    pub rules: Vec<Rule>,
}

/// A table that lives as long as this value.
#[derive(Debug)]
pub struct OwnedTable {
    _socket: Socket,
}

impl OwnedTable {
    /// Makes it, whole or not at all.
    pub fn new(family: u8, chains: &[Chain]) -> io::Result<Self> {
        Self::with(family, None, chains)
    }

    /// The same with a set, which the rules name. What it is filled with comes behind them.
    pub fn with(family: u8, set: Option<&Sources>, chains: &[Chain]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let address = socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        let name = format!("skep-{}", address.port_number());
        let mut made = Batch::new(family);
        made.table(&name, set, chains);
        made.carry_out(&socket)?;
        for filling in set.into_iter().flat_map(|set| set.fillings(&name)) {
            let mut filled = Batch::new(family);
            filled.add(NEW_ELEMENTS, 0, &filling);
            filled.carry_out(&socket)?;
        }
        Ok(Self { _socket: socket })
    }
}

/// Messages that the kernel obeys as a whole.
struct Batch {
    family: u8,
    bytes: Vec<u8>,
    /// Messages that are answered.
    count: usize,
}

impl Batch {
    fn new(family: u8) -> Self {
        let mut bytes = Vec::new();
        message(&mut bytes, BATCH_BEGIN, FLAG_REQUEST, 0, SUBSYSTEM_NFTABLES, &[]);
        Self { family, bytes, count: 0 }
    }

    fn add(&mut self, kind: u8, flags: u16, content: &[u8]) {
        let kind = SUBSYSTEM_NFTABLES << 8 | u16::from(kind);
        let flags = FLAG_REQUEST | FLAG_ACK | FLAG_CREATE | flags;
        message(&mut self.bytes, kind, flags, self.family, 0, content);
        self.count += 1;
    }

    fn table(&mut self, name: &str, set: Option<&Sources>, chains: &[Chain]) {
        let mut table = Vec::new();
        text(&mut table, 1, name);
        table.extend(numbers(&[(2, TABLE_OWNER)]));
        self.add(NEW_TABLE, 0, &table);
        if let Some(set) = set {
            self.add(NEW_SET, 0, &set.content(self.family, name));
        }
        for chain in chains {
            let mut content = Vec::new();
            text(&mut content, 1, name);
            text(&mut content, 3, chain.name);
            let mut hook = numbers(&[(1, chain.hook), (2, chain.priority as u32)]);
            if let Some(device) = &chain.device {
                text(&mut hook, 3, device);
            }
            attribute(&mut content, 4 | NESTED, &hook);
            text(&mut content, 7, "filter");
            self.add(NEW_CHAIN, 0, &content);
            for rule in &chain.rules {
                let mut content = Vec::new();
                text(&mut content, 1, name);
                text(&mut content, 2, chain.name);
                attribute(&mut content, 4 | NESTED, &rule.0);
                self.add(NEW_RULE, FLAG_APPEND, &content);
            }
        }
    }

    fn carry_out(mut self, socket: &Socket) -> io::Result<()> {
        message(&mut self.bytes, BATCH_END, FLAG_REQUEST, 0, SUBSYSTEM_NFTABLES, &[]);
        socket.send_to(&self.bytes, &SocketAddr::new(0, 0), 0)?;
        // The kernel has worked the batch off before it came back.
        let mut answered = 0;
        while answered < self.count {
            let (bytes, _) = socket.recv_from_full()?;
            answered += answers(&bytes)?;
        }
        Ok(())
    }
}

/// How many messages were answered, or the first refusal.
fn answers(mut bytes: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let code = bytes.get(HEADER_BYTES..HEADER_BYTES + 4);
        if let (MESSAGE_ERROR, Some(&[a, b, c, d])) = (kind, code) {
            match i32::from_ne_bytes([a, b, c, d]) {
                0 => count += 1,
                code => return Err(io::Error::from_raw_os_error(-code)),
            }
        }
        let next = len.max(HEADER_BYTES).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(count)
}

fn message(out: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, content: &[u8]) {
    let len = (HEADER_BYTES + 4 + content.len()) as u32;
    out.extend(len.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    // A sequence number that nobody asks for, and the kernel as the other side.
    out.extend([0; 8]);
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
    out.extend(content);
}

fn attribute(out: &mut Vec<u8>, kind: u16, content: &[u8]) {
    out.extend(((4 + content.len()) as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn text(out: &mut Vec<u8>, kind: u16, text: &str) {
    attribute(out, kind, &[text.as_bytes(), &[0]].concat());
}

fn numbers(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, number) in pairs {
        attribute(&mut out, *kind, &number.to_be_bytes());
    }
    out
}

fn data(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, 1, value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut out = Vec::new();
        attribute(&mut out, 7, &[1, 2, 3, 4, 5]);
        assert_eq!((out.len(), out[0], out[2]), (12, 9, 7));
    }

    #[test]
    fn a_refusal_is_told_by_its_error_and_consents_are_counted() {
        let answer = |code: i32| {
            let mut out = 36_u32.to_ne_bytes().to_vec();
            out.extend(MESSAGE_ERROR.to_ne_bytes());
            out.extend([0; 10]);
            out.extend(code.to_ne_bytes());
            out.extend([0; 16]);
            out
        };
        assert_eq!(answers(&[answer(0), answer(0)].concat()).unwrap(), 2);
        let refused = answers(&[answer(0), answer(-1)].concat()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1));
        assert_eq!(answers(&[1, 2, 3]).unwrap(), 0);
        assert_eq!(answers(&[0; 64]).unwrap(), 0);
    }
}
