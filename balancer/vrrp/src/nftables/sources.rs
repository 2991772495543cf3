//! A set of other ends of connections: addresses with ports, which rules look packets up in, and take them out of.

use std::net::SocketAddr;

use super::{Base, FAMILY_IPV4, Rule, attribute, data, numbers, octets, text};

/// Most members of a set; who is beyond is not in it.
pub const MEMBERS_MAX: usize = 65_536;
/// Members that go to the kernel at once: attributes are no longer than 64 KiB, and a socket takes some 200 KiB.
const CHUNK: usize = 1_500;

/// Registers of 32 bits: the address begins in the first.
const FIRST_REGISTER: u32 = 8;
const SOURCE_PORT: u32 = 0;
const PORT_BYTES: usize = 2;
const PADDING: [u8; 2] = [0; 2];

/// A set, and who is in it at first. All are of the table's family.
#[derive(Debug)]
pub struct Sources {
    pub name: &'static str,
    pub members: Vec<SocketAddr>,
}

/// Where the source address stands in a header, and how long it is.
fn source_address(family: u8) -> (u32, u32) {
    if family == FAMILY_IPV4 { (12, 4) } else { (8, 16) }
}

impl Rule {
    fn load_source(self, family: u8) -> Self {
        let (offset, len) = source_address(family);
        let address = numbers(&[(1, FIRST_REGISTER), (2, Base::Network as u32), (3, offset), (4, len)]);
        let behind = FIRST_REGISTER + len / 4;
        let port =
            numbers(&[(1, behind), (2, Base::Transport as u32), (3, SOURCE_PORT), (4, PORT_BYTES as u32)]);
        self.expression("payload", address).expression("payload", port)
    }

    /// Who sent it is in the set.
    pub fn source_in(self, set: &str, family: u8) -> Self {
        let mut content = Vec::new();
        text(&mut content, 1, set);
        content.extend(numbers(&[(2, FIRST_REGISTER)]));
        self.load_source(family).expression("lookup", content)
    }

    /// Who sent it is in the set no more.
    pub fn take_source_out(self, set: &str, family: u8) -> Self {
        const DELETE: u32 = 2;
        let mut content = Vec::new();
        text(&mut content, 1, set);
        content.extend(numbers(&[(3, DELETE), (4, FIRST_REGISTER)]));
        self.load_source(family).expression("dynset", content)
    }
}

impl Sources {
    /// What makes the set, in a table.
    pub(super) fn content(&self, family: u8, table: &str) -> Vec<u8> {
        // Rules may change it.
        const EVALUATED: u32 = 0x20;
        const ONLY: u32 = 1;
        let (_, address_len) = source_address(family);
        let key_len = address_len + (PORT_BYTES + PADDING.len()) as u32;
        let mut content = Vec::new();
        text(&mut content, 1, table);
        text(&mut content, 2, self.name);
        content.extend(numbers(&[(3, EVALUATED), (5, key_len), (10, ONLY)]));
        attribute(&mut content, 9 | super::NESTED, &numbers(&[(1, MEMBERS_MAX as u32)]));
        content
    }

    /// What fills it, in so many messages.
    pub(super) fn fillings(&self, table: &str) -> impl Iterator<Item = Vec<u8>> {
        let members = &self.members[..self.members.len().min(MEMBERS_MAX)];
        members.chunks(CHUNK).map(move |some| {
            let mut elements = Vec::new();
            for member in some {
                let key = [&octets(member.ip())[..], &member.port().to_be_bytes(), &PADDING].concat();
                let mut element = Vec::new();
                attribute(&mut element, 1 | super::NESTED, &data(&key));
                attribute(&mut elements, 1 | super::NESTED, &element);
            }
            let mut content = Vec::new();
            text(&mut content, 1, table);
            text(&mut content, 2, self.name);
            attribute(&mut content, 3 | super::NESTED, &elements);
            content
        })
    }
}
