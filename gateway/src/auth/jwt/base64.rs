//! Base64 as tokens have it (RFC 4648, 5): its own alphabet, no padding, no bits that say nothing. One text for each
//! bytes, so that nobody has a second spelling of a token.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Of no letter.
const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// The bytes of a text; None where it is not the one text of any.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (whole, rest) = text.as_chunks::<4>();
    for part in whole {
        let [a, b, c, d] = part.map(|letter| VALUES[usize::from(letter)]);
        // It alone has all bits, and the highest: what others come to has not.
        if a | b | c | d == NONE {
            return None;
        }
        let bits = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
        let [_, first, second, third] = bits.to_be_bytes();
        bytes.extend_from_slice(&[first, second, third]);
    }
    for part in rest.chunks(4) {
        let mut bits = 0_u32;
        for letter in part {
            let value = VALUES[usize::from(*letter)];
            if value == NONE {
                return None;
            }
            bits = bits << 6 | u32::from(value);
        }
        let [_, first, second, third] = (bits << (6 * (4 - part.len()))).to_be_bytes();
        match part.len() {
            3 if third == 0 => bytes.extend_from_slice(&[first, second]),
            2 if second == 0 && third == 0 => bytes.push(first),
            _ => return None,
        }
    }
    Some(bytes)
}

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let byte = |at: usize| u32::from(part.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..=part.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use skep_base::random::Random;

    use super::*;

    #[test]
    fn bytes_have_one_text_and_other_texts_are_of_no_bytes() {
        // RFC 4648, 10, without padding; and RFC 7515, appendix C.
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[3, 236, 255, 224, 193], "A-z_4ME"),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes));
        }
        for text in [
            "Z", "Zg==", "Zm8=", "Zh", "Zm9", "Zm9vY", "Zm 9v", "Zm9v\n", "A+z/4ME", "Zm9v.", "Zmé", "=", "A",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn whatever_is_decoded_is_encoded_as_it_was() {
        let mut random = Random::new(3);
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..random.below(12)).map(|_| b"AQgwZ_-8=+"[random.below(10)]).collect();
            if let Some(bytes) = decode(&text) {
                assert_eq!(encode(&bytes).as_bytes(), text);
            }
        }
    }
}
