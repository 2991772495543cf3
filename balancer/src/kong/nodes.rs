//! The document at the nodes, and when it is in force here.
//!
//! Read at any node that is ready, changed, and put back there as long as nobody else was quicker; then this balancer is
//! waited for, so that what was answered 201 is no 404 afterwards. A write whose answer is lost is looked for: what was
//! drawn for it tells it from others'. The node has other balancers follow before it answers, as far as they do within a
//! second. No tasks; a dropped future may have written.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use skep_console::client::{Client, ClientError};
use skep_gateway::told::lineage_of;
use skep_gateway::{Fault, Kept};
use skep_members::gossip::{PeerRecord, View};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{interval, sleep, timeout};

use super::answer::Answer;
use super::asked::{Asked, Done};
use super::entities::Document;
use super::resources;
use crate::core::following::Position;
use crate::core::shared::Shared;
use crate::pools::source;

/// How often a change is made anew of what another made meanwhile, or of what a lost answer left.
const TRIES_MAX: usize = 16;
/// Between a write that was lost and the next look.
const PAUSE: Duration = Duration::from_millis(200);
/// Most documents that are looked into at once for who only reads.
const READS_MAX: usize = 2;
/// For how many seconds a node waits until all balancers obey.
const WAIT_SECONDS: u64 = 1;
/// Longest that a node has for an answer: somewhat longer than it waits for a quorum itself.
const NODE_TIMEOUT: Duration = Duration::from_secs(12);
/// Longest that a request has until nodes have answered it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);
/// Longest that this balancer may take to obey what was written.
const IN_FORCE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Most faults of a document that are told.
const FAULTS_SHOWN_MAX: usize = 10;
/// What the history of the document says of its changes.
const SOURCE: &str = "kong";
const NOBODY: &str =
    "gossip shows no node that is ready, that proves to be one, and whose admin address can be asked";

/// The nodes that keep the document.
#[derive(Debug)]
pub struct Nodes {
    view: watch::Receiver<Arc<View>>,
    token: HeaderValue,
    shared: Arc<Shared>,
    /// One change at a time: others would only have to be made anew.
    turn: Mutex<()>,
    /// So many may look into documents, each of some megabytes, beside it.
    reads: Semaphore,
    /// The node that is asked first: the last that answered well.
    first: std::sync::Mutex<Option<SocketAddr>>,
}

/// A document, where there is one, and where it stands.
struct Newest {
    text: Option<Bytes>,
    tag: Option<HeaderValue>,
}

impl Newest {
    fn position(&self) -> Option<Position> {
        let tag = self.tag.as_ref()?.to_str().ok()?.trim_matches('"');
        let (lineage, revision) = tag.split_once('.')?;
        Some(Position { lineage: lineage_of(lineage)?, revision: revision.parse().ok()? })
    }
}

/// What became of a write.
enum Written {
    At(Position),
    /// Another was quicker.
    Other,
    /// No answer came, or none that says what became of it.
    Lost(String),
}

/// What became of reading once, and of writing where that was asked for.
enum Round {
    Answered(Answer, Option<Position>),
    Other,
    Lost(String),
}

impl Nodes {
    pub fn new(view: watch::Receiver<Arc<View>>, token: HeaderValue, shared: Arc<Shared>) -> Self {
        let (turn, reads) = (Mutex::new(()), Semaphore::new(READS_MAX));
        Self { view, token, shared, turn, reads, first: std::sync::Mutex::default() }
    }

