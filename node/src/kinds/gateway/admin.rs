//! The gateway's document on the admin address. Who reads it needs the operators' token as who changes it does, or the
//! gateway's, which is good for that alone: what stands in it is not for everybody who may look after a node's health.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use skep_console::accept::want;
use skep_console::token::{GatewayToken, OperatorToken};
use skep_gateway::document::{DOCUMENT_BYTES_MAX, sources};
use skep_gateway::explain::Question;
use skep_gateway::kept::KINDS;
use skep_state::gateway::{Revision, SOURCE_BYTES_MAX};
use tokio::sync::Semaphore;

use super::change::{Changes, Made, Of, Text, Wanted, condition};
use super::described::{self, Described};
use super::followed::{self, PREFERENCE_APPLIED};
use super::refused::Unchanged;
use super::seen::{self, Documented};
use super::shifts;
use super::{Changed, GatewayApi, Newest, Page, etag, etag_value, kept, rfc3339, stored, unreadable};
use crate::http::account::Account;
use crate::http::body;
use crate::http::conditions::{self, Condition};
use crate::http::headers::{JSON, insert};
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query::Pairs;
use crate::service::secrets::Stored;
use crate::service::time::own_clock_ms;

/// What the bodies of all such requests take together.
const REQUESTS_BYTES_MAX: u64 = 64 << 20;
/// Largest body of a question, or of a wish to go back.
const QUESTION_BYTES_MAX: usize = 64 * 1024;
struct Administered<A> {
    changes: Changes<A>,
    /// Of those who wait for balancers.
    waits: Semaphore,
    account: Account,
    operators: OperatorToken,
    gateway: GatewayToken,
    page: Page,
    /// What is shown of the newest document.
    described: described::Newest,
}

type Shared<A> = State<Arc<Administered<A>>>;

/// The routes of the admin address.
pub(crate) fn admin_routes<A: GatewayApi>(
    api: Arc<A>,
    operators: OperatorToken,
    gateway: GatewayToken,
    page: Page,
) -> Router {
    let account = Account::new(REQUESTS_BYTES_MAX);
    let purges = super::purge::routes(api.clone(), operators.clone());
    let of_shifts = shifts::routes(api.clone(), operators.clone());
    let (changes, waits) = (Changes::new(api), Semaphore::new(followed::WAITS_MAX));
    let described = described::Newest::default();
    let shared = Administered { changes, waits, account, operators, gateway, page, described };
    Router::new()
        .route("/gateway", get(whole::<A>).put(put_whole::<A>))
        .route("/gateway/seen", get(see::<A>))
        .route("/gateway/history", get(history::<A>))
        .route("/gateway/rollback", post(rollback::<A>))
        .route("/gateway/explain", post(explain::<A>))
        .route("/gateway/sources/{source}", get(part::<A>).put(put_part::<A>))
        .route("/gateway/{kind}/{name}", get(object::<A>).put(put_object::<A>).delete(delete_object::<A>))
        .with_state(Arc::new(shared))
        .merge(purges)
        .merge(of_shifts)
}

