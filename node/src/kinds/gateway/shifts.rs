//! Shifts of routes on the admin address: the operators' alone. They lie beside the document: no tag, no history.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use skep_console::token::OperatorToken;
use skep_gateway::explain;
use skep_gateway::shift::{Rule, WHOLE, percent, weights};
use skep_state::shift::{
    HeldShift, OVER_MS_MAX, OVER_MS_MIN, Phase, Shift, ShiftOp, ShiftOutcome, WEIGHT_MAX,
};

use super::change::Changes;
use super::refused::Unchanged;
use super::{GatewayApi, kept, rfc3339, unreadable};
use crate::http::account::Account;
use crate::http::body;
use crate::http::problem::{Problem, ProblemKind};
use crate::service::shifts::heard::Summed;
use crate::service::shifts::new_shift_id;

/// Largest body of such a request.
const REQUEST_BYTES_MAX: usize = 4096;
/// What the bodies of all of them take together.
const REQUESTS_BYTES_MAX: u64 = 1 << 20;

struct Administered<A> {
    changes: Changes<A>,
    operators: OperatorToken,
    account: Account,
}

type Shared<A> = State<Arc<Administered<A>>>;

pub(super) fn routes<A: GatewayApi>(api: Arc<A>, operators: OperatorToken) -> Router {
    let account = Account::new(REQUESTS_BYTES_MAX);
    Router::new()
        .route("/gateway/shifts", get(list::<A>))
        .route("/gateway/shifts/{route}", get(see::<A>).put(begin::<A>).delete(go_back::<A>))
        .route("/gateway/shifts/{route}/stop", post(stop::<A>))
        .route("/gateway/shifts/{route}/resume", post(resume::<A>))
        .with_state(Arc::new(Administered { changes: Changes::new(api), operators, account }))
}

/// What is explained of a request, with the shift of its route that is open.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    #[serde(flatten)]
    explained: explain::Explained,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<String>,
}

impl Explained {
    pub(super) fn of<A: GatewayApi>(explained: explain::Explained, api: &A) -> Self {
        let open = explained.route.as_ref().and_then(|route| {
            let held = api.shifts(|shifts| shifts.get(route).cloned())?;
            held.phase.is_open().then_some(held)
        });
        let shift = open.map(|HeldShift { shift: Shift { from, to, .. }, phase, share, .. }| {
            format!("{} % of what {from} has goes to {to} ({})", percent(share), state(phase))
        });
        Self { explained, shift }
    }
}

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    from: String,
    to: String,
    over_s: u64,
    #[serde(default)]
    abort: Option<String>,
}

/// A shift as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    route: String,
    id: String,
    from: String,
    to: String,
    state: &'static str,
    /// How much of what `from` weighs goes to `to`, in percent.
    share_percent: f64,
    over_s: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    abort: String,
    began: String,
    changed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    /// What balancers say of the last seconds, of one that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
}

#[derive(Debug, Serialize)]
struct Seen {
    balancers: usize,
    requests: u64,
    failed: u64,
}

impl Shown {
    pub(super) fn of(route: &str, held: &HeldShift, seen: &Summed) -> Self {
        let HeldShift { id, shift, phase, share, began_ms, changed_ms, why, revision: _ } = held;
        let Summed { counts, balancers, left: _ } = seen;
        let (requests, failed) = (counts.requests, counts.failed);
        Self {
            route: route.to_owned(),
            id: format!("{id:016x}"),
            from: shift.from.clone(),
            to: shift.to.clone(),
            state: state(*phase),
            share_percent: f64::from(*share) * 100.0 / f64::from(WHOLE),
            over_s: shift.over_ms as f64 / 1e3,
            abort: shift.abort.clone(),
            began: rfc3339(*began_ms),
            changed: rfc3339(*changed_ms),
            why: why.clone(),
            seen: phase.is_open().then_some(Seen { balancers: *balancers, requests, failed }),
        }
    }
}

fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Held => "stopped",
        Phase::Done => "done",
        Phase::Back => "back",
        Phase::Superseded => "superseded",
        Phase::Settling => "settling",
    }
}

/// All that are known, as they are applied here.
pub(super) fn all<A: GatewayApi>(api: &A) -> Vec<Shown> {
    let all: Vec<(String, HeldShift)> =
        api.shifts(|shifts| shifts.all().map(|(route, held)| (route.to_owned(), held.clone())).collect());
    all.iter().map(|(route, held)| Shown::of(route, held, &api.shift_seen(held.id))).collect()
}

async fn list<A: GatewayApi>(State(shared): Shared<A>, headers: HeaderMap) -> Result<Response, Problem> {
    shared.operators.check(&headers)?;
    shared.changes.api.current().await?;
    Ok(as_json(&serde_json::json!({ "shifts": all(&*shared.changes.api) })))
}

async fn see<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(route): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    shared.operators.check(&headers)?;
    shared.changes.api.current().await?;
    shared.shown(&route)
}

