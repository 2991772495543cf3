//! Connections: keep-alive, their number, idleness, and the ways to stop.

use std::time::Duration;

use skep_console::metrics::{Form, encode};

use super::*;

const READ: &[u8] = b"GET /read HTTP/1.1\r\nhost: skep\r\n\r\n";

/// Longer than a busy machine keeps a client from its request.
const IDLE: Duration = Duration::from_secs(1);

/// A gate that lets nobody through until a permit is added.
async fn gated(limits: ServeLimits) -> Served {
    let served = public_with(limits).await;
    served.fake.gate.forget_permits(usize::MAX);
    served
}

async fn in_flight(served: &Served) {
    while served.metrics.http.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_also_when_they_are_sent_at_once() {
    let served = public().await;
    let mut stream = served.connect().await;
    for _ in 0..3 {
        stream.write_all(READ).await.unwrap();
        read_until(&mut stream, "no-text").await;
    }
    stream.write_all(&READ.repeat(20)).await.unwrap();
    let mut answers = String::new();
    while answers.matches("no-text").count() < 20 {
        answers.push_str(&read_until(&mut stream, "no-text").await);
    }
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let limits = ServeLimits { idle_timeout: IDLE, ..Default::default() };
    let served = public_with(limits).await;
    let mut silent = served.connect().await;
    assert_eq!(read_to_end(&mut silent).await, "");
    let mut slow = served.connect().await;
    slow.write_all(b"GET /read HT").await.unwrap();
    assert_eq!(read_to_end(&mut slow).await, "");
}

#[tokio::test]
async fn a_request_that_takes_long_is_not_idleness() {
    let limits = ServeLimits { idle_timeout: IDLE, ..Default::default() };
    let served = gated(limits).await;
    let mut stream = served.connect().await;
    stream.write_all(READ).await.unwrap();
    in_flight(&served).await;
    // Others come and are closed for their idleness meanwhile.
    for _ in 0..3 {
        assert_eq!(read_to_end(&mut served.connect().await).await, "");
    }
    served.fake.gate.add_permits(1);
    read_until(&mut stream, "no-text").await;
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_another_to_end() {
    let limits = ServeLimits { connections_max: 1, ..Default::default() };
    let served = public_with(limits).await;
    let mut first = served.connect().await;
    first.write_all(READ).await.unwrap();
    read_until(&mut first, "no-text").await;
    let mut second = served.connect().await;
    second.write_all(READ).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), read_until(&mut second, "no-text")).await;
    assert!(early.is_err());
    drop(first);
    read_until(&mut second, "no-text").await;
}

#[tokio::test]
async fn a_draining_listener_serves_and_asks_clients_to_leave() {
    let served = public().await;
    let mut old = served.connect().await;
    old.write_all(READ).await.unwrap();
    assert!(!read_until(&mut old, "no-text").await.contains("connection: close"));
    served.stage.send_replace(Stage::Draining);
    // The listener's task sees the change before it takes another connection.
    let mut new = served.connect().await;
    for stream in [&mut new, &mut old] {
        stream.write_all(READ).await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(answer.contains("connection: close") && answer.contains("no-text"), "{answer}");
    }
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_takes_nothing_more() {
    let served = gated(ServeLimits::default()).await;
    let mut busy = served.connect().await;
    busy.write_all(READ).await.unwrap();
    let mut idle = served.connect().await;
    in_flight(&served).await;
    served.stage.send_replace(Stage::Stopping);
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(!served.done.is_finished());
    served.fake.gate.add_permits(1);
    let answer = read_to_end(&mut busy).await;
    assert!(answer.contains("no-text") && answer.contains("connection: close"), "{answer}");
    served.done.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_was_on_its_way_when_the_stop_came_is_answered() {
    let served = public().await;
    let mut open = served.connect().await;
    open.write_all(READ).await.unwrap();
    read_until(&mut open, "no-text").await;
    served.stage.send_replace(Stage::Stopping);
    let mut late = served.connect().await;
    for stream in [&mut open, &mut late] {
        stream.write_all(READ).await.unwrap();
        assert!(read_to_end(stream).await.contains("no-text"));
    }
    served.done.await.unwrap();
}

#[tokio::test]
async fn a_stop_cuts_off_what_does_not_finish_in_time() {
    let limits = ServeLimits { stop_timeout: Duration::from_millis(50), ..Default::default() };
    let served = gated(limits).await;
    let mut busy = served.connect().await;
    busy.write_all(READ).await.unwrap();
    in_flight(&served).await;
    served.stage.send_replace(Stage::Stopping);
    served.done.await.unwrap();
    let mut rest = Vec::new();
    // Closed or reset, but no answer.
    let _ = busy.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert_eq!(served.metrics.http.listener.cut_off.get(), 1);
    assert_eq!(served.metrics.http.listener.connections.get(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_counted() {
    let served = gated(ServeLimits::default()).await;
    let mut stream = served.connect().await;
    stream.write_all(READ).await.unwrap();
    in_flight(&served).await;
    drop(stream);
    while served.metrics.http.in_flight.get() != 0 {
        tokio::task::yield_now().await;
    }
    let text = encode(served.metrics.registry(), Form::Plain).unwrap();
    assert!(text.contains(r#"{route="/read",method="GET",code="499"} 1"#), "{text}");
}
