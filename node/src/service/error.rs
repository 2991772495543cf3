//! Why a request was not served.

use std::path::PathBuf;

use skep_store::{Busy, StoreError};

/// Why a request was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServiceError {
    /// No leader, or no answer from it, within the request's deadline.
    #[error("{detail}")]
    Unavailable {
        detail: String,
        /// The request was certainly not executed, and may be sent elsewhere.
        unprocessed: bool,
    },
    /// The disk has no room.
    #[error("{detail}")]
    Full { detail: String },
    /// The idempotency key was given to another request.
    #[error("{detail}")]
    KeyTaken { detail: String },
    /// As many idempotency keys are remembered as can be, and none is old enough to be forgotten.
    #[error("{detail}")]
    KeysFull {
        detail: String,
        /// When the oldest can be.
        retry_after_s: u32,
    },
    /// A member of the cluster is of a version that does not know how.
    #[error("{detail}")]
    TooOld { detail: String },
    /// More requests wait than the node holds; this one was not executed.
    #[error("{detail}")]
    Overloaded { detail: String },
    /// What the disk has of it is not as it was written; another node may have it.
    #[error("{detail}")]
    Rotten { path: PathBuf, detail: String },
    /// The store failed; the node is stopping.
    #[error("{detail}")]
    Fatal { detail: String },
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error.rotten_path() {
            Some(path) => ServiceError::Rotten {
                path: path.to_path_buf(),
                detail: "what this node's disk has of it is not as it was written, and no other node gave it"
                    .into(),
            },
            None => ServiceError::Fatal { detail: error.to_string() },
        }
    }
}

impl From<Busy> for ServiceError {
    fn from(busy: Busy) -> Self {
        ServiceError::Overloaded { detail: busy.to_string() }
    }
}
