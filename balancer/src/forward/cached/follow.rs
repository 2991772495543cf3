//! Who waits for what is fetched, and takes it: as it comes, where that is all of an answer whose length is known; else once
//! it is there.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::fetch::Told;
use super::serve::{Said, Sending, Serving, end_head, serve};
use super::written::{write_length, write_stored};
use super::{Wanting, fields_of};
use crate::core::account::{Charge, Use};
use crate::core::cache::flight::{End, News, Read, Reader};
use crate::core::cache::stored::{Head, Stored};
use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::core::worker::{ANSWER_PIECE_BYTES, ANSWER_PIECE_BYTES_MIN};
use crate::forward::downstream::{Done, Downstream, Fault};
use crate::forward::problem::Problem;
use crate::forward::retry::Failure;
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;

/// Who waits for the end of what another fetches does so for this part of the time that it has for an answer.
const END_PART: u32 = 2;

/// What came of it.
pub(super) enum Followed {
    Done(Result<Done, Fault>),
    /// It is to be looked for anew.
    Again,
    /// It failed for who fetched it.
    Failed,
    /// It is for another alone.
    Freed,
}

/// Follows a fetch to its end; `told` is what it says to who began it.
pub(super) async fn follow<D: Downstream>(
    timer: &Timer,
    wanting: &Wanting<'_>,
    reader: &Reader,
    told: Option<&Told>,
    down: &mut D,
    trail: &mut Trail,
) -> Followed {
    let within = wanting.request.plan.answer_within;
    let mut deadline = trail.started + within;
    let mut waits_for_end = false;
    loop {
        let news = match wait(timer, reader, waits_for_end, deadline, down).await {
            Ok(news) => news,
            Err(Fault::Problem(_)) if stale_of(wanting, reader).is_some() => News::Over(End::Failed),
            // The service works, and takes its time for the body: there is time left to ask it.
            Err(Fault::Problem(_)) if told.is_none() && waits_for_end => return Followed::Freed,
            Err(fault) => return Followed::Done(Err(fault)),
        };
        match news {
            News::Interim(text) => {
                let mut head = ResponseHead::default();
                if head.parse(&text, Method::Get) == Ok(true) {
                    down.interim(&head, &text);
                    let limit = wanting.worker.settings().body_timeout;
                    timer.arm(limit);
                    if !matches!(timer.limit(poll_fn(|cx| down.poll_send(cx, &[]))).await, Ok(Ok(_))) {
                        return Followed::Done(Err(Fault::Cut));
                    }
                }
            }
            News::Freed => return Followed::Freed,
            News::Passing(text) => {
                let limit = wanting.worker.settings().body_timeout;
                let mut sending = Sending { timer, limit, down, trail };
                if let Err(fault) = sending.respond(wanting, &text) {
                    return Followed::Done(Err(fault));
                }
                let outcome = match wanting.request.method {
                    Method::Head => sending.finish().await,
                    _ => stream(wanting, &mut sending, reader).await,
                };
                tell_of(told, trail);
                return Followed::Done(outcome);
            }
            News::Filling(head, length) => {
                if told.is_none() && !is_for(wanting, &head) {
                    return Followed::Again;
                }
                if told.is_none() && !is_for_several(wanting, &head) {
                    return Followed::Freed;
                }
                if !wanting.is_plain() || (told.is_none() && length.is_none()) {
                    waits_for_end = true;
                    if told.is_none() {
                        deadline = trail.started + within / END_PART;
                    }
                    continue;
                }
                let head: &Head = &head;
                let outcome =
                    filling(timer, wanting, reader, (head, length), told.is_some(), down, trail).await;
                tell_of(told, trail);
                return Followed::Done(outcome);
            }
            News::Over(end) => return over(timer, wanting, reader, end, told, down, trail).await,
        }
    }
}

/// Waits for news, as long as the client is there and has time.
async fn wait<D: Downstream>(
    timer: &Timer,
    reader: &Reader,
    for_end: bool,
    deadline: Instant,
    down: &mut D,
) -> Result<News, Fault> {
    timer.arm(deadline.saturating_duration_since(Instant::now()));
    let mut polled = false;
    let news = poll_fn(|cx| {
        if let Poll::Ready(news) = reader.poll_news(cx, for_end) {
            return Poll::Ready(Ok(news));
        }
        if polled && down.is_gone(cx, false) || down.poll_cancelled(cx).is_ready() {
            return Poll::Ready(Err(Fault::Cut));
        }
        if !polled {
            timer.look_again();
        }
        polled = true;
        timer.poll_fired(cx).map(|_| Err(Fault::Problem(Problem::Failed(Failure::Deadline))))
    })
    .await;
    timer.disarm();
    news
}

/// Whether what is fetched is for this request, too.
fn is_for(wanting: &Wanting<'_>, head: &Head) -> bool {
    head.variant.matches(fields_of(wanting.request.head)) && (!wanting.is_known() || head.kept.is_shared)
}

