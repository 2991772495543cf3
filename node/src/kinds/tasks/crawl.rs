//! Pages that are looked at for images: `POST /`, `GET /status/{id}` and `GET /result/{id}`.
//!
//! What was posted is a batch of the queue `crawl`, and each URL in it a task `{"url"}` whose key is its origin. Its
//! worker's result is `{"images": [..]}`; what goes on from it at another origin is a task in the same place of the
//! batch, and its images are those of the URL that was posted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use skep_base::id::RequestId;
use skep_console::problem::RETRY_AFTER_S;
use skep_state::heap::Held;
use skep_state::kinds::tasks::{Batch, Tasks};
use skep_state::task::{CRAWL_QUEUE, KEY_BYTES_MAX, NewTask, PUT_TASKS_MAX, Policy, TaskId, When};
use url::{Origin, Url};

use super::asked::{invalid, parse, text};
use super::batches::{look_at, put, unknown};
use super::pages::{PIECE_BYTES, Page, READ_BYTES, SEEN_MAX, Text};
use super::{Named, Queues, shown};
use crate::http::problem::Problem;
use crate::http::{body, idempotency};
use crate::kinds::schema;
use crate::kinds::served::TaskApi;
use crate::service::ServiceError;

/// Longest URL.
const URL_BYTES_MAX: usize = 8192;
/// For how long what came of a request is known.
const KEEP_MS: u64 = 24 * 3600 * 1000;
/// What becomes of a page that cannot be had now.
const POLICY: Policy = Policy { retries: 2, backoff_ms: 5_000, timeout_ms: 300_000, keep_ms: 60_000 };
const PRIORITY: u8 = 5;
/// What an answer holds that is written as its client takes it, however little there is: a piece on its way, one that is
/// made.
const RESULT_BYTES: usize = 3 * PIECE_BYTES;
/// What it holds of what it reads, for each byte that there is, and no more than so much: what was read, what it says,
/// and which images are there already.
const READ_SHARE: usize = 8;
const READ_HELD_BYTES_MAX: usize = READ_SHARE * READ_BYTES + 32 * SEEN_MAX;
/// Tries to make a piece where the disk is busy, and how long there is before the second; twice as long before each
/// further one.
const PIECE_TRIES: u32 = 5;
const PIECE_PAUSE: Duration = Duration::from_millis(100);
/// One part in so many of what requests may hold is the most that one of them is charged.
const CHARGED_SHARE: u64 = 4;

/// URLs as they are posted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CrawlAsked<'a> {
    #[serde(borrow)]
    urls: &'a RawValue,
}

