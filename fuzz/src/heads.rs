//! Heads of HTTP/1.1 messages.

use skep_balancer::wire::request_head::{HEAD_BYTES_MAX, HEADERS_MAX};

/// Whether a head that was written anew is larger than the balancer itself takes: one at the
/// limit grows beyond it by the fields that a proxy adds.
pub fn beyond_limits(head: &[u8]) -> bool {
    let lines = head.windows(2).filter(|ends| ends == b"\r\n").count();
    // The first line and the empty one are no fields.
    lines.saturating_sub(2) > HEADERS_MAX || head.len() > HEAD_BYTES_MAX
}
