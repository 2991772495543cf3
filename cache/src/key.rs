//! What a stored answer is found by. Each part has its length before it: no two lists of parts are one key.

/// A key of these parts.
pub fn key(parts: &[&[u8]]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + size_of::<u32>()).sum());
    for part in parts {
        // Parts of a head, which is far shorter.
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out.into()
}

/// The parts of a key. Of what is none, those that can be told.
pub fn parts(mut key: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = key.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        key = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn other_parts_are_another_key(
            one in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..4),
            other in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..4),
        ) {
            let of = |parts: &[Vec<u8>]| key(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(of(&one) == of(&other), one == other);
            prop_assert!(parts(&of(&one)).eq(one.iter().map(Vec::as_slice)));
        }

        #[test]
        fn any_bytes_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(parts(&bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn where_a_part_ends_says_something() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    }
}