async fn begin<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(route): Path<String>,
    request: Request,
) -> Result<Response, Unchanged> {
    shared.operators.check(request.headers())?;
    let Begin { from, to, over_s, abort } = shared.read(request).await?;
    let invalid = |why: String| Unchanged::new(ProblemKind::InvalidRequest, why);
    let refused = |why: String| Unchanged::new(ProblemKind::Refused, why);
    let over_ms = over_s.saturating_mul(1000);
    if !(OVER_MS_MIN..=OVER_MS_MAX).contains(&over_ms) {
        let (least, most) = (OVER_MS_MIN / 1000, OVER_MS_MAX / 1000);
        return Err(invalid(format!("a shift takes {least} to {most} seconds: {over_s} it cannot")));
    }
    let abort = match abort {
        None => String::new(),
        Some(text) => text.parse::<Rule>().map_err(invalid)?.to_string(),
    };
    if from == to {
        return Err(invalid(format!("it goes from one service to another, not from {from:?} to itself")));
    }
    let (from_weight, to_weight) = shared.weights(&route, &from, &to).await?;
    if from_weight == 0 {
        return Err(refused(format!("{from:?} weighs nothing: there is nothing to go over")));
    }
    if from_weight.saturating_add(to_weight) > WEIGHT_MAX {
        return Err(refused(format!("together they weigh more than {WEIGHT_MAX}: make them weigh less")));
    }
    let shift = Shift { from, to, from_weight, to_weight, over_ms, abort };
    let after = shared.changes.api.shifts(|shifts| shifts.get(&route).map_or(0, |held| held.id));
    let (id, name) = (new_shift_id(), route.clone());
    let op = ShiftOp::Begin { id, after, route: name, shift: Box::new(shift.clone()) };
    match shared.changes.api.change_shift(op).await? {
        ShiftOutcome::Set => {}
        ShiftOutcome::Busy => {
            shared.changes.api.current().await?;
            // Sent again, as its answer was lost.
            if shared.held(&route)?.shift == shift {
                return Ok(shared.shown(&route)?);
            }
            return Err(refused(format!("a shift of the route {route:?} is open already")));
        }
        ShiftOutcome::Full => {
            let most = skep_gateway::shift::SHIFTS_MAX;
            return Err(refused(format!("{most} shifts are open: no more may be")));
        }
        ShiftOutcome::Invalid => return Err(invalid("it is not within its bounds".into())),
        ShiftOutcome::Stale => {
            return Err(refused("another shift of the route began and ended meanwhile".into()));
        }
    }
    tracing::info!(route, "a shift begins");
    // The leader has it, and this node may not yet.
    shared.changes.api.current().await?;
    let mut response = shared.shown(&route)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn go_back<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(route): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Unchanged> {
    let why = "an operator wished it".to_owned();
    shared.change(&headers, &route, |id, route| ShiftOp::End { id, route, phase: Phase::Back, why }).await
}

async fn stop<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(route): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Unchanged> {
    shared.change(&headers, &route, |id, route| ShiftOp::Hold { id, route }).await
}

async fn resume<A: GatewayApi>(
    State(shared): Shared<A>,
    Path(route): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Unchanged> {
    shared.change(&headers, &route, |id, route| ShiftOp::Resume { id, route }).await
}

impl<A: GatewayApi> Administered<A> {
    fn held(&self, route: &str) -> Result<HeldShift, Problem> {
        let held = self.changes.api.shifts(|shifts| shifts.get(route).cloned());
        held.ok_or_else(|| {
            Problem::new(ProblemKind::NoGateway, format!("no shift of the route {route:?} is known"))
        })
    }

    fn shown(&self, route: &str) -> Result<Response, Problem> {
        let held = self.held(route)?;
        Ok(as_json(&Shown::of(route, &held, &self.changes.api.shift_seen(held.id))))
    }

    /// What the document says now of the two services of a route.
    async fn weights(&self, route: &str, from: &str, to: &str) -> Result<(u32, u32), Unchanged> {
        let none = || Problem::new(ProblemKind::NoGateway, "there is no document yet: nothing is configured");
        let document = self.changes.current().await?.ok_or_else(none)?.stored.document;
        let (name, of) = (route.to_owned(), [from.to_owned(), to.to_owned()]);
        let look = move || {
            let kept = kept(&document)?;
            let route = kept.object("routes", &name);
            Some(route.map(|route| weights(&route, &of[0], &of[1])))
        };
        let found = self.changes.read(look).await?.ok_or_else(unreadable)?;
        let no_route =
            || Unchanged::new(ProblemKind::NoGateway, format!("the document has no routes/{route}"));
        found.ok_or_else(no_route)?.ok_or_else(|| {
            let detail = format!(
                "the route {route:?} does not lead to both: its services have to name {from:?} and {to:?} with what \
                 they weigh, as in services = {{{from} = 100, {to} = 0}}"
            );
            Unchanged::new(ProblemKind::Refused, detail)
        })
    }

    /// Changes the shift of a route that is open.
    async fn change(
        &self,
        headers: &HeaderMap,
        route: &str,
        op: impl FnOnce(u64, String) -> ShiftOp,
    ) -> Result<Response, Unchanged> {
        self.operators.check(headers)?;
        self.changes.api.current().await?;
        let held = self.held(route)?;
        match self.changes.api.change_shift(op(held.id, route.to_owned())).await? {
            ShiftOutcome::Set => {
                self.changes.api.current().await?;
                Ok(self.shown(route)?)
            }
            _ => {
                self.changes.api.current().await?;
                let now = state(self.held(route)?.phase);
                Err(Unchanged::new(ProblemKind::Refused, format!("nothing was changed: the shift is {now}")))
            }
        }
    }

    async fn read(&self, request: Request) -> Result<Begin, Problem> {
        let (head, body) = request.into_parts();
        let given = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let given = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !given.eq_ignore_ascii_case("application/json") {
            let detail = "expected the content type application/json";
            return Err(Problem::new(ProblemKind::UnsupportedContentType, detail));
        }
        let (bytes, _charge) =
            body::read_charged(&head.headers, body, REQUEST_BYTES_MAX, &self.account).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))
    }
}

fn as_json<T: Serialize>(value: &T) -> Response {
    let mut response = skep_console::answer::json(value).map(axum::body::Body::new).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
