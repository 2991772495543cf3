//! Purges of what three balancers have stored: in force at all of them when that is answered, whatever they are of; and at one
//! that was away meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::Cluster;
use skep_kit::clients::http::Answer;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, Ended, run_to_end};
use skep_kit::wait::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::gateway::{TOKEN, cluster, first};

/// A service whose answers say how often it was changed.
struct Origin {
    address: SocketAddr,
    version: Arc<AtomicUsize>,
}

impl Origin {
    async fn start(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind((cluster.subnet().host(240), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let version = Arc::<AtomicUsize>::default();
        let told = version.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, told.clone()));
            }
        });
        Self { address, version }
    }

    fn now(&self) -> String {
        format!("version {}", self.version.load(Ordering::SeqCst))
    }

    /// From now on it answers something else.
    fn change(&self) -> String {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.now()
    }
}

async fn serve(mut stream: TcpStream, version: Arc<AtomicUsize>) {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read.extend_from_slice(&chunk[..count]),
        }
        while let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            read.drain(..end + 4);
            let body = format!("version {}", version.load(Ordering::SeqCst));
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncache-control: max-age=3600, stale-if-error=3600\r\ncache-groups: \"posts\"\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// What a balancer says to a client that asks for a host's, whatever its own address.
async fn ask(balancer: &Balancer, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(balancer.http).await.expect("it listens");
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\n{length}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

struct Stack {
    cluster: Cluster,
    origin: Origin,
    balancers: Vec<Balancer>,
}

async fn stack() -> Stack {
    let cluster = cluster(3).await;
    let origin = Origin::start(&cluster).await;
    let document = json!({
        "services": { "app": { "urls": [format!("http://{}", origin.address)] } },
        "routes": {
            "app": { "match": { "path": "/app" }, "service": "app", "cache": true },
            "messages": { "match": { "path": "/messages" }, "service": "skep", "cache": true },
        },
    });
    first(&cluster, &document.to_string()).await;
    let mut balancers = Vec::new();
    for number in 0..3 {
        balancers.push(Balancer::start_nth(&cluster, number, &[]).await);
    }
    let stack = Stack { cluster, origin, balancers };
    for balancer in &stack.balancers {
        until("the routes are in force", PATIENCE, async || {
            let answer = balancer.client.send(Method::GET, "/app/first", &[], "".into()).await.ok()?;
            (answer.text() == "version 0").then_some(())
        })
        .await;
    }
    stack
}

impl Stack {
    async fn get(&self, balancer: usize, path: &str) -> Answer {
        let client = &self.balancers[balancer].client;
        client.send(Method::GET, path, &[], "".into()).await.expect("an answer")
    }

    /// What each says to that.
    async fn each(&self, path: &str) -> Vec<String> {
        let mut said = Vec::new();
        for balancer in 0..self.balancers.len() {
            said.push(self.get(balancer, path).await.text());
        }
        said
    }

    /// Each has it stored.
    async fn fill(&self, path: &str) {
        for balancer in 0..self.balancers.len() {
            self.get(balancer, path).await;
            let again = self.get(balancer, path).await;
            assert!(again.header("cache-status").contains("; hit"), "{again:?}");
        }
    }

    /// Asks for it until each balancer is seen to obey it.
    async fn purge(&self, what: &Value) -> Instant {
        let bearer = format!("Bearer {TOKEN}");
        let headers =
            [("authorization", &*bearer), ("content-type", "application/json"), ("prefer", "wait=10")];
        until("it is purged", PATIENCE, async || {
            let admin = &self.cluster.node(2).admin;
            let sent =
                admin.send(Method::POST, "/gateway/purge", &headers, what.to_string().into()).await.ok()?;
            assert!(matches!(sent.status, 200 | 503), "{sent:?}");
            // On a busy machine a node may take a balancer for dead for a moment.
            let said = (sent.status == 200).then(|| sent.json())?;
            (said["seen_by"] == 3 && said["of"] == 3).then(Instant::now)
        })
        .await
    }

    fn verb(&self, args: &[&str]) -> Ended {
        let admin = self.cluster.node(1).admin.address.to_string();
        let mut command = programs::node();
        command.args(["config", "purge"]).args(args);
        command.env("SKEP_ADMIN", admin).env("SKEP_OPERATOR_TOKEN", TOKEN);
        run_to_end(&mut command, "", Duration::from_secs(30))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_is_answered_by_no_balancer_once_all_are_said_to_obey() {
    let _machine = machine_shared();
    let stack = stack().await;
    let host = |stack: &Stack, at: usize| stack.balancers[at].http.ip();
    let (path, other) = ("/app/x?y", "/app-other");
    assert_eq!(stack.get(0, other).await.status, 404, "no route has it");
    for what in [
        json!({ "prefix": "/app/" }),
        json!({ "route": "app" }),
        json!({ "service": "app" }),
        json!({ "group": "posts" }),
        json!({ "all": true }),
    ] {
        stack.fill(path).await;
        let (before, after) = (stack.origin.now(), stack.origin.change());
        assert_eq!(stack.each(path).await, vec![before; 3], "it is stored: {what}");
        let answered = stack.purge(&what).await;
        assert_eq!(stack.each(path).await, vec![after; 3], "{what}");
        eprintln!("{what}: the last was asked {:?} after the answer", answered.elapsed());
    }
    // One by one: each is asked for by its own address.
    stack.fill(path).await;
    stack.origin.change();
    for at in 0..3 {
        let stale = stack.get(at, path).await.text();
        stack.purge(&json!({ "url": format!("https://{}{path}", host(&stack, at)) })).await;
        let fresh = stack.get(at, path).await.text();
        assert_ne!(stale, fresh, "at {at}");
    }
    // What says that it is of something else lets nothing go.
    stack.fill(path).await;
    let before = stack.origin.now();
    stack.origin.change();
    for what in [json!({ "prefix": "/ap/" }), json!({ "group": "Posts" }), json!({ "route": "messages" })] {
        stack.purge(&what).await;
    }
    assert_eq!(stack.each(path).await, vec![before; 3]);
    let purged = stack.verb(&["--service", "app", "--wait", "10"]);
    assert_eq!(purged.code, Some(0), "{purged:?}");
    assert!(purged.stdout.contains("in force at 3 of 3 balancers"), "{purged:?}");
    assert_eq!(stack.each(path).await, vec![stack.origin.now(); 3]);
    let refused = stack.verb(&["--route", "gone"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("routes/gone"), "{refused:?}");
    assert_eq!(stack.verb(&[]).code, Some(2), "it says which");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_taken_out_is_given_by_no_balancer_any_more() {
    let _machine = machine_shared();
    let stack = stack().await;
    let (digest, _) = stack.cluster.node(1).http.put("a message to be taken out").await;
    let (kept, _) = stack.cluster.node(1).http.put("a message that stays").await;
    let (path, other) = (format!("/messages/{digest}"), format!("/messages/{kept}"));
    stack.fill(&path).await;
    stack.fill(&other).await;
    let bearer = format!("Bearer {TOKEN}");
    let admin = &stack.cluster.node(1).admin;
    let removed = admin.send(Method::DELETE, &path, &[("authorization", &bearer)], "".into()).await;
    let removed = removed.expect("an answer");
    assert_eq!(removed.status, 200, "{removed:?}");
    let begun = Instant::now();
    until("no balancer gives it", PATIENCE, async || {
        for balancer in 0..3 {
            if stack.get(balancer, &path).await.status != 410 {
                return None;
            }
        }
        Some(())
    })
    .await;
    eprintln!("gone at three balancers {:?} after the answer", begun.elapsed());
    for balancer in 0..3 {
        let answer = stack.get(balancer, &other).await;
        assert!(answer.status == 200 && answer.header("cache-status").contains("; hit"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_was_away_obeys_what_was_purged_meanwhile() {
    let _machine = machine_shared();
    let stack = stack().await;
    let path = "/app/x";
    stack.fill(path).await;
    stack.balancers[2].freeze();
    let after = stack.origin.change();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let admin = &stack.cluster.node(1).admin;
    let body = json!({ "route": "app" }).to_string();
    let purged = admin.send(Method::POST, "/gateway/purge", &headers, body.into()).await.expect("an answer");
    assert_eq!(purged.status, 200, "{purged:?}");
    let headers = [&headers[..], &[("prefer", "wait=0")]].concat();
    until("it is seen to be away", PATIENCE, async || {
        let body = json!({ "group": "another" }).to_string();
        let said = admin.send(Method::POST, "/gateway/purge", &headers, body.into()).await.ok()?.json();
        (said["of"] == 2 || said["behind"][0]["why"] == "silent").then_some(())
    })
    .await;
    stack.balancers[2].thaw();
    // It is back once it is seen to obey whatever comes then.
    stack.purge(&json!({ "group": "another" })).await;
    assert_eq!(stack.get(2, path).await.text(), after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_changes_is_soon_asked_for_anew_at_the_other_balancers() {
    let _machine = machine_shared();
    let stack = stack().await;
    let path = "/app/x";
    for balancer in &stack.balancers {
        ask(balancer, "GET", path).await;
        assert!(ask(balancer, "GET", path).await.contains("; hit"));
    }
    let after = stack.origin.change();
    let posted = ask(&stack.balancers[0], "POST", path).await;
    assert!(posted.starts_with("HTTP/1.1 200 "), "{posted}");
    until("the others have heard of it", PATIENCE, async || {
        for balancer in &stack.balancers {
            if !ask(balancer, "GET", path).await.ends_with(&after) {
                return None;
            }
        }
        Some(())
    })
    .await;
}