/// The tasks of a body, whatever its content type is: `curl -d` says that it is a form. A URL that is there again has
/// the unique key of the first, made of a name that nobody else has: it meets that one, and keeps its place.
fn asked(body: &[u8], name: RequestId) -> Result<Vec<NewTask>, Problem> {
    let body: &RawValue = parse(text(body)?)?;
    if !body.get().starts_with('{') {
        return Err(invalid(r#"expected an object, as in {"urls":["https://example.org/"]}"#));
    }
    let CrawlAsked { urls } = parse(body.get())?;
    let urls: Vec<&RawValue> =
        serde_json::from_str(urls.get()).map_err(|_| invalid("urls: expected an array of URLs"))?;
    if !(1..=PUT_TASKS_MAX).contains(&urls.len()) {
        return Err(invalid(format!("urls: {}; expected 1 to {PUT_TASKS_MAX}", urls.len())));
    }
    let (mut seen, mut tasks) = (HashMap::new(), Vec::<NewTask>::new());
    for (number, url) in urls.into_iter().enumerate() {
        let named = |wrong: String| invalid(format!("urls[{number}]: {wrong}"));
        let Ok(url) = serde_json::from_str::<String>(url.get()) else {
            return Err(named("expected a string".into()));
        };
        let task = match seen.entry(url) {
            Entry::Vacant(new) => {
                let key = origin(new.key()).map_err(named)?;
                let task = page(new.key(), key);
                new.insert(number);
                task
            }
            Entry::Occupied(first) => {
                let first = *first.get();
                tasks[first].unique = Some(format!("{}/{first}", name.0));
                tasks[first].clone()
            }
        };
        tasks.push(task);
    }
    Ok(tasks)
}

fn page(url: &str, key: String) -> NewTask {
    NewTask {
        queue: CRAWL_QUEUE.into(),
        kind: CRAWL_QUEUE.into(),
        payload: json!({ "url": url }).to_string().into(),
        priority: PRIORITY,
        when: When::After { delay_ms: 0 },
        policy: POLICY,
        unique: None,
        key: Some(key),
    }
}

/// The origin of a URL that can be crawled, or why it cannot.
fn origin(url: &str) -> Result<String, String> {
    if url.len() > URL_BYTES_MAX {
        return Err(format!("{} bytes; expected at most {URL_BYTES_MAX}", url.len()));
    }
    let parsed = Url::parse(url).map_err(|error| format!("no URL: {error}"))?;
    let origin = match (parsed.scheme(), parsed.origin()) {
        ("http" | "https", origin @ Origin::Tuple(..)) => origin.ascii_serialization(),
        _ => return Err("expected a URL of http or https".into()),
    };
    match origin.len() <= KEY_BYTES_MAX {
        true => Ok(origin),
        false => Err("its host is too long".into()),
    }
}

/// Has pages looked at for images: each URL is a task of the queue `crawl`.
///
/// The body is JSON, whatever its content type says. A URL that is there twice is one.
#[utoipa::path(
    post, path = "/", operation_id = "crawl", tag = "crawler",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(content = schema::Crawl, content_type = "application/json"),
    responses(
        (status = 202, description = "A quorum has it on disk; `Location` is where to ask how far it is", body = schema::Id),
        (status = 400, description = "No JSON, no URLs, too many, or what is none of http or https", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full, or all that there is room for", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn store<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let body = body::read(&head.headers, body, queues.served.max_body_bytes, &queues.served.account).await?;
    let claim = key.map(|key| key.claim("/", "", &body));
    put(&queues, asked(&body, RequestId::random())?, KEEP_MS, claim, (StatusCode::ACCEPTED, "/status/")).await
}

#[derive(Serialize)]
struct StatusShown {
    id: String,
    completed: u32,
    inprogress: u32,
}

/// How many of the URLs were looked at. One that could not be is among them.
#[utoipa::path(
    get, path = "/status/{id}", operation_id = "getCrawlStatus", tag = "crawler",
    params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
    responses(
        (status = 200, description = "How far it is", body = schema::CrawlStatus),
        (status = 404, description = "Nothing has this id, or it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn status<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
) -> Result<Response, Problem> {
    let id: TaskId = id.parse().map_err(|_| unknown())?;
    // What was posted twice met the first.
    let look = |tasks: &Tasks, batch: &Batch| (batch.posted.saturating_sub(batch.met), open(tasks, batch));
    let (pages, inprogress) = looked(&queues, id, look).await?;
    let completed = pages.saturating_sub(inprogress);
    shown::answer(StatusCode::OK, &StatusShown { id: id.to_string(), completed, inprogress })
}

/// The images of each URL that was looked at.
#[utoipa::path(
    get, path = "/result/{id}", operation_id = "getCrawlResult", tag = "crawler",
    params(("id" = String, Path, pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")),
    responses(
        (status = 200, description = "All: from each URL to its images; of one that could not be looked at there are none", body = std::collections::HashMap<String, Vec<String>>),
        (status = 202, description = "What there is of it so far; `Retry-After` says when to ask again", body = std::collections::HashMap<String, Vec<String>>),
        (status = 404, description = "Nothing has this id, or it is known no more", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn result<A: TaskApi>(
    State(queues): State<Arc<Queues<A>>>,
    Named(id): Named,
) -> Result<Response, Problem> {
    let id: TaskId = id.parse().map_err(|_| unknown())?;
    let (is_over, pages) =
        looked(&queues, id, |tasks, batch| (open(tasks, batch) == 0, Page::all(tasks, batch))).await?;
    let mut response = written(&queues, pages).await?;
    if !is_over {
        *response.status_mut() = StatusCode::ACCEPTED;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    Ok(response)
}

async fn looked<A: TaskApi, T>(
    queues: &Queues<A>,
    id: TaskId,
    look: impl FnOnce(&Tasks, &Batch) -> T,
) -> Result<T, Problem> {
    look_at(queues, id, look).await?.map_err(|_| unknown())
}

/// How many places of a batch have something to be done.
fn open(tasks: &Tasks, batch: &Batch) -> u32 {
    if batch.total() == batch.posted || batch.unfinished == 0 {
        // One task each, at most.
        return batch.unfinished;
    }
    let unfinished = tasks.members(batch).filter(|(_, task)| task.state.is_unfinished());
    let mut places: Vec<u32> = unfinished.map(|(place, _)| place).collect();
    places.dedup();
    places.len() as u32
}

/// What is short in one piece; what is not, as the client takes it.
async fn written<A: TaskApi>(queues: &Queues<A>, pages: Vec<Page<Held>>) -> Result<Response, Problem> {
    // The largest must get through.
    let read = pages.iter().map(Page::bytes).fold(0, usize::saturating_add).saturating_mul(READ_SHARE);
    let places: usize = pages.iter().map(Page::places).sum();
    let held = RESULT_BYTES + read.min(READ_HELD_BYTES_MAX) + places;
    let most = usize::try_from(queues.served.account.bytes_max() / CHARGED_SHARE).unwrap_or(usize::MAX);
    let charge = queues.served.account.charge(held.min(most))?;
    let mut pieces = Text::of(pages);
    let api = queues.served.api.clone();
    let first = pieces.next(&*api).await?.unwrap_or_default();
    let Some(second) = pieces.next(&*api).await? else {
        return Ok(shown::with(StatusCode::OK, Body::from(first)));
    };
    let rest = stream::unfold((pieces, api, charge), |(mut pieces, api, charge)| async move {
        let piece = patiently(&mut pieces, &*api).await.map_err(std::io::Error::other).transpose()?;
        Some((piece, (pieces, api, charge)))
    });
    let begun = stream::iter([first, second].map(Ok::<Bytes, std::io::Error>));
    let mut response = shown::with(StatusCode::OK, Body::from_stream(begun.chain(rest)));
    // Its length is not known beforehand, so idleness after it would not be seen.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// The next piece; a disk that is busy for a moment does not end an answer that has begun.
async fn patiently<A: TaskApi>(pieces: &mut Text, api: &A) -> Result<Option<Bytes>, ServiceError> {
    let mut tries = 1;
    loop {
        match pieces.next(api).await {
            Err(_) if tries < PIECE_TRIES => {
                tokio::time::sleep(PIECE_PAUSE * (1 << (tries - 1))).await;
                tries += 1;
            }
            Err(error) => {
                tracing::warn!(%error, "what was found on pages cannot be read: the answer ends before it is whole");
                return Err(error);
            }
            Ok(piece) => return Ok(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        asked(body.as_bytes(), RequestId(7)).unwrap_err().detail.into_owned()
    }

    #[test]
    fn each_url_is_a_task_whose_key_is_its_origin_and_one_that_is_there_twice_is_to_meet_the_first() {
        let body = r#"{"urls":["http://a.example/x","HTTPS://B.example:443","http://a.example/x","http:\/\/a.example:80/?y"]}"#;
        let mut tasks = asked(body.as_bytes(), RequestId(7)).unwrap();
        let again = tasks.remove(2);
        assert_eq!(again, tasks[0]);
        let unique: Vec<_> = tasks.iter().map(|task| task.unique.as_deref()).collect();
        assert_eq!(unique, [Some("7/0"), None, None]);
        let seen: Vec<_> =
            tasks.iter().map(|task| (task.key.as_deref().unwrap(), &task.payload[..])).collect();
        assert_eq!(
            seen,
            [
                ("http://a.example", &br#"{"url":"http://a.example/x"}"#[..]),
                ("https://b.example", br#"{"url":"HTTPS://B.example:443"}"#),
                ("http://a.example", br#"{"url":"http://a.example:80/?y"}"#),
            ]
        );
        assert!(tasks.iter().all(NewTask::is_bounded));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = vec!["\"http://a\""; 1_001].join(",");
        let long = format!("http://a/{}", "x".repeat(URL_BYTES_MAX));
        let host = format!("http://{}", vec!["x".repeat(60); 5].join("."));
        for (body, named) in [
            (r#"[["http://a"]]"#.to_owned(), "expected an object"),
            (r#"{}"#.to_owned(), "urls"),
            (r#"{"urls":"http://a"}"#.to_owned(), "urls: expected an array"),
            (r#"{"urls":null}"#.to_owned(), "urls: expected an array"),
            (r#"{"urls":{"0":"http://a"}}"#.to_owned(), "urls: expected an array"),
            (r#"{"urls":[]}"#.to_owned(), "0; expected 1 to 1000"),
            (r#"{"urls":["http://a"],"depth":1}"#.to_owned(), "depth"),
            (format!(r#"{{"urls":[{many}]}}"#), "1001"),
            (r#"{"urls":["http://a",7]}"#.to_owned(), "urls[1]: expected a string"),
            (r#"{"urls":["http://a","http://a",["http://b"]]}"#.to_owned(), "urls[2]: expected a string"),
            (r#"{"urls":["a.example"]}"#.to_owned(), "urls[0]: no URL"),
            (r#"{"urls":["http://"]}"#.to_owned(), "urls[0]: no URL"),
            (r#"{"urls":["http://a","ftp://a"]}"#.to_owned(), "urls[1]: expected a URL of http"),
            (r#"{"urls":["file:///etc/passwd"]}"#.to_owned(), "urls[0]: expected a URL of http"),
            (r#"{"urls":["data:text/html,a"]}"#.to_owned(), "urls[0]: expected a URL of http"),
            (format!(r#"{{"urls":["{long}"]}}"#), "urls[0]"),
            (format!(r#"{{"urls":["{host}"]}}"#), "urls[0]"),
        ] {
            let detail = refusal(&body);
            assert!(detail.contains(named), "{named}: {detail}");
        }
    }
}
