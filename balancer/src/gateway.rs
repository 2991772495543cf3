//! One verdict a request: whether it is answered here, or where it goes and how.
//!
//! Both protocols ask [`Gateway::judge`] as soon as a head is read, and before it is written for a
//! backend. What is decided of a request is decided here; nothing behind it sees a path.

mod builtin;
mod hops;
mod ready;

use std::borrow::Cow;
use std::rc::Rc;

use crate::core::worker::Worker;
use crate::forward::dispatch::Dispatch;
use crate::forward::plan::Plan;
use crate::wire::request_head::RequestHead;
use crate::wire::write::Framing;

use self::builtin::Known;

/// A request, as far as it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub head: &'a RequestHead,
    /// What the head was read from.
    pub buf: &'a [u8],
}

impl Asked<'_> {
    /// The value of its first end-to-end field of that name, which is in lower case.
    fn field(&self, name: &str) -> Option<&[u8]> {
        let named = |name_of: &[u8]| name_of.eq_ignore_ascii_case(name.as_bytes());
        self.head.fields.iter().find(|it| named(it.name.of(self.buf))).map(|it| it.value.of(self.buf))
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    Forward(Plan),
    Answer(Answer),
}

/// An answer of the balancer's own, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub reason: &'static str,
    /// A field's name, in lower case, and its value.
    pub field: (&'static str, &'static str),
    pub body: Cow<'static, [u8]>,
}

impl Answer {
    /// A line of text.
    const fn text(status: u16, reason: &'static str, text: &'static str) -> Self {
        Self { status, reason, field: ("content-type", "text/plain"), body: Cow::Borrowed(text.as_bytes()) }
    }

    /// The whole of it for an HTTP/1.x client.
    pub fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        let Self { status, reason, field: (name, value), body } = self;
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\n{name}: {value}\r\ncache-control: no-store\r\ncontent-length: {}\r\n",
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        framing.write_connection(None, false, out);
        framing.write_date(out);
        out.extend_from_slice(b"\r\n");
        if !framing.is_head {
            out.extend_from_slice(body);
        }
    }
}

/// Judges the requests of one core.
#[derive(Debug)]
pub struct Gateway {
    worker: Rc<Worker>,
    skep: Rc<Dispatch>,
}

impl Gateway {
    /// `skep` is the pool that all requests go to.
    pub fn new(worker: Rc<Worker>, skep: Rc<Dispatch>) -> Self {
        Self { worker, skep }
    }

    pub fn judge(&self, asked: Asked<'_>) -> Verdict {
        let (head, settings, are_nodes) = (asked.head, self.worker.settings(), self.skep.pool.are_nodes);
        let mut plan = Plan {
            pool: self.skep.clone(),
            repeatable: head.method.is_idempotent() || (are_nodes && head.has_idempotency_key),
            key: None,
            answer_within: settings.request_timeout,
        };
        if head.max_forwards == Some(0) {
            return Verdict::Answer(hops::answer(&asked));
        }
        match builtin::known(head.method, &head.target(asked.buf).whole()) {
            Known::Ready => return Verdict::Answer(ready::answer(&self.worker, &self.skep, &asked)),
            Known::NamedByContent => plan.repeatable |= are_nodes,
            Known::Digest(key) => plan.key = Some(key).filter(|_| are_nodes && settings.by_digest),
            Known::Nothing => {}
        }
        Verdict::Forward(plan)
    }
}

#[cfg(test)]
mod tests;