/// Whether more than who asked first may have it: a service that wants to be asked each time may say another thing to
/// each, by cookies for one.
fn is_for_several(wanting: &Wanting<'_>, head: &Head) -> bool {
    head.kept.is_for_several(wanting.keeps.grace_s)
}

/// An answer as it comes, to be stored.
async fn filling<D: Downstream>(
    timer: &Timer,
    wanting: &Wanting<'_>,
    reader: &Reader,
    (head, length): (&Head, Option<u64>),
    is_first: bool,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let mut text = Vec::with_capacity(head.lines.len() + 256);
    write_stored(head, head.status, &head.reason, |_| true, &mut text);
    if let Some(bytes) = length.filter(|_| head.status != 204) {
        write_length(bytes, &mut text);
    }
    let said = match (is_first, &reader.flight.stale) {
        (true, None) => Said::Fetched,
        (true, Some(_)) => Said::Replaced,
        (false, _) => Said::Collapsed,
    };
    end_head(head, said, &mut text);
    let mut sending = Sending { timer, limit: wanting.worker.settings().body_timeout, down, trail };
    sending.respond(wanting, &text)?;
    stream(wanting, &mut sending, reader).await
}

/// The body of an answer.
async fn stream<D: Downstream>(
    wanting: &Wanting<'_>,
    sending: &mut Sending<'_, D>,
    reader: &Reader,
) -> Result<Done, Fault> {
    let (mut piece, mut at) = (Vec::new(), 0);
    // For what of a piece is beyond what each answer may hold.
    let mut charge = Charge::none(&wanting.worker.purse);
    loop {
        piece.clear();
        let most = match charge.cover(ANSWER_PIECE_BYTES, Use::Answer) {
            true => ANSWER_PIECE_BYTES,
            false => ANSWER_PIECE_BYTES_MIN,
        };
        let down = &mut *sending.down;
        sending.timer.disarm();
        let mut polled = false;
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = reader.poll_body(cx, at, most, &mut piece) {
                return Poll::Ready(Ok(read));
            }
            // What is at hand goes out before more is waited for; who fetches has its time limits.
            if matches!(down.poll_send(cx, &[]), Poll::Ready(Err(_)))
                || down.poll_cancelled(cx).is_ready()
                || polled && down.is_gone(cx, false)
            {
                return Poll::Ready(Err(Fault::Cut));
            }
            polled = true;
            // Who waits holds nothing.
            piece = Vec::new();
            charge.clear();
            Poll::Pending
        })
        .await?;
        match read {
            Read::Some => {
                at += piece.len() as u64;
                sending.send(&piece).await?;
            }
            Read::End => return sending.finish().await,
            Read::Cut => return Err(Fault::Cut),
        }
    }
}

/// A fetch is over before anything of it was passed on.
async fn over<D: Downstream>(
    timer: &Timer,
    wanting: &Wanting<'_>,
    reader: &Reader,
    end: End,
    told: Option<&Told>,
    down: &mut D,
    trail: &mut Trail,
) -> Followed {
    let stale = reader.flight.stale.as_ref();
    let on_error = stale_of(wanting, reader);
    let (stored, said) = match &end {
        End::Again => return Followed::Again,
        End::Failed => {
            tell_of(told, trail);
            return match (on_error, told.and_then(Told::problem)) {
                (Some(stale), _) => {
                    wanting.worker.stats.cache_stale.add(1);
                    let serving = Serving { stored: stale, said: Said::OnError };
                    Followed::Done(serve(timer, wanting, serving, down, trail).await)
                }
                (None, Some(fault)) => Followed::Done(Err(fault)),
                (None, None) => Followed::Failed,
            };
        }
        End::Stored(stored) | End::Own(stored) => {
            let is_same = stale.is_some_and(|stale| Arc::ptr_eq(&stale.body, &stored.body));
            let said = match (told.is_some(), is_same, stale) {
                (true, true, _) => Said::Validated,
                (false, true, _) => Said::ValidatedForAnother,
                (true, false, None) => Said::Fetched,
                (true, false, Some(_)) => Said::Replaced,
                (false, false, _) => Said::Collapsed,
            };
            (stored, said)
        }
    };
    tell_of(told, trail);
    if told.is_none() && !is_for(wanting, &stored.head) {
        return Followed::Again;
    }
    if told.is_none() && !is_for_several(wanting, &stored.head) {
        return Followed::Freed;
    }
    Followed::Done(serve(timer, wanting, Serving { stored, said }, down, trail).await)
}

/// What is used where the service fails.
fn stale_of<'a>(wanting: &Wanting<'_>, reader: &'a Reader) -> Option<&'a Arc<Stored>> {
    reader.flight.stale.as_ref().filter(|it| wanting.serves_on_error(it))
}

/// What the log shows of who fetched it.
fn tell_of(told: Option<&Told>, trail: &mut Trail) {
    if let Some(told) = told {
        told.tell(trail);
    }
}
