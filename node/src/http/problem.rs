//! What the node's own errors are as problems. The table of problems is `skep_console::problem`'s.

use skep_console::problem::RETRY_AFTER_S;
pub use skep_console::{Problem, ProblemKind};

use crate::service::ServiceError;
use crate::service::operator::OperatorError;

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let retry_after_s = match error {
            ServiceError::KeysFull { retry_after_s, .. } => retry_after_s,
            _ => RETRY_AFTER_S,
        };
        let (kind, detail, unprocessed) = match error {
            ServiceError::Unavailable { detail, unprocessed } => {
                (ProblemKind::Unavailable, detail, unprocessed)
            }
            ServiceError::Overloaded { detail } => (ProblemKind::Overloaded, detail, true),
            ServiceError::KeyTaken { detail } => (ProblemKind::IdempotencyKeyReused, detail, false),
            // At any other node it would be the same.
            ServiceError::KeysFull { detail, .. } => (ProblemKind::IdempotencyKeysFull, detail, false),
            ServiceError::TooOld { detail } => (ProblemKind::Unavailable, detail, false),
            ServiceError::Full { detail } => (ProblemKind::StorageFull, detail, false),
            ServiceError::Fatal { detail } => (ProblemKind::Internal, detail, false),
        };
        Self { kind, detail: detail.into(), unprocessed, retry_after_s }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let kind = match &error {
            OperatorError::Refused(_) => ProblemKind::Refused,
            OperatorError::Failed(_) => ProblemKind::OperationFailed,
            OperatorError::NoMessage(_) => ProblemKind::MessageNotFound,
            OperatorError::Gone(_) => ProblemKind::MessageGone,
        };
        Self::new(kind, error.to_string())
    }
}
