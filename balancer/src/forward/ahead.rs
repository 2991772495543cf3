//! The part of a body that comes before a backend is chosen: all of it where it is short.
//!
//! A backend has so many places, and they are for requests that move. A client that sends nothing, or next to
//! nothing, holds up memory and no place. What expects 100 (Continue) has to be passed on before its body
//! comes (RFC 9110, 10.1.1); it is the exchange that sees to those. Cancel-safe: what was read stays with the
//! client's side.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::core::worker::AHEAD_BYTES_MAX;
use crate::forward::downstream::{Downstream, Fault, Gone};
use crate::forward::plan::Plan;
use crate::forward::problem::Problem;
use crate::forward::waiting::Pace;
use crate::wire::request_head::BodyLength;

/// How long a body whose length nobody knows must stand still to be passed on: its client may wait for an
/// answer before it goes on.
const OPEN_PAUSE: Duration = Duration::from_millis(100);
/// What a body gets for more time at least, where others of its client's keep it from coming.
const HELD_UP_STEP: Duration = Duration::from_secs(1);

/// Waits until the body is whole, or long enough, or has moved for a while. One whose length is not known goes
/// on when it stands still, too, while the backends have more places free than taken.
pub(crate) async fn read_ahead<D: Downstream>(
    timer: &Timer,
    plan: &Plan,
    pace: &mut Pace,
    length: BodyLength,
    down: &mut D,
    trail: &mut Trail,
) -> Result<(), Fault> {
    if down.body_complete() {
        return Ok(());
    }
    let body_timeout = plan.pool.worker.settings().body_timeout;
    let mut moved_at = Instant::now();
    loop {
        let (seen, now) = (down.body().len(), Instant::now());
        let left = body_timeout.saturating_sub(now - moved_at).min(pace.left(seen as u64, now));
        let open = length == BodyLength::Chunked && seen > 0;
        let pause = if open { OPEN_PAUSE.min(left) } else { left };
        timer.arm(pause);
        match timer.limit(poll_fn(|cx| down.poll_ahead(cx))).await {
            Ok(Ok(true)) => {}
            // With so little memory left, what is there goes on as it is.
            Ok(Ok(false)) => break,
            Ok(Err(Gone::Lost)) => return Err(Fault::Cut),
            Ok(Err(Gone::Problem(problem))) => return Err(Fault::Problem(problem)),
            Err(_) if pause < left && plan.pool.has_to_spare() => break,
            Err(_) if pause < left => continue,
            Err(_) if down.is_held_up() && !pace.whole_left(Instant::now()).is_zero() => {
                pace.forgive(pause.max(HELD_UP_STEP))
            }
            Err(_) => return Err(Fault::Problem(Problem::RequestTimeout)),
        }
        moved_at = Instant::now();
        let seen = down.body().len();
        let enough = seen >= AHEAD_BYTES_MAX || pace.moves(seen as u64, moved_at);
        if down.body_complete() || enough {
            break;
        }
    }
    // How long it took to come is the client's affair.
    trail.started = Instant::now();
    Ok(())
}
