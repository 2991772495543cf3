//! What a cache reads of heads: of any bytes, within bounds, and so that what is written is read the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_cache::asked::Asked;
use skep_cache::range::{Part, part};
use skep_cache::storing::{Asker, judge};
use skep_cache::told::Told;
use skep_cache::{SECONDS_MAX, date, fields, groups, key, vary};
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

const NOW: u64 = 1_800_000_000;

fuzz_target!(init: seeds::write(seeds::cache_heads), |bytes: &[u8]| {
    bounded(bytes.len(), || read(bytes));
});

fn read(bytes: &[u8]) {
    let lines = fields::lines(bytes);
    let mut written = Vec::new();
    fields::write(lines.clone(), &mut written);
    let mut again = Vec::new();
    fields::write(fields::lines(&written), &mut again);
    assert_eq!(again, written, "what is stored is stored the same again");
    let mut updated = Vec::new();
    fields::write_updated(fields::lines(&written), lines.clone(), &mut updated);
    let of_type = |text: &[u8]| {
        let is_type = |name: &[u8]| name.eq_ignore_ascii_case(b"content-type");
        fields::lines(text).filter(|(name, _)| is_type(name)).map(|(_, it)| it.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(of_type(&updated), of_type(&written), "a 304 says nothing of the bytes");
    let (asked, told) = (Asked::read(lines.clone()), Told::read(200, lines.clone(), NOW));
    if let Ok(kept) = judge(&asked, Asker { is_known: true }, &told, NOW, 1) {
        assert!(kept.is_shared && !told.sets_cookie && !told.vary.is_any());
        assert!(kept.age_s(u64::MAX) <= SECONDS_MAX && kept.lifetime_s <= SECONDS_MAX.max(24 * 3600));
    }
    let mut by = vary::Vary::default();
    lines.clone().for_each(|(_, value)| by.read(value));
    if let Some(variant) = by.select(lines.clone()) {
        assert!(variant.matches(lines.clone()), "who said it says the same again");
    }
    for name in [groups::GROUPS, groups::INVALIDATION] {
        if let Ok(all) = groups::read(lines.clone(), name) {
            assert!(
                all.len() <= groups::GROUPS_MAX && all.iter().all(|it| it.len() <= groups::GROUP_BYTES_MAX)
            );
        }
    }
    if let Part::Of(range) = part(bytes, 1000) {
        assert!(range.start < range.end && range.end <= 1000);
    }
    let _ = date::read(bytes, NOW);
    assert!(key::parts(bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
}