    /// Answers a request out of the document, once what it changes is in force here.
    pub async fn answer(&self, asked: Asked) -> Answer {
        let asked = Arc::new(asked);
        let is_read = asked.method == Method::GET;
        let is_sent = AtomicBool::new(false);
        let answering = async {
            // Neither is closed, ever.
            let _turns = match is_read {
                true => (self.reads.acquire().await.ok(), None),
                false => (None, Some(self.turn.lock().await)),
            };
            self.change(&asked, &is_sent).await
        };
        match timeout(CHANGE_TIMEOUT, answering).await {
            Ok(Ok((answer, position))) => match position {
                Some(position) if !is_read => self.in_force(position, answer).await,
                _ => answer,
            },
            Ok(Err(answer)) => answer,
            Err(_) if is_sent.load(Relaxed) => unknown("no node answered in time"),
            Err(_) => unavailable("no node answered in time; nothing was changed"),
        }
    }

    /// What is answered, and where the document stands with it. `is_sent` says whether anything may have been changed.
    async fn change(
        &self,
        asked: &Arc<Asked>,
        is_sent: &AtomicBool,
    ) -> Result<(Answer, Option<Position>), Answer> {
        let mut lost: Option<String> = None;
        for _ in 0..TRIES_MAX {
            match (self.round(asked, is_sent, lost.is_some()).await, lost.take()) {
                (Ok(Round::Answered(answer, position)), _) => return Ok((answer, position)),
                (Ok(Round::Other), before) => lost = before,
                (Ok(Round::Lost(why)), _) => {
                    lost = Some(why);
                    sleep(PAUSE).await;
                }
                // What is found now may be by what was lost, or be before it.
                (Err(_), Some(why)) => return Err(unknown(&why)),
                (Err(answer), None) => return Err(answer),
            }
        }
        Err(match lost {
            Some(why) => unknown(&why),
            None => unavailable("others were quicker again and again; nothing was changed"),
        })
    }

    /// Reads, and writes where that is asked for. `was_lost`: a write before was not answered.
    async fn round(&self, asked: &Arc<Asked>, is_sent: &AtomicBool, was_lost: bool) -> Result<Round, Answer> {
        let newest = self.read().await?;
        let position = newest.position();
        let (text, looking) = (newest.text.clone(), asked.clone());
        // A document may be of some megabytes.
        let made = tokio::task::spawn_blocking(move || make(&looking, text.as_deref())).await;
        let (answer, document) = match made.map_err(|error| Answer::message(500, error.to_string()))? {
            // It was taken out, and the answer was lost.
            Err(answer) if was_lost && asked.method == Method::DELETE && answer.status == 404 => {
                (Answer::no_content(), None)
            }
            made => made?,
        };
        let Some(document) = document else { return Ok(Round::Answered(answer, position)) };
        Ok(match self.write(&newest, document, is_sent).await? {
            Written::At(position) => {
                let (method, path) = (&asked.method, &asked.path);
                tracing::info!(%method, path, revision = position.revision, "by the door for Kong's clients");
                Round::Answered(answer, Some(position))
            }
            Written::Other => Round::Other,
            Written::Lost(why) => Round::Lost(why),
        })
    }

    /// Where no route may lead: the members' addresses that are not for clients, and this balancer's.
    pub fn closed(&self) -> Vec<SocketAddr> {
        let view = self.view.borrow();
        let all = view.live.iter().chain(&view.dead).chain([&view.me]);
        all.flat_map(|it| [Some(it.peer), it.admin]).flatten().collect()
    }

    /// Those that may be asked: ready by gossip, with an admin address that is for other hosts, too, and proved to be
    /// nodes. Whoever has the edge key can say that it is one, and the token is not for it.
    fn admins(&self) -> Vec<(SocketAddr, Client)> {
        let is_reachable = |it: &PeerRecord| {
            let (admin, http) = (it.admin?, it.http?);
            (!admin.ip().is_loopback() || http.ip().is_loopback()).then_some(admin)
        };
        let nodes = source::proved_nodes(&self.view.borrow());
        let mut admins: Vec<SocketAddr> = nodes.iter().filter_map(is_reachable).collect();
        let first = *self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = admins.iter().position(|it| Some(*it) == first) {
            admins.rotate_left(at);
        }
        let client = |admin| Client::new(admin, NODE_TIMEOUT).bearing(Some(self.token.clone()));
        admins.into_iter().map(|admin| (admin, client(admin))).collect()
    }

