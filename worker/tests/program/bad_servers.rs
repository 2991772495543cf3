//! Servers that fail, lie or are silent.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::running::{Running, Script};
use crate::server::{Asked, Bad, Server};

const LEASE: Duration = Duration::from_secs(15);

fn bytes(head: &str, body: &[u8]) -> Bad {
    Bad::Bytes([format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat())
}

fn task(id: &str) -> Value {
    json!({"id": id, "fence": 1, "queue": "q", "kind": "k", "payload": 1, "try": 1})
}

/// The numbers of the claims that came.
fn numbers(seen: &[Asked]) -> Vec<u64> {
    let claims = seen.iter().filter(|asked| asked.path == "/claim");
    claims.filter_map(|asked| asked.body["number"].as_u64()).collect()
}

#[test]
fn a_claim_keeps_its_number_until_it_has_an_answer_that_is_one() {
    let answers: [fn() -> Bad; 11] = [
        || Bad::Cut,
        || Bad::Status(500),
        || Bad::Status(302),
        || bytes("200 OK\r\ncontent-length: 5242880", &vec![b' '; 5 * 1024 * 1024]),
        || bytes("200 OK\r\ncontent-length: 100", b"{\"tasks\":["),
        || bytes("200 OK\r\ncontent-length: 4", b"\xff\xfe{}"),
        || bytes("HTTP\x00nonsense", b""),
        || Bad::Json(json!({"tasks": [{"id": 7}]})),
        || Bad::Json(json!({"tasks": [task("../../queues/q")]})),
        || Bad::Json(json!({"tasks": vec![task("a"); 9]})),
        || bytes(&format!("200 OK\r\na: {}", "x".repeat(1024 * 1024)), b""),
    ];
    let worker = |answer: fn() -> Bad| {
        let server = Server::start();
        server.script(move |asked, before| (asked.path == "/claim" && before == 0).then(answer));
        let running = Running::start(&["--url", &server.url(), "--exec", "cat"]);
        (server, running)
    };
    for (at, (server, _running)) in answers.map(worker).iter().enumerate() {
        let id = server.put(7, 1.into());
        server.wait_for(&format!("/tasks/{id}/complete"));
        let numbers = server.wait("the next claim", |seen| {
            let numbers = numbers(seen);
            numbers.contains(&2).then_some(numbers)
        });
        assert_eq!(numbers[..2], [1, 1], "answer {at}: {numbers:?}");
    }
}

#[test]
fn an_end_is_said_until_a_node_has_heard_and_no_more_where_the_task_is_anothers() {
    let server = Server::start();
    server.script(|asked, before| match (asked.path.rsplit('/').next(), before) {
        (Some("complete"), 0) => Some(Bad::Cut),
        (Some("complete"), 1) => Some(Bad::Status(503)),
        (Some("complete"), 2) => Some(bytes("200 OK\r\ncontent-length: 9", b"{")),
        (Some("complete"), _) if asked.body["fence"] == 8 => Some(Bad::Status(409)),
        _ => None,
    });
    let _worker = Running::start(&["--url", &server.url(), "--exec", "cat", "--slots", "1"]);
    for fence in [7, 8, 9] {
        let id = server.put(fence, fence.into());
        let path = format!("/tasks/{id}/complete");
        let ends = server.wait("said four times", |seen| {
            let ends: Vec<&Asked> = seen.iter().filter(|asked| asked.path == path).collect();
            (ends.len() == 4).then(|| ends.iter().map(|asked| asked.body.clone()).collect::<Vec<_>>())
        });
        assert!(ends.iter().all(|body| *body == json!({"fence": fence, "result": fence})), "{ends:?}");
    }
}

#[test]
fn after_a_server_error_another_connection_is_made_for_it_may_lead_to_another_server() {
    let server = Server::start();
    server.script(|asked, before| (asked.path == "/claim" && before < 4).then_some(Bad::Status(503)));
    let _worker = Running::start(&["--url", &server.url(), "--exec", "cat"]);
    let mut from = server.wait("five claims", |seen| {
        let claims: Vec<_> = seen.iter().filter(|it| it.path == "/claim").map(|it| it.from).collect();
        (claims.len() == 5).then_some(claims)
    });
    from.sort_unstable();
    from.dedup();
    assert_eq!(from.len(), 5, "each by a connection of its own: {from:?}");
}

#[test]
fn a_result_that_no_node_takes_fails_the_task_for_good() {
    let server = Server::start();
    server.script(|asked, _| asked.path.ends_with("/complete").then_some(Bad::Status(413)));
    let _worker = Running::start(&["--url", &server.url(), "--exec", "cat"]);
    let id = server.put(1, 1.into());
    let fail = server.wait_for(&format!("/tasks/{id}/fail")).body;
    assert!(fail["final"] == true && fail["error"].as_str().is_some_and(|it| it.contains("413")), "{fail}");
}

#[test]
fn what_a_beat_says_is_lost_is_stopped_with_all_that_it_started_and_nothing_is_said_of_it() {
    let server = Server::start();
    let script = Script::new(
        "trap 'echo told >>ended; exit 0' TERM\nsh -c 'trap \"echo told >>ended; exit 0\" TERM; echo >begun; \
         while :; do sleep 0.1; done' &\nread payload\nwhile :; do sleep 0.1; done",
    );
    let begun = script.path("begun");
    server.script(move |asked, before| match asked.path.as_str() {
        // After an answer that was lost a beat comes at once.
        "/claim" if before == 0 => Some(Bad::Cut),
        path if path.ends_with("/beat") && asked.body["holds"] == json!([1]) => {
            // Not before the script is ready to be told; a beat that failed comes again soon.
            let is_begun = std::path::Path::new(&begun).exists();
            Some(if is_begun { Bad::Json(json!({"lost": [1, 2, 99]})) } else { Bad::Status(503) })
        }
        _ => None,
    });
    let worker = Running::start(&["--url", &server.url(), "--exec", &script.command(), "--slots", "1"]);
    let id = server.put(1, 1.into());
    worker.wait_log("no more");
    let after = server.wait("a claim that holds nothing", |seen| {
        let claim = seen.iter().find(|it| it.path == "/claim" && it.body["number"] == 2)?;
        Some(claim.body["holds"].clone())
    });
    assert_eq!(after, json!([]));
    server.wait("nothing is said of it", |seen| {
        (!seen.iter().any(|asked| asked.path.contains(&id))).then_some(())
    });
    let ended = std::fs::read_to_string(script.path("ended")).expect("it was told to end");
    assert!(ended.starts_with("told"), "{ended}");
}

#[test]
fn a_worker_whose_beats_do_not_get_through_for_a_lease_ends_what_it_runs_and_gives_it_back() {
    let server = Server::start();
    server.script(|asked, _| asked.path.ends_with("/beat").then_some(Bad::Cut));
    let script = Script::new("trap 'echo told >ended; exit 0' TERM\nwhile :; do sleep 0.1; done");
    let _worker = Running::start(&["--url", &server.url(), "--exec", &script.command()]);
    let id = server.put(1, 1.into());
    let claimed = |seen: &[Asked]| seen.iter().any(|it| it.body["holds"] == json!([1])).then(Instant::now);
    let began = server.wait("it is held", claimed);
    let release = server.wait_for(&format!("/tasks/{id}/release"));
    assert_eq!(release.body, json!({"fence": 1}));
    let after = began.elapsed();
    // Either may be seen late, and the server be told late.
    assert!((LEASE - Duration::from_secs(4)..LEASE + Duration::from_secs(15)).contains(&after), "{after:?}");
    assert_eq!(std::fs::read_to_string(script.path("ended")).expect("it was told to end"), "told\n");
}

#[test]
fn where_a_stream_ends_a_beat_follows_at_once_and_another_stream() {
    let server = Server::start();
    server.script(|asked, before| {
        let ends = asked.path.contains("/stream?number=") && before < 2;
        ends.then(|| bytes("200 OK\r\nconnection: close\r\ncontent-type: text/event-stream", b": alive\n\n"))
    });
    let _worker = Running::start(&["--url", &server.url(), "--exec", "cat"]);
    let began = Instant::now();
    server.wait("five streams, and beats between them", |seen| {
        let end_of = |asked: &Asked| asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        let all: Vec<String> = seen.iter().map(end_of).collect();
        let streams: Vec<usize> = (0..all.len()).filter(|at| all[*at].starts_with("stream?")).collect();
        let first = streams.first()?;
        (streams.len() >= 5 && all[*first..].iter().filter(|word| *word == "beat").count() >= 4).then_some(())
    });
    // Of beats that wait for their time the fourth would come after fifteen seconds.
    assert!(began.elapsed() < Duration::from_secs(12), "sooner than such beats: {:?}", began.elapsed());
}

#[test]
fn a_task_that_takes_longer_than_a_lease_is_kept_by_beats() {
    let server = Server::start();
    let script = Script::new("read payload\nsleep 17\necho $payload");
    let _worker = Running::start(&["--url", &server.url(), "--exec", &script.command()]);
    let id = server.put(1, 5.into());
    let end = server.wait("what became of it", |seen| {
        seen.iter()
            .find(|asked| asked.path.contains(&id))
            .map(|asked| (asked.path.clone(), asked.body.clone()))
    });
    assert_eq!(end, (format!("/tasks/{id}/complete"), json!({"fence": 1, "result": 5})));
}

#[test]
fn where_one_url_does_not_answer_the_next_one_is_asked() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("an address").local_addr().expect("it was bound");
    let server = Server::start();
    let urls = format!("http://{gone},{}", server.url());
    let _worker = Running::start(&["--url", &urls, "--exec", "cat"]);
    let id = server.put(1, 1.into());
    server.wait_for(&format!("/tasks/{id}/complete"));
}

#[test]
fn a_claim_at_a_server_that_hangs_is_made_at_the_next_once_a_beat_is_not_answered() {
    let (hangs, server) = (Server::start(), Server::start());
    hangs.script(|_, _| Some(Bad::Hang));
    let urls = format!("{},{}", hangs.url(), server.url());
    // Workers begin at one of them: two of three or more do so at the one that hangs, mostly.
    let began = Instant::now();
    let workers: Vec<Running> =
        (0..6).map(|_| Running::start(&["--url", &urls, "--exec", "cat", "--slots", "1"])).collect();
    server.wait("all claim", |seen| {
        let mut names: Vec<&str> = seen
            .iter()
            .filter(|it| it.path == "/claim")
            .filter_map(|it| it.body["worker"].as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        (names.len() == workers.len()).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(30), "sooner than a claim may take: {:?}", began.elapsed());
}
