//! One change of the document, from what it is made of to what it came to: whole, or one object of it, or back to one
//! of the past.
//!
//! What takes the processor for long (a document of 8 MiB does) is done by threads of its own, few at a time.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use skep_gateway::Kept;
use skep_gateway::kept::Difference;
use skep_state::gateway::{GatewayOutcome, Revision};
use tokio::sync::Semaphore;

use super::refused::Unchanged;
use super::{GatewayApi, Newest, etag, newest};
use crate::http::conditions;
use crate::http::problem::{Problem, ProblemKind};

/// Documents that are looked at at a time.
const LOOKS_MAX: usize = 2;
/// How often a change of one object is made anew of what another made meanwhile.
const TRIES_MAX: usize = 16;

/// What the document is to be.
#[derive(Debug)]
pub(super) enum Wanted {
    Whole(String),
    Object {
        kind: String,
        name: String,
        object: Option<String>,
    },
    /// What it was at this revision.
    Back(u64),
}

/// Of which document a change is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Of the newest, whichever that is.
    Newest,
    /// Of this one alone; of none where there is to be none yet.
    This(Option<Revision>),
}

/// What a change came to.
#[derive(Debug)]
pub(super) struct Made {
    pub before: Option<Revision>,
    pub now: Option<Revision>,
    pub difference: Difference,
}

/// Who changes documents.
pub(super) struct Changes<A> {
    pub api: Arc<A>,
    looks: Semaphore,
}

impl<A: GatewayApi> Changes<A> {
    pub(super) fn new(api: Arc<A>) -> Self {
        Self { api, looks: Semaphore::new(LOOKS_MAX) }
    }

    /// The newest document, once everything acknowledged before is here.
    pub(super) async fn current(&self) -> Result<Option<Newest>, Problem> {
        self.api.current().await?;
        Ok(newest(&*self.api))
    }

    /// Does what takes the processor for long.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let failed = |error: &dyn std::fmt::Display| Problem::new(ProblemKind::Internal, error.to_string());
        let _turn = self.looks.acquire().await.map_err(|error| failed(&error))?;
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))
    }

    /// Makes a change, or says what it would do.
    pub(super) async fn make(
        &self,
        wanted: Wanted,
        of: Of,
        source: &str,
        is_only_tried: bool,
    ) -> Result<Made, Unchanged> {
        let wanted = Arc::new(wanted);
        for _ in 0..TRIES_MAX {
            let before = self.current().await?;
            let revision = before.as_ref().map(|newest| newest.revision);
            if matches!(of, Of::This(expected) if expected != revision) {
                return Err(other(revision));
            }
            let past = match &*wanted {
                Wanted::Back(number) => Some(self.past(*number)?),
                _ => None,
            };
            let wanted = wanted.clone();
            let looked = self.look(move || document(&wanted, before.as_ref(), past)).await?;
            let (document, difference) = looked?;
            if is_only_tried || (difference.is_none() && revision.is_some()) {
                return Ok(Made { before: revision, now: revision, difference });
            }
            match self.api.set_gateway(revision, document.into(), source.to_owned()).await? {
                GatewayOutcome::Set { revision: now } => {
                    tracing::info!(revision = now.number, source, "the gateway's document was changed");
                    return Ok(Made { before: revision, now: Some(now), difference });
                }
                GatewayOutcome::Other { newest } if of != Of::Newest => return Err(other(newest)),
                GatewayOutcome::Other { .. } => {}
                GatewayOutcome::TooLarge | GatewayOutcome::NoDocument => return Err(too_large()),
            }
        }
        let detail = format!("others were quicker {TRIES_MAX} times; nothing was changed");
        Err(Problem::unprocessed(ProblemKind::Overloaded, detail).into())
    }

    /// The document of a revision that is kept.
    fn past(&self, number: u64) -> Result<String, Unchanged> {
        let found = self.api.gateway(|gateway| {
            gateway.history().find(|told| told.number == number).map(|told| told.document.clone())
        });
        let found = found.ok_or_else(|| {
            Unchanged::new(
                ProblemKind::NoGateway,
                format!("revision {number} is not among those that are kept"),
            )
        })?;
        Ok(String::from_utf8_lossy(&found).into_owned())
    }
}

/// The document that is wanted, in its form, and what is another in it. Takes the processor for long.
fn document(
    wanted: &Wanted,
    before: Option<&Newest>,
    past: Option<String>,
) -> Result<(String, Difference), Unchanged> {
    let there = before.map(|newest| String::from_utf8_lossy(&newest.document));
    // It was one to the version that set it.
    let before = there.and_then(|text| Kept::trusted(&text)).unwrap_or_default();
    let document = match (wanted, past) {
        (Wanted::Whole(text), _) => Kept::read(text)?,
        (_, Some(past)) => Kept::read(&past)?,
        (Wanted::Object { kind, name, object }, None) => {
            if object.is_none() && before.object(kind, name).is_none() {
                let detail = format!("the document has no {kind}/{name}");
                return Err(Unchanged::new(ProblemKind::NoGateway, detail));
            }
            before.with(kind, name, object.as_deref())?
        }
        (Wanted::Back(number), None) => {
            return Err(Unchanged::new(ProblemKind::NoGateway, format!("there is no revision {number}")));
        }
    };
    let json = document.json().ok_or_else(too_large)?;
    Ok((json, document.since(&before)))
}

fn too_large() -> Unchanged {
    let most = skep_gateway::document::DOCUMENT_BYTES_MAX;
    Unchanged::new(ProblemKind::BodyTooLarge, format!("a document may have at most {most} bytes as JSON"))
}

fn other(newest: Option<Revision>) -> Unchanged {
    let detail = match newest {
        Some(revision) => format!("the document is another one by now: {} is its tag", etag(revision)),
        None => "there is no document yet: send If-None-Match: * for the first".to_owned(),
    };
    Unchanged::new(ProblemKind::PreconditionFailed, detail)
}

/// Of which document a request wants the change to be, where `newest` is what there is.
pub(super) fn condition(headers: &HeaderMap, newest: Option<Revision>) -> Result<Option<Of>, Unchanged> {
    let has = |name| headers.contains_key(name);
    match newest {
        _ if !has(IF_MATCH) && !has(IF_NONE_MATCH) => Ok(None),
        Some(revision) => match conditions::evaluate(headers, &etag(revision))? {
            conditions::Condition::Send => Ok(Some(Of::This(newest))),
            conditions::Condition::NotModified => Err(other(newest)),
        },
        None if has(IF_MATCH) => Err(other(None)),
        None => Ok(Some(Of::This(None))),
    }
}
