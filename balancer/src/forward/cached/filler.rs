//! Takes an answer from a backend in place of a client, and decides of its head whether it is stored.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use skep_cache::Field;
use skep_cache::asked::Asked;
use skep_cache::fields::{lines, write, write_updated};
use skep_cache::groups;
use skep_cache::kept::Kept;
use skep_cache::storing::{Asker, Not, judge};
use skep_cache::told::Told;
use skep_cache::vary::{Variant, Vary};
use skep_gateway::purge::SEQ;

use super::written::{BYTES_MAX, FIELDS_MAX, passed};
use super::{Wanting, fields_of};
use crate::core::cache::flight::End;
use crate::core::cache::purges::mark;
use crate::core::cache::stored::{Body, Head, Stored};
use crate::core::cache::{Fetch, Room};
use crate::core::date::unix_s;
use crate::core::worker::Worker;
use crate::forward::downstream::Downstream;
use crate::wire::response_head::{AnswerLength, ResponseHead};

/// From here on, an answer says that its server failed.
const SERVER_ERROR: u16 = 500;
/// What a service may answer by, beside what it says: the host that was asked for, as it is told.
const IMPLIED: &[u8] = b"host, x-forwarded-host, x-forwarded-proto, x-forwarded-port, x-forwarded-prefix";

/// Takes one answer.
pub(super) struct Filler {
    worker: Rc<Worker>,
    fetch: Fetch,
    /// The request's head, as who asks has sent it on.
    asked: Vec<u8>,
    is_known: bool,
    serves_stale: bool,
    entry_bytes_max: u64,
    begun: Instant,
    mode: Mode,
}

/// By what an answer is purged, beside where it is found.
#[derive(Debug, Clone, Default)]
struct Marks {
    groups: Box<[u64]>,
    message: Option<u64>,
}

enum Mode {
    Asking,
    Filling {
        head: Arc<Head>,
        room: Room,
        /// What it is passed on by, where it turns out to be too long.
        passed: Arc<[u8]>,
    },
    Passing,
    /// All that was to be had of it is there.
    Done,
    /// No more of it is wanted.
    Over,
}

impl Filler {
    pub(super) fn new(wanting: &Wanting<'_>, fetch: Fetch) -> Self {
        let stale = fetch.flight.stale.as_ref();
        Self {
            worker: wanting.worker.clone(),
            asked: wanting.request.head.to_vec(),
            is_known: wanting.is_known(),
            serves_stale: stale.is_some_and(|it| wanting.serves_on_error(it)),
            entry_bytes_max: wanting.keeps.entry_bytes_max,
            begun: Instant::now(),
            mode: Mode::Asking,
            fetch,
        }
    }

