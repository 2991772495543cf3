//! One account of the bytes that requests hold: bodies on their way in, pages on their way out, lists that
//! are being written, what the live feed has for readers that do not take it.
//!
//! Each queue and each body has a bound of its own; what bounds their sum is this. Who would exceed it is
//! told to come again (503), and nothing grows. Small bodies have a share that large ones cannot take: an
//! honest write is answered while somebody holds up a hundred uploads. What is charged is given back when
//! the charge is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use skep_base::process::memory;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::problem::{Problem, ProblemKind};

/// The share of the memory that the process may have, and the bounds of what that comes to.
const SHARE: u64 = 8;
pub const ACCOUNT_BYTES_MIN: u64 = 16 << 20;
pub const ACCOUNT_BYTES_MAX: u64 = 1 << 30;
/// What has no more bytes is small.
pub(crate) const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Of the account, one part in so many is for what is small, and as much for the live feed.
const SMALL_SHARE: u64 = 4;
/// What is charged is rounded up to this.
const UNIT_BYTES: u64 = 1024;
/// Pages that are made at a time: each has records and text in memory before its length is known.
const MAKING_MAX: usize = 4;
/// How long a page waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// What of a page hyper is given at once: it keeps a copy until the client takes it.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The account of one address. Clones share it.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

struct Inner {
    bytes_max: u64,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    feed: Arc<Semaphore>,
    making: Semaphore,
}

/// What a request holds of the account.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Account {
    /// Of so many bytes in all.
    pub fn new(bytes_max: u64) -> Self {
        let units = |bytes: u64| usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let small = bytes_max / SMALL_SHARE;
        let semaphore = |bytes| Arc::new(Semaphore::new(units(bytes).clamp(1, Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner {
            bytes_max,
            small: semaphore(small),
            large: semaphore(bytes_max - 2 * small),
            feed: semaphore(small),
            making: Semaphore::new(MAKING_MAX),
        }))
    }

    /// Of what the process may have, by the container's limit or the machine's memory.
    pub fn of_this_process() -> Self {
        Self::new((memory::limit_bytes() / SHARE).clamp(ACCOUNT_BYTES_MIN, ACCOUNT_BYTES_MAX))
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }

    /// What is charged now.
    pub(crate) fn bytes(&self) -> u64 {
        let shares = [&self.0.small, &self.0.large, &self.0.feed];
        let left: u64 = shares.iter().map(|share| share.available_permits() as u64).sum();
        self.0.bytes_max.saturating_sub(left * UNIT_BYTES)
    }

    /// Charges so many bytes, or says to come again.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, Problem> {
        let of = if bytes <= SMALL_BYTES_MAX { &self.0.small } else { &self.0.large };
        take(of, bytes).ok_or_else(|| {
            let detail = "requests hold as much memory as this node gives them; nothing was done";
            Problem::unprocessed(ProblemKind::Overloaded, detail)
        })
    }

    /// Charges what the live feed has on its way to one who may never take it; waits while others hold what
    /// there is. No more is charged than half of the share: the largest must get through.
    pub(crate) async fn charge_feed(&self, bytes: usize) -> Option<Charge> {
        let half = usize::try_from(self.0.bytes_max / SMALL_SHARE / 2).unwrap_or(usize::MAX);
        let bytes = bytes.min(half);
        let permit = self.0.feed.clone().acquire_many_owned(units_of(bytes)).await.ok()?;
        Some(Charge { bytes, _permit: permit })
    }

    /// Sees to it that a charge covers so many bytes. It grows by doubling.
    pub(crate) fn cover(&self, charge: &mut Charge, bytes: usize) -> Result<(), Problem> {
        if bytes > charge.bytes {
            *charge = self.charge(bytes.max(2 * charge.bytes))?;
        }
        Ok(())
    }

    /// A turn to make a page.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match tokio::time::timeout(TURN_TIMEOUT, self.0.making.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Problem::unprocessed(ProblemKind::Overloaded, "too many lists are being made")),
        }
    }

    /// A body of these bytes, charged until the client has taken all but the last piece.
    pub(crate) fn body(&self, bytes: Vec<u8>) -> Result<Body, Problem> {
        if bytes.len() <= SMALL_BYTES_MAX {
            return Ok(Body::from(bytes));
        }
        let charge = self.charge(bytes.len())?;
        Ok(Body::new(Pieces { bytes: bytes.into(), _charge: charge }))
    }
}

