//! `GET /messages?after&limit`: messages in order, as one JSON object or one a line.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LINK, VARY};
use serde::Serialize;
use skep_proto::message::{Digest, StoredMessage};

use super::accept::want;
use super::api::MessageApi;
use super::encode::{base64, time_rfc3339};
use super::messages::{JSON, as_text, insert};
use super::problem::{Problem, ProblemKind};
use super::public::Public;
use crate::service::Page;

/// Messages in a page where the client names no limit, and the most it may name.
const PAGE_LIMIT_DEFAULT: usize = 100;
pub(super) const PAGE_LIMIT_MAX: usize = 1000;

const NDJSON: &str = "application/x-ndjson";

/// `GET /messages`.
pub(super) async fn get<A: MessageApi>(
    State(public): State<Arc<Public<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let lines = want(request.headers(), NDJSON) > want(request.headers(), "application/json");
    let page = public.api.page(query.after, query.limit).await?;
    let body = if lines { ndjson(&page) } else { json(&page) }
        .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, if lines { HeaderValue::from_static(NDJSON) } else { JSON });
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(next) = page.next {
        // The one place where a client of NDJSON learns that there is more.
        insert(headers, LINK, format!("</messages?after={next}&limit={}>; rel=\"next\"", query.limit));
    }
    Ok(response)
}

#[derive(Debug, PartialEq, Eq)]
struct Query {
    after: u64,
    limit: usize,
}

impl Query {
    /// Parameters of other names are passed over, as everywhere on the web.
    fn parse(query: &str) -> Result<Self, Problem> {
        let problem = |detail: String| Problem::new(ProblemKind::InvalidQuery, detail);
        let mut parsed = Self { after: 0, limit: PAGE_LIMIT_DEFAULT };
        for (name, value) in query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            match name {
                "after" => {
                    parsed.after = value.parse().map_err(|_| {
                        problem(format!("after is {value:?}; expected a seq, 0 for the beginning"))
                    })?;
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit));
                    parsed.limit = limit.ok_or_else(|| {
                        problem(format!("limit is {value:?}; expected a number from 1 to {PAGE_LIMIT_MAX}"))
                    })?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

#[derive(Serialize)]
struct PageView<'a> {
    messages: Vec<MessageView<'a>>,
    next: Option<u64>,
}

#[derive(Serialize)]
struct MessageView<'a> {
    seq: u64,
    #[serde(serialize_with = "hex")]
    digest: Digest,
    time: String,
    content_type: &'a str,
    message: std::borrow::Cow<'a, str>,
    /// `base64` where the message is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

fn hex<S: serde::Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

impl<'a> MessageView<'a> {
    fn of(message: &'a StoredMessage) -> Self {
        let (text, encoding) = match as_text(message) {
            Some(text) => (text.into(), None),
            None => (base64(&message.body).into(), Some("base64")),
        };
        let mut time = String::with_capacity(24);
        time_rfc3339(message.time_ms, &mut time);
        Self {
            seq: message.seq,
            digest: message.digest,
            time,
            content_type: &message.content_type,
            message: text,
            encoding,
        }
    }
}

fn json(page: &Page) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&PageView {
        messages: page.messages.iter().map(MessageView::of).collect(),
        next: page.next,
    })
}

fn ndjson(page: &Page) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for message in &page.messages {
        serde_json::to_writer(&mut lines, &MessageView::of(message))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_defaults_and_passes_over_other_names() {
        assert_eq!(Query::parse(""), Ok(Query { after: 0, limit: 100 }));
        assert_eq!(Query::parse("limit=1000&after=7&x=y&z"), Ok(Query { after: 7, limit: 1000 }));
    }

    #[test]
    fn a_query_out_of_range_is_refused_naming_the_bound() {
        for query in ["limit=0", "limit=1001", "limit=1000000000", "limit=-1", "limit=", "limit", "limit=1e2"]
        {
            let problem = Query::parse(query).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::InvalidQuery);
            assert!(problem.detail.contains("1 to 1000"), "{}", problem.detail);
        }
        for query in ["after=", "after=-1", "after=x", "after=99999999999999999999"] {
            assert_eq!(Query::parse(query).unwrap_err().kind, ProblemKind::InvalidQuery);
        }
    }
}
