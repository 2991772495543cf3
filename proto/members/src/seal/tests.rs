//! Both forms, rotations, replays and hostile bytes.

use super::*;
use proptest::prelude::*;

fn pair() -> (FormSealer, Opener) {
    let ring = KeyRing::insecure_loopback();
    (root_of(&ring), Opener::new(&ring).unwrap())
}

/// What seals with the cluster key itself.
fn root_of(ring: &KeyRing) -> FormSealer {
    FormSealer::new(ring.keys()[0].root().unwrap()).unwrap()
}

fn edge_of(ring: &KeyRing) -> KeyRing {
    KeyRing::parse(&ring.edge_lines().join("\n")).unwrap()
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
fn what_a_key_has_sealed_opens_no_more_once_it_is_taken_away() {
    let [old, both, turned, new] = rings();
    let (mut sealer, mut opener) = (Sealer::new(&old).unwrap(), Opener::new(&both).unwrap());
    for form in [Form::Root, Form::Edge] {
        opener.open(&sealer.seal(form, b"a").unwrap()).unwrap();
        opener.rekey(&turned).unwrap();
        opener.open(&sealer.seal(form, b"b").unwrap()).unwrap();
    }
    opener.rekey(&new).unwrap();
    for form in [Form::Root, Form::Edge] {
        // Also of a session that is known.
        assert_eq!(opener.open(&sealer.seal(form, b"c").unwrap()), Err(OpenError::UnknownKey));
    }
    assert_eq!(opener.sessions(), 0);
}

#[test]
fn what_was_opened_is_remembered_when_other_keys_come() {
    let [old, both, turned, new] = rings();
    let (mut sealer, mut opener) = (Sealer::new(&both).unwrap(), Opener::new(&old).unwrap());
    let first = sealer.seal(Form::Root, b"a").unwrap();
    opener.open(&first).unwrap();
    sealer.rekey(&turned).unwrap();
    let second = sealer.seal(Form::Root, b"b").unwrap();
    assert_eq!(opener.open(&second), Err(OpenError::UnknownKey));
    for ring in [&both, &turned] {
        opener.rekey(ring).unwrap();
        assert_eq!(opener.open(&first), Err(OpenError::Replayed));
    }
    opener.open(&second).unwrap();
    opener.rekey(&new).unwrap();
    assert_eq!(opener.open(&second), Err(OpenError::Replayed));
}

#[test]
fn a_session_goes_on_for_as_long_as_its_key_seals() {
    let [old, both, turned, new] = rings();
    let mut sealer = Sealer::new(&old).unwrap();
    let first = sealer.sessions();
    sealer.rekey(&both).unwrap();
    assert_eq!(sealer.sessions(), first);
    sealer.rekey(&turned).unwrap();
    let second = sealer.sessions();
    assert_ne!(second, first);
    sealer.rekey(&new).unwrap();
    assert_eq!(sealer.sessions(), second);
    // Its own of before is refused as well, for a while.
    let mut opener = Opener::new(&turned).unwrap();
    for sessions in [first, second] {
        opener.refuse_own(sessions);
    }
    let mut before = Sealer::new(&old).unwrap();
    opener.refuse_own(before.sessions());
    for _ in 0..OWN_SESSIONS_MAX {
        assert_eq!(opener.open(&before.seal(Form::Root, b"x").unwrap()), Err(OpenError::Reflected));
        opener.refuse_own(sealer.sessions());
    }
    assert!(opener.own.len() <= OWN_SESSIONS_MAX);
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
    opener.refuse_own(vec![sealer.session]);
    assert_eq!(opener.open(&sealer.seal(b"x").unwrap()), Err(OpenError::Reflected));
    let mut both = Sealer::new(&KeyRing::insecure_loopback()).unwrap();
    opener.refuse_own(both.sessions());
    for form in [Form::Root, Form::Edge] {
        assert_eq!(opener.open(&both.seal(form, b"x").unwrap()), Err(OpenError::Reflected));
    }
}

#[test]
fn neighbouring_steps_of_a_rotation_understand_each_other() {
    let rings = rings();
    for (i, one) in rings.iter().enumerate() {
        for (j, two) in rings.iter().enumerate() {
            let datagram = root_of(one).seal(b"x").unwrap();
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
fn edges_that_begin_many_sessions_let_none_of_a_member_be_forgotten() {
    let ring = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let mut opener = Opener::new(&ring).unwrap();
    let said = Sealer::new(&ring).unwrap().seal(Form::Root, b"once").unwrap();
    opener.open(&said).unwrap();
    for _ in 0..SESSIONS_MAX + 20 {
        opener.open(&Sealer::new(&ring).unwrap().seal(Form::Edge, b"x").unwrap()).unwrap();
    }
    assert_eq!(opener.open(&said), Err(OpenError::Replayed));
    assert_eq!(opener.sessions(), SESSIONS_MAX + 1);
}

#[test]
fn sessions_are_bounded_and_the_one_unused_for_longest_goes() {
    let ring = KeyRing::insecure_loopback();
    let mut opener = Opener::new(&ring).unwrap();
    let mut kept = root_of(&ring);
    for _ in 0..SESSIONS_MAX + 20 {
        opener.open(&kept.seal(b"x").unwrap()).unwrap();
        opener.open(&root_of(&ring).seal(b"x").unwrap()).unwrap();
    }
    assert_eq!(opener.sessions(), SESSIONS_MAX);
    assert!(opener.sessions.keys().any(|(_, session)| *session == kept.session));
}

#[test]
fn a_worn_out_session_is_replaced() {
    let (mut sealer, mut opener) = pair();
    let session = sealer.session;
    sealer.counter = COUNTER_MAX - 1;
    opener.open(&sealer.seal(b"last").unwrap()).unwrap();
    assert_eq!(opener.open(&sealer.seal(b"first").unwrap()).unwrap(), b"first");
    assert_ne!(sealer.session, session);
}

/// Sealed by the version before with the key 0011…, and by this one with its edge key.
#[test]
fn the_bytes_of_both_forms_are_pinned() {
    let root = KeyRing::parse(&format!("skep1:{}", "00112233445566778899aabbccddeeff".repeat(2))).unwrap();
    let key = &root.keys()[0];
    for (secret, form, datagram) in [
        (
            key.root().unwrap(),
            Form::Root,
            "01ba6581e4000102030405060708090a0b0c0d0e0f0000000000000001a0745aec05f80f07393ccb50360461251c4c0926d6",
        ),
        (
            key.edge(),
            Form::Edge,
            "01b8eee158000102030405060708090a0b0c0d0e0f00000000000000014d804c08cff4792d96fccd3c7c5b2f2e39aa4a3d69",
        ),
    ] {
        let mut sealer = FormSealer::new(secret).unwrap();
        sealer.session = std::array::from_fn(|at| at as u8);
        sealer.session_key = session_key(secret, &sealer.session).unwrap();
        let sealed = sealer.seal(b"hello").unwrap();
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, datagram);
        let opened = Opener::new(&root).unwrap().open_telling_form(&sealed);
        assert_eq!(opened, Ok((form, b"hello".to_vec())));
    }
}

#[test]
fn an_edge_opens_what_edges_may_and_knows_its_members_from_strangers() {
    let members = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let strangers = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let edges = edge_of(&members);
    let (mut member, mut edge) = (Sealer::new(&members).unwrap(), Sealer::new(&edges).unwrap());
    let opened = |ring: &KeyRing, datagram: &[u8]| Opener::new(ring).unwrap().open_telling_form(datagram);
    for form in [Form::Edge, Form::Root] {
        let from_edge = edge.seal(form, b"x").unwrap();
        for ring in [&members, &edges] {
            assert_eq!(opened(ring, &from_edge), Ok((Form::Edge, b"x".to_vec())), "{form:?}");
        }
    }
    assert_eq!(opened(&edges, &member.seal(Form::Edge, b"x").unwrap()), Ok((Form::Edge, b"x".to_vec())));
    assert_eq!(opened(&edges, &member.seal(Form::Root, b"x").unwrap()), Err(OpenError::Members));
    let stranger = root_of(&strangers).seal(b"x").unwrap();
    assert_eq!(opened(&edges, &stranger), Err(OpenError::UnknownKey));
    assert_eq!(opened(&strangers, &edge.seal(Form::Edge, b"x").unwrap()), Err(OpenError::UnknownKey));
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
        let mut edge = Opener::new(&edge_of(&KeyRing::insecure_loopback())).unwrap();
        let guided = [&[VERSION][..], &sealer.hint, &bytes].concat();
        prop_assert!(opener.open(&guided).is_err() && edge.open(&guided).is_err());
    }
}
