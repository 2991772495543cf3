//! `GET /messages`: messages in order, as one JSON object or one a line; `HEAD` counts them.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LINK, VARY};

use super::entry::{self, Form};
use crate::http::encode::time_rfc3339;
use crate::http::headers::{JSON, NDJSON, insert};
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query::{self, Pairs};
use crate::kinds::schema;
use crate::kinds::served::MessageApi;
use crate::kinds::served::Served;
use crate::service::Page;
use crate::service::list::Filter;
use skep_console::accept::want;

/// Messages in a page where the client names no limit, and the most it may name.
const PAGE_LIMIT_DEFAULT: usize = 100;
pub(crate) const PAGE_LIMIT_MAX: usize = 1000;

/// How many messages pass the query's filter.
const SKEP_COUNT: HeaderName = HeaderName::from_static("skep-count");
/// The last message's `seq`.
const SKEP_LAST_SEQ: HeaderName = HeaderName::from_static("skep-last-seq");

/// Lists messages in order.
#[utoipa::path(
    get, path = "/messages", operation_id = "listMessages", tag = "messages",
    params(
        ("after" = Option<u64>, Query, minimum = 0, maximum = 9007199254740991_i64, description = "The seq after which to begin"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "At most so many; 100 by default"),
        ("since" = Option<String>, Query, format = DateTime, description = "No earlier than this"),
        ("until" = Option<String>, Query, format = DateTime, description = "Earlier than this"),
        ("content_type" = Option<String>, Query, pattern = r"^[A-Za-z0-9!#$&^_.+-]+/([A-Za-z0-9!#$&^_.+-]+|\*)$",
            description = "A media type, or all of a main type as in `text/*`"),
    ),
    responses(
        (status = 200, description = "A page; with NDJSON, `Link` names the next", content(
            (schema::MessagePage = "application/json"), (String = "application/x-ndjson"))),
        (status = 400, description = "A parameter is out of its range", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let lines = want(request.headers(), NDJSON) > want(request.headers(), "application/json");
    // Who waits for a leader holds no turn that others could have.
    let last = public.api.current().await?;
    let (body, next) = {
        let _turn = public.account.turn().await?;
        let page = public.api.page(last, query.after, query.limit, query.filter.clone()).await?;
        let text = if lines { ndjson(&page) } else { json(&page) }
            .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
        (public.account.body(text)?, page.next)
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, if lines { HeaderValue::from_static(NDJSON) } else { JSON });
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(next) = next {
        // The one place where a client of NDJSON learns that there is more.
        insert(headers, LINK, format!("</messages?{}>; rel=\"next\"", query.following(next)));
    }
    Ok(response)
}

/// Counts messages.
#[utoipa::path(
    head, path = "/messages", operation_id = "countMessages", tag = "messages",
    params(
        ("since" = Option<String>, Query, format = DateTime, description = "No earlier than this"),
        ("until" = Option<String>, Query, format = DateTime, description = "Earlier than this"),
        ("content_type" = Option<String>, Query, pattern = r"^[A-Za-z0-9!#$&^_.+-]+/([A-Za-z0-9!#$&^_.+-]+|\*)$",
            description = "A media type, or all of a main type as in `text/*`"),
    ),
    responses(
        (status = 200, description = "How many there are", headers(
            ("Skep-Count" = u64, description = "Messages that pass the filter"),
            ("Skep-Last-Seq" = u64, description = "The last message's seq"))),
        (status = 400, description = "A parameter is out of its range"),
    ),
)]
pub(crate) async fn head<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let counted = public.api.count(query.filter).await?;
    // An empty body would be told as a length of 0, which is not that of the page.
    let mut response = Response::new(Body::from_stream(futures_util::stream::empty::<io::Result<Bytes>>()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(SKEP_COUNT, counted.messages.into());
    headers.insert(SKEP_LAST_SEQ, counted.last_seq.into());
    Ok(response)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Query {
    after: u64,
    limit: usize,
    filter: Filter,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Problem> {
        let problem = |detail: String| Problem::new(ProblemKind::InvalidQuery, detail);
        let mut parsed = Self { after: 0, limit: PAGE_LIMIT_DEFAULT, filter: Filter::default() };
        for (name, value) in Pairs::of(text) {
            match &*name {
                "after" => parsed.after = query::after(&value)?,
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit));
                    parsed.limit = limit.ok_or_else(|| {
                        problem(format!("limit is {value:?}; expected a number from 1 to {PAGE_LIMIT_MAX}"))
                    })?;
                }
                "since" => parsed.filter.since_ms = Some(query::time_ms("since", &value)?),
                "until" => parsed.filter.until_ms = Some(query::time_ms("until", &value)?),
                "content_type" => parsed.filter.content_type = Some(query::media_range(&value)?),
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// The query of the next page.
    fn following(&self, next: u64) -> String {
        let Self { limit, filter: Filter { since_ms, until_ms, content_type }, .. } = self;
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.append_pair("after", &next.to_string()).append_pair("limit", &limit.to_string());
        for (name, time_ms) in [("since", since_ms), ("until", until_ms)] {
            if let Some(time_ms) = time_ms {
                let mut time = Vec::new();
                time_rfc3339(*time_ms, &mut time);
                text.append_pair(name, &String::from_utf8_lossy(&time));
            }
        }
        if let Some(content_type) = content_type {
            text.append_pair("content_type", content_type);
        }
        text.finish()
    }
}

fn json(page: &Page) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::from(&br#"{"messages":["#[..]);
    for (i, message) in page.messages.iter().enumerate() {
        if i > 0 {
            json.push(b',');
        }
        entry::push(message, Form::Text, &mut json)?;
    }
    json.extend_from_slice(br#"],"next":"#);
    match page.next {
        Some(next) => json.extend_from_slice(next.to_string().as_bytes()),
        None => json.extend_from_slice(b"null"),
    }
    json.push(b'}');
    Ok(json)
}

fn ndjson(page: &Page) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for message in &page.messages {
        entry::push(message, Form::Text, &mut lines)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(after: u64, limit: usize) -> Query {
        Query { after, limit, filter: Filter::default() }
    }

    #[test]
    fn a_query_has_defaults_and_passes_over_other_names() {
        assert_eq!(Query::parse(""), Ok(all(0, 100)));
        assert_eq!(Query::parse("limit=1000&after=7&x=y&z"), Ok(all(7, 1000)));
    }

    #[test]
    fn a_filter_names_times_and_a_type_and_survives_into_the_next_page() {
        let text = "since=1970-01-01T00%3A00%3A02.5Z&until=1970-01-01T00:00:03Z&content_type=Text%2F*";
        let query = Query::parse(text).unwrap();
        let filter =
            Filter { since_ms: Some(2500), until_ms: Some(3000), content_type: Some("text/*".into()) };
        assert_eq!(query.filter, filter);
        assert_eq!(Query::parse(&query.following(9)), Ok(Query { after: 9, limit: 100, filter }));
        for wrong in
            ["since=yesterday", "until=", "content_type=text", "content_type=%2F", "content_type=*/*/*"]
        {
            assert_eq!(Query::parse(wrong).unwrap_err().kind, ProblemKind::InvalidQuery, "{wrong}");
        }
    }

    #[test]
    fn a_query_out_of_range_is_refused_naming_the_bound() {
        for query in ["limit=0", "limit=1001", "limit=1000000000", "limit=-1", "limit=", "limit", "limit=1e2"]
        {
            let problem = Query::parse(query).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::InvalidQuery);
            assert!(problem.detail.contains("1 to 1000"), "{}", problem.detail);
        }
        for query in ["after=", "after=-1", "after=x", "after=9007199254740992", "after=99999999999999999999"]
        {
            assert_eq!(Query::parse(query).unwrap_err().kind, ProblemKind::InvalidQuery);
        }
    }
}
