//! The door for Kong's clients between a client and a node's admin address that is scripted: what is answered when, where a
//! node tells of a change late or never, where an answer is lost, and where somebody else was quicker.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use skep_members::key::KeyRing;

use crate::harness::*;
use crate::process::{Process, ask};
use crate::telling::*;

const TOKEN: &str = "a-gateway-token-for-tests";
const LINEAGE: u128 = 7;

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Keep,
    /// It is kept, and the answer does not come.
    Lose,
    /// Somebody else changes the document first.
    Race,
}

/// What a node keeps, and what becomes of the next writes; of those behind them nothing unusual.
#[derive(Default)]
struct Kept {
    document: Option<String>,
    revision: u64,
    acts: VecDeque<Act>,
    writes: usize,
    /// How often it was sent the token.
    tokens: usize,
    /// How often a write was refused, as without a leader.
    refused: usize,
}

#[derive(Clone)]
struct Admin {
    kept: Arc<Mutex<Kept>>,
    address: SocketAddr,
    /// It takes no write.
    is_ill: bool,
}

impl Admin {
    fn start(acts: &[Act]) -> Self {
        let kept = Kept { acts: acts.iter().copied().collect(), ..Kept::default() };
        Self::of(Arc::new(Mutex::new(kept)), false)
    }

    /// Another node's, which takes no write of the same document.
    fn ill_beside(&self) -> Self {
        Self::of(self.kept.clone(), true)
    }

