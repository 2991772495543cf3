//! One fetch for all who wait for the same answer.
//!
//! A fetch has one that fills it, on the core of who asked first, and readers on any core. It goes on when who asked first
//! leaves, as long as it may be stored or somebody waits. An answer that may not be stored is for who asked first alone,
//! and no faster than that one takes it; the others are freed to ask for themselves. Nothing here is held across an await.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::room::Room;
use super::stored::{Head, Stored};

/// Most that is held of an answer that is for one reader alone.
const PIPE_BYTES_MAX: usize = 16 * 1024;
/// Most interim answers that wait for who asked first; more are left out.
const INTERIMS_MAX: usize = 8;

/// A fetch.
#[derive(Debug)]
pub struct Flight {
    /// What is asked for anew.
    pub stale: Option<Arc<Stored>>,
    /// Nobody waits for it: it is done beside.
    beside: bool,
    /// What it brings was invalidated meanwhile: it is stored nowhere.
    void: AtomicBool,
    /// The number of the last purge by which it has begun.
    pub born: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// Bytes of the body from `start` on.
    buf: Vec<u8>,
    start: u64,
    /// For what is there beyond what one alone gets, where it was to be stored and is not.
    room: Option<Room>,
    /// All of it, once that is there.
    whole: Option<Bytes>,
    interims: VecDeque<Vec<u8>>,
    end: Option<End>,
    /// Who asked first is there, and has read so far.
    leader: bool,
    leader_at: u64,
    waiters: usize,
    /// A place for each reader, and those that are free.
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    fetcher: Option<Waker>,
    /// It goes on although nobody is there for it.
    unattended: bool,
}

#[derive(Debug, Clone, Default)]
enum Mode {
    /// There is no head yet.
    #[default]
    Asking,
    /// It is to be stored; of so many bytes, where that is known.
    Filling(Arc<Head>, Option<u64>),
    /// It is for who asked first alone; the head in HTTP/1's form.
    Passing(Arc<[u8]>),
}

/// How a fetch ends.
#[derive(Debug, Clone)]
pub enum End {
    Stored(Arc<Stored>),
    /// It is stored nowhere: for who asked first alone.
    Own(Arc<Stored>),
    Failed,
    /// What was validated is not what the origin has: to be asked for anew.
    Again,
}

/// What a reader is told first.
#[derive(Debug, Clone)]
pub enum News {
    Interim(Vec<u8>),
    Filling(Arc<Head>, Option<u64>),
    Passing(Arc<[u8]>),
    /// It is for another alone.
    Freed,
    Over(End),
}

/// What a reader gets of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Some,
    End,
    /// It broke off.
    Cut,
}

impl Flight {
    pub(super) fn new(stale: Option<Arc<Stored>>, beside: bool, born: u64) -> Arc<Self> {
        let state = State { unattended: beside, ..State::default() };
        Arc::new(Self { stale, beside, void: AtomicBool::new(false), born, state: Mutex::new(state) })
    }