    /// What is kept of an answer with these fields, and whom it is for.
    fn judge<'a>(
        &self,
        status: u16,
        fields: impl Iterator<Item = Field<'a>> + Clone,
    ) -> Result<(Kept, Variant, Marks), Not> {
        let now_s = unix_s();
        let asked = Asked::read(fields_of(&self.asked));
        // What is of more groups than are kept could not be let go by them.
        let groups = groups::read(fields.clone(), groups::GROUPS).map_err(|_| Not::Told)?;
        let mut marks = Marks { groups: groups.iter().map(|it| mark(it)).collect(), message: None };
        marks.message = fields.clone().find(|it| is_named(it, &[SEQ])).and_then(|(_, seq)| number(seq));
        let is_coded = fields.clone().any(|it| is_named(&it, &["content-encoding"]));
        let told = Told::read(status, fields, now_s);
        let asker = Asker { is_known: self.is_known };
        let kept = judge(&asked, asker, &told, now_s, self.begun.elapsed().as_secs())?;
        let mut vary: Vary = told.vary;
        vary.read(IMPLIED);
        if is_coded {
            // Not every service says that it looked at it; who cannot read it gets none of it.
            vary.read(b"accept-encoding");
        }
        let variant = vary.select(fields_of(&self.asked)).ok_or(Not::Told)?;
        Ok((kept, variant, marks))
    }

    /// The origin says that what is stored still holds.
    fn validated(&mut self, head: &ResponseHead, buf: &[u8], stale: &Arc<Stored>) {
        let new = || fields_in(head, buf);
        let of =
            |name: &str| new().find(|(its, _)| its.eq_ignore_ascii_case(name.as_bytes())).map(|(_, it)| it);
        // What was purged meanwhile is brought back by no word that it has not changed.
        let is_it = stale.head.validators().are_of(of("etag"), of("last-modified"));
        if !is_it || !self.fetch.may_use(stale) {
            self.fetch.forget_stale();
            self.fetch.flight.end(End::Again);
            return;
        }
        let mut text = Vec::with_capacity(stale.head.lines.len() + head.len);
        write_updated(lines(&stale.head.lines), new(), &mut text);
        if !head.has_date {
            // It is as old as this answer, and not as the one that is stored.
            let before = std::mem::take(&mut text);
            write(lines(&before).filter(|it| !is_named(it, &["date"])), &mut text);
            self.write_date(&mut text);
        }
        // What forbids to store may stand in what is not stored itself.
        let unstored = fields_in(head, buf).filter(|it| is_named(it, &["set-cookie", "set-cookie2", "age"]));
        let judged = self.judge(stale.head.status, lines(&text).chain(unstored));
        let is_long = text.len() > BYTES_MAX || lines(&text).count() > FIELDS_MAX;
        let says_age = of("age").is_some();
        let made = |kept, variant, marks: Marks, text| Head {
            status: stale.head.status,
            reason: stale.head.reason.clone(),
            is_old: stale.head.is_old,
            lines: text,
            kept,
            variant,
            received: Instant::now(),
            says_age,
            groups: marks.groups,
            message: marks.message,
        };
        if let Ok((kept, variant, marks)) = judged.clone()
            && !is_long
        {
            let head = made(kept, variant, marks, text.clone());
            if let Some(room) = self.fetch.room(Stored::room_bytes(&head, self.fetch.key.len())) {
                let stored = Stored::new(head.into(), stale.body.clone(), room);
                self.fetch.store(&stored);
                self.fetch.flight.end(End::Stored(stored));
                return;
            }
        }
        // It holds for who asked, and is for nobody else.
        self.fetch.part();
        if !matches!(judged, Err(Not::Asked)) {
            self.fetch.forget_stale();
        }
        for (name, value) in fields_in(head, buf).filter(|it| is_named(it, &["set-cookie", "set-cookie2"])) {
            for part in [name, b": ", value, b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        let head = made(Kept::default(), Variant::default(), Marks::default(), text);
        match self.fetch.room(Stored::room_bytes(&head, self.fetch.key.len())) {
            Some(room) => {
                let own = Stored::new(head.into(), stale.body.clone(), room);
                self.fetch.flight.end(End::Own(own));
            }
            None => self.fetch.flight.end(End::Again),
        }
    }

    fn write_date(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"date: ");
        text.extend_from_slice(&self.worker.clock.date());
        text.extend_from_slice(b"\r\n");
    }

    /// What is to be stored of an answer, with room for it; None where it is not.
    fn storable(&self, head: &ResponseHead, buf: &[u8]) -> Result<(Arc<Head>, Room), Not> {
        let fields = || fields_in(head, buf);
        let (kept, variant, marks) = self.judge(head.status, fields())?;
        let most = self.entry_bytes_max;
        let length = match head.body {
            AnswerLength::None => 0,
            AnswerLength::Length(bytes) if bytes <= most => bytes,
            AnswerLength::Chunked => 0,
            // Nothing tells its end from a cut.
            AnswerLength::Length(_) | AnswerLength::Close => return Err(Not::Told),
        };
        let mut text = Vec::with_capacity(head.len);
        write(fields(), &mut text);
        if !head.has_date {
            self.write_date(&mut text);
        }
        if text.len() > BYTES_MAX || head.fields.len() >= FIELDS_MAX {
            return Err(Not::Told);
        }
        text.shrink_to_fit();
        // Of what was invalidated meanwhile nobody knows which state it is of.
        if self.fetch.flight.is_void() {
            return Err(Not::Asked);
        }
        let room = self.fetch.room(length).ok_or(Not::Asked)?;
        let made = Head {
            status: head.status,
            reason: head.reason.of(buf).to_vec(),
            is_old: head.old,
            lines: text,
            kept,
            variant,
            received: Instant::now(),
            says_age: fields().any(|(name, _)| name.eq_ignore_ascii_case(b"age")),
            groups: marks.groups,
            message: marks.message,
        };
        Ok((Arc::new(made), room))
    }

    /// It is longer than what is stored, or has no room.
    fn overflow(&mut self) {
        if let Mode::Filling { passed, room, .. } = std::mem::replace(&mut self.mode, Mode::Passing) {
            self.fetch.part();
            self.fetch.mark();
            // What is there is held until it is read.
            self.fetch.flight.pass(passed, Some(room));
        }
    }

    /// The body is complete.
    fn store(&mut self, head: Arc<Head>, room: Room) {
        let bytes = self.fetch.flight.complete();
        let body = Body::new(bytes, room);
        match self.fetch.room(Stored::room_bytes(&head, self.fetch.key.len())) {
            Some(own) => {
                let stored = Stored::new(head, body, own);
                self.fetch.store(&stored);
                self.fetch.flight.end(End::Stored(stored));
            }
            // It is there for who asked, and counts as long as it is read.
            None => {
                if let Some(none) = self.fetch.room(0) {
                    self.fetch.flight.end(End::Own(Stored::new(head, body, none)));
                }
            }
        }
    }
}

