//! What a request may hold while it waits: a backend's place, a share of the account, streams.

use std::net::{Shutdown, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::http2_streams::{connect, request};
use bytes::Bytes;
use skep_balancer::core::account::Account;
use skep_balancer::core::settings::{Network, Settings};
use skep_balancer::core::shared::Shared;

const LONG: Duration = Duration::from_secs(15);
/// Sooner than who waits gives up, and later than a busy machine lets anybody go on.
const SOON: Duration = Duration::from_secs(10);

/// Answers what has no body; takes what has one, and answers once that has come.
fn patient() -> Scripted {
    Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.contains("expect: 100-continue") {
                served.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if head.contains("transfer-encoding: chunked") {
                served.until("0\r\n\r\n");
            } else if let Some(length) = length {
                served.body(length.parse().unwrap());
            }
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn an_upload_that_stands_still_gives_its_place_to_who_waits_for_it() {
    let backend = patient();
    let settings = Settings { in_flight_max: 1, queue_timeout: LONG, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let mut still = balancer.client();
    // What expects has a place before its body comes.
    still.send("POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert!(still.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    let asked = Instant::now();
    assert!(balancer.ask(&get_and_close("/")).ends_with("ok"));
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert!(still.until("\r\n\r\n").starts_with("HTTP/1.1 408"));
}

#[test]
fn a_client_may_have_so_many_bodies_on_their_way() {
    let backend = patient();
    let settings = Settings { uploads_per_client_max: 1, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let expects = "POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let (mut first, mut second) = (balancer.client(), balancer.client());
    first.send(expects);
    assert!(first.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    second.send(expects);
    let refused = second.until("\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: "), "{refused}");
    first.send("hello");
    assert!(first.until("\r\n\r\n").starts_with("HTTP/1.1 200"));
    let mut third = balancer.client();
    third.send(expects);
    assert!(third.until("\r\n\r\n").starts_with("HTTP/1.1 100"), "the first has gone its way");
}

#[test]
fn an_early_answer_to_what_is_sent_again_reaches_the_client() {
    const LENGTH: usize = 1_000_000;
    let bad = Scripted::start(|served| {
        served.head();
        served.body(LENGTH);
        served.stream.shutdown(Shutdown::Both).unwrap();
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // It takes so little that all is not sent when it answers.
    socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let early = Scripted::at(listener, |served| {
        served.head();
        served.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
        pause(Duration::from_secs(1));
    });
    let balancer = Balancer::start(&[]);
    balancer.set(&[bad.address, early.address], Some(0));
    let mut client = balancer.client();
    client.send(format!("PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"));
    client.send(vec![b'x'; LENGTH]);
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 413"));
}

#[test]
fn with_no_memory_left_requests_are_served_in_smaller_pieces_and_not_sent_again() {
    const LENGTH: usize = 300_000;
    let shared = Shared { account: Arc::new(Account::new(0)), ..Shared::default() };
    let balancer = Balancer::of(&[], shared);
    let echo = Scripted::start(|served| {
        while served.head().is_some() {
            let body = served.body(LENGTH);
            served.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\nx: {}\r\n\r\n",
                "y".repeat(6000)
            ));
            served.send(body);
        }
    });
    let resets = Scripted::start(|served| {
        served.head();
        served.body(LENGTH);
        served.stream.shutdown(Shutdown::Both).unwrap();
    });
    balancer.set(&[echo.address], None);
    let body: String = (0..LENGTH).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    let put = format!("PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n{body}");
    let mut client = balancer.client();
    client.send(&put);
    let (head, answer) = client.answer();
    assert!(answer == body, "{head}");
    balancer.set(&[resets.address, echo.address], Some(0));
    client.send(&put);
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 502"), "no copy of it was kept");
}

#[tokio::test]
async fn with_no_memory_left_a_body_over_http2_is_told_to_come_again_and_other_requests_are_served() {
    let backend = patient();
    let shared = Shared { account: Arc::new(Account::new(0)), ..Shared::default() };
    let balancer = Balancer::of(&[backend.address], shared);
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut stream) = sender.send_request(request("POST", "/x"), false).unwrap();
    stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request("GET", "/x"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_unread_answer_over_a_closed_window_is_held_in_a_small_piece() {
    const STREAMS: usize = 50;
    let backend = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n");
        served.send(vec![b'x'; 200_000]);
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let io = tokio::net::TcpStream::connect(balancer.http).await.unwrap();
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(io).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(request("GET", "/x"), true).unwrap();
        answers.push(answer.await.unwrap());
    }
    let drawn = balancer.shared.account.drawn();
    assert!(drawn < 512 * 1024, "{drawn} bytes for {STREAMS} streams");
}

#[tokio::test]
async fn a_client_that_takes_back_what_it_asks_for_again_and_again_is_told_to_calm_down() {
    let backend = Scripted::start(|served| {
        served.head();
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let (mut sender, connection) = connect(balancer.http).await;
    let connection = tokio::spawn(connection);
    for at in 1..=400 {
        let Ok(ready) = sender.clone().ready().await else { break };
        sender = ready;
        let Ok((answer, mut stream)) = sender.send_request(request("GET", "/slow"), true) else { break };
        let begun = Instant::now();
        // Each is accepted before it is reset.
        while balancer.stats.http2_requests.get() < at
            && balancer.stats.http2_calmed.get() == 0
            && begun.elapsed() < LONG
        {
            tokio::task::yield_now().await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
    }
    let end = connection.await.unwrap().unwrap_err();
    assert_eq!(end.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{end}");
    assert_eq!(balancer.stats.http2_calmed.get(), 1);
    assert!(backend.connections.load(Ordering::SeqCst) < 150);
}

#[tokio::test]
async fn who_takes_back_what_has_begun_to_come_is_told_to_calm_down_too() {
    let backend = Scripted::start(|served| {
        served.head();
        // What the client does not take is there when it is taken back.
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{}", "x".repeat(200_000)));
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let io = tokio::net::TcpStream::connect(balancer.http).await.unwrap();
    let (mut sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(io).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..400 {
        let Ok(ready) = sender.clone().ready().await else { break };
        sender = ready;
        let Ok((answer, mut stream)) = sender.send_request(request("GET", "/long"), true) else { break };
        let Ok(_answer) = answer.await else { break };
        stream.send_reset(h2::Reason::CANCEL);
    }
    drop(sender);
    let end = connection.await.unwrap().unwrap_err();
    assert_eq!(end.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{end}");
    assert_eq!(balancer.stats.http2_calmed.get(), 1);
}

#[tokio::test]
async fn a_short_body_over_http2_is_given_no_wide_window() {
    let backend = patient();
    let balancer = Balancer::start(&[backend.address]);
    let mut clients = Vec::new();
    for _ in 0..10 {
        let (sender, connection) = connect(balancer.http).await;
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let mut post = request("POST", "/x");
        post.headers_mut().insert("content-length", "5".parse().unwrap());
        let (answer, mut stream) = sender.send_request(post, false).unwrap();
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        clients.push(sender);
    }
    let drawn = balancer.shared.account.drawn();
    assert!(drawn < 512 * 1024, "{drawn} bytes for {} clients", clients.len());
}

#[tokio::test]
async fn who_is_held_up_by_other_bodies_of_its_connection_is_not_slow() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if head.starts_with("GET /slow") {
                let _ = gate.lock().unwrap().recv();
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            served.body(length.map_or(0, |length| length.parse().unwrap()));
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let settings = Settings {
        in_flight_max: 3,
        queue_timeout: LONG,
        // More than a busy machine keeps a client from going on.
        body_timeout: Duration::from_secs(3),
        ..Settings::default()
    };
    // Too little for a wider window.
    let account = Arc::new(Account::new(400 * 1024));
    let balancer = Balancer::of(
        &[backend.address],
        Shared { settings: Arc::new(settings).into(), account, ..Shared::default() },
    );
    let mut slow = [balancer.client(), balancer.client(), balancer.client()];
    slow.iter_mut().for_each(|client| client.send(get("/slow")));
    wait("all places are taken", || backend.heads().len() == slow.len());
    let (sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let post = |length: usize| {
        let mut post = request("POST", "/x");
        post.headers_mut().insert("content-length", length.into());
        post
    };
    let later = |length| tokio::task::spawn_blocking(move || pause(length));
    let mut sender = sender.ready().await.unwrap();
    let mut answers = Vec::new();
    for at in 1..=2 {
        sender = sender.ready().await.unwrap();
        let (answer, mut stream) = sender.send_request(post(300_000), false).unwrap();
        stream.send_data(Bytes::from(vec![b'x'; 300_000]), true).unwrap();
        answers.push(answer);
        if at == 1 {
            wait_async("the first waits for a place", || balancer.stats.waiting.get() == 1).await;
        }
        // The second waits for a place, too, or for the window of all: the first may have filled that again.
    }
    // Without a backend, their next bytes stay where they are, in the window of all.
    later(Duration::from_millis(200)).await.unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut stream) = sender.send_request(post(5), false).unwrap();
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    answers.push(answer);
    later(Duration::from_secs(7)).await.unwrap();
    drop(open);
    for answer in answers {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
}

#[test]
fn short_bodies_are_held_in_short_buffers() {
    const CLIENTS: usize = 64;
    let backend = Scripted::start(|served| {
        served.head();
        served.body(100);
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| balancer.client()).collect();
    for client in &mut clients {
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n");
    }
    pause(Duration::from_millis(200));
    for client in &mut clients {
        client.send([b'x'; 100]);
    }
    wait("all are at the backend", || backend.heads().len() == CLIENTS);
    let drawn = balancer.shared.account.drawn();
    assert!(drawn < 512 * 1024, "{drawn} bytes for {CLIENTS} bodies");
}

#[test]
fn a_body_that_was_sent_is_let_go_once_its_answer_begins() {
    const LENGTH: usize = 60_000;
    let backend = Scripted::start(|served| {
        served.head();
        served.body(LENGTH);
        served
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let mut clients: Vec<_> = (0..20).map(|_| balancer.client()).collect();
    for client in &mut clients {
        client.send(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"));
        client.send(vec![b'x'; LENGTH]);
        client.until("\r\n\r\n");
    }
    let drawn = balancer.shared.account.drawn();
    assert!(drawn < 512 * 1024, "{drawn} bytes for {} streams", clients.len());
}

#[test]
fn a_trusted_proxy_is_not_counted_as_one_client() {
    let backend = patient();
    let trusted = vec![Network::parse("127.0.0.0/8").unwrap()];
    let settings = Settings { uploads_per_client_max: 1, trusted, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let mut clients = [balancer.client(), balancer.client()];
    for client in &mut clients {
        client.send("POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    }
}

#[test]
fn an_early_answer_gives_the_right_to_an_upload_back() {
    let backend = Scripted::start(|served| {
        while let Some(head) = served.head() {
            if head.starts_with("POST /early") {
                served.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
            } else {
                served.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
    });
    let settings = Settings { uploads_per_client_max: 1, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let [mut early, mut next] = [balancer.client(), balancer.client()];
    let expects = |path| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
    };
    early.send(expects("/early"));
    early.until("hello\r\n");
    next.send(expects("/next"));
    assert!(next.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
}

#[test]
fn a_byte_now_and_then_keeps_no_place_that_others_wait_for() {
    let backend = patient();
    let settings = Settings { in_flight_max: 1, queue_timeout: LONG, ..Settings::default() };
    let balancer = Balancer::with(&[backend.address], settings);
    let mut slow = balancer.client();
    slow.send("POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 500\r\n\r\n");
    assert!(slow.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    let trickling = std::thread::spawn(move || {
        while std::io::Write::write_all(&mut slow.0, b"x").is_ok() {
            pause(Duration::from_millis(200));
        }
    });
    let asked = Instant::now();
    assert!(balancer.ask(&get_and_close("/")).ends_with("ok"));
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    trickling.join().unwrap();
}

#[tokio::test]
async fn short_bodies_over_http2_are_charged_too() {
    const STREAMS: usize = 64;
    const LENGTH: usize = 16_000;
    let backend = Scripted::start(|served| {
        served.head();
        served.body(LENGTH);
        served.head();
    });
    let balancer = Balancer::start(&[backend.address]);
    let (mut sender, connection) = connect(balancer.http).await;
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        sender = sender.ready().await.unwrap();
        let mut post = request("POST", "/x");
        post.headers_mut().insert("content-length", LENGTH.into());
        let (answer, mut stream) = sender.send_request(post, false).unwrap();
        stream.send_data(Bytes::from(vec![b'x'; LENGTH]), true).unwrap();
        answers.push(answer);
    }
    wait_async("all are at the backend", || backend.heads().len() == STREAMS).await;
    let drawn = balancer.shared.account.drawn();
    assert!(drawn >= (STREAMS * LENGTH) as u64, "{drawn} bytes for {} bodies", answers.len());
}
