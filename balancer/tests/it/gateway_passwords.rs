//! Passwords that have to be looked at: who waits, for whom there is room, and who guesses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::available_parallelism;
use std::time::{Duration, Instant, SystemTime};

use skep_balancer::core::passwords::{LOOKS_MAX, WAITING_MAX, WRONG};
use skep_balancer::core::published::Published;
use skep_gateway::document::KeySet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::gateway_basic::*;
use crate::gateway_file::{Document, without_nodes};
use crate::gateway_jwks::{Signer, set};
use crate::harness::*;
use crate::http2_streams;
use crate::process::ask;

/// One of many clients.
fn client_at(to: SocketAddr, last: u8) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 9, last), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    Client(stream)
}

#[test]
fn an_address_that_guesses_is_refused_before_anything_is_looked_at_and_another_is_not() {
    let (backend, balancer) = routed();
    let status = |last: u8, user: &str, password: &str| {
        let mut client = client_at(balancer.http, last);
        client.send(with("/any", &login(user, password)));
        client.rest()
    };
    // All at once, so that none comes in again meanwhile; those that are looked at already count once they were wrong.
    let guesses: Vec<Client> = (0..WRONG.burst + 5)
        .map(|at| {
            let mut client = client_at(balancer.http, 1);
            let user = if at % 2 == 0 { "bob" } else { "nobody" };
            client.send(with("/any", &login(user, &format!("hidden guess {at}"))));
            client
        })
        .collect();
    let mut answers: Vec<String> = guesses.into_iter().map(|mut it| it.rest()).collect();
    // One more comes in each second.
    answers.extend((0..WRONG.burst).map(|at| status(1, "bob", &format!("hidden guess again {at}"))));
    let limited: Vec<&String> = answers.iter().filter(|it| it.starts_with("HTTP/1.1 429 ")).collect();
    assert!(limited.len() > WRONG.burst as usize / 2, "{answers:?}");
    assert!(
        limited.iter().all(|it| it.contains("retry-after: ") && it.contains("rate-limited")),
        "{limited:?}"
    );
    assert!(answers.iter().all(|it| it.starts_with("HTTP/1.1 429 ") || it.starts_with("HTTP/1.1 401 ")));
    let [_, wrong, counted, _] = looks(&balancer);
    assert_eq!(
        (counted, wrong),
        (limited.len() as u64, answers.len() as u64 - counted),
        "no other was looked at"
    );
    for _ in 0..2 * WRONG.burst {
        assert!(status(2, "bob", BOBS).starts_with("HTTP/1.1 200 "));
    }
    // And who guesses is not told by that which guess is right.
    assert!(status(1, "bob", BOBS).starts_with("HTTP/1.1 429 "));
    assert_eq!(looks(&balancer)[0], 1);
    assert!(!backend.heads().is_empty());
}

