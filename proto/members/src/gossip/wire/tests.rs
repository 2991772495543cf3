use super::*;
use proptest::prelude::*;

fn id(node: u64) -> ChitchatId {
    let address = if node.is_multiple_of(2) { "10.0.0.1:7400" } else { "[fd00::1]:7400" };
    ChitchatId::new(format!("{node:016x}"), 5, address.parse().unwrap())
}

fn digest(node: u64) -> Digest {
    Digest { id: id(node), heartbeat: node + 7, floor: 0, version: 3 }
}

fn key(name: &str, value: &str, version: u64) -> Key {
    Key { key: name.into(), value: value.into(), version, status: Status::Set }
}

fn delta(node: u64) -> Delta {
    let keys = vec![key("s", "node - - 0.1.0 1-1 3", 1), key("t", "ready", 4)];
    Delta { id: id(node), floor: 0, from: 0, keys, version: None }
}

/// The stream that these blocks are.
fn blocks(blocks: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, body) in blocks {
        out.push(*kind);
        out.extend((body.len() as u16).to_le_bytes());
        out.extend(*body);
    }
    out.push(END);
    out
}

/// An ACK with this delta, as it is.
fn ack(delta: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend([1, 2]);
    out.extend(delta);
    out
}

#[test]
fn a_message_survives_its_bytes_and_none_that_is_cut_short_is_read() {
    let syn = Body::Syn { digest: vec![digest(1)], gossip: "skep".into() };
    let ack = Body::Ack { delta: vec![delta(2), Delta { keys: vec![], version: Some(9), ..delta(3) }] };
    for message in [syn, ack].map(|body| Message { digests: Digests::Streamed, body }) {
        let bytes = write(&message);
        assert_eq!(read(&bytes).unwrap(), message);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err(), "bytes behind the end");
    }
}

#[test]
fn versions_that_do_not_rise_are_refused_in_each_form() {
    let member = |keys: Vec<Key>, version| Delta { keys, version, ..delta(1) };
    for bad in [
        member(vec![key("t", "a", 9)], Some(3)),
        member(vec![key("t", "a", 9), key("c", "b", 9)], None),
        member(vec![key("t", "a", 9), key("c", "b", 8)], None),
        member(vec![key("t", "a", 0)], None),
    ] {
        let message = Message { digests: Digests::Streamed, body: Body::Ack { delta: vec![bad] } };
        assert!(read(&write(&message)).is_err(), "{message:?}");
    }
    // A key behind the version that was the last word.
    let mut plain = Vec::new();
    plain.push(0);
    write_id(&id(1), &mut plain);
    plain.extend([0; 16]);
    for version in [5u64, 9] {
        plain.push(2);
        plain.extend(version.to_le_bytes());
    }
    assert!(read(&ack(&blocks(&[(PLAIN, &plain)]))).is_err());
}

#[test]
fn a_member_twice_a_key_of_nobody_and_an_unknown_operation_are_refused() {
    let twice = Message { digests: Digests::Listed, body: Body::Ack { delta: vec![delta(1), delta(1)] } };
    assert!(read(&write(&twice)).is_err());
    let digest = vec![digest(1), digest(1)];
    for digests in [Digests::Listed, Digests::Streamed] {
        let body = Body::Syn { digest: digest.clone(), gossip: "skep".into() };
        assert!(read(&write(&Message { digests, body })).is_err());
    }
    for operation in [1, 2, 3, 255] {
        let plain = [&[operation][..], &[0; 32]].concat();
        assert!(read(&ack(&blocks(&[(PLAIN, &plain)]))).is_err());
    }
}

#[test]
fn what_unfolds_to_more_than_a_message_is_refused_before_it_takes_the_room() {
    let zeroes = zstd::bulk::compress(&vec![0; 65_000], 0).unwrap();
    let bomb = vec![(COMPRESSED, &zeroes[..]); 1000];
    assert_eq!(
        read(&ack(&blocks(&bomb))),
        Err(Malformed("a block that does not unfold, or to too much")),
        "{} bytes would be {}",
        1000 * zeroes.len(),
        1000 * 65_000
    );
    let nothing = zstd::bulk::compress(&[], 0).unwrap();
    assert_eq!(
        read(&ack(&blocks(&vec![(COMPRESSED, &nothing[..]); 1000]))),
        Err(Malformed("more blocks than a message has"))
    );
    let many = Message {
        digests: Digests::Streamed,
        body: Body::Ack {
            delta: (0..=LISTED_MAX as u64).map(|node| Delta { keys: vec![], ..delta(node) }).collect(),
        },
    };
    assert_eq!(read(&write(&many)), Err(Malformed("more members than a message may have")));
}

fn any_delta() -> impl Strategy<Value = Delta> {
    let key = ("[a-z]{0,3}", "[ -~]{0,40}", 1u64..9, 0..3u8).prop_map(|(key, value, version, status)| {
        let status = [Status::Set, Status::Deleted, Status::DeletedLater][usize::from(status)];
        Key { key, value, version, status }
    });
    let keys = prop::collection::vec(key, 0..4);
    (0..4u64, 0..3u64, 0..3u64, keys, prop::option::of(0..9u64))
        .prop_map(|(node, floor, from, keys, version)| Delta { id: id(node), floor, from, keys, version })
}

proptest! {
    #[test]
    fn what_is_read_is_written_to_what_is_read_the_same(
        delta in prop::collection::vec(any_delta(), 0..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let message = Message { digests: Digests::Streamed, body: Body::Ack { delta } };
        let mut bytes = write(&message);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = read(&bytes) {
            prop_assert_eq!(read(&write(&message)), Ok(message));
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read(&ack(&bytes));
    }
}
