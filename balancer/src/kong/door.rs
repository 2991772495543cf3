//! Who may ask, and what of a request is looked at: the socket's side of the door.
//!
//! It has no password, as Kong had none: it is for programs on this machine, or in a network of its own. No page of a
//! browser may ask anything: whatever says that it comes from one is refused, and so is a name that is not the door's
//! own (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, VIA};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use skep_console::admin::read_body;
use skep_console::{Answers, ServeLimits, answer};
use skep_gateway::auth::make_key;
use skep_gateway::auth::password::Salt;
use skep_members::gossip::View;
use tokio::sync::watch;

use super::answer::Answer;
use super::asked::{Asked, New};
use super::body::{self, BODY_BYTES_MAX};
use super::nodes::Nodes;
use super::{Aliases, Closed, Config};
use crate::core::shared::Shared;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most segments of a path.
const SEGMENTS_MAX: usize = 8;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What is served at the door's address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nodes: Nodes,
    aliases: Aliases,
    names: Vec<String>,
    address: SocketAddr,
}

impl Door {
    /// `address`: where it is.
    pub fn new(
        config: &Config,
        address: SocketAddr,
        view: watch::Receiver<Arc<View>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self(Arc::new(Inner {
            nodes: Nodes::new(view, config.token.clone(), shared),
            aliases: config.aliases.clone(),
            names: config.names.clone(),
            address,
        }))
    }

    pub fn limits() -> ServeLimits {
        ServeLimits { connections_max: CONNECTIONS_MAX, ..ServeLimits::admin() }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let host = self.0.admit(request.headers())?;
        let (head, body) = request.into_parts();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let segments = segments(head.uri.path())?;
        let query = body::pairs(head.uri.query().unwrap_or_default().as_bytes())?;
        let content_type = text(CONTENT_TYPE).to_owned();
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(Answer::message(413, format!("a body may have at most {BODY_BYTES_MAX} bytes")));
        }
        let given = read_body(body, BODY_BYTES_MAX, BODY_TIMEOUT).await;
        let given = given
            .map_err(|problem| Answer::message(problem.kind.status().as_u16(), problem.detail.to_string()))?;
        let asked = Asked {
            method: head.method,
            path: format!("/{}", segments.join("/")),
            segments,
            query,
            params: body::read(&content_type, &given)?,
            host,
            new: new()?,
            aliases: self.0.aliases.clone(),
            closed: Closed::new(self.0.nodes.closed().into_iter().chain([self.0.address])),
        };
        Ok(self.0.nodes.answer(asked).await)
    }
}

impl Inner {
    /// What it is asked by, where that may be.
    fn admit(&self, headers: &HeaderMap) -> Result<String, Answer> {
        let is_page = headers.contains_key(ORIGIN)
            || headers.get_all(SEC_FETCH_SITE).iter().any(|site| site.as_bytes() != b"none");
        if is_page {
            return Err(Answer::message(403, "no page of a browser may ask here"));
        }
        // As every request that goes through a balancer has.
        if headers.contains_key(VIA) || headers.contains_key(X_FORWARDED_FOR) {
            return Err(Answer::message(403, "this is asked by nobody who comes through a proxy"));
        }
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if headers.get_all(HOST).iter().count() != 1 || !self.is_own(host) {
            let detail = "this is asked by loopback, or by a name of --kong-names";
            return Err(Answer::message(403, detail));
        }
        Ok(host.to_owned())
    }

    fn is_own(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<SocketAddr>() {
            return self.is_own_address(address.ip());
        }
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return self.is_own_address(address);
        }
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        let is_port = port.bytes().all(|b| b.is_ascii_digit());
        let name = name.to_ascii_lowercase();
        is_port && (name == "localhost" || self.names.contains(&name))
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || !address.is_unspecified() && address == self.address.ip()
    }
}

/// The segments of a path, decoded, without the slash at its end.
fn segments(path: &str) -> Result<Vec<String>, Answer> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    if path.split('/').count() > SEGMENTS_MAX {
        return Err(Answer::not_found());
    }
    let read: Option<Vec<String>> = path.split('/').map(|it| body::decoded(it.as_bytes(), false)).collect();
    read.ok_or_else(Answer::not_found)
}

/// What a new entity would have.
fn new() -> Result<New, Answer> {
    let mut drawn = [0; 64];
    aws_lc_rs::rand::fill(&mut drawn).map_err(|_| Answer::message(500, "An unexpected error occurred"))?;
    let (mut id, mut salt, mut key) = ([0; 16], Salt::default(), [0; 32]);
    id.copy_from_slice(&drawn[..16]);
    salt.copy_from_slice(&drawn[16..32]);
    key.copy_from_slice(&drawn[32..]);
    let created_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Ok(New { id: uuid(id), created_at, key: make_key(key), salt })
}

/// As RFC 9562 writes one that is random.
fn uuid(random: [u8; 16]) -> String {
    let mut bits = u128::from_be_bytes(random);
    bits = bits & !(0xf << 76) | 4 << 76;
    bits = bits & !(0x3 << 62) | 2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl Answers for Door {
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Incoming>, _began: Instant) -> Response<Full<Bytes>> {
        let Answer { status, body } = match self.answer(request).await {
            Ok(answer) | Err(answer) => answer,
        };
        let mut response = match body {
            Some(body) => answer::fresh(JSON, format!("{body}\n")),
            None => {
                let mut response = answer::fresh(JSON, Bytes::new());
                response.headers_mut().remove(CONTENT_TYPE);
                response
            }
        };
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == 204 {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_of_the_random_kind() {
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn a_path_is_read_by_segments_with_or_without_a_slash_at_its_end() {
        for path in ["/apis/a%20b", "/apis/a%20b/", "//apis/a%20b"] {
            assert_eq!(segments(path).unwrap(), ["apis", "a b"], "{path}");
        }
        assert_eq!(segments("/%zz").unwrap_err(), Answer::not_found());
        assert_eq!(segments(&"/x".repeat(SEGMENTS_MAX + 1)).unwrap_err(), Answer::not_found());
    }
}
