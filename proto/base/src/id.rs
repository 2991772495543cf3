//! Identities: of a node, of a cluster, of a client's request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node's identity: random, made on the first start, living and dying with its data folder.
///
/// Shown as 16 lowercase hex digits, because a JSON number cannot carry 64 bits.
pub type RawNodeId = u64;

/// A node id as people and JSON see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub RawNodeId);

/// A cluster's identity: random, made once by the node that initialises the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// Names one client request across its retries, so that it takes effect once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u128);

/// What stands in the place of an id is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: expected {digits} lowercase hex digits")]
pub struct IdParseError {
    text: String,
    digits: usize,
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! hex_id {
    ($name:ident, $int:ty, $digits:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdParseError;
            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let error = || IdParseError { text: text.chars().take(64).collect(), digits: $digits };
                if !is_lower_hex(text, $digits) {
                    return Err(error());
                }
                <$int>::from_str_radix(text, 16).map(Self).map_err(|_| error())
            }
        }
        impl $name {
            /// A fresh random id; zero is never given out.
            pub fn random() -> Self {
                loop {
                    let mut bytes = [0; size_of::<$int>()];
                    // The system's random source failing leaves no safe way on.
                    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
                    assert_eq!(got, Ok(bytes.len()), "the system gives random bytes");
                    let id = <$int>::from_le_bytes(bytes);
                    if id != 0 {
                        return Self(id);
                    }
                }
            }
        }
    };
}

hex_id!(NodeId, u64, 16);
hex_id!(ClusterId, u128, 32);
hex_id!(RequestId, u128, 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_shown_and_read() {
        let id = NodeId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        let cluster = ClusterId::random();
        assert_eq!(cluster.to_string().parse(), Ok(cluster));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "1", "00000000000000zz", "0000000000000ABC", "+000000000000001"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }
}
