//! The request that a connection serves now, in the form that a backend gets.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use crate::core::worker::Worker;
use crate::gateway::{Asked, Gateway, Resumed, Verdict, Wait};
use crate::listen::client::ClientInfo;
use crate::wire::request_head::{BodyLength, Method, RequestHead};
use crate::wire::write::{write_line, write_request};

/// The request that is being served.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// As the backend gets it.
    pub(super) head: Vec<u8>,
    pub(super) id: Vec<u8>,
    /// Whom a trusted proxy says that its client is.
    pub(super) origin: Option<IpAddr>,
    pub(super) method: Method,
    method_len: usize,
    target_len: usize,
    /// The target as it came, but for keys; where another is sent.
    asked: Vec<u8>,
    pub(super) old: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// The protocols that it asks to change to.
    pub(super) upgrade: Vec<u8>,
    pub(super) length: BodyLength,
    /// Before it was known what becomes of it.
    pub(super) waited: Duration,
}

impl Incoming {
    pub(super) fn method_name(&self) -> &[u8] {
        self.head.get(..self.method_len).unwrap_or_default()
    }

    /// As it came, but for keys.
    pub(super) fn target(&self) -> &[u8] {
        if !self.asked.is_empty() {
            return &self.asked;
        }
        self.head.get(self.method_len + 1..).and_then(|rest| rest.get(..self.target_len)).unwrap_or_default()
    }

    /// Takes the request over from its head, and says what becomes of it; or what it waits for, to be taken over anew.
    pub(super) fn read(
        &mut self,
        worker: &Worker,
        gateway: &Gateway,
        head: &RequestHead,
        buf: &[u8],
        client: &ClientInfo,
        resumed: Option<&Resumed>,
    ) -> Result<Verdict, Wait> {
        self.head.clear();
        self.asked.clear();
        // One that has waited is called as it was: who was asked about it knows it by that.
        if resumed.is_none() {
            self.id.clear();
            self.waited = Duration::ZERO;
            match head.request_id.filter(|_| client.trusted) {
                Some(id) => self.id.extend_from_slice(id.of(buf)),
                None => worker.request_id(&mut self.id),
            }
        }
        self.origin = client.origin(head, buf, &worker.settings());
        let judged = client.judged(self.origin, head, buf);
        let came = Some((client.as_client(false), self.id.as_slice()));
        let verdict = gateway.judge(Asked { head, buf, client: judged, came, resumed });
        match &verdict {
            Ok(Verdict::Forward { plan, target, .. }) => {
                let came = head.target(buf);
                if target.is_some() {
                    came.write(&mut self.asked);
                }
                let target = target.as_deref().map_or_else(|| came.whole(), Cow::Borrowed);
                let rewrite = plan.via.as_ref().map(|via| via.rewrite(&target));
                write_request(head, buf, client.as_client(false), &self.id, rewrite, &mut self.head)
            }
            // For the log alone.
            Ok(Verdict::Answer(_)) | Err(_) => write_line(head, buf, &mut self.head),
        }
        // Who waits may leave, and is logged then, too.
        let shown = match &verdict {
            Ok(verdict) => verdict.shown(),
            Err(wait) => wait.shown(),
        };
        if let Some(shown) = shown {
            self.asked = shown.to_vec();
        }
        self.method = head.method;
        self.method_len = head.method_span.of(buf).len();
        self.target_len = head.target(buf).len();
        (self.old, self.keep_alive) = (head.old, head.keep_alive);
        self.expects_continue = head.expects_continue;
        self.upgrade.clear();
        self.upgrade.extend_from_slice(head.upgrade.map(|it| it.of(buf)).unwrap_or_default());
        self.length = head.body;
        verdict
    }
}