fn fields_in<'a>(head: &'a ResponseHead, buf: &'a [u8]) -> impl Iterator<Item = Field<'a>> + Clone {
    head.fields.iter().map(move |it| (it.name.of(buf), it.value.of(buf)))
}

/// Digits alone.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_named((name, _): &Field<'_>, names: &[&str]) -> bool {
    names.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

impl Downstream for Filler {
    fn takes_chunks(&self) -> bool {
        false
    }

    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) -> bool {
        self.fetch.flight.interim(passed(head, buf, None))
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], _whole: bool) {
        let stale = self.fetch.flight.stale.clone();
        if let Some(stale) = &stale {
            if head.status == 304 {
                self.validated(head, buf, stale);
                self.mode = Mode::Done;
                return;
            }
            if head.status >= SERVER_ERROR && self.serves_stale && self.fetch.may_use(stale) {
                self.fetch.flight.end(End::Failed);
                self.mode = Mode::Over;
                return;
            }
        }
        match self.storable(head, buf) {
            Ok((made, room)) => {
                let length = match head.body {
                    AnswerLength::Length(bytes) => Some(bytes),
                    AnswerLength::None => Some(0),
                    _ => None,
                };
                let passed = passed(head, buf, Some("skep; fwd=miss")).into();
                self.fetch.flight.fill(made.clone(), length);
                self.mode = Mode::Filling { head: made, room, passed };
            }
            Err(why) => {
                self.fetch.part();
                if head.status < SERVER_ERROR {
                    // It is what the origin has now, also where it is stored nowhere.
                    self.fetch.forget_stale();
                    if why == Not::Told {
                        self.fetch.mark();
                    }
                }
                let said = if stale.is_some() { "skep; fwd=stale" } else { "skep; fwd=miss" };
                self.fetch.flight.pass(passed(head, buf, Some(said)).into(), None);
                self.mode = Mode::Passing;
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Mode::Filling { room, .. } = &mut self.mode {
            let (fetch, most) = (&self.fetch, self.entry_bytes_max);
            let pushed = fetch.flight.push(piece, most, |bytes| fetch.grow(room, bytes));
            if pushed.is_some() {
                return Poll::Ready(Ok(piece.len()));
            }
            self.overflow();
        }
        match self.mode {
            Mode::Passing => Poll::Ready(Ok(ready!(self.fetch.flight.poll_pass(cx, piece)))),
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, _trailers: &[u8]) -> Poll<io::Result<()>> {
        match std::mem::replace(&mut self.mode, Mode::Done) {
            Mode::Filling { head, room, .. } => self.store(head, room),
            Mode::Passing => drop(self.fetch.flight.complete()),
            Mode::Asking | Mode::Done => {}
            Mode::Over => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.mode {
            Mode::Over => Poll::Ready(()),
            _ => self.fetch.poll_left(cx),
        }
    }
}