fn take(of: &Arc<Semaphore>, bytes: usize) -> Option<Charge> {
    let permit = of.clone().try_acquire_many_owned(units_of(bytes)).ok()?;
    Some(Charge { bytes, _permit: permit })
}

fn units_of(bytes: usize) -> u32 {
    u32::try_from((bytes as u64).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// Bytes that are given out in pieces, as the client takes them.
struct Pieces {
    bytes: Bytes,
    _charge: Charge,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.bytes.len().min(PIECE_BYTES_MAX);
        if length == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn what_is_charged_is_given_back_and_more_than_there_is_is_refused() {
        let account = Account::new(1 << 20);
        let large = account.charge(500 << 10).unwrap();
        let refused = account.charge(100 << 10).unwrap_err();
        assert_eq!((refused.kind.status().as_u16(), refused.unprocessed), (503, true));
        assert_eq!(account.bytes(), 500 << 10);
        drop(large);
        account.charge(500 << 10).unwrap();
        assert_eq!(account.bytes(), 0);
        assert!(account.charge(usize::MAX).is_err());
    }

    #[test]
    fn what_is_small_has_a_share_of_its_own() {
        let account = Account::new(1 << 20);
        let _large = account.charge(512 << 10).unwrap();
        let small: Vec<_> = (0..256).map(|_| account.charge(1000).unwrap()).collect();
        assert!(account.charge(1).is_err());
        drop(small);
        assert!(account.charge(1).is_ok());
    }

    #[test]
    fn a_charge_grows_with_what_it_covers() {
        let account = Account::new(8 << 20);
        let mut charge = account.charge(16 << 10).unwrap();
        account.cover(&mut charge, 10).unwrap();
        assert_eq!(account.bytes(), 16 << 10);
        account.cover(&mut charge, 300 << 10).unwrap();
        assert_eq!(account.bytes(), 300 << 10);
        account.cover(&mut charge, 301 << 10).unwrap();
        assert_eq!(account.bytes(), 600 << 10);
        assert!(account.cover(&mut charge, 32 << 20).is_err());
        assert_eq!(account.bytes(), 600 << 10, "what it had it keeps");
    }

    #[tokio::test]
    async fn the_feed_waits_for_its_own_share_and_takes_no_other() {
        let account = Account::new(1 << 20);
        let first = account.charge_feed(usize::MAX).await.unwrap();
        assert_eq!(account.bytes(), 128 << 10, "the largest is charged as half of the share");
        let second = account.charge_feed(128 << 10).await.unwrap();
        let account_for_third = account.clone();
        let mut third = tokio::spawn(async move { account_for_third.charge_feed(1).await.map(drop) });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        assert!(account.charge(500 << 10).is_ok() && account.charge(1).is_ok());
        drop(first);
        assert_eq!((&mut third).await.unwrap(), Some(()));
        drop(second);
        assert_eq!(account.bytes(), 0);
    }

    #[tokio::test]
    async fn a_large_body_keeps_its_length_and_its_charge_until_it_is_taken() {
        let account = Account::new(8 << 20);
        let bytes: Vec<u8> = (0..200_000).map(|i| i as u8).collect();
        let body = account.body(bytes.clone()).unwrap();
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(200_000));
        assert!(account.bytes() >= 200_000);
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        assert_eq!(account.bytes(), 0);
        let small = account.body(b"x".to_vec()).unwrap();
        assert_eq!((account.bytes(), hyper::body::Body::size_hint(&small).exact()), (0, Some(1)));
    }
}
