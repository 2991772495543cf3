//! One change of the document, from what it is made of to what it came to: whole, or one object of it, or what one
//! source has of it, or back to one of the past.
//!
//! What takes the processor for long (a document of 8 MiB does) is done by threads of its own, few at a time. Such work
//! goes on where who asked has left: it holds its turn, and what its text is charged, until it ends.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use skep_base::random::drawn;
use skep_gateway::kept::Difference;
use skep_gateway::{Fault, Kept, Refused};
use skep_state::gateway::{GatewayOutcome, Revision};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::refused::Unchanged;
use super::{GatewayApi, Newest, etag, newest, stored, unreadable};
use crate::http::account::Charge;
use crate::http::conditions;
use crate::http::problem::{Problem, ProblemKind};
use crate::service::secrets::{Opened, Secrets, Stored, Told, Unkept};
use crate::service::time::own_clock_ms;

/// Documents that are looked at at a time for who changes them, and as many for who reads.
const LOOKS_MAX: usize = 2;
/// How long who asks waits for a turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a change of one object is made anew of what another made meanwhile.
const TRIES_MAX: usize = 16;

/// What a request's body says, and what that is charged.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    _charge: Charge,
}

impl Text {
    pub(super) fn new(text: String, charge: Charge) -> Self {
        Self { text, _charge: charge }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// What the document is to be.
#[derive(Debug)]
pub(super) enum Wanted {
    Whole(Text),
    Object {
        kind: String,
        name: String,
        object: Text,
        /// Whoever else it is.
        takes: bool,
    },
    /// Without one object.
    Gone {
        kind: String,
        name: String,
        /// Whose it is.
        source: String,
        takes: bool,
    },
    /// What this source has, and nothing else of it.
    Part {
        source: String,
        text: Text,
        takes: bool,
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
    pub warnings: Vec<Fault>,
}

/// Who changes documents, and reads them.
pub(super) struct Changes<A> {
    pub api: Arc<A>,
    changes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl<A: GatewayApi> Changes<A> {
    pub(super) fn new(api: Arc<A>) -> Self {
        let turns = || Arc::new(Semaphore::new(LOOKS_MAX));
        Self { api, changes: turns(), reads: turns() }
    }

    /// The newest document, once everything acknowledged before is here.
    pub(super) async fn current(&self) -> Result<Option<Newest>, Problem> {
        self.api.current().await?;
        Ok(newest(&*self.api))
    }

    /// Does what takes the processor for long, for who reads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        look(&self.reads, Instant::now() + TURN_TIMEOUT, work).await
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
        let deadline = Instant::now() + TURN_TIMEOUT;
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
            let (wanted, secrets) = (wanted.clone(), self.api.secrets().clone());
            let agreed = Agreed { sealed: self.api.keeps_sealed(), rollout: self.api.reads_rollout() };
            let looking = move || document(&wanted, before.as_ref(), past.as_ref(), &secrets, agreed);
            let looked = look(&self.changes, deadline, looking).await??;
            if looked.has_certificates {
                self.api.require_certificates().await?;
            }
            let Looked { stored, difference, warnings, .. } = looked;
            let Some(stored) = stored.filter(|_| !is_only_tried) else {
                return Ok(Made { before: revision, now: revision, difference, warnings });
            };
            match self.api.set_gateway(revision, stored, source.to_owned()).await? {
                GatewayOutcome::Set { revision: now } => {
                    tracing::info!(revision = now.number, source, "the gateway's document was changed");
                    return Ok(Made { before: revision, now: Some(now), difference, warnings });
                }
                GatewayOutcome::Other { newest } if of != Of::Newest => return Err(other(newest)),
                GatewayOutcome::Other { .. } => {}
                GatewayOutcome::TooLarge | GatewayOutcome::NoDocument | GatewayOutcome::Sealed { .. } => {
                    return Err(too_large());
                }
            }
        }
        let detail = format!("others were quicker {TRIES_MAX} times; nothing was changed");
        Err(Problem::unprocessed(ProblemKind::Overloaded, detail).into())
    }

    /// The document of a revision that is kept.
    fn past(&self, number: u64) -> Result<Stored, Unchanged> {
        let found = self.api.gateway(|gateway| {
            gateway.history().find(|told| told.number == number).map(|told| stored(gateway, told))
        });
        found.ok_or_else(|| {
            let detail = format!("revision {number} is not among those that are kept");
            Unchanged::new(ProblemKind::NoGateway, detail)
        })
    }

    /// What balancers are told of the newest document.
    pub(super) async fn told(&self, newest: &Newest) -> Result<Arc<Told>, Problem> {
        let told = self.api.secrets().told(newest.revision, &newest.stored).await;
        told.ok_or_else(|| Problem::new(ProblemKind::Internal, "the node is stopping"))
    }
}

/// Does what takes the processor for long, once it has a turn.
async fn look<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let Ok(Ok(turn)) = timeout_at(deadline, turns.clone().acquire_owned()).await else {
        let detail = "too many documents of the gateway are being looked at; nothing was changed";
        return Err(Problem::unprocessed(ProblemKind::Overloaded, detail));
    };
    let looking = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    looking.await.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))
}

