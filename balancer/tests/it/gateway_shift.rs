//! Shifts as nodes tell of them: how much goes over, and back where too many fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use skep_gateway::shift::report::{Report, Seen};
use skep_gateway::shift::window::Counts;

use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::*;

/// A route of two services, of which one has all.
fn document(blue: &Scripted, green: &Scripted, weights: (u32, u32)) -> String {
    let service = |at: &Scripted| json!({ "urls": [format!("http://{}", at.address)] });
    json!({
        "services": { "blue": service(blue), "green": service(green) },
        "routes": { "web": { "match": { "path": "/" }, "services": { "blue": weights.0, "green": weights.1 } } },
    })
    .to_string()
}

/// The lines of a state, and of a shift with that share; of none that is open where there is no share.
fn told(revision: u64, document: &str, at: u64, share: Option<u32>) -> Vec<u8> {
    let shift = |share: u32| json!({ "id": 7, "route": "web", "from": "blue", "to": "green", "share": share, "abort": "5xx>1%" });
    let shifts = json!({ "shifts": share.map(shift).into_iter().collect::<Vec<_>>(), "at": at });
    [state(7, revision, Some(document)), format!("{shifts}\n").into_bytes()].concat()
}

/// How many of so many requests came to a server of that name.
fn of(process: &Process, name: &str, requests: usize) -> usize {
    let body = format!("{name} /x");
    (0..requests).filter(|_| ask(process.http, "/x").ends_with(&body)).count()
}

/// Answers 500 to all, and counts them.
fn failing() -> (Scripted, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let counted = asked.clone();
    let server = Scripted::start(move |served| {
        while let Some(head) = served.head() {
            if !head.starts_with("GET /health") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            served.send("HTTP/1.1 500 X\r\ncontent-length: 6\r\n\r\nbroken");
        }
    });
    (server, asked)
}

#[test]
fn as_much_goes_over_as_nodes_say_until_the_document_says_it() {
    let (blue, green) = (Scripted::plain("blue"), Scripted::plain("green"));
    let before = document(&blue, &green, (100, 0));
    let node = Node::alone(Does::Tells(told(1, &before, 1, Some(0))));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    assert_eq!(of(&process, "blue", 20), 20, "nothing yet");
    node.now(Does::Tells(told(1, &before, 2, Some(5_000))));
    wait("some go over", || of(&process, "green", 1) == 1);
    let over = of(&process, "green", 200);
    assert!((60..140).contains(&over), "{over} of 200 are about a half");
    node.now(Does::Tells(told(1, &before, 3, Some(10_000))));
    wait("all go over", || of(&process, "green", 20) == 20);
    // Of a node that lags behind.
    node.now(Does::Tells(told(1, &before, 2, Some(5_000))));
    node.now(Does::Tells(told(1, &before, 3, Some(10_000))));
    assert_eq!(of(&process, "green", 50), 50);
    // It is over, and the document says so: nobody is led back meanwhile.
    node.now(Does::Tells(told(2, &document(&blue, &green, (0, 100)), 4, None)));
    wait("the next document is in force", || {
        assert_eq!(of(&process, "green", 5), 5);
        stands(&process, 7, 2)
    });
    assert_eq!(of(&process, "green", 50), 50);
    node.now(Does::Tells(told(3, &before, 4, None)));
    wait("what was over is no more", || of(&process, "blue", 20) == 20);
}

#[test]
fn where_the_new_service_fails_nothing_goes_there_any_more_and_nodes_are_told() {
    let blue = Scripted::plain("blue");
    let (green, asked) = failing();
    let document = document(&blue, &green, (100, 0));
    let node = Node::alone(Does::Tells(told(1, &document, 1, Some(5_000))));
    let mut heard = node.hear();
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    // What changes nothing is asked of the old one where the new one fails: no client sees it.
    assert_eq!(of(&process, "blue", 100), 100);
    assert_eq!(asked.load(Ordering::SeqCst), 3, "three that fail are enough");
    let mut broken = None;
    wait("the node is told", || {
        while let Ok((_, bytes)) = heard.try_recv() {
            let report = Report::decode(&bytes);
            broken = broken.take().or(report.filter(|it| it.seen.iter().any(|it| it.has_left)));
        }
        broken.is_some()
    });
    let Seen { shift, counts, .. } = broken.unwrap().seen[0];
    assert_eq!((shift, counts), (7, Counts { requests: 3, failed: 3 }));
    node.now(Does::Tells(told(1, &document, 2, Some(6_000))));
    node.now(Does::Tells(told(1, &document, 3, None)));
    assert_eq!((of(&process, "blue", 50), asked.load(Ordering::SeqCst)), (50, 3));
}

#[test]
fn what_may_not_be_sent_again_shows_that_it_failed_a_few_times() {
    let blue = Scripted::start(|served| {
        while served.head().is_some() {
            served.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nblue");
        }
    });
    let (green, asked) = failing();
    let document = document(&blue, &green, (100, 0));
    let node = Node::alone(Does::Tells(told(1, &document, 1, Some(5_000))));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    let mut failed = 0;
    for _ in 0..100 {
        let mut client = Client::connect(process.http);
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let answer = client.rest();
        failed += usize::from(answer.starts_with("HTTP/1.1 500 "));
        assert!(answer.ends_with("blue") || answer.ends_with("broken"), "{answer}");
    }
    assert_eq!((failed, asked.load(Ordering::SeqCst)), (3, 3));
}

#[test]
fn one_that_answers_nothing_has_failed_before_those_who_wait_give_up() {
    let blue = Scripted::plain("blue");
    let green = Scripted::start(|served| while served.head().is_some() {});
    let node = Node::alone(Does::Tells(told(1, &document(&blue, &green, (100, 0)), 1, Some(9_000))));
    let mut heard = node.hear();
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    let mut waiting = Vec::new();
    wait("some are led there", || {
        let mut client = Client::connect(process.http);
        client.send(get("/x"));
        waiting.push(client);
        green.heads().len() >= 3
    });
    wait("the node is told", || {
        let mut broken = false;
        while let Ok((_, bytes)) = heard.try_recv() {
            broken |= Report::decode(&bytes).is_some_and(|it| it.seen.iter().any(|it| it.has_left));
        }
        broken
    });
    assert_eq!(of(&process, "blue", 20), 20);
}

#[test]
fn a_new_service_that_is_not_there_at_all_fails_nobody() {
    let blue = Scripted::plain("blue");
    let gone = Scripted::refused();
    let green = Scripted { address: gone, heads: Arc::default(), connections: Arc::default() };
    let node = Node::alone(Does::Tells(told(1, &document(&blue, &green, (100, 0)), 1, Some(9_000))));
    let process = balancer(&[&node], &[]);
    process.wait_ready();
    assert_eq!(of(&process, "blue", 100), 100);
}
