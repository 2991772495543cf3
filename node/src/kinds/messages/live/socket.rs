//! WebSocket: a text frame a message. What a client says is passed over; that it lives shows by
//! what it says or by its pongs.
//!
//! The close frame's reason tells where to resume, as in `draining; resume with after=7`.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::tail::Entry;
use super::{Farewell, HEARTBEAT, STALL_MAX, Seat};
use crate::kinds::served::MessageApi;

/// Largest message of a client.
const RECEIVED_BYTES_MAX: usize = 4096;
/// The library's own buffers, a reader: it would take 128 KiB for each.
const READ_BUFFER_BYTES: usize = 4096;
const WRITE_BUFFER_BYTES: usize = 32 * 1024;
/// How long a goodbye may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Heartbeats without a word from the client after which it counts as gone.
const SILENT_BEATS_MAX: u32 = 2;

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
    if let Some(why) = converse(&mut socket, &mut seat, &mut given).await {
        say_goodbye(socket, why, given).await;
    }
}

/// Until one side wants to end it; answers what to tell the client, if it is still there. `given`
/// is the last message on its way to the client.
async fn converse<A: MessageApi>(
    socket: &mut WebSocket,
    seat: &mut Seat<A>,
    given: &mut u64,
) -> Option<Farewell> {
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_beats = 0;
    let Seat { reader, closing, api, .. } = seat;
    loop {
        let sent = tokio::select! {
            biased;
            () = Seat::<A>::leaving(closing) => return Some(Farewell::Draining),
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return None,
                Some(Ok(_)) => {
                    silent_beats = 0;
                    continue;
                }
            },
            batch = reader.next() => match batch {
                Ok(batch) => timeout(STALL_MAX, send(socket, batch, given)).await,
                Err(_) => return Some(Farewell::Failed),
            },
            _ = heartbeat.tick() => {
                if api.readiness().is_err() {
                    return Some(Farewell::NotReady);
                }
                silent_beats += 1;
                if silent_beats > SILENT_BEATS_MAX {
                    return None;
                }
                timeout(STALL_MAX, socket.send(Message::Ping(Default::default()))).await
            }
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(Farewell::TooSlow),
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
async fn say_goodbye(mut socket: WebSocket, why: Farewell, after: u64) {
    let code = match why {
        Farewell::Draining => close_code::RESTART,
        Farewell::TooSlow | Farewell::NotReady => close_code::AGAIN,
        Farewell::Failed => close_code::ERROR,
    };
    let reason = format!("{}; resume with after={after}", why.reason()).into();
    let goodbye = async {
        socket.send(Message::Close(Some(CloseFrame { code, reason }))).await?;
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<_, axum::Error>(())
    };
    // A client that takes no goodbye finds the connection closed.
    let _ = timeout(FAREWELL_TIMEOUT, goodbye).await;
}