    /// Has that node be asked first from now on.
    fn prefer(&self, admin: Option<SocketAddr>) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = admin;
    }

    /// The document at the first node that has an answer.
    async fn read(&self) -> Result<Newest, Answer> {
        let mut why = NOBODY.to_owned();
        for (admin, client) in self.admins() {
            let got = client.exchange(Method::GET, "/gateway", None, Full::<Bytes>::default()).await;
            let answer = match got {
                Ok(answer) => answer,
                Err(ClientError::Problem { status: StatusCode::NOT_FOUND, .. }) => {
                    self.prefer(Some(admin));
                    return Ok(Newest { text: None, tag: None });
                }
                Err(error) => {
                    why = self.refused(error)?;
                    continue;
                }
            };
            let tag = answer.headers().get(ETAG).cloned();
            match client.read(answer.into_body()).await {
                Ok(text) => {
                    self.prefer(Some(admin));
                    return Ok(Newest { text: Some(text), tag });
                }
                Err(error) => why = self.refused(error)?,
            }
        }
        Err(unavailable(&why))
    }

    /// Puts a document in the place of that which it was made of.
    async fn write(
        &self,
        newest: &Newest,
        document: String,
        is_sent: &AtomicBool,
    ) -> Result<Written, Answer> {
        let condition: (HeaderName, HeaderValue) = match &newest.tag {
            Some(tag) => (IF_MATCH, tag.clone()),
            None => (IF_NONE_MATCH, HeaderValue::from_static("*")),
        };
        let path = format!("/gateway?source={SOURCE}");
        let body = Bytes::from(document);
        let mut why = NOBODY.to_owned();
        let admins = self.admins();
        for (at, (_, client)) in admins.iter().enumerate() {
            let client = client.clone().only_if(condition.clone()).waiting(WAIT_SECONDS);
            is_sent.store(true, Relaxed);
            let put =
                client.send(Method::PUT, &path, Some("application/json"), Full::new(body.clone())).await;
            let answer = match put {
                Ok(body) => client.json(body).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(now) => {
                    let lineage = now["lineage"].as_str().and_then(lineage_of);
                    return match (lineage, now["revision"].as_u64()) {
                        (Some(lineage), Some(revision)) => Ok(Written::At(Position { lineage, revision })),
                        _ => Err(unavailable("a node's answer says no revision; the document was changed")),
                    };
                }
                Err(ClientError::Problem { status: StatusCode::PRECONDITION_FAILED, .. }) => {
                    return Ok(Written::Other);
                }
                // Nothing was sent.
                Err(error @ ClientError::Connect { .. }) => why = self.refused(error)?,
                // It may be taken by a quorum yet. Another node may know, or take it.
                Err(error) => {
                    let why = self.refused(error)?;
                    self.prefer(admins.get((at + 1) % admins.len()).map(|(admin, _)| *admin));
                    return Ok(Written::Lost(why));
                }
            }
        }
        Err(unavailable(&why))
    }

    /// Why another node may be asked, or what is answered where none would answer otherwise.
    fn refused(&self, error: ClientError) -> Result<String, Answer> {
        Ok(match error {
            ClientError::Connect { admin, reason } => {
                format!("no connection to the node at {admin}: {reason}")
            }
            ClientError::Timeout { admin, .. } => format!("the node at {admin} did not answer in time"),
            ClientError::Broken { admin, reason } => format!("the exchange with {admin} broke off: {reason}"),
            ClientError::Problem { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
                let detail =
                    "the nodes refuse the token of --kong-token-file: theirs is that of --gateway-token-file";
                tracing::warn!("{detail}");
                return Err(unavailable(detail));
            }
            ClientError::Problem { status: StatusCode::CONFLICT, detail } => {
                return Err(Answer::message(409, detail));
            }
            ClientError::Problem { status, detail } if status.is_client_error() => {
                return Err(Answer::message(400, detail));
            }
            ClientError::Problem { detail, .. } => format!("a node says: {detail}"),
        })
    }

    /// The answer, once what was written is obeyed here.
    async fn in_force(&self, wanted: Position, answer: Answer) -> Answer {
        let begun = Instant::now();
        let mut looks = interval(LOOK_INTERVAL);
        while begun.elapsed() < IN_FORCE_MAX {
            looks.tick().await;
            let Some(known) = self.shared.following.known() else { break };
            let is_it = |it: Position| it.lineage == wanted.lineage && it.revision >= wanted.revision;
            if known.position.is_some_and(is_it) {
                return answer;
            }
            if known.refused.is_some_and(is_it) {
                break;
            }
        }
        let revision = wanted.revision;
        let detail = format!(
            "it was written as revision {revision}, and is not yet in force at this balancer: do not send it again"
        );
        tracing::warn!(revision, "what was written by the door for Kong's clients is not yet in force here");
        Answer::message(504, detail)
    }
}

