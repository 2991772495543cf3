//! Records on their way into the file of the segment that grows: write-behind.
//!
//! Applying leaves them here, and one thread writes them: a write waits where the kernel has too many dirty
//! pages, or the file system commits its journal, and whoever applies runs consensus. Until they are in the
//! file they are read from here. Nothing is lost with them that would be there without: a start cuts the
//! segments back to the checkpoint, and there is no checkpoint before all of it is written.
//!
//! What waits is bounded. A full disk is waited out by the thread.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::error::{StoreError, lack};
use crate::health::{HealthSender, Writer};
use crate::segments::file::SegmentFile;

/// Beyond so many bytes or runs of records that wait, applying waits.
const BYTES_MAX: usize = 8 * 1024 * 1024;
const RUNS_MAX: usize = 4096;
/// With so many bytes they are written,
const AT_ONCE_BYTES: usize = 256 * 1024;
/// and so many, but one run at least, with one call.
const CALL_BYTES_MAX: usize = 1024 * 1024;
/// They are written this long after the first of them.
const LINGER: Duration = Duration::from_millis(10);

/// What one run of commands appends.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    file: Arc<SegmentFile>,
    pub offset: u64,
    pub bytes: Bytes,
}

impl Run {
    /// One past its last byte in the file.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Writes runs that follow each other in a file with one call. Repeating it after a failure is safe.
fn write(runs: &[Run], buffer: &mut Vec<u8>) -> Result<(), StoreError> {
    let Some(first) = runs.first() else { return Ok(()) };
    let file = first.file.open()?;
    let bytes = match runs {
        [only] => &only.bytes[..],
        all => {
            buffer.clear();
            all.iter().for_each(|run| buffer.extend_from_slice(&run.bytes));
            &buffer[..]
        }
    };
    file.write_all_at(bytes, first.offset).map_err(StoreError::io("write", first.file.path()))
}

/// What is written, for people and threads.
fn what(who: Writer) -> &'static str {
    match who {
        Writer::Claims => "claims",
        Writer::Payloads => "payloads",
        Writer::Log | Writer::Messages | Writer::Room => "messages",
    }
}

/// What is pushed into one, between two drains, follows each other in one file.
pub(crate) struct WriteBehind {
    state: Mutex<State>,
    /// Told when there is something to write, or to write at once.
    work: Condvar,
    /// Told when something was written, or cannot be.
    done: Condvar,
    room: Notify,
    full_retry_interval: Duration,
    who: Writer,
    health: Arc<HealthSender>,
}

#[derive(Default)]
struct State {
    /// In the order of their offsets. The thread writes the first ones, and then takes them out.
    runs: VecDeque<Run>,
    bytes: usize,
    /// Runs that ever came.
    pushed: u64,
    /// When the first of those that wait came.
    since: Option<Instant>,
    /// Somebody waits for all of it to be written.
    is_urgent: bool,
    /// Why the last try failed, where there may be a better one.
    lacking: Option<i32>,
    failed: Option<String>,
    ended: bool,
}

/// Ends the thread, once it has written what it can.
pub(crate) struct Writing {
    shared: Arc<WriteBehind>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer of {} panicked", what(self.shared.who));
        }
    }
}

impl State {
    /// Those that were written or given up.
    fn over(&self) -> u64 {
        self.pushed - self.runs.len() as u64
    }

    fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX || self.runs.len() >= RUNS_MAX
    }

    fn alive(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), |reason| Err(StoreError::Stopped(reason)))
    }
}

