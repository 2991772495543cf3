//! What is written in place of what ended at this hop: a request's head for a backend, and what
//! heads are made of. Pure.

use std::sync::Arc;

use skep_gateway::ask::{Ask, IS_QUESTION, METHOD, URI};
use skep_gateway::auth::{Auth, Known};
use skep_gateway::fields::{Edits, OF_CONSUMERS, is_of_consumers};

use crate::wire::fields::Field;
use crate::wire::request_head::{BodyLength, RequestHead};

/// `Via`, with the version of HTTP that a message came by (RFC 9110, 7.6.3).
pub const VIA_HTTP_1_0: &str = "1.0 skep";
pub const VIA_HTTP_1_1: &str = "1.1 skep";
/// A version with no minor number has 0 where one is needed (RFC 9110, 2.5).
const VIA_HTTP_2: &str = "2.0 skep";

/// A time of day as HTTP writes it (RFC 9110, 5.6.7).
pub type Date = [u8; 29];

/// How an answer's head for an HTTP/1.x client ends.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    pub close: bool,
    /// To an HTTP/1.0 client that asked for it, keeping alive is said.
    pub say_keep_alive: bool,
    /// Whether a body whose length is not known goes on chunked; else it ends with the connection.
    pub chunked: bool,
    /// Fields that an answer may only have where its request was HEAD.
    pub is_head: bool,
    /// When this is, where nobody has said so yet.
    pub date: Date,
}

impl Framing {
    /// Of an answer to a request that is not read: the connection ends with it.
    pub fn alone(date: Date) -> Self {
        Self { close: true, say_keep_alive: false, chunked: true, is_head: false, date }
    }

    /// Writes Connection and Upgrade, where there is something to say.
    pub fn write_connection(&self, upgrade: Option<&[u8]>, is_interim: bool, out: &mut Vec<u8>) {
        let option: &[u8] = match (is_interim, self.close, self.say_keep_alive) {
            (true, ..) | (_, false, false) => b"",
            (_, true, _) => b"close",
            (_, false, true) => b"keep-alive",
        };
        if option.is_empty() && upgrade.is_none() {
            return;
        }
        out.extend_from_slice(b"connection: ");
        if let Some(protocol) = upgrade {
            out.extend_from_slice(if option.is_empty() { b"upgrade" } else { b"upgrade, " });
            out.extend_from_slice(option);
            out.extend_from_slice(b"\r\nupgrade: ");
            out.extend_from_slice(protocol);
        } else {
            out.extend_from_slice(option);
        }
        out.extend_from_slice(b"\r\n");
    }

    pub fn write_date(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&self.date);
        out.extend_from_slice(b"\r\n");
    }
}

/// What is said of the client to the backend.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The address as `X-Forwarded-For` writes it.
    pub address: &'a str,
    /// The same as `Forwarded` writes it: IPv6 quoted and in brackets.
    pub node: &'a str,
    /// `http` or `https`.
    pub proto: &'static str,
    /// Whether the request came by HTTP/2.
    pub http2: bool,
    /// Whether what it says of earlier hops is believed.
    pub trusted: bool,
}

/// What an answer says of how often its route may be asked (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug)]
pub struct RateLimit {
    pub policy: Arc<str>,
    /// What is left.
    pub said: String,
}

impl RateLimit {
    pub const POLICY: &str = "ratelimit-policy";
    pub const SAID: &str = "ratelimit";

    pub fn fields(&self) -> [(&str, &str); 2] {
        [(Self::POLICY, &self.policy), (Self::SAID, &self.said)]
    }
}

/// What of a head is written otherwise than it came, because a route says so.
#[derive(Debug, Clone, Copy)]
pub struct Rewrite<'a> {
    /// Path and query.
    pub target: &'a [u8],
    /// None: the client's.
    pub host: Option<&'a str>,
    pub edits: &'a Edits,
    /// What was asked of who asks.
    pub auth: Option<&'a Auth>,
    /// Who that is.
    pub consumer: Option<&'a Known>,
    /// What was asked of a service, and what fields the request has from its answer.
    pub ask: Option<(&'a Ask, &'a [Taken])>,
}

/// A field of a service's answer, its name in lower case.
pub type Taken = (String, Vec<u8>);

impl Rewrite<'_> {
    /// Whether a field that the client sent falls. Who was authenticated is for the balancer alone to say.
    fn drops(&self, name: &[u8], value: &[u8]) -> bool {
        self.edits.drops(name)
            || is_of_consumers(name)
            || self.ask.is_some_and(|(ask, _)| ask.takes(name))
            || self.auth.is_some_and(|auth| auth.drops(name, value))
    }

    /// Writes what no client sent.
    fn write_added(&self, out: &mut Vec<u8>) {
        for (name, value) in self.edits.added() {
            write_added(name, value, out);
        }
        for (name, value) in self.ask.iter().flat_map(|(_, taken)| *taken) {
            write_bytes(name, value, out);
        }
        write_consumer(self.consumer, out);
    }
}

/// Who asks, where that was proved.
fn write_consumer(consumer: Option<&Known>, out: &mut Vec<u8>) {
    let Some(consumer) = consumer else { return };
    let [id, groups] = OF_CONSUMERS;
    write_added(id, &consumer.name, out);
    if !consumer.groups_said.is_empty() {
        write_added(groups, &consumer.groups_said, out);
    }
}

/// What a service is asked of a request before that goes on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub ask: &'a Ask,
    /// None: the client's.
    pub host: Option<&'a str>,
    /// The request's path and query, without keys.
    pub uri: &'a [u8],
    /// What was asked of who asks.
    pub auth: Option<&'a Auth>,
    /// Who that is.
    pub consumer: Option<&'a Known>,
}

