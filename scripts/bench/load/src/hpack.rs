//! As much of HPACK (RFC 7541) as a gRPC call needs.
//!
//! Requests use the dynamic table as any client does. Answers cannot: the connection's settings
//! give the server's table no room, so that every field stands by itself. Of an answer only
//! `:status` and `grpc-status` are read; all else is stepped over.

/// "grpc-status" in the code of RFC 7541, appendix B.
const GRPC_STATUS_HUFFMAN: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
const GRPC_STATUS: &[u8] = b"grpc-status";

/// Entries of the static table.
const STATIC_ENTRIES: usize = 61;
/// Where `:status` stands in it, with seven values.
const STATUS_FIRST: usize = 8;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// The fields that matter of one header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields {
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
}

/// The header block of a gRPC request. The first on a connection puts into the server's table what
/// the others then refer to.
pub fn request(path: &[u8], authority: &[u8], is_first: bool, out: &mut Vec<u8>) {
    // `:method POST`, `:scheme http`, and `:path` by a name of the static table.
    out.extend_from_slice(&[0x83, 0x86, 0x04]);
    string(path, out);
    if is_first {
        out.push(0x41);
        string(authority, out);
        out.push(0x5f);
        string(b"application/grpc", out);
        out.push(0x40);
        string(b"te", out);
        string(b"trailers", out);
    } else {
        // The newest entry of the dynamic table is 62.
        out.extend_from_slice(&[0x80 | 64, 0x80 | 63, 0x80 | 62]);
    }
}

/// A short string as it is.
fn string(text: &[u8], out: &mut Vec<u8>) {
    debug_assert!(text.len() < 127);
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// Reads a header block; `None` where it is malformed or refers to a dynamic table.
pub fn answer(mut block: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    while let Some(&first) = block.first() {
        if first & 0x80 != 0 {
            let index = integer(&mut block, 7)?;
            let status = index.checked_sub(STATUS_FIRST).and_then(|at| STATUSES.get(at));
            fields.status = status.copied().or(fields.status);
            if index == 0 || index > STATIC_ENTRIES {
                return None;
            }
        } else if first & 0xe0 == 0x20 {
            integer(&mut block, 5)?;
        } else {
            let index = integer(&mut block, if first & 0x40 != 0 { 6 } else { 4 })?;
            let (mut is_status, mut is_grpc_status) = (false, false);
            match index {
                0 => {
                    let (coded, name) = take_string(&mut block)?;
                    is_grpc_status = name == if coded { GRPC_STATUS_HUFFMAN } else { GRPC_STATUS };
                }
                index if index > STATIC_ENTRIES => return None,
                index => is_status = (STATUS_FIRST..STATUS_FIRST + STATUSES.len()).contains(&index),
            }
            let (coded, value) = take_string(&mut block)?;
            if is_status || is_grpc_status {
                let number = Some(if coded { coded_number(value)? } else { number(value)? });
                *(if is_status { &mut fields.status } else { &mut fields.grpc_status }) = number;
            }
        }
    }
    Some(fields)
}

/// RFC 7541, 5.1: an integer whose first byte has a prefix of so many bits.
fn integer(block: &mut &[u8], prefix_bits: u32) -> Option<usize> {
    let (&first, mut rest) = block.split_first()?;
    let mask = (1usize << prefix_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            // No length or index of ours is that large.
            if shift > 21 {
                return None;
            }
        }
    }
    *block = rest;
    Some(value)
}

/// A string and whether it is in the code of appendix B.
fn take_string<'a>(block: &mut &'a [u8]) -> Option<(bool, &'a [u8])> {
    let coded = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some((coded, text))
}

fn number(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Digits in the code of appendix B: 0 to 2 are 5 bits, the others 6; the rest of the last byte is
/// ones.
fn coded_number(coded: &[u8]) -> Option<u16> {
    let word = coded
        .iter()
        .try_fold(0u32, |word, &byte| (word >> 24 == 0).then_some(word << 8 | u32::from(byte)))?;
    let mut left = coded.len() * 8;
    let mut value = 0u16;
    let mut take = |bits: usize| {
        left = left.checked_sub(bits)?;
        Some((word >> left) & ((1 << bits) - 1))
    };
    let mut digits = 0;
    while let Some(five) = take(5) {
        let digit = match five {
            0..=2 => five,
            12..=15 => {
                let six = five << 1 | take(1)?;
                six.checked_sub(0x19)? + 3
            }
            31 => break,
            _ => return None,
        };
        value = value.checked_mul(10)?.checked_add(digit as u16)?;
        digits += 1;
    }
    (digits > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_literals_is_read() {
        // As grpc-go encodes it: a table size of 0, `:status 200`, then literals.
        let mut block = vec![0x20, 0x88, 0x0f, 0x10];
        string(b"application/grpc", &mut block);
        assert_eq!(answer(&block), Some(Fields { status: Some(200), grpc_status: None }));
        let mut trailers = vec![0x00, 0x80 | GRPC_STATUS_HUFFMAN.len() as u8];
        trailers.extend(GRPC_STATUS_HUFFMAN);
        string(b"14", &mut trailers);
        assert_eq!(answer(&trailers), Some(Fields { status: None, grpc_status: Some(14) }));
        let mut plain = vec![0x00];
        string(GRPC_STATUS, &mut plain);
        string(b"0", &mut plain);
        assert_eq!(answer(&plain).unwrap().grpc_status, Some(0));
    }

    #[test]
    fn a_status_that_is_not_in_the_table_is_read() {
        let mut block = vec![0x08];
        string(b"415", &mut block);
        assert_eq!(answer(&block).unwrap().status, Some(415));
        assert_eq!(answer(&[0x8d]).unwrap().status, Some(404));
    }

    #[test]
    fn coded_digits_are_read() {
        assert_eq!(coded_number(&[0b0000_0111]), Some(0));
        // 1 and 4, then ones.
        assert_eq!(coded_number(&[0b0000_1011, 0b0101_1111]), Some(14));
        assert_eq!(coded_number(&[0xff]), None);
    }

    #[test]
    fn what_is_malformed_or_dynamic_is_refused_without_a_panic() {
        for block in
            [&[0xbe][..], &[0x80], &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x00, 5, b'a'], &[0x7e, 0x00]]
        {
            assert_eq!(answer(block), None, "{block:x?}");
        }
    }
}
