//! An answer from what is stored: all of it, a part, its head, or that the client has it already.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use skep_cache::fields::is_in_304;
use skep_cache::range::{Part, part};

use super::Wanting;
use super::written::{CACHE_STATUS, write_length, write_stored};
use crate::core::cache::stored::{Head, Stored};
use crate::core::date::unix_s;
use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::forward::downstream::{Done, Downstream, Fault};
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;
use crate::wire::write::{write_added, write_number};

/// What is said of how an answer came from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Hit,
    /// It is beyond its time, and asked for anew beside.
    Stale,
    /// It is beyond its time, and the service fails.
    OnError,
    /// It was fetched for this request.
    Fetched,
    /// It was fetched for another that waited for the same.
    Collapsed,
    /// The service said that it still holds.
    Validated,
    ValidatedForAnother,
    /// Another took the place of what was stored.
    Replaced,
}

impl Said {
    /// `left_s` is for how long it is fresh still.
    pub(super) fn text(self, left_s: i64) -> String {
        match self {
            Self::Hit => format!("skep; hit; ttl={left_s}"),
            Self::Stale => format!("skep; hit; ttl={left_s}; detail=revalidating"),
            Self::OnError => format!("skep; hit; ttl={left_s}; detail=error"),
            Self::Fetched => "skep; fwd=miss; stored".to_owned(),
            Self::Collapsed => "skep; fwd=miss; collapsed".to_owned(),
            Self::Validated => "skep; fwd=stale; fwd-status=304".to_owned(),
            Self::ValidatedForAnother => "skep; fwd=stale; fwd-status=304; collapsed".to_owned(),
            Self::Replaced => "skep; fwd=stale; stored".to_owned(),
        }
    }

    /// Whether the client gets it as the service sent it just now.
    fn is_first_hand(self) -> bool {
        matches!(self, Self::Fetched | Self::Replaced)
    }
}

/// What is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Serving<'a> {
    pub stored: &'a Arc<Stored>,
    pub said: Said,
}

/// Which part of a stored answer goes to the client.
enum What {
    Whole,
    Had,
    Part(Range<u64>),
    NoPart,
}

fn what(wanting: &Wanting<'_>, stored: &Stored) -> What {
    let (asked, head) = (wanting.asked, &stored.head);
    if head.status != 200 {
        return What::Whole;
    }
    let (own, now_s) = (head.validators(), unix_s());
    if asked.is_conditional() && own.are_had(asked, now_s) {
        return What::Had;
    }
    match asked.range {
        Some(range) if wanting.request.method == Method::Get => {
            if asked.if_range.is_some_and(|it| !own.have_part(it, now_s)) {
                return What::Whole;
            }
            match part(range, stored.body.bytes.len() as u64) {
                Part::Whole => What::Whole,
                Part::Of(range) => What::Part(range),
                Part::None => What::NoPart,
            }
        }
        _ => What::Whole,
    }
}

/// Answers from what is stored.
pub(super) async fn serve<D: Downstream>(
    timer: &Timer,
    wanting: &Wanting<'_>,
    serving: Serving<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let Serving { stored, said } = serving;
    stored.use_it();
    let (head, len) = (&*stored.head, stored.body.bytes.len() as u64);
    let mut text = Vec::with_capacity(head.lines.len() + 256);
    let mut range = 0..len;
    match what(wanting, stored) {
        What::Whole => {
            write_stored(head, head.status, &head.reason, |_| true, &mut text);
            if head.status != 204 {
                write_length(len, &mut text);
            }
        }
        What::Had => {
            write_stored(head, 304, b"Not Modified", is_in_304, &mut text);
            range = 0..0;
        }
        What::Part(part) => {
            write_stored(head, 206, b"Partial Content", |_| true, &mut text);
            text.extend_from_slice(b"content-range: bytes ");
            for (number, sign) in [(part.start, b'-'), (part.end - 1, b'/')] {
                write_number(number, &mut text);
                text.push(sign);
            }
            write_number(len, &mut text);
            text.extend_from_slice(b"\r\n");
            write_length(part.end - part.start, &mut text);
            range = part;
        }
        What::NoPart => {
            write_stored(
                head,
                416,
                b"Range Not Satisfiable",
                |name| name.eq_ignore_ascii_case(b"date"),
                &mut text,
            );
            text.extend_from_slice(b"content-range: bytes */");
            write_number(len, &mut text);
            text.extend_from_slice(b"\r\n");
            write_length(0, &mut text);
            range = 0..0;
        }
    }
    end_head(head, said, &mut text);
    let mut sending = Sending { timer, limit: wanting.worker.settings().body_timeout, down, trail };
    sending.respond(wanting, &text)?;
    let body: &[u8] = match wanting.request.method {
        Method::Head => &[],
        _ => &stored.body.bytes[range.start as usize..range.end as usize],
    };
    sending.send(body).await?;
    sending.finish().await
}