impl WriteBehind {
    pub(crate) fn start(
        who: Writer,
        health: Arc<HealthSender>,
        full_retry_interval: Duration,
    ) -> io::Result<(Arc<WriteBehind>, Writing)> {
        let shared = Arc::new(WriteBehind {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            room: Notify::new(),
            full_retry_interval,
            who,
            health,
        });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name(format!("skep-{}", what(who)));
        let thread = thread.spawn(move || writer.serve())?;
        Ok((shared.clone(), Writing { shared, thread: Some(thread) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what follows in the file.
    pub(crate) fn push(&self, file: Arc<SegmentFile>, offset: u64, bytes: Bytes) {
        let mut state = self.lock();
        state.bytes += bytes.len();
        state.pushed += 1;
        let is_first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        state.runs.push_back(Run { file, offset, bytes });
        let is_much = state.bytes >= AT_ONCE_BYTES;
        drop(state);
        if is_first || is_much {
            self.work.notify_one();
        }
    }

    /// Those that have bytes between two offsets of the file and are not in it yet; and where the file ends, of
    /// which `len` bytes were published.
    pub(crate) fn between(&self, from: u64, to: u64, len: u64) -> (Vec<Run>, u64) {
        let state = self.lock();
        let first = state.runs.partition_point(|run| run.end() <= from);
        let wanted = state.runs.range(first..).take_while(|run| run.offset < to).cloned().collect();
        (wanted, state.runs.front().map_or(len, |run| run.offset))
    }

    /// Bytes that wait to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits until there is room for more. Cancel-safe.
    pub(crate) async fn room(&self) -> Result<(), StoreError> {
        loop {
            let notified = self.room.notified();
            {
                let state = self.lock();
                state.alive()?;
                if !state.is_full() {
                    return Ok(());
                }
            }
            notified.await;
        }
    }

    /// Waits until all that came before is in the file. Fails, and can be called again, on a full disk. Blocks.
    pub(crate) fn drain(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        let target = state.pushed;
        // What was lacking at an earlier try counts only where the next one has not shown better.
        let mut tries = 0;
        while state.over() < target {
            state.alive()?;
            if let Some(errno) = state.lacking
                && tries > 0
                && let Some(first) = state.runs.front()
            {
                return Err(StoreError::io("write", first.file.path())(io::Error::from_raw_os_error(errno)));
            }
            tries += 1;
            state.is_urgent = true;
            self.work.notify_one();
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.alive()
    }

    /// Gives up what is not written: all of it is replaced.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.runs.clear();
        (state.bytes, state.since) = (0, None);
        drop(state);
        self.done.notify_all();
        self.room.notify_waiters();
    }

    /// The first runs, when it is time to write them, and the number of the first; none when there will be no
    /// more.
    fn next(&self, was_full: &mut bool) -> Option<(u64, Vec<Run>)> {
        let mut state = self.lock();
        loop {
            let number = state.over();
            let Some(first) = state.runs.front() else {
                (state.is_urgent, state.since) = (false, None);
                if state.ended {
                    return None;
                }
                if std::mem::take(was_full) {
                    // What had no room was given up: nothing waits for any.
                    state.lacking = None;
                    drop(state);
                    self.health.set_lack(self.who, None);
                    state = self.lock();
                    continue;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = state.since.map_or(LINGER, |since| since.elapsed());
            if waited >= LINGER || state.bytes >= AT_ONCE_BYTES || state.is_urgent || state.ended {
                let mut bytes = 0;
                let together = state.runs.iter().take_while(|run| {
                    bytes += run.bytes.len();
                    bytes == run.bytes.len()
                        || (bytes <= CALL_BYTES_MAX && Arc::ptr_eq(&run.file, &first.file))
                });
                return Some((number, together.cloned().collect()));
            }
            let rest = LINGER.saturating_sub(waited);
            state = self.work.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn serve(&self) {
        let (mut was_full, mut buffer) = (false, Vec::new());
        while let Some((number, runs)) = self.next(&mut was_full) {
            let written = write(&runs, &mut buffer);
            let mut state = self.lock();
            match written {
                Ok(()) => {
                    state.lacking = None;
                    // Unless it was given up meanwhile.
                    if state.over() == number {
                        state.runs.drain(..runs.len());
                        state.bytes -= runs.iter().map(|run| run.bytes.len()).sum::<usize>();
                    }
                    drop(state);
                    if std::mem::take(&mut was_full) {
                        tracing::info!("the {} can be written again", what(self.who));
                        self.health.set_lack(self.who, None);
                    }
                }
                Err(StoreError::Io { source, action, path }) if lack(&source).is_some() => {
                    if !std::mem::replace(&mut was_full, true) {
                        let (path, what) = (path.display(), what(self.who));
                        tracing::warn!("{action} {path}: {source}; the {what} wait");
                    }
                    state.lacking = source.raw_os_error();
                    let ended = state.ended;
                    drop(state);
                    self.health.set_lack(self.who, lack(&source));
                    self.done.notify_all();
                    if ended {
                        // The log has it.
                        return;
                    }
                    self.pause();
                    continue;
                }
                Err(error) => {
                    state.failed = Some(error.to_string());
                    drop(state);
                    self.health.fail(&error.to_string());
                    self.done.notify_all();
                    self.room.notify_waiters();
                    return;
                }
            }
            self.done.notify_all();
            self.room.notify_waiters();
        }
    }

    /// Between two tries on a full disk.
    fn pause(&self) {
        let until = Instant::now() + self.full_retry_interval;
        let mut state = self.lock();
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::path::Path;

    use super::*;

    fn start() -> (Arc<WriteBehind>, Writing, Arc<HealthSender>) {
        let health = Arc::new(HealthSender::new());
        let (behind, writing) =
            WriteBehind::start(Writer::Messages, health.clone(), Duration::from_millis(1)).unwrap();
        (behind, writing, health)
    }

    fn file(path: &Path, is_writable: bool) -> Arc<SegmentFile> {
        let file = OpenOptions::new().read(true).write(is_writable).open(path).unwrap();
        Arc::new(SegmentFile::held(path.to_path_buf(), file))
    }

    #[test]
    fn what_was_pushed_is_here_until_it_is_in_the_file() {
        let (behind, _writing, _) = start();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let file = file(temporary.path(), true);
        let mut all = Vec::new();
        for byte in 0..200u8 {
            behind.push(file.clone(), all.len() as u64, vec![byte; 10].into());
            all.extend_from_slice(&[byte; 10]);
            let (runs, in_file) = behind.between(0, u64::MAX, all.len() as u64);
            let mut seen = std::fs::read(temporary.path()).unwrap();
            seen.truncate(in_file as usize);
            assert_eq!(seen.len() as u64, in_file, "what is not here is in the file");
            runs.iter().for_each(|run| seen.extend_from_slice(&run.bytes));
            assert_eq!(seen, all);
        }
        behind.drain().unwrap();
        assert_eq!(std::fs::read(temporary.path()).unwrap(), all);
        assert_eq!((behind.bytes(), behind.between(0, 9, 2000).0.len()), (0, 0));
    }

    #[test]
    fn what_was_pushed_is_written_when_the_store_is_closed() {
        let (behind, writing, _) = start();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        behind.push(file(temporary.path(), true), 0, Bytes::from_static(b"abc"));
        drop(writing);
        assert_eq!(std::fs::read(temporary.path()).unwrap(), b"abc");
    }

    #[tokio::test]
    async fn on_a_full_disk_so_much_waits_and_no_more() {
        let (behind, writing, health) = start();
        let full = file(Path::new("/dev/full"), true);
        let half = Bytes::from(vec![1; BYTES_MAX / 2]);
        behind.push(full.clone(), 0, half.clone());
        behind.room().await.unwrap();
        assert!(behind.drain().unwrap_err().is_full());
        assert!(health.subscribe().borrow().full.is_some());
        behind.push(full, half.len() as u64, half);
        let mut room = Box::pin(behind.room());
        assert!(futures_util::poll!(room.as_mut()).is_pending());
        behind.forget();
        room.await.unwrap();
        behind.drain().unwrap();
        // Also where there is something left.
        behind.push(file(Path::new("/dev/full"), true), 0, Bytes::from_static(b"abc"));
        drop(writing);
    }

    #[tokio::test]
    async fn what_cannot_be_written_ends_the_store() {
        let (behind, _writing, health) = start();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        behind.push(file(temporary.path(), false), 0, Bytes::from_static(b"abc"));
        assert!(matches!(behind.drain(), Err(StoreError::Stopped(_))));
        assert!(matches!(behind.room().await, Err(StoreError::Stopped(_))));
        assert!(health.subscribe().borrow().failed.is_some());
    }
}
