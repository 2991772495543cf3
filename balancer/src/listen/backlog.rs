//! What waits at a listening socket that ends. No tasks.

use std::io;
use std::time::Duration;

use crate::pools::probe::is_own_lack;

/// Failures in all after which no more is taken of what waits.
const FAILURES_MAX: u32 = 1024;
/// Pause, once, for want of descriptors: who ends meanwhile leaves some.
const LACK_PAUSE: Duration = Duration::from_millis(50);

/// Takes all that wait, until none does: what is left is reset as the socket is closed. One that is gone by then
/// (ECONNABORTED) ends nothing.
pub async fn take_all<T>(mut accept: impl FnMut() -> io::Result<T>, mut take: impl FnMut(T)) {
    let (mut failures, mut has_paused) = (0, false);
    while failures < FAILURES_MAX {
        match accept() {
            Ok(next) => take(next),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if is_own_lack(&error) => {
                if std::mem::replace(&mut has_paused, true) {
                    return;
                }
                tokio::time::sleep(LACK_PAUSE).await;
            }
            Err(_) => failures += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of so many, where these failures come in between.
    async fn taken(outcomes: &[Result<u32, i32>]) -> Vec<u32> {
        let (mut outcomes, mut taken) = (outcomes.iter(), Vec::new());
        let accept = || match outcomes.next() {
            Some(outcome) => outcome.map_err(io::Error::from_raw_os_error),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        take_all(accept, |next| taken.push(next)).await;
        taken
    }

    #[tokio::test]
    async fn one_that_was_reset_while_it_waited_keeps_no_other_from_being_taken() {
        let aborted = Err(libc::ECONNABORTED);
        assert_eq!(taken(&[Ok(1), aborted, aborted, Ok(2), Err(libc::EINTR), Ok(3)]).await, [1, 2, 3]);
        assert_eq!(taken(&[Ok(1), Err(libc::EAGAIN), Ok(2)]).await, [1]);
    }

    #[tokio::test]
    async fn want_of_descriptors_is_waited_for_once_and_other_failures_not_for_ever() {
        let lack = Err(libc::EMFILE);
        assert_eq!(taken(&[Ok(1), lack, Ok(2), lack, Ok(3)]).await, [1, 2]);
        let (mut calls, failing) = (0, || io::Error::from_raw_os_error(libc::EPROTO));
        let accept = || {
            calls += 1;
            Err::<(), _>(failing())
        };
        take_all(accept, |()| {}).await;
        assert_eq!(calls, FAILURES_MAX);
    }
}
