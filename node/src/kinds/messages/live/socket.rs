//! WebSocket: a text frame a message. What a client says is passed over; that it lives shows by
//! what it says or by its pongs.
//!
//! The close frame's reason tells where to resume, as in `draining; resume with after=7`.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::tail::Entry;
use super::{Farewell, HEARTBEAT, STALL_MAX, Seat};
use crate::http::account::Charge;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::served::MessageApi;

/// The protocol's version.
const VERSION: &str = "13";
/// Of base64 of 16 bytes.
const KEY_LEN: usize = 24;
/// Largest message of a client.
const RECEIVED_BYTES_MAX: usize = 4096;
/// The library's own buffers, a reader: it would take 128 KiB for each.
const READ_BUFFER_BYTES: usize = 4096;
const WRITE_BUFFER_BYTES: usize = 32 * 1024;
/// How long a goodbye may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Heartbeats without a word from the client after which it counts as gone.
const SILENT_BEATS_MAX: u32 = 2;

/// Why a handshake is refused (RFC 6455, 4.2): of another version, or with a key that is none. What else it
/// must have, the library looks at.
pub(crate) fn refuse(headers: &HeaderMap) -> Option<Response> {
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    if text(SEC_WEBSOCKET_VERSION) != VERSION {
        let problem =
            Problem::new(ProblemKind::InvalidUpgrade, "no WebSocket: version 13 is the one that is spoken");
        let mut refusal = problem.into_response();
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return Some(refusal);
    }
    let key = text(SEC_WEBSOCKET_KEY).as_bytes();
    let is_key = key.len() == KEY_LEN
        && key.ends_with(b"==")
        && key[..KEY_LEN - 2].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    let problem =
        || Problem::new(ProblemKind::InvalidUpgrade, "no WebSocket: the key is no base64 of 16 bytes");
    (!is_key).then(|| problem().into_response())
}

pub(crate) fn serve<A: MessageApi>(
    upgrade: WebSocketUpgrade,
    seat: Seat<A>,
    token: TaskTrackerToken,
) -> Response {
    upgrade
        .max_message_size(RECEIVED_BYTES_MAX)
        .max_frame_size(RECEIVED_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .on_upgrade(move |socket| async move {
            run(socket, seat).await;
            drop(token);
        })
}

async fn run<A: MessageApi>(mut socket: WebSocket, mut seat: Seat<A>) {
    let mut given = seat.reader.position();
    match converse(&mut socket, &mut seat, &mut given).await {
        Ending::Ours(why) => say_goodbye(socket, why, given).await,
        Ending::Theirs => part(socket).await,
        Ending::Broken(code, reason) => {
            close(socket, CloseFrame { code, reason: reason.into() }).await;
        }
        Ending::Gone => {}
    }
}

/// How a conversation ends.
enum Ending {
    /// The node wants to; the client is told where to resume.
    Ours(Farewell),
    /// The client said that it closes.
    Theirs,
    /// The client's frames are none, or too large (RFC 6455, 7.4.1).
    Broken(u16, &'static str),
    /// Nobody is there to be told.
    Gone,
}

/// Answers a close with a close: else a browser takes the end for a loss (1006).
async fn part(mut socket: WebSocket) {
    // The library has put its answer in line; it goes out as more is read, until there is no more.
    let answered = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = timeout(FAREWELL_TIMEOUT, answered).await;
}

/// Says why, and waits a moment for the client to hang up.
async fn close(mut socket: WebSocket, frame: CloseFrame) {
    let goodbye = async {
        socket.send(Message::Close(Some(frame))).await?;
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<_, axum::Error>(())
    };
    // A client that takes no goodbye finds the connection closed.
    let _ = timeout(FAREWELL_TIMEOUT, goodbye).await;
}

/// What an error of the library means to the client.
fn broken(error: axum::Error) -> Ending {
    use tokio_tungstenite::tungstenite::Error;
    match error.into_inner().downcast_ref::<Error>() {
        Some(Error::Protocol(_)) => Ending::Broken(close_code::PROTOCOL, "the frame is none"),
        Some(Error::Utf8(_)) => Ending::Broken(close_code::INVALID, "the text is not UTF-8"),
        Some(Error::Capacity(_)) => Ending::Broken(close_code::SIZE, "the message is too large"),
        _ => Ending::Gone,
    }
}

/// Until one side wants to end it; answers what to tell the client, if it is still there. `given`
/// is the last message on its way to the client.
async fn converse<A: MessageApi>(socket: &mut WebSocket, seat: &mut Seat<A>, given: &mut u64) -> Ending {
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_beats = 0;
    let Seat { reader, closing, api, account, .. } = seat;
    let mut kept: Option<Charge> = None;
    loop {
        let sent = tokio::select! {
            biased;
            () = Seat::<A>::leaving(closing) => return Ending::Ours(Farewell::Draining),
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_))) => return Ending::Theirs,
                Some(Err(error)) => return broken(error),
                None => return Ending::Gone,
                Some(Ok(_)) => {
                    silent_beats = 0;
                    continue;
                }
            },
            batch = reader.next(account) => match batch {
                Ok((batch, charge)) => {
                    let largest = batch.iter().map(|entry| entry.json.len()).max().unwrap_or(0);
                    let sent = timeout(STALL_MAX, send(socket, batch, given)).await;
                    // The library's buffer has grown to the largest frame, and stays so.
                    if largest > kept.as_ref().map_or(WRITE_BUFFER_BYTES, Charge::bytes) {
                        kept = Some(charge);
                    }
                    sent
                }
                Err(why) => return Ending::Ours(why),
            },
            _ = heartbeat.tick() => {
                if api.readiness().is_err() {
                    return Ending::Ours(Farewell::NotReady);
                }
                silent_beats += 1;
                if silent_beats > SILENT_BEATS_MAX {
                    return Ending::Gone;
                }
                timeout(STALL_MAX, socket.send(Message::Ping(Default::default()))).await
            }
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ending::Gone,
            Err(_) => return Ending::Ours(Farewell::TooSlow),
        }
    }
}

/// All of a batch in as few writes as its size allows.
async fn send(socket: &mut WebSocket, batch: Vec<Entry>, given: &mut u64) -> Result<(), axum::Error> {
    use futures_util::SinkExt;
    for entry in batch {
        socket.feed(Message::Text(entry.json)).await?;
        *given = entry.seq;
    }
    socket.flush().await
}

/// Says where to resume, and waits a moment for the client to hang up.
async fn say_goodbye(socket: WebSocket, why: Farewell, after: u64) {
    let code = match why {
        Farewell::Draining => close_code::RESTART,
        Farewell::TooSlow | Farewell::NotReady | Farewell::Overloaded => close_code::AGAIN,
        Farewell::Failed => close_code::ERROR,
    };
    let reason = format!("{}; resume with after={after}", why.reason()).into();
    close(socket, CloseFrame { code, reason }).await;
}
