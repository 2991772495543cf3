//! The request that a connection serves now, in the form that a backend gets.

use skep_vrrp::let_go;

use super::READY_PATH;
use crate::core::worker::Worker;
use crate::forward::retry::is_repeatable;
use crate::listen::client::ClientInfo;
use crate::wire::fields;
use crate::wire::request_head::{BodyLength, Method, RequestHead};

/// The request that is being served.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// As the backend gets it.
    pub(super) head: Vec<u8>,
    pub(super) id: Vec<u8>,
    pub(super) method: Method,
    method_len: usize,
    target_len: usize,
    pub(super) old: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) repeatable: bool,
    pub(super) is_ready_path: bool,
    pub(super) length: BodyLength,
}

impl Incoming {
    pub(super) fn method_name(&self) -> &[u8] {
        self.head.get(..self.method_len).unwrap_or_default()
    }

    pub(super) fn target(&self) -> &[u8] {
        self.head.get(self.method_len + 1..).and_then(|rest| rest.get(..self.target_len)).unwrap_or_default()
    }

    /// What the holder of an address says; see [`skep_vrrp::let_go`].
    pub(super) fn let_go(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.head).ok()?;
        let mut fields = text.lines().filter_map(|line| line.split_once(": "));
        fields.find_map(|(name, value)| name.eq_ignore_ascii_case(let_go::HEADER).then_some(value))
    }

    pub(super) fn read(&mut self, worker: &Worker, head: &RequestHead, buf: &[u8], client: &ClientInfo) {
        self.head.clear();
        self.id.clear();
        match head.request_id {
            Some(id) => self.id.extend_from_slice(id.of(buf)),
            None => worker.request_id(&mut self.id),
        }
        fields::write_request(head, buf, client.as_client(), &self.id, &mut self.head);
        let target = head.target.of(buf);
        self.method = head.method;
        self.method_len = head.method_span.of(buf).len();
        self.target_len = target.len();
        (self.old, self.keep_alive) = (head.old, head.keep_alive);
        self.expects_continue = head.expects_continue;
        self.repeatable = is_repeatable(head.method, target, head.has_idempotency_key);
        self.is_ready_path = target == READY_PATH && head.method.is_safe();
        self.length = head.body;
    }
}
