//! An admin address whose routes only show something: a table beside the routes that all programs have.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use prometheus_client::registry::Registry;

use crate::answer::{self, Answer};
use crate::problem::{Problem, ProblemKind};
use crate::server::Answers;

/// Largest body of a request. None is needed; a client may send one all the same.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// What is taken here.
const METHODS: &str = "GET, HEAD";

type Reason = Cow<'static, str>;
type Show = Box<dyn Fn() -> Answer + Send + Sync>;

/// What an admin address shows. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Shown>);

struct Shown {
    registry: Registry,
    ready: Box<dyn Fn() -> Result<(), Reason> + Send + Sync>,
    routes: Vec<(&'static str, Show)>,
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
        Builder(Shown { registry, ready: Box::new(ready), routes: Vec::new() })
    }

    /// The answer to a request of which this much is known.
    fn answer<B: Body>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Problem::method_not_allowed(request.method().as_str(), path).answer_allowing(METHODS);
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
                Some((_, show)) => show(),
                None => Problem::not_found(path).answer(),
            },
        }
    }
}

impl Builder {
    /// Shows something of the program's own at a path.
    pub fn route(mut self, path: &'static str, show: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        self.0.routes.push((path, Box::new(show)));
        self
    }

    pub fn build(self) -> Admin {
        Admin(Arc::new(self.0))
    }
}

impl Answers for Admin {
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Incoming>, _began: Instant) -> Response<Full<Bytes>> {
        self.answer(&request)
    }
}

#[cfg(test)]
pub(crate) mod tests;