/// Writes how old it is and what the cache did, and the blank line.
pub(super) fn end_head(head: &Head, said: Said, text: &mut Vec<u8>) {
    let resident_s = head.resident_s(Instant::now());
    if !said.is_first_hand() || head.says_age {
        text.extend_from_slice(b"age: ");
        write_number(head.kept.age_s(resident_s), text);
        text.extend_from_slice(b"\r\n");
    }
    write_added(CACHE_STATUS, &said.text(head.kept.left_s(resident_s)), text);
    text.extend_from_slice(b"\r\n");
}

/// 504: it was to be answered from what is stored, and nothing is (RFC 9111, 5.2.1.7).
pub(super) async fn not_there<D: Downstream>(
    timer: &Timer,
    wanting: &Wanting<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let text = b"HTTP/1.1 504 Gateway Timeout\r\ncache-control: no-store\r\ncontent-length: 0\r\n\r\n";
    let mut sending = Sending { timer, limit: wanting.worker.settings().body_timeout, down, trail };
    sending.respond(wanting, text)?;
    sending.finish().await
}

/// An answer on its way to the client.
pub(super) struct Sending<'a, D> {
    pub timer: &'a Timer,
    /// Time for the client to take something.
    pub limit: Duration,
    pub down: &'a mut D,
    pub trail: &'a mut Trail,
}

impl<D: Downstream> Sending<'_, D> {
    /// Begins the answer whose head this is, in HTTP/1's form, edited as the route says.
    pub(super) fn respond(&mut self, wanting: &Wanting<'_>, text: &[u8]) -> Result<(), Fault> {
        let mut head = ResponseHead::default();
        if head.parse(text, wanting.request.method) != Ok(true) {
            return Err(Fault::Cut);
        }
        let via = wanting.request.plan.via.as_ref();
        if let Some(edits) = via.and_then(|it| it.answer_edits()) {
            head.edit(text, edits);
        }
        if let Some(it) = via.and_then(|it| it.rate_limit()) {
            head.say_rate_limit(it);
        }
        self.trail.status = head.status;
        self.trail.first_byte = Some(self.trail.started.elapsed());
        self.down.respond(&head, text, true);
        Ok(())
    }

    pub(super) async fn send(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        let (timer, limit) = (self.timer, self.limit);
        timer.arm(limit);
        let mut turn = self.down.turn();
        poll_fn(|cx| {
            while !piece.is_empty() {
                if self.down.poll_cancelled(cx).is_ready() {
                    return Poll::Ready(Err(Fault::Cut));
                }
                match self.down.poll_send(cx, piece) {
                    Poll::Ready(Ok(n)) => {
                        piece = &piece[n..];
                        self.trail.bytes_out += n as u64;
                        timer.arm(limit);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Fault::Cut)),
                    Poll::Pending => {
                        // Who waits for others of its connection is not slow while these are sent.
                        let now = self.down.turn();
                        if now != turn {
                            turn = now;
                            timer.arm(limit);
                        }
                        return timer.poll_fired(cx).map(|_| Err(Fault::Cut));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    pub(super) async fn finish(&mut self) -> Result<Done, Fault> {
        self.timer.arm(self.limit);
        let sent = self.timer.limit(poll_fn(|cx| self.down.poll_finish(cx, &[]))).await;
        self.timer.disarm();
        match sent {
            Ok(Ok(())) => Ok(Done::Complete),
            _ => Err(Fault::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cache_did_is_said_in_the_words_of_rfc_9211() {
        assert_eq!(Said::Hit.text(5), "skep; hit; ttl=5");
        assert_eq!(Said::OnError.text(-5), "skep; hit; ttl=-5; detail=error");
        assert_eq!(Said::Fetched.text(5), "skep; fwd=miss; stored");
    }
}
