//! The client's side of an exchange, whatever protocol it speaks: what it asks, how it takes the
//! answer, and how it may end.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use crate::forward::plan::Plan;
use crate::forward::problem::Problem;
use crate::forward::upstream::Upstream;
use crate::forward::waiting::Pace;
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;

/// The client's side of an exchange.
pub trait Downstream {
    /// Waits until [`Self::body`] has bytes or the body is complete. Where nothing is said of it, there is none.
    fn poll_body(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }
    /// Reads more of the body behind what is there, also where there is something; not to be called once it is
    /// complete. Says whether there was memory for it.
    fn poll_ahead(&mut self, _cx: &mut Context<'_>) -> Poll<Result<bool, Gone>> {
        Poll::Ready(Ok(true))
    }
    /// Whether bytes of the same client's that nobody has read here keep it from sending.
    fn is_held_up(&self) -> bool {
        false
    }
    /// Bytes of the request's body, framed as the backend is to get them.
    fn body(&self) -> &[u8] {
        &[]
    }
    fn consume_body(&mut self, _n: usize) {}
    /// Whether `body` is all that is left of it.
    fn body_complete(&self) -> bool {
        true
    }

    /// Whether the answer's body is wanted as it is framed; else as data alone.
    fn takes_chunks(&self) -> bool;
    /// Queues an interim answer's head, whose bytes are in `buf`, where the client knows such. Says whether.
    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) -> bool;
    /// Queues the answer's head. `whole` says whether the request's body was read to its end.
    fn respond(&mut self, head: &ResponseHead, buf: &[u8], whole: bool);
    /// Sends what is queued and then some of `piece`: how much of that. With an empty piece, it is
    /// ready once nothing is queued.
    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>>;
    /// How much of an answer that is not complete the client can take, more or less; pending while that is
    /// nothing.
    fn poll_room(&mut self, _cx: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(usize::MAX)
    }
    /// While this answer waits for its turn on the client's connection: how much that has carried.
    fn turn(&self) -> Option<u64> {
        None
    }
    /// The answer is complete but for these trailers, in their HTTP/1.1 form.
    fn poll_finish(&mut self, cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>>;
    /// The client's socket, where bytes may go to it as they are.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
    /// Ready where the client took its request back.
    fn poll_cancelled(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    /// Ready where the client is gone for good, which one that has only closed its sending side is not. Asked
    /// while an answer is long in coming: it costs more than [`Self::poll_cancelled`].
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    /// Whether the client has closed its sending side, as far as [`Self::poll_gone`] has seen.
    fn says_no_more(&self) -> bool {
        false
    }
    /// Whether nobody is there for an answer that is long in coming. Where it `waits` for something to happen, who
    /// says no more is not: a process that dies says just that, and what happens then is another's.
    fn is_gone(&mut self, cx: &mut Context<'_>, waits: bool) -> bool {
        self.poll_gone(cx).is_ready() || waits && self.says_no_more()
    }
}

/// How the client's side failed while its body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It is answered with this, where an answer is still possible.
    Problem(Problem),
    /// It is not there any more.
    Lost,
}

/// A request as the backends get it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In HTTP/1.1, the blank line included.
    pub head: &'a [u8],
    pub method: Method,
    /// The protocols that it asks to change to; none, where it does not.
    pub upgrade: &'a [u8],
    /// Any 2xx would be taken for that change (RFC 8441, 5).
    pub must_change: bool,
    /// Who asks; none, where that is a proxy for many.
    pub client: Option<IpAddr>,
    /// The client sends its body once it is asked to (RFC 9110, 10.1.1).
    pub expects: bool,
    /// Its body is not known to be too long to be kept for another attempt.
    pub keep: bool,
    /// How slow it may come.
    pub pace: Pace,
    pub plan: &'a Plan,
}

/// How an exchange ended well.
#[derive(Debug)]
pub enum Done {
    /// Both messages are complete.
    Complete,
    /// The answer is complete, the request is not: the connection cannot go on.
    Early,
    /// The protocol changes; what the backend said first is in its buffer.
    Upgraded(Box<Upstream>),
}

/// How it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was passed on yet: the client may be told.
    Problem(Problem),
    /// The answer ends in the middle: the connection must, too.
    Cut,
}