/// The document; browsers get the page that shows what becomes of it, and anybody may have that.
async fn whole<A: GatewayApi>(State(shared): Shared<A>, headers: HeaderMap) -> Result<Response, Problem> {
    let html = want(&headers, "text/html");
    if html.is_exact() && html > want(&headers, "application/json") {
        return (shared.page)(&headers);
    }
    shared.may_change(&headers)?;
    let Newest { revision, stored: Stored { document, .. } } = shared.newest().await?;
    // Unless it has secrets, it is shown as it is kept, which may be by a later version. What cannot be read may have some.
    let show = move || match kept(&document)? {
        kept if kept.has_secrets() => kept.shown().json().map(Bytes::from),
        _ => Some(document),
    };
    let json = shared.changes.read(show).await?.ok_or_else(unreadable)?;
    let mut response = shown(&headers, revision, json)?;
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// What becomes of it: which balancers obey it, and what they do by each route.
async fn see<A: GatewayApi>(State(shared): Shared<A>, headers: HeaderMap) -> Result<Response, Problem> {
    shared.operators.check(&headers)?;
    let (documented, heard) = (shared.documented().await?, shared.changes.api.figures().await);
    let (nothing, view) = (Described::nothing(), shared.changes.api.members().borrow().clone());
    let described = documented.as_ref().map_or(&nothing, |it| &*it.described);
    let shifts = shifts::all(&*shared.changes.api);
    let mut response = as_json(&seen::seen(documented.as_ref(), described, (&view, &heard), shifts));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn put_whole<A: GatewayApi>(State(shared): Shared<A>, request: Request) -> Result<Response, Unchanged> {
    shared.may_change(request.headers())?;
    let asked = Asked::of(&request)?;
    let newest = shared.changes.current().await?.map(|newest| newest.revision);
    let of = match condition(request.headers(), newest)? {
        Some(of) => of,
        None if asked.is_only_tried => Of::Newest,
        None => {
            let detail = "say with If-Match of which document it is made (its ETag), or with If-None-Match: * that it \
                          is the first";
            return Err(Unchanged::new(ProblemKind::PreconditionRequired, detail));
        }
    };
    let text = shared.text(request, DOCUMENT_BYTES_MAX).await?;
    let made = shared.change(Wanted::Whole(text), of, &asked).await?;
    let is_new = made.before.is_none();
    Ok(shared.answer(made, is_new, &asked).await)
}

async fn object<A: GatewayApi>(
    State(shared): Shared<A>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Unchanged> {
    shared.may_change(&headers)?;
    is_kind(&kind)?;
    let Newest { revision, stored: Stored { document, .. } } = shared.newest().await?;
    let absent = format!("the document has no {kind}/{name}");
    let find = move || kept(&document).map(|kept| kept.shown().object(&kind, &name));
    let found = shared.changes.read(find).await?.ok_or_else(unreadable)?;
    let found = found.ok_or_else(|| Unchanged::new(ProblemKind::NoGateway, absent))?;
    Ok(shown(&headers, revision, found.into())?)
}

async fn put_object<A: GatewayApi>(
    State(shared): Shared<A>,
    Path((kind, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Unchanged> {
    shared.may_change(request.headers())?;
    is_kind(&kind)?;
    let (asked, of) = (Asked::of(&request)?, shared.of(request.headers()).await?);
    let object = shared.text(request, DOCUMENT_BYTES_MAX).await?;
    let whole_name = format!("{kind}/{name}");
    let made = shared.change(Wanted::Object { kind, name, object, takes: asked.takes }, of, &asked).await?;
    let is_new = made.difference.added.contains(&whole_name);
    Ok(shared.answer(made, is_new, &asked).await)
}

async fn delete_object<A: GatewayApi>(
    State(shared): Shared<A>,
    Path((kind, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Unchanged> {
    shared.may_change(request.headers())?;
    is_kind(&kind)?;
    let (asked, of) = (Asked::of(&request)?, shared.of(request.headers()).await?);
    // What goes says nothing: whose it is says who takes it out.
    let (source, takes) = (asked.source.clone(), asked.takes);
    let made = shared.change(Wanted::Gone { kind, name, source, takes }, of, &asked).await?;
    Ok(shared.answer(made, false, &asked).await)
}

/// What a source has.
async fn part<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(source): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Unchanged> {
    shared.may_change(&headers)?;
    let Newest { revision, stored: Stored { document, .. } } = shared.newest().await?;
    let absent = format!("the document has nothing of the source {source:?}");
    let find = move || kept(&document).map(|kept| kept.shown().part(&source).and_then(|it| it.json()));
    let found = shared.changes.read(find).await?.ok_or_else(unreadable)?;
    let found = found.ok_or_else(|| Unchanged::new(ProblemKind::NoGateway, absent))?;
    Ok(shown(&headers, revision, found.into())?)
}

/// It needs no condition, as one object needs none: nobody else's is touched.
async fn put_part<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(source): Path<String>,
    request: Request,
) -> Result<Response, Unchanged> {
    shared.may_change(request.headers())?;
    let source = sources::read(&source).map_err(|why| Unchanged::new(ProblemKind::InvalidRequest, why))?;
    let (mut asked, of) = (Asked::of(&request)?, shared.of(request.headers()).await?);
    asked.source.clone_from(&source);
    let text = shared.text(request, DOCUMENT_BYTES_MAX).await?;
    let made = shared.change(Wanted::Part { source, text, takes: asked.takes }, of, &asked).await?;
    let is_new = made.before.is_none();
    Ok(shared.answer(made, is_new, &asked).await)
}

/// A document that there was, or is.
#[derive(Serialize)]
struct Past {
    revision: u64,
    time: String,
    source: String,
    bytes: usize,
}

async fn history<A: GatewayApi>(State(shared): Shared<A>, headers: HeaderMap) -> Result<Response, Problem> {
    shared.operators.check(&headers)?;
    shared.changes.api.current().await?;
    // In one look: what is said of the newest must be of the same moment as the rest.
    let (newest, revisions) = shared.changes.api.gateway(|gateway| {
        let past = |told: &skep_state::kinds::gateway::Told| Past {
            revision: told.number,
            time: rfc3339(told.time.0),
            source: told.source.clone(),
            bytes: told.document.len(),
        };
        let revisions: Vec<Past> = gateway.history().rev().map(past).collect();
        (gateway.newest().map(|(revision, _)| revision), revisions)
    });
    let Revision { lineage, number } = newest.unwrap_or(Revision { lineage: 0, number: 0 });
    let lineage = format!("{lineage:032x}");
    Ok(as_json(&json!({ "lineage": lineage, "revision": number, "revisions": revisions })))
}

/// Which document is to be the newest again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    revision: u64,
}

async fn rollback<A: GatewayApi>(State(shared): Shared<A>, request: Request) -> Result<Response, Unchanged> {
    shared.operators.check(request.headers())?;
    let (mut asked, of) = (Asked::of(&request)?, shared.of(request.headers()).await?);
    let Rollback { revision } = shared.question(request).await?;
    asked.source = format!("rollback to {revision}");
    let made = shared.change(Wanted::Back(revision), of, &asked).await?;
    Ok(shared.answer(made, false, &asked).await)
}

async fn explain<A: GatewayApi>(State(shared): Shared<A>, request: Request) -> Result<Response, Unchanged> {
    shared.operators.check(request.headers())?;
    let question: Question = shared.question(request).await?;
    let told = shared.changes.told(&shared.newest().await?).await?;
    let find = move || {
        let table = kept(&told.document).ok_or_else(unreadable)?.table()?;
        Ok::<_, Unchanged>(question.explain(&table, own_clock_ms() / 1000))
    };
    let explained = shared.changes.read(find).await??;
    Ok(as_json(&shifts::Explained::of(explained, &*shared.changes.api)))
}

impl<A: GatewayApi> Administered<A> {
    /// Whether it comes from who may read and change the document and its objects. The past, and what would become of
    /// a request, are the operators' alone: a document of the past may let in who was shut out since.
    fn may_change(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.gateway.check_or(&self.operators, headers)
    }

    /// The newest document, or that there is none.
    async fn newest(&self) -> Result<Newest, Problem> {
        let none = || Problem::new(ProblemKind::NoGateway, "there is no document yet: nothing is configured");
        self.changes.current().await?.ok_or_else(none)
    }

    /// The newest that is applied here, in short.
    async fn documented(&self) -> Result<Option<Documented>, Problem> {
        let newest = self.changes.api.gateway(|gateway| {
            let (revision, told) = gateway.newest()?;
            let newest = Newest { revision, stored: stored(gateway, told) };
            Some((newest, told.time.0, told.source.clone()))
        });
        let Some((newest, time_ms, source)) = newest else { return Ok(None) };
        let revision = newest.revision;
        let told = self.changes.told(&newest).await?;
        let described = match self.described.known(revision, told.digest) {
            Some(described) => described,
            None => {
                let (document, digest) = (told.document.clone(), told.digest);
                let read = move || Described::read(std::str::from_utf8(&document).ok()?).map(Arc::new);
                let described = self.changes.read(read).await?.ok_or_else(unreadable)?;
                self.described.keep(revision, digest, described.clone());
                described
            }
        };
        Ok(Some(Documented { revision, time: rfc3339(time_ms), source, described }))
    }

    /// Of which document the change of one object is to be: of the newest, where nothing is said.
    async fn of(&self, headers: &HeaderMap) -> Result<Of, Unchanged> {
        let newest = self.changes.current().await?.map(|newest| newest.revision);
        Ok(condition(headers, newest)?.unwrap_or(Of::Newest))
    }

    async fn change(&self, wanted: Wanted, of: Of, asked: &Asked) -> Result<Made, Unchanged> {
        self.changes.make(wanted, of, &asked.source, asked.is_only_tried).await
    }

    /// What a change came to; once balancers obey it, where that is wished.
    async fn answer(&self, made: Made, is_new: bool, asked: &Asked) -> Response {
        let seconds = asked.wait_s.filter(|_| !asked.is_only_tried);
        let turn = seconds.and_then(|_| self.waits.try_acquire().ok());
        let waits = seconds.zip(made.now).filter(|_| turn.is_some());
        let followed = match waits {
            None => None,
            Some((seconds, now)) => {
                let view = self.changes.api.members();
                Some(followed::wait(view, now, Duration::from_secs(seconds)).await)
            }
        };
        let mut response = as_json(&Changed::of(made.now, (made.difference, made.warnings), followed));
        if is_new && made.now != made.before {
            *response.status_mut() = StatusCode::CREATED;
        }
        if let Some(revision) = made.now {
            response.headers_mut().insert(ETAG, etag_value(revision));
        }
        if let Some((seconds, _)) = waits {
            insert(response.headers_mut(), PREFERENCE_APPLIED, format!("wait={seconds}"));
        }
        response
    }

    /// What a request's body says, in JSON or TOML.
    async fn text(&self, request: Request, bytes_max: usize) -> Result<Text, Problem> {
        let given =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let given = given.split(';').next().unwrap_or_default().trim();
        if !["application/json", "application/toml"].iter().any(|it| given.eq_ignore_ascii_case(it)) {
            let detail = "expected the content type application/json or application/toml";
            return Err(Problem::new(ProblemKind::UnsupportedContentType, detail));
        }
        let (head, body) = request.into_parts();
        let (bytes, charge) = body::read_charged(&head.headers, body, bytes_max, &self.account).await?;
        let text = std::str::from_utf8(&bytes).map_err(Problem::invalid_utf8)?.to_owned();
        Ok(Text::new(text, charge))
    }

    async fn question<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T, Problem> {
        let text = self.text(request, QUESTION_BYTES_MAX).await?;
        serde_json::from_str(text.as_str()).map_err(|error| {
            let why = error.to_string();
            // It would say which value: a key may be one.
            let has_value = why.starts_with("invalid type") || why.starts_with("invalid value");
            let place =
                format!("something else is expected in line {} column {}", error.line(), error.column());
            Problem::new(ProblemKind::InvalidRequest, if has_value { place } else { why })
        })
    }
}

/// What a query asks for.
struct Asked {
    is_only_tried: bool,
    /// What the history says of it; and whose an object is that is deleted.
    source: String,
    /// What is put may take the place of what other sources have.
    takes: bool,
    /// How long balancers are waited for.
    wait_s: Option<u64>,
}

impl Asked {
    fn of(request: &Request) -> Result<Self, Problem> {
        let wait_s = followed::wish(request.headers());
        let mut asked = Self { is_only_tried: false, source: sources::API.into(), takes: false, wait_s };
        for (name, value) in Pairs::of(request.uri().query().unwrap_or_default()) {
            match &*name {
                "dry-run" => asked.is_only_tried = true,
                "take" if matches!(&*value, "" | "true") => asked.takes = true,
                "take" => {
                    return Err(Problem::new(ProblemKind::InvalidQuery, "take is true, or it is left out"));
                }
                "source" if value.len() <= SOURCE_BYTES_MAX && !value.chars().any(char::is_control) => {
                    asked.source = value.into_owned();
                }
                "source" => {
                    let detail = format!("source is a text of at most {SOURCE_BYTES_MAX} bytes");
                    return Err(Problem::new(ProblemKind::InvalidQuery, detail));
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn is_kind(kind: &str) -> Result<(), Problem> {
    match KINDS.contains(&kind) {
        true => Ok(()),
        false => Err(Problem::not_found(&format!("/gateway/{kind}"))),
    }
}

/// A document, or an object of one, unless the client has it.
fn shown(headers: &HeaderMap, revision: Revision, json: Bytes) -> Result<Response, Problem> {
    let mut response = match conditions::evaluate(headers, &etag(revision))? {
        Condition::Send => Response::new(Body::from(json)),
        Condition::NotModified => StatusCode::NOT_MODIFIED.into_response(),
    };
    let fields = response.headers_mut();
    fields.insert(ETAG, etag_value(revision));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_TYPE, JSON);
    Ok(response)
}

fn as_json<T: Serialize>(value: &T) -> Response {
    skep_console::answer::json(value).map(Body::new)
}
