//! A loopback subnet for each test, so that every node has the default ports on an address of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

pub const HTTP_PORT: u16 = 8080;
pub const PEER_PORT: u16 = 7400;
pub const ADMIN_PORT: u16 = 9400;

/// Whoever listens here owns the subnet.
const CLAIM_HOST: u8 = 254;
const CLAIM_PORT: u16 = 7399;

/// 127.A.B.0/24, claimed for as long as this lives.
pub struct Subnet {
    a: u8,
    b: u8,
    _claim: TcpListener,
}

impl Subnet {
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Spread processes apart; a clash is still seen, because the claim's port is then taken.
        let base = std::process::id().wrapping_mul(97);
        loop {
            let number = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            // 127.0.x.x stays free for everything else on the machine.
            let a = (number / 256 % 254 + 1) as u8;
            let b = (number % 256) as u8;
            let host = Ipv4Addr::new(127, a, b, CLAIM_HOST);
            if let Ok(claim) = TcpListener::bind((host, CLAIM_PORT)) {
                return Self { a, b, _claim: claim };
            }
        }
    }

    pub fn host(&self, index: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.a, self.b, index))
    }

    pub fn peer(&self, index: u8) -> SocketAddr {
        SocketAddr::new(self.host(index), PEER_PORT)
    }
}
