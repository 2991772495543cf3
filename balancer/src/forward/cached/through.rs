//! Requests that go past the cache, and what the cache learns of their answers.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use skep_cache::Field;
use skep_cache::asked::Asked;
use skep_cache::groups;
use skep_cache::key::key;
use skep_cache::storing::{Asker, judge};
use skep_cache::told::Told;
use skep_gateway::exchange::voids::Void;
use skep_gateway::{host, path};
use tokio::net::TcpStream;

use super::Wanting;
use crate::core::cache::purges::{Change, Origin, mark};
use crate::core::cache::{Cache, Place};
use crate::core::date::unix_s;
use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::forward::downstream::{Done, Downstream, Fault, Gone, Request};
use crate::forward::exchange;
use crate::forward::plan::Want;
use crate::wire::response_head::{AnswerLength, ResponseHead};

/// Answers with these say that something may have changed (RFC 9111, 4.4).
const NO_ERROR: std::ops::Range<u16> = 200..400;

/// Of a request that may change what is stored.
pub(super) async fn changing<D: Downstream>(
    timer: &Timer,
    request: Request<'_>,
    down: &mut D,
    trail: &mut Trail,
    cache: &Arc<Cache>,
    want: &Want,
) -> Result<Done, Fault> {
    let look = Look::Invalidates(cache, want);
    exchange::forward(timer, request, &mut Through { down, look }, trail).await
}

/// Of a request whose answer is not stored, as far as is known.
pub(super) async fn watching<D: Downstream>(
    timer: &Timer,
    request: Request<'_>,
    down: &mut D,
    trail: &mut Trail,
    wanting: &Wanting<'_>,
) -> Result<Done, Fault> {
    let (asked, most) = (wanting.asked, wanting.keeps.entry_bytes_max);
    let asker = Asker { is_known: wanting.is_known() };
    let look = Look::Unmarks { cache: wanting.cache(), place: wanting.place(), asked, asker, most };
    exchange::forward(timer, request, &mut Through { down, look }, trail).await
}

/// What an answer's head is looked at for.
enum Look<'a> {
    Invalidates(&'a Cache, &'a Want),
    Unmarks { cache: &'a Cache, place: Place<'a>, asked: &'a Asked<'a>, asker: Asker, most: u64 },
}

impl Look<'_> {
    /// Before the client has the answer: who reads what it has changed is not to find what was stored before.
    fn look(&self, head: &ResponseHead, buf: &[u8]) {
        let fields = || head.fields.iter().map(|it| (it.name.of(buf), it.value.of(buf)));
        match self {
            Self::Invalidates(cache, want) if NO_ERROR.contains(&head.status) => {
                let forget = |key: &[u8]| {
                    cache.invalidate(key);
                    cache.untold.add(Void::Url(key.into()));
                };
                forget(&want.key);
                let named = |name: &[u8]| {
                    name.eq_ignore_ascii_case(b"location") || name.eq_ignore_ascii_case(b"content-location")
                };
                for (_, place) in fields().filter(|(name, _)| named(name)) {
                    if let Some(key) = key_of(place, &want.host) {
                        forget(&key);
                    }
                }
                forget_groups(cache, want, fields());
            }
            Self::Unmarks { cache, place, asked, asker, most } => {
                let now_s = unix_s();
                let fits = match head.body {
                    AnswerLength::Length(bytes) => bytes <= *most,
                    AnswerLength::None | AnswerLength::Chunked => true,
                    AnswerLength::Close => false,
                };
                let told = Told::read(head.status, fields(), now_s);
                if fits && judge(asked, *asker, &told, now_s, 0).is_ok() {
                    cache.unmark(*place);
                }
            }
            Self::Invalidates(..) => {}
        }
    }
}

/// What an answer says of groups of its origin (RFC 9875, 3). What says too much is not obeyed: it is a hint.
fn forget_groups<'a>(cache: &Cache, want: &Want, fields: impl Iterator<Item = Field<'a>>) {
    let (service, secure) = (want.service, want.secure);
    let host: Box<[u8]> = want.host.as_bytes().into();
    let groups = groups::read(fields, groups::INVALIDATION).unwrap_or_default();
    let groups: Vec<u64> = groups.iter().map(|it| mark(it)).collect();
    let origin = || Origin { service, secure, host: host.clone() };
    cache.purges.add_all(groups.iter().map(|group| Change::Group(*group, origin())));
    for group in groups {
        cache.untold.add(Void::Group { service, secure, group, host: host.clone() });
    }
}

/// The key of a place on the same host, whatever its scheme and port.
fn key_of(place: &[u8], own: &str) -> Option<Box<[u8]>> {
    let text = std::str::from_utf8(place).ok()?;
    let target = match text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
        None => text,
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            if host::canonical(&rest.as_bytes()[..end]) != own {
                return None;
            }
            &rest[end..]
        }
    };
    let target = target.split('#').next().unwrap_or_default();
    if target.starts_with("//") || !target.starts_with('/') {
        return None;
    }
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let path = path::canonical(path.as_bytes()).ok()?;
    Some(key(&[own.as_bytes(), path.as_bytes(), query.as_bytes()]))
}

/// A client's side that is looked at.
struct Through<'a, D> {
    down: &'a mut D,
    look: Look<'a>,
}

impl<D: Downstream> Downstream for Through<'_, D> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.down.poll_body(cx)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Gone>> {
        self.down.poll_ahead(cx)
    }

    fn is_held_up(&self) -> bool {
        self.down.is_held_up()
    }

    fn body(&self) -> &[u8] {
        self.down.body()
    }

    fn consume_body(&mut self, n: usize) {
        self.down.consume_body(n);
    }

    fn body_complete(&self) -> bool {
        self.down.body_complete()
    }

    fn takes_chunks(&self) -> bool {
        self.down.takes_chunks()
    }

    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) -> bool {
        self.down.interim(head, buf)
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], whole: bool) {
        self.look.look(head, buf);
        self.down.respond(head, buf, whole);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        self.down.poll_send(cx, piece)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.down.poll_room(cx)
    }

    fn turn(&self) -> Option<u64> {
        self.down.turn()
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        self.down.poll_finish(cx, trailers)
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.down.socket()
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.down.poll_cancelled(cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.down.poll_gone(cx)
    }

    fn says_no_more(&self) -> bool {
        self.down.says_no_more()
    }

    fn is_gone(&mut self, cx: &mut Context<'_>, waits: bool) -> bool {
        self.down.is_gone(cx, waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_same_host_is_the_url_that_is_stored() {
        let own = Some(key(&[b"a.test", b"/x", b"?y"]));
        for place in ["/x?y", "http://a.test/x?y", "https://A.test:8443/%78?y#z", "/x?y#z"] {
            assert_eq!(key_of(place.as_bytes(), "a.test"), own, "{place}");
        }
        for place in ["http://b.test/x?y", "//a.test/x?y", "x?y", "", "/../x?y", "ftp://a.test/x?y"] {
            assert_ne!(key_of(place.as_bytes(), "a.test"), own, "{place}");
        }
    }
}
