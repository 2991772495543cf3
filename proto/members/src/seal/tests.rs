//! Rotations, replays and hostile bytes.

use super::*;
use proptest::prelude::*;

fn pair() -> (Sealer, Opener) {
    let ring = KeyRing::insecure_loopback();
    (Sealer::new(&ring).unwrap(), Opener::new(&ring).unwrap())
}

fn rings() -> [KeyRing; 4] {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    [old.clone(), format!("{old}\n{new}"), format!("{new}\n{old}"), new]
        .map(|text| KeyRing::parse(&text).unwrap())
}

#[test]
fn what_is_sealed_opens_once() {
    let (mut sealer, mut opener) = pair();
    let datagram = sealer.seal(b"hello").unwrap();
    assert_eq!(datagram.len(), 5 + OVERHEAD_BYTES);
    assert!(!datagram.windows(5).any(|bytes| bytes == b"hello"));
    assert_eq!(opener.open(&datagram).unwrap(), b"hello");
    assert_eq!(opener.open(&datagram), Err(OpenError::Replayed));
}

#[test]
fn an_empty_datagram_can_be_sealed() {
    let (mut sealer, mut opener) = pair();
    assert_eq!(opener.open(&sealer.seal(b"").unwrap()).unwrap(), b"");
}

#[test]
fn datagrams_out_of_order_open_inside_the_window_alone() {
    let (mut sealer, mut opener) = pair();
    let datagrams: Vec<_> = (0..WINDOW + 10).map(|_| sealer.seal(b"x").unwrap()).collect();
    let newest = datagrams.len() - 1;
    opener.open(&datagrams[newest]).unwrap();
    assert_eq!(opener.open(&datagrams[9]), Err(OpenError::Replayed));
    for datagram in datagrams[10..newest].iter().rev() {
        opener.open(datagram).unwrap();
    }
    for datagram in &datagrams {
        assert_eq!(opener.open(datagram), Err(OpenError::Replayed));
    }
}

#[test]
fn a_reflected_datagram_is_refused() {
    let (mut sealer, mut opener) = pair();
    opener.refuse_own(sealer.session());
    assert_eq!(opener.open(&sealer.seal(b"x").unwrap()), Err(OpenError::Reflected));
}

#[test]
fn neighbouring_steps_of_a_rotation_understand_each_other() {
    let rings = rings();
    for (i, one) in rings.iter().enumerate() {
        for (j, two) in rings.iter().enumerate() {
            let datagram = Sealer::new(one).unwrap().seal(b"x").unwrap();
            let opened = Opener::new(two).unwrap().open(&datagram);
            // A ring with both keys opens all; one key alone opens what that key sealed.
            let understood = (i < 2 && j < 3) || (i >= 2 && j >= 1);
            let expected = if understood { Ok(b"x".to_vec()) } else { Err(OpenError::UnknownKey) };
            assert_eq!(opened, expected, "step {i} to step {j}");
        }
    }
}

#[test]
fn a_truncated_datagram_never_opens() {
    let (mut sealer, mut opener) = pair();
    let datagram = sealer.seal(b"hello").unwrap();
    for end in 0..datagram.len() {
        let error = if end < OVERHEAD_BYTES { OpenError::TooShort } else { OpenError::Forged };
        assert_eq!(opener.open(&datagram[..end]), Err(error), "{end}");
    }
    assert_eq!(opener.sessions(), 0);
    opener.open(&datagram).unwrap();
}

#[test]
fn sessions_are_bounded_and_the_one_unused_for_longest_goes() {
    let ring = KeyRing::insecure_loopback();
    let mut opener = Opener::new(&ring).unwrap();
    let mut kept = Sealer::new(&ring).unwrap();
    for _ in 0..SESSIONS_MAX + 20 {
        opener.open(&kept.seal(b"x").unwrap()).unwrap();
        opener.open(&Sealer::new(&ring).unwrap().seal(b"x").unwrap()).unwrap();
    }
    assert_eq!(opener.sessions(), SESSIONS_MAX);
    assert!(opener.sessions.keys().any(|(_, session)| *session == kept.session()));
}

#[test]
fn a_worn_out_session_is_replaced() {
    let (mut sealer, mut opener) = pair();
    let session = sealer.session();
    sealer.counter = COUNTER_MAX - 1;
    opener.open(&sealer.seal(b"last").unwrap()).unwrap();
    assert_eq!(opener.open(&sealer.seal(b"first").unwrap()).unwrap(), b"first");
    assert_ne!(sealer.session(), session);
}

proptest! {
    #[test]
    fn a_flipped_bit_never_opens(plain in prop::collection::vec(any::<u8>(), 0..200), bit in any::<prop::sample::Index>()) {
        let (mut sealer, mut opener) = pair();
        let mut datagram = sealer.seal(&plain).unwrap();
        let bit = bit.index(datagram.len() * 8);
        datagram[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(opener.open(&datagram).is_err());
        datagram[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(opener.open(&datagram).unwrap(), plain);
    }

    #[test]
    fn hostile_bytes_never_open_nor_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (sealer, mut opener) = pair();
        prop_assert!(opener.open(&bytes).is_err());
        let guided = [&[VERSION][..], &sealer.hint, &bytes].concat();
        prop_assert!(opener.open(&guided).is_err());
    }
}
