//! Against what keepalived 2.2.7 sent, byte for byte.

use proptest::prelude::*;

use super::*;

/// Whole Ethernet frames.
const V3_TWO: &str =
    "01005e000012324573597bb1080045c0002400010000ff70d03c0a4e000ce0000012313396020032377e0a4e00c80a4e00c9";
const V3_STOPS: &str =
    "01005e000012324573597bb1080045c0002400080000ff70d0350a4e000ce0000012313300020032cd7e0a4e00c80a4e00c9";
const V3_IPV6: &str = "333300000012324573597bb186dd6c0a4555002870fffe80000000000000304573fffe597bb1ff0200000000000000000000000000123134960200321c1ffe800000000000000000000000000200fd780000000000000000000000000200";
const V2: &str = "01005e000012324573597bb1080045c0002800010000ff70d0380a4e000ce00000122135960100013daf0a4e00cb0000000000000000";
const V2_PASSWORD: &str = "01005e000012324573597bb1080045c0002800010000ff70d0380a4e000ce0000012213696010101ff6a0a4e00cc736b657031323334";
const V3_VMAC: &str =
    "01005e00001200005e000137080045c0002000010000ff70d0400a4e000ce000001231379601003242910a4e00cd";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Source, destination and payload of a frame.
fn opened(hex: &str) -> (IpAddr, IpAddr, Vec<u8>) {
    let frame = bytes(hex);
    let ip = &frame[14..];
    if ip[0] >> 4 == 4 {
        let octets = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        return (octets(12), octets(16), ip[20..].to_vec());
    }
    let octets = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
    (octets(8), octets(24), ip[40..].to_vec())
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn what_keepalived_sends_is_read_and_written_alike() {
    let half = Duration::from_millis(500);
    let second = Duration::from_secs(1);
    for (frame, version, vrid, priority, interval, expected) in [
        (V3_TWO, Version::V3, 0x33, 150, half, addresses(&["10.78.0.200", "10.78.0.201"])),
        (V3_STOPS, Version::V3, 0x33, 0, half, addresses(&["10.78.0.200", "10.78.0.201"])),
        (V3_IPV6, Version::V3, 0x34, 150, half, addresses(&["fe80::200", "fd78::200"])),
        (V2, Version::V2, 0x35, 150, second, addresses(&["10.78.0.203"])),
        (V3_VMAC, Version::V3, 0x37, 150, half, addresses(&["10.78.0.205"])),
    ] {
        let (source, destination, payload) = opened(frame);
        let advert = Advert::decode(&payload, source, destination).unwrap();
        assert_eq!(advert, Advert { version, vrid, priority, interval, addresses: expected });
        assert_eq!(advert.encode(source, destination, Checksum::PseudoHeader), payload);
    }
}

#[test]
fn a_password_of_version_2_is_known_and_not_spoken() {
    let (source, destination, payload) = opened(V2_PASSWORD);
    assert_eq!(Advert::decode(&payload, source, destination), Err(PacketError::Authentication));
}

#[test]
fn over_ipv4_both_checksums_are_accepted_and_over_ipv6_one() {
    let (source, destination, payload) = opened(V3_TWO);
    let advert = Advert::decode(&payload, source, destination).unwrap();
    let message_only = advert.encode(source, destination, Checksum::Message);
    assert_ne!(message_only, payload);
    assert_eq!(Advert::decode(&message_only, source, destination), Ok(advert));
    let (source, destination, mut payload) = opened(V3_IPV6);
    let advert = Advert::decode(&payload, source, destination).unwrap();
    assert_eq!(advert.encode(source, destination, Checksum::Message), payload);
    payload[6..8].fill(0);
    let sum = !fold(sum(&payload));
    payload[6..8].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(Advert::decode(&payload, source, destination), Err(PacketError::Checksum));
}

#[test]
fn each_field_that_is_wrong_has_its_reason() {
    let (source, destination, good) = opened(V3_TWO);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = good.clone();
        change(&mut payload);
        payload[6..8].fill(0);
        let sum = !fold(pseudo_header(source, destination, payload.len()) + sum(&payload));
        payload[6..8].copy_from_slice(&sum.to_be_bytes());
        Advert::decode(&payload, source, destination)
    };
    assert!(with(&|_| {}).is_ok());
    assert_eq!(with(&|it| it[0] = 0x41), Err(PacketError::Version));
    assert_eq!(with(&|it| it[0] = 0x32), Err(PacketError::Type));
    assert_eq!(with(&|it| it[3] = 0), Err(PacketError::CountZero));
    assert_eq!(with(&|it| it[3] = 3), Err(PacketError::Length));
    assert_eq!(with(&|it| it.push(0)), Err(PacketError::Length));
    assert_eq!(with(&|it| it[4..6].fill(0)), Err(PacketError::IntervalZero));
    // The reserved bits are ignored.
    assert!(with(&|it| it[4] |= 0xf0).is_ok());
    let mut flipped = good.clone();
    flipped[2] ^= 1;
    assert_eq!(Advert::decode(&flipped, source, destination), Err(PacketError::Checksum));
    assert_eq!(Advert::decode(&good[..7], source, destination), Err(PacketError::Length));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
        let ip: IpAddr = if v6 { "fe80::1".parse().unwrap() } else { "10.0.0.1".parse().unwrap() };
        let _ = Advert::decode(&bytes, ip, ip);
    }

    #[test]
    fn what_is_written_is_read_back(
        vrid in 1..=255u8, priority: u8, cs in 1..=4095u64, hosts in proptest::collection::vec(any::<u32>(), 1..=64),
        v6: bool, message_only: bool,
    ) {
        let source: IpAddr = if v6 { "fe80::1".parse().unwrap() } else { "10.0.0.1".parse().unwrap() };
        let addresses = hosts.iter().map(|bits| if v6 {
            IpAddr::from(Ipv6Addr::from_bits(u128::from(*bits)))
        } else {
            IpAddr::from(Ipv4Addr::from_bits(*bits))
        }).collect();
        let interval = Duration::from_millis(10 * cs);
        let advert = Advert { version: Version::V3, vrid, priority, interval, addresses };
        let checksum = if message_only { Checksum::Message } else { Checksum::PseudoHeader };
        prop_assert_eq!(Advert::decode(&advert.encode(source, source, checksum), source, source), Ok(advert));
    }
}