/// What the members have agreed to.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    /// That secrets are kept sealed.
    sealed: bool,
    /// That routes may say `sticky` and `mirror`.
    rollout: bool,
}

/// The document that is wanted, as it is kept.
struct Looked {
    /// None where it says what is there already.
    stored: Option<Stored>,
    /// What is another in it.
    difference: Difference,
    /// What is maybe not meant in what is another.
    warnings: Vec<Fault>,
    has_certificates: bool,
}

/// What is wanted comes to this. Takes the processor for long.
fn document(
    wanted: &Wanted,
    newest: Option<&Newest>,
    past: Option<&Stored>,
    secrets: &Secrets,
    agreed: Agreed,
) -> Result<Looked, Unchanged> {
    // It was one to the version that set it. Where it is none to this one, nothing is made of it.
    let before = match newest {
        None => Some(Kept::default()),
        Some(newest) => secrets.open(&newest.stored),
    };
    let document = match (wanted, past) {
        (Wanted::Whole(text), _) => {
            let none = Kept::default();
            Kept::read_after(text.as_str(), before.as_ref().unwrap_or(&none), &drawn::<16>)?
        }
        (_, Some(past)) => match secrets.open(past) {
            Some(opened) => opened.judged_again()?,
            // Why it is none.
            None => Kept::read(&String::from_utf8_lossy(&past.document))?,
        },
        (Wanted::Object { kind, name, object, takes }, None) => {
            let before = before.as_ref().ok_or_else(unreadable)?;
            before.with(kind, name, object.as_str(), *takes, &drawn::<16>)?
        }
        (Wanted::Gone { kind, name, source, takes }, None) => {
            let before = before.as_ref().ok_or_else(unreadable)?;
            if before.object(kind, name).is_none() {
                let detail = format!("the document has no {kind}/{name}");
                return Err(Unchanged::new(ProblemKind::NoGateway, detail));
            }
            before.without(kind, name, source, *takes)?
        }
        (Wanted::Part { source, text, takes }, None) => {
            let before = before.as_ref().ok_or_else(unreadable)?;
            before.with_part(source, &Kept::read_part(text.as_str(), source)?, *takes, &drawn::<16>)?
        }
        (Wanted::Back(number), None) => {
            return Err(Unchanged::new(ProblemKind::NoGateway, format!("there is no revision {number}")));
        }
    };
    if !agreed.rollout && document.has_rollout() {
        let detail = "the members have not agreed to read sticky and mirror yet: they do once all have been of this version \
                      for --level-after";
        return Err(Unchanged::new(ProblemKind::Unavailable, detail));
    }
    let nothing = Kept::default();
    let difference = document.since(before.as_ref().unwrap_or(&nothing));
    let mut warnings =
        document.warnings(&difference, i64::try_from(own_clock_ms() / 1000).unwrap_or(i64::MAX));
    let has_certificates = document.has_certificates();
    if !(agreed.sealed && secrets.has_key()) {
        warnings.extend(difference.added.iter().chain(&difference.changed).filter_map(|it| lies_open(it)));
    }
    let is_the_same = newest.is_some() && before.is_some() && difference.is_none();
    let looked = |stored| Looked { stored, difference, warnings, has_certificates };
    if is_the_same {
        return Ok(looked(None));
    }
    let past = past.map(|of| Opened { kept: &document, keys: &of.keys });
    let before = newest.zip(before.as_ref());
    let before = before.map(|(of, kept)| Opened { kept, keys: &of.stored.keys });
    let of: Vec<Opened<'_>> = past.into_iter().chain(before).collect();
    match secrets.keep(&document, &of, agreed.sealed) {
        Ok(stored) => Ok(looked(Some(stored))),
        Err(Unkept::TooLarge) => Err(too_large()),
        Err(absent @ Unkept::Absent) => Err(Refused::whole(absent.to_string()).into()),
        Err(error @ Unkept::Unsealed) => Err(Unchanged::new(ProblemKind::Internal, error.to_string())),
    }
}

/// What is said of a certificate whose key is not sealed.
fn lies_open(object: &str) -> Option<Fault> {
    let name = object.strip_prefix("certificates/")?;
    let fault = "the nodes have no cluster key: its key lies open in their logs, checkpoints and backups";
    Some(Fault { pointer: format!("/certificates/{name}"), fault: fault.to_owned() })
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
