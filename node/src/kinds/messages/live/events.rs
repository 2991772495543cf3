//! Server-sent events: `id` is the message's `seq`, `data` its JSON object.
//!
//! The connection's own task polls the stream; there is none of its own. A stalled connection does
//! not poll: that it did not for too long shows when it does again, and a peer that never does is
//! cut off by the kernel (see [`crate::http::serve`]).

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::tail::Entry;
use super::{EVENT_STREAM, Farewell, HEARTBEAT, STALL_MAX, Seat};
use crate::http::account::{Charge, PIECE_BYTES_MAX};
use crate::kinds::served::MessageApi;

/// What browsers wait before they connect again.
const RETRY_MS: u64 = 500;

pub(crate) fn serve<A: MessageApi>(seat: Seat<A>) -> Response {
    let first = format!("retry: {RETRY_MS}\nid: {}\n\n", seat.reader.position());
    let begun = Stream { seat, given: None, is_slow: false, rest: Bytes::new() };
    let rest = stream::unfold(Some(begun), |state| async {
        let mut state = state?;
        let (chunk, more) = state.next().await;
        Some((chunk, more.then_some(state)))
    });
    let chunks = futures_util::StreamExt::chain(stream::iter([Bytes::from(first)]), rest);
    let chunks = futures_util::StreamExt::map(chunks, Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The connection is of no further use.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // What nginx calls the wish that nobody gathers the stream before it passes it on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Stream<A: MessageApi> {
    seat: Seat<A>,
    /// When the last piece was taken.
    given: Option<Instant>,
    /// A piece was not taken in time; the events that it is of are ended first.
    is_slow: bool,
    /// What of the last events was not given yet.
    rest: Bytes,
}

impl<A: MessageApi> Stream<A> {
    /// The next piece, and whether there is another.
    async fn next(&mut self) -> (Bytes, bool) {
        self.is_slow |= self.given.is_some_and(|given| given.elapsed() > STALL_MAX);
        if self.rest.is_empty() {
            if self.is_slow {
                return (self.farewell(Farewell::TooSlow), false);
            }
            let Seat { reader, closing, api, account, .. } = &mut self.seat;
            let events = tokio::select! {
                biased;
                () = Seat::<A>::leaving(closing) => Err(Farewell::Draining),
                batch = reader.next(account) => batch.map(|(batch, charge)| charged(events(&batch), charge)),
                () = tokio::time::sleep(HEARTBEAT) => match api.readiness() {
                    Ok(()) => Ok(Bytes::from_static(b": alive\n\n")),
                    Err(_) => Err(Farewell::NotReady),
                },
            };
            match events {
                Ok(events) => self.rest = events,
                Err(why) => return (self.farewell(why), false),
            }
        }
        self.given = Some(Instant::now());
        (self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX)), true)
    }

    fn farewell(&self, why: Farewell) -> Bytes {
        let (after, reason) = (self.seat.reader.position(), why.reason());
        format!("event: resume\ndata: {{\"after\":{after},\"reason\":\"{reason}\"}}\n\n").into()
    }
}

/// Bytes whose charge goes with them: until the last piece of them is in the kernel's hands.
fn charged(text: String, charge: Charge) -> Bytes {
    struct Owned(String, #[expect(dead_code, reason = "its end is what counts")] Charge);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Bytes::from_owner(Owned(text, charge))
}

fn events(batch: &[Entry]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(batch.iter().map(|entry| entry.json.len() + 36).sum());
    for entry in batch {
        // Writing to a string does not fail.
        let _ = write!(text, "id: {}\ndata: {}\n\n", entry.seq, entry.json.as_str());
    }
    text
}
