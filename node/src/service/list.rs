//! Which messages of a list are wanted, and finding them in the log of messages.
//!
//! Pure over a reading function, so that what is read may be a store or a test's vector. Times
//! never fall as `seq` rises, so times are found by halving; content types by looking, but for the blocks of
//! which the store knows them.

use skep_state::message::StoredMessage;
use skep_store::Block;

use super::Page;

/// Messages that are looked at for one page: a filter that nothing passes must not read them all.
pub const SCANNED_MESSAGES_MAX: u64 = 100_000;
/// Messages that are read at once.
const READ_MESSAGES_MAX: usize = 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Which messages are wanted; by default, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// No earlier than this, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Earlier than this.
    pub until_ms: Option<u64>,
    /// In lowercase, without parameters; `text/*` means all of that main type.
    pub content_type: Option<String>,
}

impl Filter {
    fn is_of_type(&self, message: &StoredMessage) -> bool {
        self.wants(message.content_type.split(';').next().unwrap_or_default().trim())
    }

    /// Whether messages of a content type without parameters are wanted.
    fn wants(&self, essence: &str) -> bool {
        let Some(wanted) = &self.content_type else { return true };
        match wanted.strip_suffix("/*") {
            Some(main) => essence.split('/').next().is_some_and(|own| own.eq_ignore_ascii_case(main)),
            None => essence.eq_ignore_ascii_case(wanted),
        }
    }

    /// How many messages of a block are wanted, where that is known and the block ends by `upto`; and its end.
    fn known(&self, block: &Block, upto: u64) -> Option<(u64, u64)> {
        let last = block.last.filter(|last| *last <= upto)?;
        Some((block.types.as_ref()?.count(|essence| self.wants(essence))?, last))
    }
}

/// Reads messages after a `seq`: at most so many, and no more once so many bytes are reached.
pub trait Read<E>: FnMut(u64, usize, usize) -> Result<Vec<StoredMessage>, E> {}
impl<E, F: FnMut(u64, usize, usize) -> Result<Vec<StoredMessage>, E>> Read<E> for F {}

/// A page of at most `limit` messages after `after` in a log that ends at `last`, of at most
/// `bytes_max` bytes of records (but one message at least). `block` tells the block after a `seq`.
pub fn page<E>(
    mut read: impl Read<E>,
    block: impl Fn(u64) -> Result<Block, E>,
    last: u64,
    after: u64,
    limit: usize,
    bytes_max: usize,
    filter: &Filter,
) -> Result<Page, E> {
    let (from, upto) = bounds(&mut read, last, filter)?;
    let mut at = after.max(from);
    let mut scanned = 0;
    let mut bytes = 0;
    let mut messages: Vec<StoredMessage> = Vec::new();
    let next = loop {
        if at >= upto {
            break None;
        }
        if messages.len() >= limit || bytes >= bytes_max || scanned >= SCANNED_MESSAGES_MAX {
            break Some(at);
        }
        let count = match filter.content_type {
            Some(_) => {
                let block = block(at)?;
                if let Some((0, last)) = filter.known(&block, upto) {
                    at = last;
                    continue;
                }
                to_read(&block, at)
            }
            None => limit - messages.len(),
        };
        let found = read(at, count, bytes_max - bytes)?;
        if found.is_empty() {
            break None;
        }
        scanned += found.len() as u64;
        for message in found {
            if message.seq > upto {
                at = upto;
                break;
            }
            if messages.len() >= limit || bytes >= bytes_max {
                break;
            }
            at = message.seq;
            if filter.is_of_type(&message) {
                bytes = bytes.saturating_add(message.body.len() + message.content_type.len());
                messages.push(message);
            }
        }
    };
    Ok(Page { messages, next })
}

/// How many messages pass the filter. `count` tells how many there are after one `seq` up to
/// another; `go_on` may end it before its time.
pub fn count<E>(
    mut read: impl Read<E>,
    block: impl Fn(u64) -> Result<Block, E>,
    count: impl Fn(u64, u64) -> u64,
    last: u64,
    filter: &Filter,
    go_on: impl Fn() -> Result<(), E>,
) -> Result<u64, E> {
    let (mut at, upto) = bounds(&mut read, last, filter)?;
    if filter.content_type.is_none() {
        return Ok(count(at, upto));
    }
    let mut counted = 0;
    while at < upto {
        go_on()?;
        let block = block(at)?;
        if let Some((wanted, last)) = filter.known(&block, upto) {
            counted += wanted;
            at = last;
            continue;
        }
        let found = read(at, to_read(&block, at), READ_BYTES_MAX)?;
        let Some(end) = found.last() else { break };
        at = end.seq;
        let wanted = found.iter().filter(|message| message.seq <= upto && filter.is_of_type(message));
        counted += wanted.count() as u64;
    }
    Ok(counted)
}

