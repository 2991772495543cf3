//! The live feed: as server-sent events and as a WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn socket(served: &Served, query: &str) -> Socket {
    let (socket, answer) =
        connect_async(format!("ws://{}/messages/live{query}", served.address)).await.unwrap();
    assert_eq!(answer.headers()["skep-served-by"], fake::NODE_ID);
    socket
}

async fn frame(socket: &mut Socket) -> Message {
    tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap()
}

async fn message(socket: &mut Socket) -> Value {
    serde_json::from_str(frame(socket).await.to_text().unwrap()).unwrap()
}

async fn events(served: &Served, query: &str, headers: &str) -> TcpStream {
    let mut stream = served.connect().await;
    let head = format!(
        "GET /messages/live{query} HTTP/1.1\r\nhost: skep\r\naccept: text/event-stream\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn write(served: &Served, count: usize) {
    let had = served.fake.state.lock().unwrap().messages.len();
    for i in had + 1..=had + count {
        served.post_json("/messages", &format!(r#"{{"message":"m{i}"}}"#)).await;
    }
}

#[tokio::test]
async fn a_socket_gets_what_comes_after_it_asked_as_frames_of_json() {
    let served = public().await;
    write(&served, 2).await;
    let mut socket = socket(&served, "").await;
    served.post_as("application/octet-stream", b"\xff").await;
    write(&served, 1).await;
    let bytes = message(&mut socket).await;
    assert_eq!(
        (&bytes["seq"], &bytes["message"], &bytes["encoding"]),
        (&3.into(), &"/w==".into(), &"base64".into())
    );
    let text = message(&mut socket).await;
    let names: Vec<_> = text.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["content_type", "digest", "message", "seq", "time"]);
    assert_eq!((&text["seq"], &text["message"]), (&4.into(), &"m4".into()));
}

#[tokio::test]
async fn a_socket_resumes_anywhere_and_misses_and_repeats_nothing() {
    let served = public().await;
    write(&served, 700).await;
    let mut late = socket(&served, "?after=650").await;
    for seq in 651..=700 {
        assert_eq!(message(&mut late).await["seq"], seq);
    }
    let mut early = socket(&served, "?after=0").await;
    write(&served, 10).await;
    for seq in 1..=710 {
        assert_eq!(message(&mut early).await["seq"], seq);
    }
    for seq in 701..=710 {
        assert_eq!(message(&mut late).await["seq"], seq);
    }
}

#[tokio::test]
async fn a_reader_from_the_future_waits_for_it() {
    let served = public().await;
    let mut socket = socket(&served, "?after=3").await;
    write(&served, 5).await;
    assert_eq!(message(&mut socket).await["seq"], 4);
    assert_eq!(message(&mut socket).await["seq"], 5);
}

#[tokio::test]
async fn events_have_the_seq_as_their_id_and_begin_with_where_they_begin() {
    let served = public().await;
    write(&served, 3).await;
    let mut stream = events(&served, "", "").await;
    let head = read_until(&mut stream, "id: 3\n\n").await;
    assert!(
        head.contains("content-type: text/event-stream") && head.contains("cache-control: no-store"),
        "{head}"
    );
    assert!(!head.contains("data:"), "{head}");
    write(&served, 1).await;
    let event = read_until(&mut stream, "}\n\n").await;
    assert!(event.contains("id: 4\ndata: {\"seq\":4,"), "{event}");
}

#[tokio::test]
async fn a_browser_that_reconnects_resumes_after_the_last_event_that_it_saw() {
    let served = public().await;
    write(&served, 5).await;
    for (query, headers) in
        [("", "last-event-id: 3\r\n"), ("?after=1", "last-event-id: 3\r\n"), ("?after=3", "")]
    {
        let mut stream = events(&served, query, headers).await;
        let text = read_until(&mut stream, "\"seq\":5").await;
        assert!(text.contains("\"seq\":4") && !text.contains("\"seq\":3"), "{text}");
    }
}

#[tokio::test]
async fn a_node_that_drains_tells_its_readers_where_to_resume_and_takes_no_more() {
    let served = public().await;
    write(&served, 3).await;
    let mut socket = socket(&served, "?after=1").await;
    let mut stream = events(&served, "?after=1", "").await;
    read_until(&mut stream, "\"seq\":3").await;
    for seq in [2, 3] {
        assert_eq!(message(&mut socket).await["seq"], seq);
    }
    served.stage.send_replace(Stage::Draining);
    let Message::Close(Some(goodbye)) = frame(&mut socket).await else { panic!("no goodbye") };
    assert_eq!(goodbye.code, CloseCode::Restart);
    assert_eq!(goodbye.reason.as_str(), "draining; resume with after=3");
    let rest = read_to_end(&mut stream).await;
    assert!(rest.contains("event: resume\ndata: {\"after\":3,\"reason\":\"draining\"}\n\n"), "{rest}");
    let refused = served.get_accepting("/messages/live", "text/event-stream").await;
    refused.is_problem(ProblemKind::NotReady);
    assert_eq!(refused.header("skep-unprocessed"), "1");
    served.stage.send_replace(Stage::Stopping);
    served.done.await.unwrap();
}

#[tokio::test]
async fn a_stop_waits_for_sockets_to_hang_up_but_not_for_ever() {
    let served = public().await;
    let mut socket = socket(&served, "").await;
    served.stage.send_replace(Stage::Stopping);
    let Message::Close(_) = frame(&mut socket).await else { panic!("no goodbye") };
    // The client's answer to the goodbye is sent with the next poll; this one sends none.
    served.done.await.unwrap();
}

#[tokio::test]
async fn what_a_client_says_is_passed_over_and_a_long_speech_ends_it() {
    let served = public().await;
    let mut socket = socket(&served, "").await;
    socket.send(Message::text("hello")).await.unwrap();
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(frame(&mut socket).await, Message::Pong("p".into()));
    write(&served, 1).await;
    assert_eq!(message(&mut socket).await["seq"], 1);
    socket.send(Message::text("x".repeat(100_000))).await.unwrap();
    while let Some(Ok(frame)) = socket.next().await {
        assert!(frame.is_close(), "{frame:?}");
    }
}

#[tokio::test]
async fn bad_wishes_are_refused() {
    let served = public().await;
    served.get_accepting("/messages/live", "image/png").await.is_problem(ProblemKind::NotAcceptable);
    for query in ["?after=", "?after=x", "?after=-1"] {
        let path = format!("/messages/live{query}");
        served.get(&path).await.is_problem(ProblemKind::InvalidQuery);
    }
    let headers = [("last-event-id", "x")];
    let answer = served.ask(Method::GET, "/messages/live", &headers, b"").await;
    answer.is_problem(ProblemKind::InvalidQuery);
    let headers = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "12")];
    let answer = served.ask(Method::GET, "/messages/live", &headers, b"").await;
    answer.is_problem(ProblemKind::InvalidUpgrade);
}
