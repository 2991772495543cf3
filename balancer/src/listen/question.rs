//! The question whether the balancer is ready, where no connection is left to ask it on.
//!
//! Who holds the virtual address asks it, and gives the address away where nobody answers. But a balancer that
//! has as many clients as it may is well: the next one would get the same clients, and be as full. So a few
//! connections beyond the limit are read for that question, and refused where they ask anything else. This
//! host's have places of their own; behind the NAT of a container engine the question comes as a client's.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use skep_gateway::policy::Client;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::core::worker::Worker;
use crate::forward::problem::Problem;
use crate::gateway::{Answer, Asked, Gateway};
use crate::wire::write::Framing;

/// Of such connections at a time, on a core: this host's, and others'.
const OF_HOST_MAX: usize = 16;
const OF_OTHERS_MAX: usize = 64;
/// In all.
pub const PLACES_MAX: usize = OF_HOST_MAX + OF_OTHERS_MAX;
/// Longest that one has a place without having asked.
const OF_HOST_TIMEOUT: Duration = Duration::from_secs(1);
const OF_OTHERS_TIMEOUT: Duration = Duration::from_millis(250);

/// The places of one core.
#[derive(Debug, Default)]
pub struct Places {
    of_host: Rc<Cell<usize>>,
    of_others: Rc<Cell<usize>>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    taken: Rc<Cell<usize>>,
    timeout: Duration,
}

impl Places {
    /// `None` where there are as many as may be.
    pub fn take(&self, client: IpAddr) -> Option<Place> {
        let (taken, most, timeout) = if client.to_canonical().is_loopback() {
            (&self.of_host, OF_HOST_MAX, OF_HOST_TIMEOUT)
        } else {
            (&self.of_others, OF_OTHERS_MAX, OF_OTHERS_TIMEOUT)
        };
        if taken.get() >= most {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Place { taken: taken.clone(), timeout })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() - 1);
    }
}

/// Answers one request, where it is the question, and refuses it where it is another or none.
pub async fn serve(worker: Rc<Worker>, gateway: Rc<Gateway>, mut stream: TcpStream, place: Place) {
    let timer = worker.timers.timer();
    timer.arm(place.timeout);
    let asked = timer.limit(read(&worker, &gateway, &mut stream)).await;
    let (mut text, framing) = (Vec::new(), Framing::alone(worker.clock.date()));
    match asked {
        Ok(Ok(Some(answer))) => answer.write(framing, &mut text),
        Ok(Err(_)) => return,
        Ok(Ok(None)) | Err(_) => {
            worker.stats.rejected.add(1);
            Problem::TooManyConnections.write(framing, &[], &mut text);
        }
    }
    timer.disarm();
    timer.arm(place.timeout);
    let _ = timer.limit(write(&mut stream, &text)).await;
}

/// The answer that is the balancer's own; `None`: no backend's is to be had here.
async fn read(worker: &Worker, gateway: &Gateway, stream: &mut TcpStream) -> std::io::Result<Option<Answer>> {
    let mut input = worker.request_buffers.buffer();
    loop {
        {
            let (mut head, unread) = (worker.request_head.borrow_mut(), input.unread());
            match head.parse(unread) {
                Ok(true) => {
                    let ip = stream.peer_addr()?.ip().to_canonical();
                    let client = Client { ip, secure: false };
                    return Ok(gateway.own(Asked {
                        head: &head,
                        buf: unread,
                        client,
                        came: None,
                        resumed: None,
                    }));
                }
                Ok(false) => {}
                Err(_) => return Ok(None),
            }
        }
        if poll_fn(|cx| input.poll_fill(stream, cx)).await? == 0 {
            return Ok(None);
        }
    }
}

async fn write(stream: &mut TcpStream, mut rest: &[u8]) -> std::io::Result<()> {
    while !rest.is_empty() {
        let written = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, rest)).await?;
        rest = &rest[written..];
    }
    poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await
}
