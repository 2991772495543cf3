//! HTTP/2 frame by frame: what no library would send, and what of a head and its trailers arrives.

use std::io::Read;

use crate::harness::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Literal fields, none of which is remembered (RFC 7541, 6.2.2).
fn block(fields: Fields<'_>) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// How a stream was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Ok,
    BadRequest,
    Reset,
    Otherwise,
}

/// Sends one request, its body and its trailers where it has any, and reads how it is answered.
fn ask(balancer: &Balancer, head: Fields<'_>, trailers: Option<Fields<'_>>) -> Answered {
    let mut client = balancer.client();
    client.send(skep_balancer::listen::http2::PREFACE);
    client.send(frame(4, 0, 0, &[]));
    let ends = if trailers.is_none() { END_STREAM } else { 0 };
    client.send(frame(HEADERS, END_HEADERS | ends, 1, &block(head)));
    if let Some(trailers) = trailers {
        client.send(frame(DATA, 0, 1, b"hello"));
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    loop {
        let mut head = [0; 9];
        client.0.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        client.0.read_exact(&mut payload).unwrap();
        match (head[3], payload.first(), head[8]) {
            // Those of the static table (RFC 7541, appendix A).
            (HEADERS, Some(0x88), 1) => return Answered::Ok,
            (HEADERS, Some(0x8c), 1) => return Answered::BadRequest,
            (HEADERS, _, 1) => return Answered::Otherwise,
            (RST_STREAM, _, 1) => return Answered::Reset,
            _ => {}
        }
    }
}

fn get_of<'a>(path: &'a str, more: Fields<'a>) -> Vec<(&'a str, &'a str)> {
    let head = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a.test")];
    [&head[..], more].concat()
}

fn echo() -> Scripted {
    Scripted::start(|served| {
        while let Some(head) = served.head() {
            let chunked = head.contains("transfer-encoding: chunked");
            if chunked && read_until(&mut served.stream, b"0\r\nx-sum: 1\r\n\r\n").is_none() {
                return;
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn white_space_around_a_value_is_malformed() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    for value in [" x", "x ", "\tx", "x\t", " "] {
        for name in ["x-a", "cookie", "host"] {
            let answered = ask(&balancer, &get_of("/", &[(name, value)]), None);
            assert_eq!(answered, Answered::BadRequest, "{name}: {value:?}");
        }
    }
    assert_eq!(backend.heads(), [""; 0]);
    assert_eq!(ask(&balancer, &get_of("/", &[("x-a", "x y"), ("x-b", "")]), None), Answered::Ok);
}

#[test]
fn a_path_that_is_none_reaches_no_backend() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    for path in ["", "x", "?x", "*", "http://b.test/", "/a b", "/\u{e9}"] {
        let answered = ask(&balancer, &get_of(path, &[]), None);
        assert!(matches!(answered, Answered::BadRequest | Answered::Reset), "{path:?}: {answered:?}");
    }
    assert_eq!(backend.heads(), [""; 0]);
    let mut options = get_of("*", &[]);
    options[0].1 = "OPTIONS";
    assert_eq!(ask(&balancer, &options, None), Answered::Ok);
    assert!(backend.heads()[0].starts_with("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n"));
}

#[test]
fn an_authority_with_the_schemes_own_port_is_the_host_without() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    let mut request = get_of("/", &[("host", "A.test")]);
    request[3].1 = "a.test:80";
    assert_eq!(ask(&balancer, &request, None), Answered::Ok);
    assert!(backend.heads()[0].contains("\r\nhost: a.test:80\r\n"), "{:?}", backend.heads());
    request[4].1 = "a.test:8080";
    assert_eq!(ask(&balancer, &request, None), Answered::BadRequest);
}

#[test]
fn the_wish_for_trailers_arrives_with_the_version_that_it_came_by() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    assert_eq!(ask(&balancer, &get_of("/", &[("te", "trailers")]), None), Answered::Ok);
    let head = backend.heads().remove(0);
    assert!(head.contains("\r\nconnection: te\r\nte: trailers\r\n"), "{head}");
    assert!(head.contains("\r\nvia: 2.0 skep\r\n"), "{head}");
}

#[test]
fn trailers_arrive_but_for_those_that_only_a_head_may_have() {
    let backend = echo();
    let balancer = Balancer::start(&[backend.address]);
    let mut post = get_of("/", &[]);
    post[0].1 = "POST";
    assert_eq!(ask(&balancer, &post, Some(&[("x-sum", "1")])), Answered::Ok);
    for trailer in [
        ("host", "b.test"),
        ("content-length", "5"),
        ("authorization", "x"),
        ("x-forwarded-for", "9.9.9.9"),
        ("x_real_ip", "9.9.9.9"),
        ("x-sum", " 1"),
    ] {
        assert_eq!(ask(&balancer, &post, Some(&[trailer])), Answered::BadRequest, "{trailer:?}");
    }
}