    pub(super) fn is_unattended(&self) -> bool {
        self.state().unattended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn make_void(&self) {
        self.void.store(true, Relaxed);
    }

    pub fn is_void(&self) -> bool {
        self.void.load(Relaxed)
    }

    /// The head, once it is known that it is to be stored; Err where it is known that it is not.
    pub(super) fn head(&self) -> Result<Option<Arc<Head>>, ()> {
        match &self.state().mode {
            Mode::Asking => Ok(None),
            Mode::Filling(head, _) => Ok(Some(head.clone())),
            Mode::Passing(_) => Err(()),
        }
    }

    /// An interim answer's head, for who asked first.
    pub fn interim(&self, head: Vec<u8>) -> bool {
        let mut state = self.state();
        let takes = state.leader && state.interims.len() < INTERIMS_MAX;
        if takes {
            state.interims.push_back(head);
            state.wake();
        }
        takes
    }

    /// The answer is to be stored: its body has `length` bytes, or ends somewhere.
    pub fn fill(&self, head: Arc<Head>, length: Option<u64>) {
        let mut state = self.state();
        state.buf.reserve_exact(length.unwrap_or_default() as usize);
        state.mode = Mode::Filling(head, length);
        state.wake();
    }

    /// The answer is for who asked first alone. What is there of its body by now goes to that one, too; `room` is for it.
    pub fn pass(&self, head: Arc<[u8]>, room: Option<Room>) {
        let mut state = self.state();
        state.room = room;
        let read = ((state.leader_at - state.start) as usize).min(state.buf.len());
        state.buf.drain(..read);
        state.start = state.leader_at;
        state.mode = Mode::Passing(head);
        state.wake();
    }

    /// Takes bytes of an answer that is to be stored; None where they do not fit into `most`, or nothing has room for
    /// them.
    pub fn push(&self, piece: &[u8], most: u64, grow: impl FnOnce(u64) -> bool) -> Option<()> {
        let (len, there) = {
            let state = self.state();
            (state.buf.len(), state.buf.capacity())
        };
        let needed = len + piece.len();
        if needed as u64 > most {
            return None;
        }
        let capacity = needed.max(2 * there).min(most as usize);
        // Others go for it, whose locks come before this one. Nobody else adds bytes meanwhile.
        if needed > there && !grow(capacity as u64) {
            return None;
        }
        let mut state = self.state();
        if needed > there {
            state.buf.reserve_exact(capacity - len);
        }
        state.buf.extend_from_slice(piece);
        state.wake();
        Some(())
    }

    /// Takes bytes for who asked first: how many.
    pub fn poll_pass(&self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<usize> {
        let mut state = self.state();
        let n = PIPE_BYTES_MAX.saturating_sub(state.buf.len()).min(piece.len());
        if n == 0 {
            state.fetcher = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.buf.extend_from_slice(&piece[..n]);
        state.wake();
        Poll::Ready(n)
    }

    /// The body is complete: all of it, where it is to be stored.
    pub fn complete(&self) -> Bytes {
        let mut state = self.state();
        let mut buf = std::mem::take(&mut state.buf);
        buf.shrink_to_fit();
        let whole = Bytes::from(buf);
        state.whole = Some(whole.clone());
        state.wake();
        whole
    }

    /// The first end counts.
    pub fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        state.wake();
    }

    /// Ready where nobody is there for it; what is to be stored goes on where it may.
    pub fn poll_left(&self, cx: &mut Context<'_>, goes_on: impl FnOnce() -> bool) -> Poll<()> {
        let mut state = self.state();
        let is_alone = !state.leader && state.waiters == 0 && !self.beside;
        let is_left = match state.mode {
            Mode::Asking => is_alone,
            Mode::Filling(..) if is_alone && !state.unattended => {
                state.unattended = goes_on();
                !state.unattended
            }
            Mode::Filling(..) => false,
            Mode::Passing(_) => !state.leader,
        };
        if is_left {
            return Poll::Ready(());
        }
        state.fetcher = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn reader(self: &Arc<Self>, is_leader: bool) -> Reader {
        let mut state = self.state();
        if is_leader {
            state.leader = true;
        } else {
            state.waiters += 1;
        }
        let place = state.free.pop().unwrap_or(state.wakers.len());
        if place == state.wakers.len() {
            state.wakers.push(None);
        }
        drop(state);
        Reader { flight: self.clone(), is_leader, place }
    }
}

impl State {
    fn wake(&mut self) {
        self.wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

/// Who waits for what a fetch brings.
#[derive(Debug)]
pub struct Reader {
    pub flight: Arc<Flight>,
    pub is_leader: bool,
    place: usize,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.flight.state();
        if self.is_leader {
            state.leader = false;
        } else {
            state.waiters -= 1;
        }
        state.wakers[self.place] = None;
        state.free.push(self.place);
        if let Some(fetcher) = state.fetcher.take() {
            fetcher.wake();
        }
    }
}

impl Reader {
    /// What is known by now; with `for_end`, once it is over or for one alone.
    pub fn poll_news(&self, cx: &mut Context<'_>, for_end: bool) -> Poll<News> {
        let mut state = self.flight.state();
        if self.is_leader
            && let Some(head) = state.interims.pop_front()
        {
            return Poll::Ready(News::Interim(head));
        }
        let news = match (state.mode.clone(), state.end.clone()) {
            (Mode::Passing(_), _) | (_, Some(End::Own(_))) if !self.is_leader => News::Freed,
            (Mode::Passing(head), _) => News::Passing(head),
            (_, Some(end)) => News::Over(end),
            (Mode::Filling(head, length), None) if !for_end => News::Filling(head, length),
            _ => {
                state.wakers[self.place] = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        Poll::Ready(news)
    }

    /// Bytes of the body from `at` on, at most `most` of them, into `out`.
    pub fn poll_body(&self, cx: &mut Context<'_>, at: u64, most: usize, out: &mut Vec<u8>) -> Poll<Read> {
        let mut state = self.flight.state();
        let passes = matches!(state.mode, Mode::Passing(_));
        // What was handed over to another reader is none of this one's any more.
        if passes && !self.is_leader {
            return Poll::Ready(Read::Cut);
        }
        let from = at.saturating_sub(state.start) as usize;
        let there = state.whole.as_deref().unwrap_or(&state.buf);
        let bytes = there.get(from..).unwrap_or_default();
        let n = bytes.len().min(most);
        if n > 0 {
            out.extend_from_slice(&bytes[..n]);
            if self.is_leader {
                state.leader_at = at + n as u64;
            }
            if passes && state.whole.is_none() {
                state.buf.drain(..from + n);
                state.start = at + n as u64;
                if state.room.is_some() && state.buf.len() <= PIPE_BYTES_MAX {
                    state.buf.shrink_to(PIPE_BYTES_MAX);
                    state.room = None;
                }
                if let Some(fetcher) = state.fetcher.take() {
                    fetcher.wake();
                }
            }
            return Poll::Ready(Read::Some);
        }
        if state.whole.is_some() {
            return Poll::Ready(Read::End);
        }
        if state.end.is_some() {
            return Poll::Ready(Read::Cut);
        }
        state.wakers[self.place] = Some(cx.waker().clone());
        Poll::Pending
    }
}