#[test]
fn right_passwords_count_for_nothing_and_the_same_one_is_looked_at_once() {
    let (_, balancer) = routed();
    let clients: Vec<Client> = (0..5 * WRONG.burst)
        .map(|_| {
            let mut client = balancer.client();
            client.send(with("/any", &login("bob", BOBS)));
            client
        })
        .collect();
    for mut client in clients {
        assert!(client.rest().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(looks(&balancer), [1, 0, 0, 0]);
    // Each of these is another one, as the document changes.
    for at in 0..2 * WRONG.burst {
        let password = format!("hidden password {at}");
        balancer.route(&document().replace(&*BOB, &kept(&password)), &[]);
        assert!(balancer.ask(&with("/any", &login("bob", &password))).starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(looks(&balancer), [1 + u64::from(2 * WRONG.burst), 0, 0, 0]);
}

#[test]
fn there_is_room_for_so_many_that_wait_and_the_core_serves_others_meanwhile() {
    let (backend, balancer) = routed();
    balancer.route(&document().replace(&*BOB, &slow()), &[]);
    let count = WAITING_MAX + LOOKS_MAX + 24;
    let guesses: Vec<Client> = (0..count)
        .map(|at| {
            // So many that none of their addresses is refused.
            let mut client = client_at(balancer.http, 10 + (at / 5) as u8);
            client.send(with("/any", &login("bob", &format!("hidden guess {at}"))));
            client
        })
        .collect();
    wait("they wait", || looks(&balancer)[3] > 0);
    for _ in 0..10 {
        let begun = Instant::now();
        assert!(balancer.ask(&with("/open", "")).starts_with("HTTP/1.1 200 "));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    assert!(balancer.shared.passwords.waiting() > 0, "they wait still");
    // Who is there still is told, and who leaves makes room.
    let answers: Vec<String> = guesses.into_iter().rev().take(12).map(|mut it| it.rest()).collect();
    let full: Vec<&String> = answers.iter().filter(|it| it.starts_with("HTTP/1.1 503 ")).collect();
    assert!(!full.is_empty(), "{answers:?}");
    for answer in &full {
        assert!(
            answer.contains("retry-after: 1\r\n") && answer.contains("skep-unprocessed: 1\r\n"),
            "{answer}"
        );
        assert!(answer.contains("urn:skep:problem:overloaded"), "{answer}");
    }
    wait("those who left have left", || balancer.shared.passwords.waiting() == 0);
    assert!(balancer.shared.passwords.counts().left.load(Relaxed) > 0);
    let alice = balancer.ask(&with("/any", &login("Alice A.", PASSWORD)));
    assert!(alice.starts_with("HTTP/1.1 200 "), "{alice}");
    assert!(!backend.heads().concat().contains("guess"));
}

#[test]
fn who_waits_for_a_look_is_counted_once_by_limits_of_the_address() {
    let (_, balancer) = routed();
    for (password, status, left) in
        [(BOBS, "200", "r=1;"), ("hidden guess", "401", "r=0;"), (BOBS, "429", "r=0;")]
    {
        let answer = balancer.ask(&with("/guarded", &login("bob", password)));
        assert_eq!(&answer[9..12], status, "{answer}");
        assert!(answer.contains("ratelimit: \"address-hour\";") && answer.contains(left), "{answer}");
    }
}

#[test]
fn who_waits_for_a_look_is_counted_once_also_where_keys_of_issuers_or_the_document_change_meanwhile() {
    let (_, balancer) = routed();
    let limited = document().replace(&*BOB, &slow());
    let text =
        format!("issuers.corp = {{iss = \"corp\", aud = \"app\", jwks = \"https://a.test/\"}}\n{limited}");
    let corp = Arc::<Published>::default();
    let published = BTreeMap::from([("corp".to_owned(), corp.clone())]);
    balancer.route_with(&text, &[], published.clone());
    let publish = || {
        let keys = KeySet::read(set(&[Signer::new("a").jwk()]).as_bytes()).unwrap().keys;
        assert!(corp.take(keys.into(), SystemTime::now()));
        let before = balancer.shared.routes.load_full();
        balancer.shared.take_published();
        assert!(!Arc::ptr_eq(&before.unwrap(), &balancer.shared.routes.load_full().unwrap()));
    };
    // One more than there were has other limits beside, and the same as before.
    let more =
        text.replace("burst = 2}]", "burst = 2}, {rate = 9, per = \"second\", by = \"address\", burst = 7}]");
    let hour = "\"address-hour\";r=1;";
    // No more than are needed, for who waits longer than ten seconds is let go.
    let at_a_time = (available_parallelism().map_or(1, NonZero::get) / 2).clamp(1, LOOKS_MAX);
    for (client, is_keys, said) in
        [(40, true, vec![hour]), (41, false, vec![hour, "\"address-second\";r=6;"])]
    {
        // So that it waits for a while.
        let others: Vec<Client> = (0..at_a_time + 2)
            .map(|at| {
                let mut other = client_at(balancer.http, client + 10);
                other.send(with("/any", &login("bob", &format!("hidden guess {client} {at}"))));
                other
            })
            .collect();
        wait("they wait", || balancer.shared.passwords.waiting() >= 2);
        let counted = || balancer.shared.rates.fill()[0].keys;
        let before = counted();
        let mut waits = client_at(balancer.http, client);
        waits.send(with("/guarded", &login("bob", "hidden guess of mine")));
        wait("it is counted", || counted() > before);
        if is_keys {
            publish();
        } else {
            balancer.route_with(&more, &[], published.clone());
        }
        let answer = waits.rest();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        for part in said {
            assert!(answer.contains(part), "{part}: {answer}");
        }
        let again = {
            let mut again = client_at(balancer.http, client);
            again.send(with("/guarded", &login("bob", "hidden guess of mine")));
            again.rest()
        };
        assert!(again.starts_with("HTTP/1.1 401 ") && again.contains("\"address-hour\";r=0;"), "{again}");
        drop(others);
    }
}

#[tokio::test]
async fn a_key_in_the_query_is_in_no_log_where_its_client_leaves_while_it_waits_for_a_look() {
    let backend = Scripted::plain("app");
    let document = document()
        .replace("127.0.0.1:1\"", &format!("{}\"", backend.address))
        .replace("auth = {basic = true, keys = true}", "auth = {basic = true, keys.query = \"token\"}")
        .replace(&*BOB, &slow());
    let file = Document::new(&document);
    let log = file.path().with_file_name("access.log");
    let process = without_nodes(&file.path(), &["--access-log", log.to_str().unwrap()]);
    let (mut sender, connection) = http2_streams::connect(process.http).await;
    tokio::spawn(connection);
    let mut streams = Vec::new();
    for at in 0..LOOKS_MAX {
        let mut request = http2_streams::request("GET", &format!("/any/{at}?a=b&token=hidden-key-{at}"));
        let value = login("bob", &format!("hidden other {at}"));
        let value = value.trim_end().split_once(": ").unwrap().1;
        request.headers_mut().append("authorization", value.parse().unwrap());
        sender = sender.ready().await.unwrap();
        streams.push(sender.send_request(request, true).unwrap());
    }
    // More than are looked at at a time.
    let waiting = (0..3 * LOOKS_MAX).map(|at| {
        let mut client = Client::connect(process.http);
        let target = format!("/any/{at}?a=b&token=hidden-key-{at}");
        client.send(with(&target, &login("bob", &format!("hidden guess {at}"))));
        client
    });
    let waiting: Vec<Client> = waiting.collect();
    let count = || {
        let metrics = ask(process.admin, "/metrics");
        let name = "skep_balancer_gateway_passwords_waiting{} ";
        metrics.lines().find_map(|it| it.strip_prefix(name)?.parse::<f64>().ok()).unwrap()
    };
    wait_async("they wait", || count() >= (2 * LOOKS_MAX) as f64).await;
    for (_, stream) in &mut streams {
        stream.send_reset(h2::Reason::CANCEL);
    }
    for client in waiting {
        // An end of one way alone is none: it may listen still.
        SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
    }
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_async("all are logged", || lines().lines().count() == 4 * LOOKS_MAX).await;
    let lines = lines();
    let left = |version: &str| {
        let version = format!("\"version\":\"{version}\"");
        lines.lines().filter(|it| it.contains(&version) && it.contains("\"error\":\"cut\"")).count()
    };
    assert!(left("1.1") > 0 && left("2") > 0, "{lines}");
    assert!(lines.contains("\"target\":\"/any/0?a=b\""), "{lines}");
    assert!(!lines.contains("hidden"), "{lines}");
}
