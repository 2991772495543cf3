//! Why nothing was changed, as an answer: a problem, with each fault of a document.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use skep_console::problem::PROBLEM_JSON;
use skep_gateway::{Fault, Refused};

use crate::http::problem::{Problem, ProblemKind};
use crate::service::ServiceError;

/// Most faults that the detail has; `faults` has all.
const FAULTS_SHOWN_MAX: usize = 10;

/// Why nothing was changed.
#[derive(Debug)]
pub(super) enum Unchanged {
    Problem(Problem),
    /// There can be no such document.
    Refused(Refused),
}

impl From<Problem> for Unchanged {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ServiceError> for Unchanged {
    fn from(error: ServiceError) -> Self {
        Self::Problem(error.into())
    }
}

impl From<Refused> for Unchanged {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Unchanged {
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self::Problem(Problem::new(kind, detail.into()))
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    faults: &'a [Fault],
}

impl IntoResponse for Unchanged {
    fn into_response(self) -> Response {
        let Refused { faults, is_clash } = match self {
            Self::Problem(problem) => return problem.into_response(),
            Self::Refused(refused) => refused,
        };
        let kind = if is_clash { ProblemKind::GatewayClash } else { ProblemKind::InvalidGateway };
        let mut detail: Vec<String> = faults.iter().take(FAULTS_SHOWN_MAX).map(Fault::to_string).collect();
        if faults.len() > FAULTS_SHOWN_MAX {
            detail.push(format!("and {} more", faults.len() - FAULTS_SHOWN_MAX));
        }
        let (status, detail) = (kind.status(), detail.join("; "));
        let document = Document {
            r#type: kind.uri(),
            title: kind.title(),
            status: status.as_u16(),
            detail,
            faults: &faults,
        };
        // Texts and a number: this cannot fail, and if it did, the status still says it.
        let mut response = Response::new(Body::from(serde_json::to_vec(&document).unwrap_or_default()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
