//! `GET /-/gateway/watch`: what this node has of the gateway, told to a balancer for as long as it listens: lines as
//! [`skep_gateway::told`] has them.
//!
//! What is told must be what the cluster has. So while anybody listens a leader is asked again and again whether the
//! state here is current, once for all listeners. A node that none confirms (one that was started again, that is cut
//! off or removed, or whose cluster lost its quorum) takes no listener, gives no sign of life, and soon sends those it
//! has elsewhere: what it does not have is never taken for nothing at all.
//!
//! Who asks for purges is told those behind the one that it names, and each that comes: before the document, where both
//! are new. Where not all of them are kept, it is told so by where they begin, and forgets all that it has stored.
//!
//! Secrets that are sealed in the state are told open: who listens has to look at tokens by them. Where the cluster's keys
//! change, so that another secret opens or opens no more, the same revision is told again.
//!
//! A listener has no queue: what it is told next is whatever is the newest once it has taken what was told before, and
//! for that it has a time. Tasks: one for each listener, which ends with its connection, with the listener's drain, or
//! for one of these reasons; and one that asks, which ends with the last of them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use skep_console::Proved;
use skep_gateway::purge::{Purge, list};
use skep_gateway::shift;
use skep_gateway::told::{BEAT_INTERVAL, CONTENT_TYPE as LINES, Told, WATCH_PATH, asked};
use skep_state::gateway::Revision;
use skep_state::kind::Kind as _;
use skep_state::purge::Purge as Kept;
use skep_state::shift::HeldShift;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{GatewayApi, Newest, newest};
use crate::http::account::PIECE_BYTES_MAX;
use crate::http::problem::{Problem, ProblemKind};

/// Listeners at one node; one more is sent elsewhere.
pub(crate) const WATCHES_MAX: usize = 64;
/// What a balancer passes on for a client comes over the same TLS, and has some of these from every balancer.
const PASSED_ON: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
/// How long a listener may take for a line.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two questions whether the state here is the cluster's, and how long the answer may take.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(500);
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// How old the last confirmation may be where a listener is taken, or told that there is nothing else.
const FRESH_MAX: Duration = Duration::from_secs(2);
/// Where it is older, listeners are sent elsewhere.
const CONFIRMED_MAX: Duration = Duration::from_secs(3);

const _: () = assert!(FRESH_MAX.as_millis() > CONFIRM_INTERVAL.as_millis() + CONFIRM_TIMEOUT.as_millis());

/// What the listeners of one node share.
pub(crate) struct Watches<A> {
    api: Arc<A>,
    slots: Arc<Semaphore>,
    /// True once the node asks its clients to go elsewhere.
    closing: watch::Receiver<bool>,
    /// Of those who listen now.
    confirmed: Mutex<Weak<Confirmed>>,
}

impl<A: GatewayApi> Watches<A> {
    pub(crate) fn new(api: Arc<A>, closing: watch::Receiver<bool>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(WATCHES_MAX));
        Arc::new(Self { api, slots, closing, confirmed: Mutex::default() })
    }

    fn confirmed(&self) -> Arc<Confirmed> {
        let mut there = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(confirmed) = there.upgrade() {
            return confirmed;
        }
        let confirmed = Arc::new(Confirmed::start(self.api.clone()));
        *there = Arc::downgrade(&confirmed);
        confirmed
    }
}

/// When the state here was last known to be the cluster's: the begin of the question that a leader answered.
struct Confirmed {
    last: watch::Receiver<Option<Instant>>,
    /// Who asks; ends with this.
    _asking: JoinSet<()>,
}

impl Confirmed {
    fn start<A: GatewayApi>(api: Arc<A>) -> Self {
        let (confirmed, last) = watch::channel(None);
        let mut asking = JoinSet::new();
        asking.spawn(confirm(api, confirmed));
        Self { last, _asking: asking }
    }

