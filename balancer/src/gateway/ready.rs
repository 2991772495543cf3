//! The balancer's own readiness: what an address holder follows, and where it says that the address
//! has gone elsewhere.

use skep_vrrp::let_go;

use super::{Answer, Asked};
use crate::core::worker::Worker;
use crate::forward::dispatch::Dispatch;

const READY: Answer = Answer::text(200, "OK", "ready\n");
const DRAINING: Answer = Answer::text(503, "Service Unavailable", "draining\n");
/// In the words of [`skep_vrrp::track::NO_BACKEND`].
const NO_BACKEND: Answer = Answer::text(503, "Service Unavailable", "no backend is ready\n");

pub(super) fn answer(worker: &Worker, pool: &Dispatch, asked: &Asked<'_>) -> Answer {
    let word = asked.field(let_go::HEADER).and_then(|word| std::str::from_utf8(word).ok());
    if word.is_some_and(|word| worker.shared.let_go.hear(word)) {
        tracing::info!("the address has gone elsewhere: connections that are here are let go");
    }
    match (worker.is_draining(), pool.is_able()) {
        (true, _) => DRAINING,
        (false, false) => NO_BACKEND,
        (false, true) => READY,
    }
}
