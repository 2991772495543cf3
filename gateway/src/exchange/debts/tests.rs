//! Frames and files that are read back or refused, and times that only get shorter.

use proptest::prelude::*;

use super::*;
use crate::exchange;
use crate::limit::Neighbours;

fn debt(n: u32) -> Debt {
    Debt { limit: 7, who: Who::Client(Neighbours::V4(n)), step: 3, owed: u64::from(n) + 1 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

#[test]
fn each_frame_and_the_file_are_pinned_and_read_back() {
    let head = |kind: &str| format!("6401{kind}000000000000000a000000000000000b000000000000000c");
    let debts = vec![
        debt(0xc000_0201),
        Debt { who: Who::Client(Neighbours::V6(0x2001_0db8 << 32)), ..debt(1) },
        Debt { who: Who::Consumer(9), ..debt(2) },
        Debt { who: Who::Anybody, step: 0, owed: u64::MAX, ..debt(3) },
    ];
    let limit = "0000000000000007";
    let encoded = [
        format!("{limit}0000000000c0000201000000000000000300000000c0000202"),
        format!("{limit}0120010db80000000000000000000000030000000000000002"),
        format!("{limit}02000000000000000900000000000000030000000000000003"),
        format!("{limit}0300000000000000000000000000000000ffffffffffffffff"),
    ]
    .concat();
    for (body, bytes) in [
        (Body::Ask { place: 5, until: PLACES }, head("00") + "0000000500006000"),
        (Body::Nothing, head("02")),
        (Body::Page { place: 0, next: 1, debts: vec![] }, head("01") + "0000000000000001"),
        (Body::Page { place: 5, next: 6, debts: debts.clone() }, head("01") + "0000000500000006" + &encoded),
    ] {
        let frame = Frame { from: 10, to: 11, number: 12, body };
        assert_eq!(hex(&frame.encode()), bytes);
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
    let kept = Kept { written_ms: 1_800_000_000_000, debts };
    assert_eq!(hex(&kept.encode()), "640103000001a3185c5000".to_owned() + &encoded);
    assert_eq!(Kept::decode(&kept.encode()), Ok(kept));
}

#[test]
fn what_is_no_frame_is_refused_and_no_prefix_of_one_passes_for_another() {
    let debts: Vec<Debt> = (0..DEBTS_MAX as u32).map(debt).collect();
    let page = Frame { from: 1, to: 2, number: 3, body: Body::Page { place: 0, next: 9, debts } }.encode();
    assert!(page.len() <= 1300, "{} bytes are too many for a datagram", page.len());
    for end in 0..page.len() {
        let is_whole = end >= 35 && (end - 35) % DEBT_BYTES == 0;
        assert_eq!(Frame::decode(&page[..end]).is_ok(), is_whole, "{end}");
    }
    assert!(Frame::decode(&[&page[..], &page[35..35 + DEBT_BYTES]].concat()).is_err());
    assert!(exchange::Frame::decode(&page).is_err() && Kept::decode(&page).is_err());
    let kept = Kept { written_ms: 1, debts: vec![debt(1)] }.encode();
    assert!(Frame::decode(&kept).is_err());
    for (place, until) in [(0, 0), (5, 5), (6, 5), (0, PLACES + 1), (PLACES, PLACES + 1)] {
        for body in [Body::Ask { place, until }, Body::Page { place, next: until, debts: vec![] }] {
            let bytes = Frame { from: 1, to: 2, number: 3, body }.encode();
            assert!(Frame::decode(&bytes).is_err(), "{place} {until}");
        }
    }
    for body in [Body::Ask { place: 0, until: 1 }, Body::Nothing] {
        let mut bytes = Frame { from: 1, to: 2, number: 3, body }.encode();
        bytes.push(0);
        assert!(Frame::decode(&bytes).is_err());
    }
}

#[test]
fn more_than_may_be_kept_is_neither_written_nor_read() {
    let mut kept = Kept { written_ms: 1, debts: vec![debt(1); KEPT_MAX + 1] };
    let bytes = kept.encode();
    assert_eq!(bytes.len(), KEPT_BYTES_MAX);
    kept.debts.pop();
    assert_eq!(Kept::decode(&bytes).unwrap(), kept);
    assert!(Kept::decode(&[&bytes[..], &bytes[11..11 + DEBT_BYTES]].concat()).is_err());
}

#[test]
fn a_clock_that_is_wrong_shortens_what_is_owed_or_leaves_it() {
    let second = crate::limit::ticks(std::time::Duration::from_secs(1));
    let kept = |owed| Kept { written_ms: 1_000_000, debts: vec![Debt { owed, ..debt(1) }] };
    let left = |owed, now_ms| kept(owed).left(now_ms).first().map(|it| it.owed);
    assert_eq!(left(5 * second, 1_002_000), Some(3 * second));
    assert_eq!(left(5 * second, 1_005_000), None);
    assert_eq!(left(5 * second, u64::MAX), None);
    for back in [0, 999_999, 1_000_000] {
        assert_eq!(left(5 * second, back), Some(5 * second), "{back}");
    }
    assert_eq!(left(u64::MAX, 0), Some(u64::MAX));
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let who = (0..5u8, any::<u64>());
    let debt = (any::<u64>(), who, any::<(u64, u64)>());
    let debts = prop::collection::vec(debt, 0..2 * DEBTS_MAX);
    let head = (0..3u8, 0..5u8, any::<[u64; 3]>(), 0..PLACES + 2, 0..PLACES + 2);
    (head, debts, 0..40usize).prop_map(|((version, kind, numbers, place, next), debts, cut)| {
        let mut out = vec![MAGIC, version, kind];
        numbers.iter().for_each(|it| out.extend(it.to_be_bytes()));
        out.extend([place, next].map(u32::to_be_bytes).concat());
        for (limit, (kind, who), (step, owed)) in debts {
            out.extend(limit.to_be_bytes());
            out.push(kind);
            out.extend(who.to_be_bytes());
            out.extend([step, owed].map(u64::to_be_bytes).concat());
        }
        out.truncate(out.len().saturating_sub(cut.saturating_sub(35)));
        out
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_read_within_bounds_and_written_as_it_was(
        bytes in prop_oneof![frames(), prop::collection::vec(any::<u8>(), 0..1400)],
    ) {
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes.clone());
            if let Body::Page { place, next, debts } = frame.body {
                prop_assert!(debts.len() <= DEBTS_MAX && place < next && next <= PLACES);
            }
        }
        if let Ok(kept) = Kept::decode(&bytes) {
            prop_assert_eq!(kept.encode(), bytes);
        }
    }
}