impl Question<'_> {
    /// Writes the head of that question, which has no body whatever the request has.
    pub fn write(
        self,
        head: &RequestHead,
        buf: &[u8],
        client: Client<'_>,
        request_id: &[u8],
        out: &mut Vec<u8>,
    ) {
        let host = head.host.map(|host| host.of(buf)).unwrap_or_default();
        for part in [b"GET ", self.ask.path.as_bytes(), b" HTTP/1.1\r\nhost: "] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(self.host.map_or(host, str::as_bytes));
        out.extend_from_slice(b"\r\n");
        // A key goes no further, here as elsewhere.
        let is_sent = |name: &[u8], value: &[u8]| {
            self.ask.sends(name) && !self.auth.is_some_and(|auth| auth.drops(name, value))
        };
        for field in head.fields.iter().filter(|it| is_sent(it.name.of(buf), it.value.of(buf))) {
            write_field(buf, field, out);
        }
        write_consumer(self.consumer, out);
        write_bytes(METHOD, head.method_span.of(buf), out);
        write_bytes(URI, self.uri, out);
        write_added(IS_QUESTION, "1", out);
        // Whom a trusted proxy stands for may matter; what is asked about is what was matched here, whatever it says.
        let stays = |field: &&Field| field.name.of(buf).eq_ignore_ascii_case(b"x-forwarded-for");
        write_origin(head, buf, client, host, stays, out);
        write_bytes("x-request-id", request_id, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// The same of bytes.
pub fn write_bytes(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The request line that the backend gets.
pub fn write_line(head: &RequestHead, buf: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(head.method_span.of(buf));
    out.push(b' ');
    head.target(buf).write(out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes the head that the backend gets, in origin-form and HTTP/1.1.
pub fn write_request(
    head: &RequestHead,
    buf: &[u8],
    client: Client<'_>,
    request_id: &[u8],
    rewrite: Option<Rewrite<'_>>,
    out: &mut Vec<u8>,
) {
    match rewrite {
        None => write_line(head, buf, out),
        Some(it) => {
            out.extend_from_slice(head.method_span.of(buf));
            out.push(b' ');
            out.extend_from_slice(it.target);
            out.extend_from_slice(b" HTTP/1.1\r\n");
        }
    }
    out.extend_from_slice(b"host: ");
    let host = head.host.map(|host| host.of(buf)).unwrap_or_default();
    out.extend_from_slice(rewrite.and_then(|it| it.host).map_or(host, str::as_bytes));
    out.extend_from_slice(b"\r\n");
    let stays = |field: &&Field| rewrite.is_none_or(|it| !it.drops(field.name.of(buf), field.value.of(buf)));
    for field in head.fields.iter().filter(stays) {
        write_field(buf, field, out);
    }
    if let Some(rewrite) = rewrite {
        rewrite.write_added(out);
    }
    match head.body {
        BodyLength::None => {}
        BodyLength::Length(bytes) => {
            out.extend_from_slice(b"content-length: ");
            write_number(bytes, out);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(hops) = head.max_forwards {
        out.extend_from_slice(b"max-forwards: ");
        write_number(hops.saturating_sub(1), out);
        out.extend_from_slice(b"\r\n");
    }
    if head.expects_continue {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    if let Some(upgrade) = head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(upgrade.of(buf));
        out.extend_from_slice(b"\r\n");
    } else if head.te_trailers {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
    write_origin(head, buf, client, host, stays, out);
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(request_id);
    out.extend_from_slice(b"\r\n\r\n");
}

/// `Via`, `Forwarded` (RFC 7239) and what came before it.
fn write_origin(
    head: &RequestHead,
    buf: &[u8],
    client: Client<'_>,
    host: &[u8],
    stays: impl Fn(&&Field) -> bool,
    out: &mut Vec<u8>,
) {
    let (mut told_proto, mut told_host) = (false, false);
    if client.trusted {
        for field in head.forwarded.iter().filter(stays) {
            let name = field.name.of(buf);
            told_proto |= name.eq_ignore_ascii_case(b"x-forwarded-proto");
            told_host |= name.eq_ignore_ascii_case(b"x-forwarded-host");
            write_field(buf, field, out);
        }
    }
    let via = match (client.http2, head.old) {
        (true, _) => VIA_HTTP_2,
        (false, true) => VIA_HTTP_1_0,
        (false, false) => VIA_HTTP_1_1,
    };
    out.extend_from_slice(b"via: ");
    out.extend_from_slice(via.as_bytes());
    out.extend_from_slice(b"\r\nforwarded: for=");
    out.extend_from_slice(client.node.as_bytes());
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(client.proto.as_bytes());
    if !host.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\nx-forwarded-for: ");
    out.extend_from_slice(client.address.as_bytes());
    if !told_proto {
        out.extend_from_slice(b"\r\nx-forwarded-proto: ");
        out.extend_from_slice(client.proto.as_bytes());
    }
    if !told_host && !host.is_empty() {
        out.extend_from_slice(b"\r\nx-forwarded-host: ");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(b"\r\n");
}

/// A field that no client or backend sent.
pub fn write_added(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub fn write_field(buf: &[u8], field: &Field, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name.of(buf));
    out.extend_from_slice(b": ");
    out.extend_from_slice(field.value.of(buf));
    out.extend_from_slice(b"\r\n");
}

/// Decimal, without the machinery of `format!`.
pub fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
