//! The few bytes of protobuf and gRPC framing that etcd's KV service needs.
//!
//! Source: etcd `api/etcdserverpb/rpc.proto` (3.5) and the gRPC-over-HTTP/2 protocol.

/// Bytes before each gRPC message: a compression flag and a big-endian length.
pub const GRPC_PREFIX_BYTES: usize = 5;

/// What a `RangeResponse` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RangeAnswer {
    /// Field 4: how many keys match.
    pub count: u64,
    /// Bytes of the first key-value's value.
    pub value_bytes: usize,
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes_field(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn framed(write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; GRPC_PREFIX_BYTES]);
    write(out);
    let len = (out.len() - start - GRPC_PREFIX_BYTES) as u32;
    out[start + 1..start + GRPC_PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
}

/// Appends a framed `PutRequest { key, value }`.
pub fn put_request(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    framed(
        |out| {
            put_bytes_field(1, key, out);
            put_bytes_field(2, value, out);
        },
        out,
    );
}

/// Appends a framed `RangeRequest { key }`: one key, and linearizable, which is the default.
pub fn range_request(key: &[u8], out: &mut Vec<u8>) {
    framed(|out| put_bytes_field(1, key, out), out);
}

/// The message inside one gRPC frame, where the bytes are exactly one uncompressed frame.
pub fn unframed(bytes: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_at_checked(GRPC_PREFIX_BYTES)?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    (prefix[0] == 0 && len as usize == message.len()).then_some(message)
}

/// A value of one field.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = take_varint(bytes)?;
    let fixed = |bytes: &mut &'a [u8], len| {
        *bytes = bytes.get(len..)?;
        Some(Field::Fixed)
    };
    let field = match tag & 7 {
        0 => Field::Varint(take_varint(bytes)?),
        1 => fixed(bytes, 8)?,
        2 => {
            let len = usize::try_from(take_varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Field::Bytes(value)
        }
        5 => fixed(bytes, 4)?,
        _ => return None,
    };
    Some((tag >> 3, field))
}

/// Whether a `PutResponse` has its header, which every one has that was carried out.
pub fn is_put_response(mut message: &[u8]) -> bool {
    matches!(take_field(&mut message), Some((1, Field::Bytes(_))))
}

/// Reads a `RangeResponse`.
pub fn range_response(mut message: &[u8]) -> Option<RangeAnswer> {
    let mut answer = RangeAnswer::default();
    while !message.is_empty() {
        match take_field(&mut message)? {
            (2, Field::Bytes(mut pair)) if answer.value_bytes == 0 => {
                while !pair.is_empty() {
                    if let (5, Field::Bytes(value)) = take_field(&mut pair)? {
                        answer.value_bytes = value.len();
                    }
                }
            }
            (4, Field::Varint(count)) => answer.count = count,
            _ => {}
        }
    }
    Some(answer)
}

/// A framed `PutResponse`, for servers in tests.
pub fn put_response(out: &mut Vec<u8>) {
    framed(|out| put_bytes_field(1, &[0x18, 1], out), out);
}

/// A framed `RangeResponse` of one key or of none, for servers in tests.
pub fn range_response_of(pair: Option<(&[u8], &[u8])>, out: &mut Vec<u8>) {
    framed(
        |out| {
            put_bytes_field(1, &[0x18, 1], out);
            if let Some((key, value)) = pair {
                let mut inner = Vec::new();
                put_bytes_field(1, key, &mut inner);
                put_bytes_field(5, value, &mut inner);
                put_bytes_field(2, &inner, out);
                out.extend_from_slice(&[4 << 3, 1]);
            }
        },
        out,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_request_has_the_bytes_that_protobuf_says() {
        let mut out = Vec::new();
        put_request(b"k", &[b'v'; 130], &mut out);
        assert_eq!(out[..5], [0, 0, 0, 0, 136]);
        assert_eq!(out[5..8], [0x0a, 1, b'k']);
        assert_eq!(out[8..11], [0x12, 0x82, 0x01]);
        assert_eq!(out.len(), 5 + 3 + 3 + 130);
    }

    #[test]
    fn a_range_response_gives_count_and_size() {
        let mut out = Vec::new();
        range_response_of(Some((b"key", &[1; 100])), &mut out);
        let answer = range_response(unframed(&out).unwrap()).unwrap();
        assert_eq!(answer, RangeAnswer { count: 1, value_bytes: 100 });
        out.clear();
        range_response_of(None, &mut out);
        assert_eq!(range_response(unframed(&out).unwrap()), Some(RangeAnswer::default()));
    }

    #[test]
    fn a_response_cut_anywhere_is_no_frame() {
        let mut out = Vec::new();
        put_response(&mut out);
        assert!(is_put_response(unframed(&out).unwrap()));
        for end in 0..out.len() {
            assert_eq!(unframed(&out[..end]), None);
        }
    }
}