fn unavailable(why: &str) -> Answer {
    Answer::message(503, why)
}

/// Where something was sent, and nobody says what became of it.
fn unknown(why: &str) -> Answer {
    unavailable(&format!("{why}; whether anything was changed is not known"))
}

/// What a request comes to with this document: an answer, and the next one where it changes something. Takes the
/// processor for long.
fn make(asked: &Asked, text: Option<&[u8]>) -> Result<(Answer, Option<String>), Answer> {
    let unreadable = || unavailable("the document that the nodes keep is none that this version can read");
    let mut document = match text {
        None => Document::default(),
        Some(text) => match serde_json::from_slice(text) {
            Ok(Value::Object(members)) => Document(members),
            _ => return Err(unreadable()),
        },
    };
    let Done { answer, is_change } = resources::answer(asked, &mut document)?;
    if !is_change {
        return Ok((answer, None));
    }
    let json = Value::from(document.0).to_string();
    // Nodes show no secrets of issuers, and take what they show for what they keep. A password is hashed by now.
    let kept = Kept::read_alone(&json, &|| None).map_err(|refused| {
        let faults: Vec<String> =
            refused.faults.iter().take(FAULTS_SHOWN_MAX).map(Fault::to_string).collect();
        Answer::message(if refused.is_clash { 409 } else { 400 }, faults.join("; "))
    })?;
    let json =
        kept.json().ok_or_else(|| Answer::message(400, "the document would be larger than it may be"))?;
    Ok((answer, Some(json)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kong::asked::New;
    use crate::kong::{Aliases, Closed, body};

    #[test]
    fn a_document_with_secrets_that_are_only_shown_is_changed_and_names_them_as_before() {
        let form = b"name=a&path=/a&target_url=http://b:1";
        let asked = Asked {
            method: Method::POST,
            path: "/apis".to_owned(),
            segments: vec!["apis".to_owned()],
            query: Vec::new(),
            params: body::read("application/x-www-form-urlencoded", form).unwrap(),
            host: "localhost:8001".to_owned(),
            new: New { id: "1".to_owned(), created_at: 1, key: String::new(), salt: [1; 16] },
            aliases: Aliases::default(),
            closed: Closed::default(),
        };
        let shown = format!("sha256:{}", "ab".repeat(32));
        let issuers = json!({"i": {"iss": "i", "aud": "any", "keys": [{"kid": "k", "secret": shown}]}});
        let document = json!({ "issuers": issuers }).to_string();
        let (answer, next) = make(&asked, Some(document.as_bytes())).unwrap();
        let next: Value = serde_json::from_str(&next.unwrap()).unwrap();
        assert_eq!((answer.status, &next["issuers"]), (201, &issuers));
        assert!(next["routes"]["a"].is_object());
    }
}