    fn of(kept: Arc<Mutex<Kept>>, is_ill: bool) -> Self {
        let listener = TcpListener::bind(ANY).unwrap();
        let admin = Self { kept, address: listener.local_addr().unwrap(), is_ill };
        let served = admin.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.connection(stream));
            }
        });
        admin
    }

    fn connection(&self, stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?);
        let (mut first, mut length, mut condition, mut is_proved) = (String::new(), 0, String::new(), false);
        let mut wish = String::new();
        lines.read_line(&mut first).ok()?;
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).ok()?;
            let line = line.trim_end();
            let Some((name, value)) = line.split_once(": ") else { break };
            match name {
                "content-length" => length = value.parse().ok()?,
                "prefer" => wish = value.to_owned(),
                "if-match" | "if-none-match" => condition = value.to_owned(),
                "authorization" => is_proved = value == format!("Bearer {TOKEN}"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body).ok()?;
        self.kept.lock().unwrap().tokens += usize::from(is_proved);
        let (status, tag, answer) = match first.split(' ').collect::<Vec<_>>().as_slice() {
            ["GET", "/readyz", _] => (200, String::new(), "ready".to_owned()),
            _ if !is_proved => (401, String::new(), "{}".to_owned()),
            ["GET", "/gateway", _] => {
                let kept = self.kept.lock().unwrap();
                match &kept.document {
                    Some(document) => (200, tag(kept.revision), document.clone()),
                    None => (404, String::new(), "{}".to_owned()),
                }
            }
            ["PUT", "/gateway?source=kong", _] if self.is_ill => {
                self.kept.lock().unwrap().refused += 1;
                (503, String::new(), r#"{"detail":"no leader"}"#.to_owned())
            }
            // Other balancers are to follow before it is answered.
            ["PUT", "/gateway?source=kong", _] if wish == "wait=1" => {
                self.write(&condition, &String::from_utf8(body).ok()?)?
            }
            _ => (500, String::new(), "{}".to_owned()),
        };
        let tag = if tag.is_empty() { tag } else { format!("etag: {tag}\r\n") };
        let head = format!(
            "HTTP/1.1 {status} X\r\n{tag}content-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        (&stream).write_all((head + &answer).as_bytes()).ok()
    }

    fn write(&self, condition: &str, document: &str) -> Option<(u16, String, String)> {
        let kept = &mut *self.kept.lock().unwrap();
        kept.writes += 1;
        let act = kept.acts.pop_front();
        if act == Some(Act::Race) {
            kept.document = Some(r#"{"services":{"other":{"urls":["http://127.0.0.1:1"]}}}"#.to_owned());
            kept.revision += 1;
        }
        let holds = match &kept.document {
            Some(_) => condition == tag(kept.revision),
            None => condition == "*",
        };
        if !holds {
            return Some((412, String::new(), "{}".to_owned()));
        }
        (kept.document, kept.revision) = (Some(document.to_owned()), kept.revision + 1);
        let answer = format!(r#"{{"lineage":"{LINEAGE:032x}","revision":{}}}"#, kept.revision);
        (act != Some(Act::Lose)).then_some((201, String::new(), answer))
    }

    fn kept(&self) -> (Option<String>, u64, usize) {
        let kept = self.kept.lock().unwrap();
        (kept.document.clone(), kept.revision, kept.writes)
    }

    /// What nodes tell of what is kept there.
    fn told(&self) -> Does {
        let (document, revision, _) = self.kept();
        Does::Tells(state(LINEAGE, revision, document.as_deref()))
    }
}

fn tag(revision: u64) -> String {
    format!("\"{LINEAGE:032x}.{revision}\"")
}

/// A balancer with a door, and the folder of its token.
fn open(node: &Node) -> (Process, tempfile::TempDir) {
    open_with(&[node], &[])
}

fn open_with(nodes: &[&Node], more: &[&str]) -> (Process, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let args =
        ["--kong", ANY, "--kong-token-file", file.to_str().unwrap(), "--kong-alias", "reader:5000=skep"];
    let process = balancer(nodes, &[&args, more].concat());
    process.wait_ready();
    (process, folder)
}

fn send(process: &Process, request: &str) -> String {
    let mut client = Client::connect(process.kong.unwrap());
    client.send(request);
    client.rest_or_reset()
}

fn get(process: &Process, path: &str) -> String {
    send(process, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
}

fn post(form: &str) -> String {
    form_to("POST", "/apis/", form)
}

fn form_to(method: &str, path: &str, form: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{form}",
        form.len()
    )
}

/// The answer to who adds an API, once it comes.
fn posting(process: &Process) -> JoinHandle<String> {
    asking(process, post("name=reader&target_url=http://reader:5000&path=/read"))
}

fn asking(process: &Process, request: String) -> JoinHandle<String> {
    let mut client = Client::connect(process.kong.unwrap());
    std::thread::spawn(move || {
        client.send(&request);
        client.rest_or_reset()
    })
}

#[test]
fn what_was_written_is_answered_once_it_is_in_force_here() {
    let admin = Admin::start(&[]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    let posted = posting(&process);
    wait("it is written", || admin.kept().1 == 1);
    // The node has it, and the balancer does not know yet.
    for _ in 0..3 {
        assert!(get(&process, "/apis/reader").starts_with("HTTP/1.1 200 "));
    }
    assert!(!posted.is_finished(), "it was answered before it was in force");
    node.now(admin.told());
    let answer = posted.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("\"name\":\"reader\""), "{answer}");
    assert!(stands(&process, LINEAGE, 1));
}

#[test]
fn what_is_not_in_force_in_time_is_said_to_be_written() {
    let admin = Admin::start(&[]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    let answer = posting(&process).join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("written as revision 1"), "{answer}");
    assert_eq!(admin.kept().2, 1, "it is written once");
}

#[test]
fn a_write_whose_answer_is_lost_is_found_again_and_not_written_twice() {
    let admin = Admin::start(&[Act::Lose]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    let posted = posting(&process);
    wait("it is written", || admin.kept().1 == 1);
    node.now(admin.told());
    let answer = posted.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(admin.kept().2, 1);
}

/// What is found after it may be what it left.
#[test]
fn a_change_whose_answer_is_lost_is_not_said_to_be_of_what_is_not_there() {
    let admin = Admin::start(&[Act::Keep, Act::Lose, Act::Lose]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    let asked = |request: String, revision: u64| {
        let asked = asking(&process, request);
        wait("it is written", || admin.kept().1 == revision);
        node.now(admin.told());
        asked.join().unwrap()
    };
    assert!(asked(post("name=a&target_url=http://reader:5000&path=/a"), 1).starts_with("HTTP/1.1 201 "));
    let renamed = asked(form_to("PATCH", "/apis/a", "name=b"), 2);
    assert!(renamed.starts_with("HTTP/1.1 503 ") && renamed.contains("is not known"), "{renamed}");
    assert!(get(&process, "/apis/b").starts_with("HTTP/1.1 200 "));
    let deleted = asked(form_to("DELETE", "/apis/b", ""), 3);
    assert!(deleted.starts_with("HTTP/1.1 204 "), "{deleted}");
}

#[test]
fn where_a_node_takes_no_write_another_does_and_is_asked_first_then() {
    let admin = Admin::start(&[]);
    let ill = admin.ill_beside();
    let (keys, none) = (KeyRing::insecure_loopback(), || Does::Tells(state(0, 0, None)));
    let first = Node::start_with(1, &keys, &[], none(), Some(ill.address));
    let second = Node::start_with(5, &keys, &[first.peer], none(), Some(admin.address));
    let (process, _folder) = open_with(&[&first, &second], &[]);
    let known = "skep_balancer_backends{state=\"known\"} 2.0";
    wait("the balancer has seen both", || metrics(&process).lines().any(|it| it == known));
    for (name, revision) in [("a", 1), ("b", 2)] {
        let form = format!("name={name}&target_url=http://reader:5000&path=/{name}");
        let posted = asking(&process, post(&form));
        wait("it is written", || admin.kept().1 == revision);
        for node in [&first, &second] {
            node.now(admin.told());
        }
        let answer = posted.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    assert_eq!(admin.kept.lock().unwrap().refused, 1, "once");
}

#[test]
fn where_somebody_else_is_quicker_the_change_is_made_of_what_is_there_then() {
    let admin = Admin::start(&[Act::Race, Act::Race]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    let posted = posting(&process);
    wait("it is written", || admin.kept().2 == 3);
    node.now(admin.told());
    let answer = posted.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let document = admin.kept().0.unwrap();
    assert!(document.contains("\"other\"") && document.contains("\"reader\""), "{document}");
}

/// Neither does the door put it into the document, nor does it answer what comes through a balancer, by whichever name.
#[test]
fn the_door_is_not_published_by_itself_nor_by_a_document() {
    let admin = Admin::start(&[]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    for address in [process.kong.unwrap(), process.admin, admin.address, node.peer] {
        let form = format!("name=x&path=/x&strip_path=true&target_url=http://{address}");
        let answer = send(&process, &post(&form));
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("target_url"), "{address}: {answer}");
    }
    assert_eq!(admin.kept().2, 0, "nothing was written");
    let port = process.kong.unwrap().port();
    let document = format!(
        r#"{{"services":{{"x":{{"urls":["http://localhost:{port}"],"host":"upstream"}}}},"routes":{{"x":{{"match":{{"path":"/x"}},"service":"x","strip_prefix":true}}}}}}"#
    );
    node.now(Does::Tells(state(LINEAGE, 1, Some(&document))));
    wait("it is in force", || stands(&process, LINEAGE, 1));
    wait("the door refuses it", || {
        let answer = ask(process.http, "/x/apis/");
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer.starts_with("HTTP/1.1 403 ")
    });
}

/// Whoever has the edge key can say in gossip that it is a node, and where its admin address is.
#[test]
fn the_token_goes_to_nodes_alone_that_prove_who_they_are() {
    let line = KeyRing::generate_line();
    let keys = KeyRing::parse(&line).unwrap();
    let edges = KeyRing::parse(&keys.edge_lines().join("\n")).unwrap();
    let (admin, thief) = (Admin::start(&[]), Admin::start(&[]));
    let told = || Does::Tells(state(0, 0, None));
    let node = Node::start_with(5, &keys, &[], told(), Some(admin.address));
    let liars: Vec<Node> =
        [1, 2, 9].map(|id| Node::start_with(id, &edges, &[node.peer], told(), Some(thief.address))).into();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, line).unwrap();
    let (process, _folder) = open_with(&[&node], &["--cluster-key-file", file.to_str().unwrap()]);
    let known = format!("skep_balancer_backends{{state=\"known\"}} {}.0", 1 + liars.len());
    wait("the balancer has seen them all", || metrics(&process).lines().any(|it| it == known));
    let posted = posting(&process);
    wait("it is written", || admin.kept().1 == 1);
    node.now(admin.told());
    let answer = posted.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(get(&process, "/apis/reader").starts_with("HTTP/1.1 200 "));
    assert_eq!(thief.kept.lock().unwrap().tokens, 0, "who only says to be a node was sent the token");
}

#[test]
fn hostile_requests_are_answered_and_the_door_goes_on() {
    let admin = Admin::start(&[]);
    let node = Node::with_admin(admin.address, Does::Tells(state(0, 0, None)));
    let (process, _folder) = open(&node);
    let head =
        |more: &str| format!("POST /apis/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n");
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for (request, status) in [
        (head(&format!("{form}content-length: 3\r\n")) + "a=%", 400),
        (head(&format!("{form}content-length: 70000\r\n")), 413),
        (head(&format!("{form}origin: null\r\ncontent-length: 0\r\n")), 403),
        (
            head(&format!(
                "{form}sec-fetch-site: none\r\nsec-fetch-site: cross-site\r\ncontent-length: 0\r\n"
            )),
            403,
        ),
        (head(&format!("{form}via: 1.1 a\r\ncontent-length: 0\r\n")), 403),
        (head(&format!("{form}x-forwarded-for: 127.0.0.1\r\ncontent-length: 0\r\n")), 403),
        ("GET /apis/ HTTP/1.1\r\nhost: 10.0.0.1\r\nconnection: close\r\n\r\n".to_owned(), 403),
        ("GET /apis/ HTTP/1.1\r\nhost: localhost.evil.example\r\nconnection: close\r\n\r\n".to_owned(), 403),
        ("GET /apis/%ff HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), 404),
        (format!("GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "/a".repeat(1000)), 404),
        ("GET /apis/?size=%zz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), 400),
    ] {
        let answer = send(&process, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    assert!(get(&process, "/apis/").contains("{\"data\":[]}"));
    assert_eq!(admin.kept().2, 0, "nothing was written");
}
