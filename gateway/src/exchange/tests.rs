//! Frames that are read back or refused, and counts that arrive once whatever becomes of datagrams.

use super::*;

fn entry(n: u32, count: u32) -> Entry {
    Entry { limit: 7, who: Who::Client(Neighbours::V4(n)), count }
}

#[test]
fn each_frame_is_pinned_and_read_back() {
    let head = |kind: &str| format!("01{kind}000000000000000a000000000000000b000000000000000c");
    let limit = "0000000000000007";
    for (body, bytes) in [
        (Body::Seen, head("01")),
        (Body::Counts(vec![]), head("00")),
        (
            Body::Counts(vec![
                entry(0xc000_0201, 5),
                Entry { limit: 7, who: Who::Client(Neighbours::V6(0x2001_0db8 << 32)), count: 1 },
                Entry { limit: 7, who: Who::Consumer(9), count: 2 },
                Entry { limit: 7, who: Who::Anybody, count: u32::MAX },
            ]),
            [
                &*head("00"),
                &format!("{limit}00{:016x}00000005", 0xc000_0201u32),
                &format!("{limit}0120010db80000000000000001"),
                &format!("{limit}02000000000000000900000002"),
                &format!("{limit}030000000000000000ffffffff"),
            ]
            .concat(),
        ),
    ] {
        let frame = Frame { from: 10, to: 11, number: 12, body };
        let encoded: String = frame.encode().iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(encoded, bytes);
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn what_is_no_frame_is_refused_and_no_prefix_of_one_passes_for_another() {
    let full = Body::Counts((1..=ENTRIES_MAX as u32).map(|n| entry(n, 1)).collect());
    let frame = Frame { from: 1, to: 2, number: 3, body: full }.encode();
    assert!(frame.len() <= 1350, "{} bytes are too many for a datagram", frame.len());
    for end in 0..frame.len() {
        let is_whole = end >= 26 && (end - 26) % 21 == 0;
        assert_eq!(Frame::decode(&frame[..end]).is_ok(), is_whole, "{end}");
    }
    let more = [&frame[..], &frame[26..47]].concat();
    assert!(Frame::decode(&more).is_err());
    for (at, byte) in [(0, 2), (1, 2), (1, 1), (34, 4), (34, 3), (35, 1)] {
        let mut other = frame.clone();
        other[at] = byte;
        assert!(Frame::decode(&other).is_err(), "{at}: {byte}");
    }
}

/// Frames and their acknowledgements are lost, come late and come twice.
#[test]
fn what_was_let_in_arrives_once_however_datagrams_come() {
    let (mut out, mut into) = (Outgoing::begin(0), Incoming::default());
    let (mut told, mut heard) = (HashMap::new(), HashMap::new());
    let mut late: Vec<Frame> = Vec::new();
    let mut now = Instant::now();
    let mut random = 1u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..20_000 {
        now += Duration::from_millis(20);
        if round == 15_500 {
            // All has arrived by now. Who was lost sight of is met again, and the other has it in mind.
            out = Outgoing::begin(20_000);
        }
        if !(15_000..15_600).contains(&round) && round < 19_500 {
            let entry = entry(draw(500) as u32, 1 + draw(3) as u32);
            assert!(out.add(entry));
            *told.entry(entry.who).or_insert(0) += entry.count;
        }
        late.extend(out.next(1, 2, now));
        for _ in 0..draw(3) {
            if late.is_empty() {
                break;
            }
            let at = draw(late.len() as u64) as usize;
            // Some come again, some never.
            let frame = if draw(4) == 0 { late[at].clone() } else { late.swap_remove(at) };
            if draw(4) == 0 {
                continue;
            }
            let Body::Counts(entries) = frame.body else { panic!("{frame:?}") };
            if into.is_new(frame.number) {
                for entry in entries {
                    *heard.entry(entry.who).or_insert(0) += entry.count;
                }
            }
            if draw(3) > 0 {
                out.seen(frame.number);
            }
        }
    }
    assert_eq!(heard, told);
}

#[test]
fn who_hears_nothing_is_not_told_without_end() {
    let mut out = Outgoing::begin(7);
    for n in 0..WAITING_MAX as u32 {
        assert!(out.add(entry(n, 1)));
    }
    assert!(!out.add(entry(u32::MAX, 1)));
    assert!(out.add(entry(1, u32::MAX)), "who is there already is added to");
    let now = Instant::now();
    let first = out.next(1, 2, now).unwrap();
    assert_eq!(out.next(1, 2, now), None, "one at a time");
    assert_eq!(out.next(1, 2, now + AGAIN), Some(first.clone()));
    out.seen(first.number + 1);
    out.seen(first.number - 1);
    assert_eq!(out.next(1, 2, now + AGAIN), None, "it is of no other frame");
    out.seen(first.number);
    assert_eq!(out.next(1, 2, now + AGAIN), None, "there is a pause between two");
    assert_eq!(out.next(1, 2, now + AGAIN + PAUSE).unwrap().number, first.number + 1);
}

#[test]
fn who_says_nothing_for_long_is_asked_seldom_and_not_told_of_what_was() {
    let mut out = Outgoing::begin(0);
    assert!(out.add(entry(1, 2)));
    let now = Instant::now();
    let first = out.next(1, 2, now).unwrap();
    assert!(out.add(entry(3, 4)));
    assert_eq!(out.give_up(now + PATIENCE - PAUSE), 0);
    let now = now + PATIENCE;
    assert_eq!((out.give_up(now), out.give_up(now)), (6, 0));
    assert!(out.add(entry(5, 6)));
    let next = out.next(1, 2, now).unwrap();
    assert_eq!(next.number, first.number + 1, "what was lost on the way counts no more");
    assert_eq!(next.body, Body::Counts(vec![entry(5, 6)]));
    assert_eq!(out.next(1, 2, now + AGAIN), None);
    assert!(out.next(1, 2, now + SELDOM).is_some());
    out.seen(next.number);
    assert!(out.add(entry(7, 8)));
    assert!(out.next(1, 2, now + SELDOM + PAUSE).is_some(), "it is there again");
}

#[test]
fn what_one_is_yet_to_hear_of_is_known_until_it_was_heard() {
    let mut out = Outgoing::begin(0);
    let who = |n| Who::Client(Neighbours::V4(n));
    let now = Instant::now();
    assert!(out.add(entry(1, 2)) && out.add(entry(2, 3)));
    assert_eq!([1, 2, 3].map(|n| out.unheard(7, who(n))), [2, 3, 0]);
    assert_eq!(out.unheard(8, who(1)), 0, "by another limit");
    let first = out.next(1, 2, now).unwrap();
    assert!(out.add(entry(1, 4)));
    assert_eq!([1, 2, 3].map(|n| out.unheard(7, who(n))), [6, 3, 0]);
    out.seen(first.number);
    assert_eq!([1, 2, 3].map(|n| out.unheard(7, who(n))), [4, 0, 0]);
}
