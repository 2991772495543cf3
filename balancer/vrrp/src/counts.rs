//! What is counted, and by what reason packets are discarded.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::packet::PacketError;

macro_rules! reasons {
    ($($(#[$meta:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// Why a packet was discarded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Discard { $($(#[$meta])* $name),+ }
        impl Discard {
            pub const ALL: &[Self] = &[$(Self::$name),+];
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

reasons! {
    /// It passed a router, or was made by who wants it to look as if it had not.
    Hops = "ttl",
    Length = "length",
    Version = "version",
    Type = "type",
    Checksum = "checksum",
    CountZero = "count-zero",
    IntervalZero = "interval-zero",
    Authentication = "authentication",
    /// A VRID that nobody here has.
    Vrid = "vrid",
    /// Another group uses the VRID, or this one is configured otherwise.
    Addresses = "addresses",
    /// In unicast mode: not from a peer.
    Stranger = "stranger",
    /// From a unicast peer that does not confirm it by the mesh.
    Unconfirmed = "unconfirmed",
    /// From an address of this host.
    Own = "own",
    /// Version 2 holds only where all have the same interval.
    Interval = "interval",
    /// The socket failed to receive it.
    Receive = "receive",
}

impl From<PacketError> for Discard {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::Length => Self::Length,
            PacketError::Version => Self::Version,
            PacketError::Type => Self::Type,
            PacketError::Checksum => Self::Checksum,
            PacketError::CountZero => Self::CountZero,
            PacketError::IntervalZero => Self::IntervalZero,
            PacketError::Authentication => Self::Authentication,
        }
    }
}

/// Counters of the whole process.
#[derive(Debug)]
pub struct Counts {
    discards: [AtomicU64; Discard::ALL.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Self { discards: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Counts {
    /// Counts one; says how many there have been.
    pub fn discard(&self, reason: Discard) -> u64 {
        self.discards[reason as usize].fetch_add(1, Relaxed) + 1
    }

    pub fn discarded(&self, reason: Discard) -> u64 {
        self.discards[reason as usize].load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident: $help:literal),+ $(,)?) => {
        /// Counters of one virtual router.
        #[derive(Debug, Default)]
        pub struct RouterCounts { $($(#[$meta])* pub $name: AtomicU64),+ }
        impl RouterCounts {
            /// Name, help and value of each.
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), $help, self.$name.load(Relaxed))),+]
            }
        }
    };
}

counters! {
    adverts_sent: "Advertisements sent",
    adverts_received: "Advertisements that passed every check",
    priority_zero_sent: "Advertisements sent that say: take over",
    priority_zero_received: "Advertisements received that say: take over",
    send_failures: "Advertisements that could not be sent",
    transitions: "Changes of state",
    became_active: "Times that the addresses were taken",
    announcements: "Gratuitous ARP packets and neighbour advertisements sent",
    address_restored: "Times that an address had to be put back",
    address_failures: "Times that the kernel refused to set or remove an address",
    peer_losses: "Times that the mesh told of the end of the active one's process",
    handovers: "Planned hand-overs to another",
    handovers_taken: "Planned hand-overs from another",
}

/// Adds one.
pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
