//! An admin address as a table: routes that show something, and those that change something, beside the routes that
//! all programs have.
//!
//! What changes something is asked for by POST with a JSON object, from no page of another origin, by a name that is
//! this machine's own ([`browser`](crate::browser)), and with the operators' token. Without a token nobody can, but
//! where the address is on loopback alone: there whoever is on the machine is an operator.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;

use crate::answer::{self, Answer};
use crate::browser::{self, Origins};
use crate::problem::{Problem, ProblemKind};
use crate::server::Answers;
use crate::token::OperatorToken;

/// Largest body of a request. None is needed; a client may send one all the same.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Largest body of a request that changes something.
const CHANGE_BYTES_MAX: usize = 4096;
/// Time for such a body.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

type Reason = Cow<'static, str>;
type Show = Box<dyn Fn() -> Answer + Send + Sync>;
type Change = Box<dyn Fn(&[u8]) -> Result<Answer, Problem> + Send + Sync>;

/// Who may change something.
#[derive(Debug, Clone, Default)]
pub struct Operators {
    pub token: OperatorToken,
    /// The address is reached from this machine alone.
    pub is_local: bool,
    /// What this machine is called.
    pub own_names: Arc<[String]>,
}

impl Operators {
    fn judge(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        browser::judge_host(&self.own_names, headers)?;
        Origins::default().judge(method, headers)?;
        if self.is_local && !self.token.is_set() {
            return Ok(());
        }
        self.token.check(headers)
    }
}

/// What an admin address shows. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Shown>);

struct Shown {
    registry: Registry,
    ready: Box<dyn Fn() -> Result<(), Reason> + Send + Sync>,
    routes: Vec<(&'static str, Show)>,
    changes: Vec<(&'static str, Change)>,
    operators: Operators,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.routes.iter().map(|(path, _)| path)).finish()
    }
}

/// An [`Admin`] to which routes are added.
pub struct Builder(Shown);

impl Admin {
    /// With `/livez`, `/readyz` and `/metrics`; `ready` says why the program should get no traffic now.
    pub fn builder(
        registry: Registry,
        ready: impl Fn() -> Result<(), Reason> + Send + Sync + 'static,
    ) -> Builder {
        let (routes, changes) = (Vec::new(), Vec::new());
        let operators = Operators::default();
        Builder(Shown { registry, ready: Box::new(ready), routes, changes, operators })
    }

    /// The answer to a request of which this much is known.
    fn answer<B: Body>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let problem = Problem::method_not_allowed(request.method().as_str(), path);
            return problem.answer_allowing(self.methods(path));
        }
        if request.body().size_hint().lower() > BODY_BYTES_MAX {
            let detail = format!("a body may have at most {BODY_BYTES_MAX} bytes");
            let mut answer = Problem::new(ProblemKind::BodyTooLarge, detail).answer();
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        match path {
            "/livez" => answer::live(),
            "/readyz" => answer::ready((self.0.ready)()),
            "/metrics" => answer::metrics(request.headers(), &self.0.registry),
            _ => match self.0.routes.iter().find(|(route, _)| *route == path) {
                Some((_, show)) => match browser::judge_way(request.headers()) {
                    Ok(()) => show(),
                    Err(problem) => problem.answer(),
                },
                None if self.change_at(path).is_some() => {
                    Problem::method_not_allowed(request.method().as_str(), path)
                        .answer_allowing(self.methods(path))
                }
                None => Problem::not_found(path).answer(),
            },
        }
    }

    fn change_at(&self, path: &str) -> Option<&Change> {
        self.0.changes.iter().find(|(route, _)| *route == path).map(|(_, change)| change)
    }

    /// What a path takes.
    fn methods(&self, path: &str) -> &'static str {
        let shows = self.0.routes.iter().any(|(route, _)| *route == path);
        match (self.change_at(path).is_some(), shows) {
            (true, true) => "GET, HEAD, POST",
            (true, false) => "POST",
            (false, _) => "GET, HEAD",
        }
    }

    async fn change(&self, change: &Change, request: Request<Incoming>) -> Result<Answer, Problem> {
        self.0.operators.judge(request.method(), request.headers())?;
        let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            let detail = "expected the content type application/json";
            return Err(Problem::new(ProblemKind::UnsupportedContentType, detail));
        }
        let body = read_body(request.into_body(), CHANGE_BYTES_MAX, CHANGE_TIMEOUT).await?;
        change(&body)
    }
}

/// A whole body, bounded in bytes and in time.
pub async fn read_body(body: Incoming, bytes_max: usize, time: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(time, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("a body may have at most {bytes_max} bytes");
            Err(Problem::new(ProblemKind::BodyTooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(ProblemKind::IncompleteBody, "the body ended before it was whole")),
        Err(_) => Err(Problem::new(ProblemKind::BodyTimeout, "the body did not arrive in time")),
    }
}

impl Builder {
    /// Shows something of the program's own at a path.
    pub fn route(mut self, path: &'static str, show: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        self.0.routes.push((path, Box::new(show)));
        self
    }

    /// Changes something of the program's own, as asked for by a JSON object. Who may is said by
    /// [`Builder::operators`].
    pub fn change<T: DeserializeOwned>(
        mut self,
        path: &'static str,
        change: impl Fn(T) -> Result<Answer, Problem> + Send + Sync + 'static,
    ) -> Self {
        let read = move |body: &[u8]| {
            let asked = serde_json::from_slice(body);
            change(asked.map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))?)
        };
        self.0.changes.push((path, Box::new(read)));
        self
    }

    /// Who may change something; nobody, where this is not said.
    pub fn operators(mut self, operators: Operators) -> Self {
        self.0.operators = operators;
        self
    }

    pub fn build(self) -> Admin {
        Admin(Arc::new(self.0))
    }
}

impl Answers for Admin {
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Incoming>, _began: Instant) -> Response<Full<Bytes>> {
        match self.change_at(request.uri().path()) {
            Some(change) if *request.method() == Method::POST => match self.change(change, request).await {
                Ok(answer) => answer,
                Err(problem) => problem.answer(),
            },
            _ => self.answer(&request),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
