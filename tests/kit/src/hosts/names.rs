//! A name server that is as bad as some: it tells IPv4 addresses, and is silent when asked for others.

use std::net::{IpAddr, UdpSocket};

const A: u16 = 1;
const HEAD_BYTES: usize = 12;

/// Answers for as long as the process lives, in the namespace of who started it.
pub struct NameServer;

impl NameServer {
    pub fn start(address: &str, names: Vec<(String, IpAddr)>) {
        let socket = UdpSocket::bind(address).expect("the name server's port is free");
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                if let Some(answer) = answer(&question[..length], &names) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
    }
}

/// RFC 1035, section 4: one question, and of an A record its answer; none where it stays silent.
fn answer(question: &[u8], names: &[(String, IpAddr)]) -> Option<Vec<u8>> {
    let mut at = HEAD_BYTES;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    let name = labels.join(".");
    if kind != A || name.starts_with("silent") {
        return None;
    }
    let found = names.iter().find(|(known, _)| *known == name).map(|(_, address)| *address);
    let mut out = question.get(..end)?.to_vec();
    // An answer, recursion available; 3 is NXDOMAIN.
    out[2..4].copy_from_slice(if found.is_some() { &[0x81, 0x80] } else { &[0x81, 0x83] });
    out[4..HEAD_BYTES].copy_from_slice(&[0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
    if let Some(IpAddr::V4(address)) = found {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}
