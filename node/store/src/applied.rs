//! How far the state machine is: what those wait for who follow it.

use skep_state::clock::Stamp;
use skep_state::kinds::Revisions;

/// How far the state machine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied log index.
    pub index: Option<u64>,
    /// The last message's `seq`, 0 where there is none.
    pub seq: u64,
    /// Times that messages were taken out; only ever grows while the process runs.
    pub removals: u64,
    /// How far each kind is.
    pub revisions: Revisions,
    /// The newest time that anything was given.
    pub latest: Stamp,
    /// As many idempotency keys are remembered as can be.
    pub keys_are_full: bool,
}
