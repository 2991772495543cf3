//! The balancer's own readiness: what an address holder follows, and where it says that the address
//! has gone elsewhere.

use std::sync::atomic::Ordering::Relaxed;

use skep_vrrp::let_go;

use super::{Answer, Asked};
use crate::core::worker::Worker;

const READY: Answer = Answer::text(200, "OK", "ready\n");
/// In the words of [`skep_vrrp::track::DRAINING`], and of the other two.
const DRAINING: Answer = Answer::text(503, "Service Unavailable", "draining\n");
const CORE_HANGS: Answer = Answer::text(503, "Service Unavailable", "a core hangs\n");
const NOT_TOLD: Answer = Answer::text(503, "Service Unavailable", "no node has told the configuration yet\n");
const NO_BACKEND: Answer = Answer::text(503, "Service Unavailable", "no backend is ready\n");

pub(super) fn answer(worker: &Worker, asked: &Asked<'_>) -> Answer {
    let word = asked.field(let_go::HEADER).and_then(|word| std::str::from_utf8(word).ok());
    if word.is_some_and(|word| worker.shared.let_go.hear(word)) {
        tracing::info!("the address has gone elsewhere: connections that are here are let go");
    }
    if worker.is_draining() {
        DRAINING
    } else if worker.shared.core_hangs.load(Relaxed) {
        CORE_HANGS
    } else if worker.shared.is_closed() {
        NOT_TOLD
    } else if !worker.shared.is_able() {
        NO_BACKEND
    } else {
        READY
    }
}

#[cfg(test)]
mod tests {
    use skep_vrrp::track;

    use super::*;

    #[test]
    fn who_tracks_it_knows_the_words() {
        let full = crate::forward::problem::Problem::TooManyConnections.body();
        assert!(String::from_utf8(full).unwrap().contains(track::FULL));
        for (answer, word) in [
            (DRAINING, track::DRAINING),
            (CORE_HANGS, track::CORE_HANGS),
            (NOT_TOLD, track::NOT_TOLD),
            (NO_BACKEND, track::NO_BACKEND),
        ] {
            assert_eq!(answer.body.trim_ascii_end(), word.as_bytes());
        }
    }
}
