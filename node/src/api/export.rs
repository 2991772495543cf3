//! For operators, on the public address, because a browser reaches no other: everything that is
//! stored, as a file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};

use super::shared::Public;
use crate::http::headers::NDJSON;
use crate::http::problem::Problem;
use crate::kinds::messages::endpoint;
use crate::kinds::schema;
use crate::kinds::served::MessageApi;

/// Whether the token is the operators'.
#[utoipa::path(
    get, path = "/operator", operation_id = "checkOperator", tag = "operators", security(("operator" = [])),
    responses(
        (status = 204, description = "It is"),
        (status = 401, description = "It is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has none", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn check<A: MessageApi>(
    State(public): State<Arc<Public<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    public.token.check(request.headers())?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// All that is stored, one JSON object a line, as a file.
#[utoipa::path(
    get, path = "/export", operation_id = "export", tag = "operators", security(("operator" = [])),
    responses(
        (status = 200, description = "Every message", body = String, content_type = "application/x-ndjson"),
        (status = 401, description = "The token is missing, or another", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The node has no token", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get<A: MessageApi>(
    State(public): State<Arc<Public<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    public.token.check(request.headers())?;
    let charge = public.served.account.charge(endpoint::LIST_BYTES)?;
    let upto = public.served.api.current().await?;
    tracing::info!(upto, "an operator exports the messages");
    let mut response =
        Response::new(Body::from_stream(endpoint::list(public.served.api.clone(), upto, true, charge)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    headers.insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"skep-messages.ndjson\""),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}
