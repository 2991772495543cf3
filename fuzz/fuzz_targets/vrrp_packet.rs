//! VRRP packets off the network: the IPv4 header as the raw socket gives it, and the message.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use skep_vrrp::packet::{Advert, Checksum, GROUP_V6};
use skep_vrrp::socket::opened_ipv4;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

fuzz_target!(init: seeds::write(seeds::vrrp_packets), |bytes: &[u8]| {
    if let Some(packet) = opened_ipv4(bytes) {
        check(packet.payload, packet.source, packet.destination);
    }
    check(bytes, IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]), GROUP_V6.into());
});

fn check(payload: &[u8], source: IpAddr, destination: IpAddr) {
    check_as_is(payload, source, destination);
    // A checksum is seldom guessed. The sum over the message alone is accepted over IPv4.
    if payload.len() >= 8 && source.is_ipv4() {
        let mut mended = payload.to_vec();
        mended[6..8].fill(0);
        let words =
            mended.chunks(2).map(|it| u32::from(it[0]) << 8 | it.get(1).map_or(0, |low| u32::from(*low)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        mended[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        check_as_is(&mended, source, destination);
    }
}

fn check_as_is(payload: &[u8], source: IpAddr, destination: IpAddr) {
    let Ok(advert) = bounded(payload.len(), || Advert::decode(payload, source, destination)) else {
        return;
    };
    assert!(!advert.addresses.is_empty() && !advert.interval.is_zero());
    if advert.addresses.len() <= 64 {
        let again = advert.encode(source, destination, Checksum::PseudoHeader);
        assert_eq!(Advert::decode(&again, source, destination), Ok(advert));
    }
}