/// How many messages are read at once: not beyond the block's end, where the next one begins.
fn to_read(block: &Block, at: u64) -> usize {
    let left = block.last.and_then(|last| usize::try_from(last.saturating_sub(at)).ok());
    left.unwrap_or(usize::MAX).clamp(1, READ_MESSAGES_MAX)
}

/// The messages of the filter's times: those after one `seq`, up to another.
fn bounds<E>(read: &mut impl Read<E>, last: u64, filter: &Filter) -> Result<(u64, u64), E> {
    let from = filter.since_ms.map_or(Ok(0), |time_ms| last_before(&mut *read, last, time_ms))?;
    let upto = filter.until_ms.map_or(Ok(last), |time_ms| last_before(&mut *read, last, time_ms))?;
    Ok((from, upto))
}

/// The largest `seq`, up to `last`, before the first message that is not earlier than `time_ms`.
pub fn last_before<E>(read: &mut impl Read<E>, last: u64, time_ms: u64) -> Result<u64, E> {
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = low + (high - low) / 2;
        // Where messages were taken out, the next one speaks for them.
        match read(middle, 1, 1)?.first() {
            Some(message) if message.seq <= high && message.time_ms < time_ms => low = message.seq,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use skep_state::message::Digest;

    use super::*;

    const BYTES: usize = 10;

    fn log(times_ms: &[(u64, u64)]) -> Vec<StoredMessage> {
        let message = |&(seq, time_ms): &(u64, u64)| StoredMessage {
            seq,
            time_ms,
            digest: Digest::of(&seq.to_le_bytes()),
            content_type: if seq % 3 == 0 { "text/plain; charset=utf-8".into() } else { "image/png".into() },
            body: Bytes::from(vec![0; BYTES]),
        };
        times_ms.iter().map(message).collect()
    }

    fn read(log: &[StoredMessage]) -> impl Read<()> {
        move |after, count, bytes| {
            let count = count.min(bytes.div_ceil(BYTES).max(1));
            Ok(log.iter().filter(|message| message.seq > after).take(count).cloned().collect())
        }
    }

    /// Blocks of so many, up to `last`; those without gaps are known.
    fn blocks(log: &[StoredMessage], size: u64, last: u64) -> impl Fn(u64) -> Result<Block, ()> {
        move |after| {
            let end = after - after % size + size;
            if end > last {
                return Ok(Block::default());
            }
            let within: Vec<_> = log.iter().filter(|m| m.seq > after && m.seq <= end).collect();
            let is_known = within.len() as u64 == size;
            let types = is_known.then(|| Arc::new(within.iter().map(|m| m.content_type.as_str()).collect()));
            Ok(Block { last: Some(end), types })
        }
    }

    proptest! {
        /// Logs with gaps and with equal times, and blocks of which some are known.
        #[test]
        fn pages_hold_exactly_what_the_filter_wants_and_counts_agree(
            steps in prop::collection::vec((prop::sample::select(vec![1u64, 1, 1, 1, 2, 3]), 0u64..3), 0..60),
            size in 1u64..9,
            since_ms in prop::option::of(0u64..90),
            until_ms in prop::option::of(0u64..90),
            content_type in prop::sample::select(vec![None, Some("text/plain"), Some("image/*"), Some("a/b")]),
            limit in 1usize..8,
            bytes_max in 1usize..100,
        ) {
            let (mut seq, mut time) = (0, 0);
            let places: Vec<_> = steps.iter().map(|(gap, later)| {
                seq += gap;
                time += later;
                (seq, time)
            }).collect();
            let log = log(&places);
            let filter = Filter { since_ms, until_ms, content_type: content_type.map(Into::into) };
            let wanted: Vec<u64> = log.iter().filter(|message| {
                since_ms.is_none_or(|since| message.time_ms >= since)
                    && until_ms.is_none_or(|until| message.time_ms < until)
                    && filter.is_of_type(message)
            }).map(|message| message.seq).collect();
            let (mut found, mut after) = (Vec::new(), 0);
            loop {
                let page = page(read(&log), blocks(&log, size, seq), seq, after, limit, bytes_max, &filter).unwrap();
                prop_assert!(page.messages.len() <= limit);
                found.extend(page.messages.iter().map(|message| message.seq));
                match page.next {
                    Some(next) => {
                        prop_assert!(next > after);
                        after = next;
                    }
                    None => break,
                }
            }
            prop_assert_eq!(&found, &wanted);
            let between = |from, upto| log.iter().filter(|m| m.seq > from && m.seq <= upto).count() as u64;
            let counted = count(read(&log), blocks(&log, size, seq), between, seq, &filter, || Ok(())).unwrap();
            prop_assert_eq!(counted, wanted.len() as u64);
        }
    }
}