    /// Whether that was lately; waits for one question where it was not.
    async fn is_fresh(&self) -> bool {
        let mut last = self.last.clone();
        let fresh = last.wait_for(|at| at.is_some_and(|at| at.elapsed() <= FRESH_MAX));
        timeout(CONFIRM_TIMEOUT, fresh).await.is_ok_and(|found| found.is_ok())
    }
}

/// Asks again and again whether the state here is the cluster's.
async fn confirm<A: GatewayApi>(api: Arc<A>, confirmed: watch::Sender<Option<Instant>>) {
    loop {
        let asked = Instant::now();
        if let Ok(Ok(_)) = timeout(CONFIRM_TIMEOUT, api.current()).await {
            confirmed.send_replace(Some(asked));
        }
        sleep_until(asked + CONFIRM_INTERVAL).await;
    }
}

/// The route of the public address.
pub(crate) fn routes<A: GatewayApi>(watches: Arc<Watches<A>>) -> Router {
    Router::new().route(WATCH_PATH, get(listen::<A>)).with_state(watches)
}

async fn listen<A: GatewayApi>(
    State(watches): State<Arc<Watches<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let is_passed_on = PASSED_ON.iter().any(|name| request.headers().contains_key(*name));
    if is_passed_on || request.extensions().get::<Proved>().is_none() {
        let detail = "this is for balancers, which prove by TLS that they have the cluster's or the edge key";
        return Err(Problem::new(ProblemKind::NoBalancer, detail));
    }
    let slot = watches.slots.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{WATCHES_MAX} balancers listen here: ask another node");
        Problem::unprocessed(ProblemKind::Overloaded, detail)
    })?;
    let confirmed = watches.confirmed();
    if !confirmed.is_fresh().await {
        let detail = "no leader confirms that this node has what the cluster has: ask another node";
        return Err(Problem::unprocessed(ProblemKind::Unavailable, detail));
    }
    let listener = Listener {
        api: watches.api.clone(),
        changes: watches.api.newest_gateway(),
        purges: request.uri().query().and_then(asked).map(|(cluster, number)| Purges {
            last: watches.api.last_purge(),
            cluster,
            number,
            is_told: false,
        }),
        shifts: watches.api.newest_shifts(),
        rekeyed: watches.api.secrets().rekeyed(),
        last: confirmed.last.clone(),
        _confirmed: confirmed,
        _slot: slot,
    };
    let (pieces, given) = mpsc::channel(1);
    tokio::spawn(listener.run(pieces, watches.closing.clone()));
    let lines = stream::unfold(given, |mut given| async {
        let piece = given.recv().await?;
        Some((Ok::<Bytes, Infallible>(piece), given))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The connection is of no further use.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// How far a listener is with purges.
struct Purges {
    last: watch::Receiver<u64>,
    /// Whose numbers it knows,
    cluster: u128,
    /// up to this one.
    number: u64,
    is_told: bool,
}

impl Purges {
    /// What it is to be told: none where it knows all.
    fn next<A: GatewayApi>(&mut self, api: &A) -> Option<Vec<u8>> {
        let last = *self.last.borrow_and_update();
        let cluster = api.members().borrow().me.cluster.map_or(0, |it| it.0);
        if self.is_told && cluster == self.cluster && last <= self.number {
            return None;
        }
        let (last, since, said) = api.purges(|purges| {
            let last = purges.last();
            let knows = self.number.min(last);
            let new = (cluster == self.cluster).then(|| purges.since(knows)).flatten();
            // It has none of those that it would have to have: that is said by where they begin.
            let since = if new.is_some() { knows } else { last };
            // Of messages it is told all then: a node that lags would give it those that were taken out.
            let messages = purges.messages_since(if new.is_some() { knows } else { 0 });
            let mut all: Vec<_> = new.into_iter().flatten().chain(messages).collect();
            all.sort_unstable_by_key(|(number, _)| *number);
            (last, since, all)
        });
        let said: Vec<(u64, String)> = said.iter().map(|(number, purge)| (*number, json(purge))).collect();
        let list = list(said.iter().map(|(number, it)| (*number, it.as_str())));
        (self.cluster, self.number, self.is_told) = (cluster, last, true);
        Some(Told::Purges { cluster, since, last, list: &list }.encode())
    }

    async fn changed(purges: &mut Option<Self>) -> Option<()> {
        match purges {
            Some(it) => it.last.changed().await.ok(),
            None => std::future::pending().await,
        }
    }
}

/// A purge as it is told. What is no text is everything to who reads it.
fn json(purge: &Kept) -> String {
    match purge {
        Kept::Said(what) => match std::str::from_utf8(what) {
            Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => text.to_owned(),
            _ => Purge::All.json(),
        },
        Kept::Message { seq } => Purge::Message(*seq).json(),
        Kept::Messages { upto } => Purge::Messages(*upto).json(),
    }
}

struct Listener<A> {
    api: Arc<A>,
    changes: watch::Receiver<Option<Revision>>,
    /// Where it wants to hear of them.
    purges: Option<Purges>,
    shifts: watch::Receiver<u64>,
    rekeyed: watch::Receiver<()>,
    last: watch::Receiver<Option<Instant>>,
    _confirmed: Arc<Confirmed>,
    _slot: OwnedSemaphorePermit,
}

impl<A: GatewayApi> Listener<A> {
    /// Tells it lines until it leaves or is to go elsewhere.
    async fn run(mut self, pieces: mpsc::Sender<Bytes>, mut closing: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => {}
            () = pieces.closed() => {}
            _ = self.tell(&pieces) => {}
        }
    }

    /// None once it is to go elsewhere.
    async fn tell(&mut self, pieces: &mpsc::Sender<Bytes>) -> Option<Infallible> {
        // What it was told last; none before the first line.
        let mut told = None;
        // How far the shifts were that it was told last: nothing is said where there never was one.
        let mut told_shifts = 0;
        let mut beat_at = Instant::now();
        loop {
            self.changes.borrow_and_update();
            self.shifts.borrow_and_update();
            // Before the document is: what is over is told behind the document that says so.
            let (shifts_at, shifts) = shifts(&*self.api);
            let confirmed = (*self.last.borrow_and_update())?;
            self.rekeyed.borrow_and_update();
            if let Some(line) = self.purges.as_mut().and_then(|it| it.next(&*self.api)) {
                give(pieces, &[line.into()], Instant::now() + LINE_TIMEOUT).await?;
            }
            let (revision, document, digest) = match newest(&*self.api) {
                None => (None, None, 0),
                Some(Newest { revision, stored }) => {
                    let told = self.api.secrets().told(revision, &stored).await?;
                    (Some(revision), Some(told.document.clone()), told.digest)
                }
            };
            if told != Some((revision, digest)) {
                give(pieces, &state(revision.zip(document)), Instant::now() + LINE_TIMEOUT).await?;
                told = Some((revision, digest));
                beat_at = Instant::now() + BEAT_INTERVAL;
                continue;
            }
            if told_shifts != shifts_at {
                give(pieces, &[shifts], Instant::now() + LINE_TIMEOUT).await?;
                told_shifts = shifts_at;
                continue;
            }
            let is_fresh = confirmed + FRESH_MAX >= beat_at.max(Instant::now());
            tokio::select! {
                biased;
                // First: however many purges come, it is there.
                () = sleep_until(beat_at), if is_fresh => {
                    let revision = revision.map_or(0, |revision| revision.number);
                    let beat: Bytes = Told::Beat { revision }.encode().into();
                    give(pieces, &[beat], Instant::now() + LINE_TIMEOUT).await?;
                    beat_at = Instant::now() + BEAT_INTERVAL;
                }
                changed = self.changes.changed() => changed.ok()?,
                changed = Purges::changed(&mut self.purges) => changed?,
                changed = self.shifts.changed() => changed.ok()?,
                changed = self.rekeyed.changed() => changed.ok()?,
                changed = self.last.changed() => changed.ok()?,
                () = sleep_until(confirmed + CONFIRMED_MAX) => return None,
            }
        }
    }
}

/// How far the shifts are, and the line that says which are open.
fn shifts<A: GatewayApi>(api: &A) -> (u64, Bytes) {
    let (at, open) = api.shifts(|shifts| {
        let told = |(route, held): (&str, &HeldShift)| shift::Told {
            id: held.id,
            route: route.to_owned(),
            from: held.shift.from.clone(),
            to: held.shift.to.clone(),
            share: held.share,
            abort: held.shift.abort.clone(),
        };
        (shifts.revision(), shifts.open_ones().map(told).collect::<Vec<_>>())
    });
    // Texts and numbers are JSON always.
    let list = serde_json::value::to_raw_value(&open).unwrap_or_default();
    (at, Told::Shifts { at, shifts: &list }.encode().into())
}

/// Gives a line, as it is taken; none where that is not done in time, or nobody takes it any more.
async fn give(pieces: &mpsc::Sender<Bytes>, line: &[Bytes], deadline: Instant) -> Option<()> {
    let giving = async {
        for piece in line.iter().flat_map(|part| part.chunks(PIECE_BYTES_MAX)) {
            // A copy: what waits in the connection must not keep a whole document that is the newest no more.
            pieces.send(Bytes::copy_from_slice(piece)).await.ok()?;
        }
        Some(())
    };
    timeout_at(deadline, giving).await.ok()?
}

/// The line of a state, in parts: the document is the state's own bytes, or what all listeners share of an opened one, and
/// a slow listener has no copy.
fn state(newest: Option<(Revision, Bytes)>) -> [Bytes; 3] {
    match newest {
        None => {
            let line = Told::State { lineage: 0, revision: 0, document: None }.encode();
            [line.into(), Bytes::new(), Bytes::new()]
        }
        Some((Revision { lineage, number }, document)) => {
            let head = format!("{{\"lineage\":\"{lineage:032x}\",\"revision\":{number},\"document\":");
            [head.into(), of_one_line(document), Bytes::from_static(b"}\n")]
        }
    }
}

/// The same document without ends of lines: it has none in its form, but who set it may have been another version.
fn of_one_line(document: Bytes) -> Bytes {
    let ends_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !document.iter().any(ends_line) {
        return document;
    }
    document.iter().map(|byte| if ends_line(byte) { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_parts_is_the_line() {
        for document in ["{\"routes\":{}}", "{\r\n\"routes\":\n{}}"] {
            let revision = Revision { lineage: 0xab, number: 7 };
            let parts = state(Some((revision, document.into()))).concat();
            assert_eq!(parts, Told::State { lineage: 0xab, revision: 7, document: Some(document) }.encode());
        }
        assert!(matches!(
            Told::decode(&state(None).concat()),
            Ok(Told::State { revision: 0, document: None, .. })
        ));
    }

    #[tokio::test]
    async fn who_does_not_take_a_line_in_its_time_is_left() {
        let (pieces, mut given) = mpsc::channel(1);
        let line = [Bytes::from_static(b"{\"beat\":1}"), Bytes::from_static(b"\n")];
        let now = Instant::now();
        assert_eq!(give(&pieces, &line, now).await, None, "the second piece has no room");
        assert_eq!(given.recv().await.as_deref(), Some(&line[0][..]));
        let (told, taken) = tokio::join!(give(&pieces, &line, now + LINE_TIMEOUT), async {
            [given.recv().await, given.recv().await].map(Option::unwrap_or_default).concat()
        });
        assert_eq!((told, &*taken), (Some(()), &b"{\"beat\":1}\n"[..]));
    }
}
