//! The PROXY protocol, versions 1 and 2: whom a proxy before this one speaks for. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, CRLF included.
const V1_LEN_MAX: usize = 107;
/// Most bytes behind the fixed part of version 2 that are skipped (addresses and TLVs).
const V2_LEN_MAX: usize = 4096;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// None where the proxy speaks for itself, as in a health check.
    pub source: Option<SocketAddr>,
    /// Bytes that the header takes.
    pub len: usize,
}

/// Bytes that are no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PROXY protocol header: {0}")]
pub struct NoHeader(&'static str);

/// Reads a header from the start of `buf`; `None` where it is not whole yet.
pub fn parse(buf: &[u8]) -> Result<Option<Header>, NoHeader> {
    let v2 = buf.len().min(V2_SIGNATURE.len());
    let v1 = buf.len().min(6);
    if buf[..v1] == b"PROXY "[..v1] {
        return parse_v1(buf);
    }
    if buf[..v2] == V2_SIGNATURE[..v2] {
        return parse_v2(buf);
    }
    Err(NoHeader("no signature"))
}

fn parse_v1(buf: &[u8]) -> Result<Option<Header>, NoHeader> {
    const BAD: NoHeader = NoHeader("a malformed line");
    let window = &buf[..buf.len().min(V1_LEN_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if buf.len() >= V1_LEN_MAX { Err(BAD) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| BAD)?;
    let mut words = line.split(' ').skip(1);
    let protocol = words.next().ok_or(BAD)?;
    let len = end + 2;
    if protocol == "UNKNOWN" {
        return Ok(Some(Header { source: None, len }));
    }
    let mut ip = || words.next().and_then(|word| word.parse::<IpAddr>().ok()).ok_or(BAD);
    let (source, destination) = (ip()?, ip()?);
    let mut port = || words.next().and_then(|word| word.parse::<u16>().ok()).ok_or(BAD);
    let (source_port, _) = (port()?, port()?);
    let family = match protocol {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !family || words.next().is_some() {
        return Err(BAD);
    }
    Ok(Some(Header { source: Some((source, source_port).into()), len }))
}

fn parse_v2(buf: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some(fixed) = buf.get(12..16) else { return Ok(None) };
    let (command, family) = (fixed[0], fixed[1]);
    let rest = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if command >> 4 != 2 || rest > V2_LEN_MAX {
        return Err(NoHeader("another version, or too long"));
    }
    let len = 16 + rest;
    let Some(addresses) = buf.get(16..len) else { return Ok(None) };
    let short = NoHeader("addresses are missing");
    let source = match (command & 15, family) {
        (0, _) | (1, 0) => None,
        (1, 0x11) => {
            let bytes: [u8; 12] = addresses.get(..12).and_then(|b| b.try_into().ok()).ok_or(short)?;
            let ip = Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
            Some((ip, u16::from_be_bytes([bytes[8], bytes[9]])).into())
        }
        (1, 0x21) => {
            let bytes: [u8; 36] = addresses.get(..36).and_then(|b| b.try_into().ok()).ok_or(short)?;
            let mut ip = [0; 16];
            ip.copy_from_slice(&bytes[..16]);
            Some((Ipv6Addr::from(ip), u16::from_be_bytes([bytes[32], bytes[33]])).into())
        }
        (1, _) => None,
        _ => return Err(NoHeader("an unknown command")),
    };
    Ok(Some(Header { source, len }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    #[test]
    fn both_versions_name_the_source() {
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 80;
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n".to_vec(), Some("192.0.2.1:5")),
            (b"PROXY TCP6 ::1 ::2 5 80\r\n".to_vec(), Some("[::1]:5")),
            (b"PROXY UNKNOWN whatever\r\n".to_vec(), None),
            (v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0, 5, 0, 80, 9, 9]), Some("192.0.2.1:5")),
            (v2(0x21, 0x21, &v6), Some("[::1]:80")),
            (v2(0x20, 0, &[]), None),
        ] {
            let source = source.map(|text| text.parse().unwrap());
            let len = header.len();
            let mut more = header.clone();
            more.extend(b"GET / HTTP/1.1\r\n");
            assert_eq!(parse(&more), Ok(Some(Header { source, len })));
            for end in 0..len {
                assert_eq!(parse(&header[..end]), Ok(None), "cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for header in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::2 5 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80 6\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5\r\n".to_vec(),
            [b"PROXY ".to_vec(), vec![b'a'; 200]].concat(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
        ] {
            assert!(parse(&header).is_err(), "{:?}", String::from_utf8_lossy(&header));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), signed in any::<bool>()) {
            let mut header = if signed { V2_SIGNATURE.to_vec() } else { Vec::new() };
            header.extend(bytes);
            if let Ok(Some(read)) = parse(&header) {
                prop_assert!(read.len <= header.len());
            }
        }
    }
}
