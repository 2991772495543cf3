//! Pages that are posted to a cluster, and workers that say what is on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::Client;
use skep_kit::clients::http::Answer;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::wait::until;

use super::tasks::{ready, try_post};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a key of the queue `crawl` has of rest at first.
const PAUSE: Duration = Duration::from_secs(1);
/// So much may the agreed time be faster than that of the machine, as it goes from one leader to the next.
const EARLY_MAX: Duration = Duration::from_millis(200);
const ORIGINS: usize = 16;
const PAGES: usize = 40;
const FAILS: usize = 7;
const MOVES: usize = 11;

/// What the workers did: of each URL how often, and of each origin whether a page is looked at, and since when the last
/// was not any more.
#[derive(Default)]
struct Seen {
    runs: BTreeMap<String, u32>,
    active: BTreeMap<String, bool>,
    ended: BTreeMap<String, Instant>,
}

fn url(number: usize) -> String {
    format!("http://host{}.example/{number}?a=\u{e9}&b=%20", number % ORIGINS)
}

fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// Two images, of which all pages have one.
fn images(url: &str) -> Value {
    json!([format!("{url}/1.png"), "http://cdn.example/logo.png"])
}

/// Asks one node after the other until one gives an answer that is wanted. What is asked may be repeated.
async fn ask(clients: Vec<Client>, path: String, body: Value, wanted: &'static [u16]) -> Answer {
    let mut attempts = tokio::time::interval(Duration::from_millis(50));
    let deadline = Instant::now() + PATIENCE;
    for client in clients.iter().cycle() {
        attempts.tick().await;
        if let Some(answer) = try_post(client, &path, &body).await {
            assert!(!matches!(answer.status, 400..=499), "{path}: {answer:?}");
            if wanted.contains(&answer.status) {
                return answer;
            }
        }
        assert!(Instant::now() < deadline, "{path}: no node answers");
    }
    panic!("there are no nodes")
}

/// Claims and ends by itself at whichever node answers, until it is stopped: by number and by fence, so that all of it
/// may be repeated.
async fn work(name: String, clients: Vec<Client>, seen: Arc<Mutex<Seen>>) {
    for number in 1.. {
        let asked = json!({"worker": name, "number": number, "queues": ["crawl"], "max": 3, "wait": "2s"});
        let answer = ask(clients.clone(), "/claim".into(), asked, &[200, 204]).await;
        if answer.status == 204 {
            continue;
        }
        let tasks = answer.json()["tasks"].as_array().expect("tasks").clone();
        tasks.iter().for_each(|task| seen.lock().expect("no panic").claimed(url_of(task)));
        for task in tasks {
            let (how, body) = end(url_of(&task), &task["fence"]);
            let path = format!("/tasks/{}/{how}", task["id"].as_str().expect("an id"));
            seen.lock().expect("no panic").ends(url_of(&task));
            ask(clients.clone(), path, body, &[200]).await;
        }
    }
}

fn url_of(task: &Value) -> &str {
    task["payload"]["url"].as_str().expect("a URL")
}

impl Seen {
    fn claimed(&mut self, url: &str) {
        let origin = origin(url);
        *self.runs.entry(url.to_owned()).or_default() += 1;
        let rest = self.ended.get(&origin).map(Instant::elapsed);
        assert!(rest.is_none_or(|rest| rest + EARLY_MAX >= PAUSE), "{origin} had {rest:?} of rest");
        assert_ne!(self.active.insert(origin, true), Some(true), "two of one origin: {url}");
    }

    fn ends(&mut self, url: &str) {
        self.active.insert(origin(url), false);
        self.ended.insert(origin(url), Instant::now());
    }
}

fn end(of: &str, fence: &Value) -> (&'static str, Value) {
    if of == url(FAILS) {
        return ("fail", json!({"fence": fence, "error": "no such host", "final": true}));
    }
    let mut body = json!({"fence": fence, "result": {"images": images(of)}});
    if of == url(MOVES) {
        let there = json!({"url": "http://other.example/there", "hops": 1});
        body["follow"] = json!([{"queue": "crawl", "key": "http://other.example", "payload": there}]);
    }
    ("complete", body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_crawled_through_the_leaders_death_one_of_an_origin_at_a_time() {
    let _machine = machine_shared();
    let mut cluster = ready().await;
    let leader = cluster.leader().await;
    let urls: Vec<String> = (0..PAGES).map(url).collect();
    let (body, fields) = (json!({ "urls": urls }).to_string(), [("idempotency-key", "pages")]);
    let mut ids = Vec::new();
    for client in cluster.clients() {
        let posted = client.send(Method::POST, "/", &fields, body.clone().into()).await.expect("an answer");
        assert_eq!(posted.status, 202, "{posted:?}");
        ids.push(posted.json()["id"].as_str().expect("an id").to_owned());
        assert_eq!(posted.header("location"), format!("/status/{}", ids[0]), "the same again is the same");
    }
    let id = ids.swap_remove(0);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let workers: Vec<_> = (0..3)
        .map(|worker| tokio::spawn(work(format!("w{worker}"), cluster.clients(), seen.clone())))
        .collect();
    let (status, result) = (format!("/status/{id}"), format!("/result/{id}"));
    let is_whole = |shown: &Value| {
        let counts = ["completed", "inprogress"].map(|name| shown[name].as_u64().expect("a number") as usize);
        assert_eq!(counts.iter().sum::<usize>(), PAGES, "{shown}");
        counts[0]
    };
    let other = if leader == 1 { 2 } else { 1 };
    let client = cluster.node(other).http.clone();
    until("some pages are looked at", PATIENCE, async || {
        let shown = client.get(&status).await.ok().filter(|answer| answer.status == 200)?.json();
        (is_whole(&shown) >= 5).then_some(())
    })
    .await;
    let some = client.get(&result).await.expect("an answer");
    assert_eq!((some.status, some.header("retry-after")), (202, "1"), "{some:?}");
    cluster.node_mut(leader).kill();
    until("all pages are looked at", PATIENCE, async || {
        let shown = client.get(&status).await.ok().filter(|answer| answer.status == 200)?.json();
        (is_whole(&shown) == PAGES).then_some(())
    })
    .await;
    for worker in &workers {
        assert!(!worker.is_finished(), "a worker has failed");
        worker.abort();
    }
    let all = client.get(&result).await.expect("an answer");
    assert_eq!(all.status, 200, "{all:?}");
    let all = all.json();
    let found = all.as_object().expect("an object");
    assert_eq!(found.len(), PAGES);
    for (number, url) in urls.iter().enumerate() {
        let mut expected = if number == FAILS { json!([]) } else { images(url) };
        if number == MOVES {
            expected.as_array_mut().expect("a list").push("http://other.example/there/1.png".into());
        }
        assert_eq!(found[url], expected, "{url}");
    }
    let errors = client.get(&format!("/tasks/{id}")).await.expect("an answer").json()["errors"].clone();
    assert_eq!(errors, json!({ urls[FAILS].clone(): "no such host" }));
    let runs = &seen.lock().expect("no panic").runs;
    assert_eq!(runs.len(), PAGES + 1);
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
}

/// Posted as `curl -d` does it.
async fn posted(client: &Client, body: String) -> Answer {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    client.send(Method::POST, "/", &form, body.into()).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_list_of_urls_is_400_and_says_where_at_a_node_and_through_the_balancer() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let many = |count: usize| json!({ "urls": (0..count).map(url).collect::<Vec<_>>() }).to_string();
    let wrong = [
        (String::new(), "JSON"),
        ("urls=http://a".to_owned(), "line 1"),
        ("{\"urls\":[".to_owned(), "line 1"),
        ("[\"http://a\"]".to_owned(), "an object"),
        ("null".to_owned(), "an object"),
        ("{}".to_owned(), "urls"),
        (json!({ "url": "http://a" }).to_string(), "`url`"),
        (json!({ "urls": null }).to_string(), "urls: expected an array"),
        (json!({ "urls": "http://a" }).to_string(), "urls: expected an array"),
        (json!({ "urls": [] }).to_string(), "urls: 0"),
        (many(1_001), "urls: 1001"),
        (json!({ "urls": ["http://a", null] }).to_string(), "urls[1]: expected a string"),
        (json!({ "urls": [["http://a"]] }).to_string(), "urls[0]: expected a string"),
        (json!({ "urls": ["http://a", "http://a", "/b"] }).to_string(), "urls[2]: no URL"),
        (json!({ "urls": [""] }).to_string(), "urls[0]: no URL"),
        (json!({ "urls": ["http://"] }).to_string(), "urls[0]: no URL"),
        (json!({ "urls": ["http://a", "ftp://b/c"] }).to_string(), "urls[1]: expected a URL of http"),
        (json!({ "urls": ["javascript:alert(1)"] }).to_string(), "urls[0]: expected a URL of http"),
    ];
    for client in [&cluster.node(1).http, &balancer.client] {
        for (body, named) in &wrong {
            let answer = posted(client, body.clone()).await;
            let problem = answer.json();
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(answer.status == 400 && detail.contains(named), "{named}: {answer:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        for id in ["5f0b5f4e-8f0e-4c63-9d0b-0c5b6f0a6c4e", "00000000-0000-8007-8000-000000000001"] {
            for path in ["status", "result", "tasks", "batches"] {
                let answer = client.get(&format!("/{path}/{id}")).await.expect("an answer");
                assert_eq!(answer.status, 404, "{path}: {answer:?}");
            }
        }
        let answer = posted(client, many(1_000)).await;
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        assert_eq!((answer.status, id.len()), (202, 36), "{answer:?}");
        assert_eq!(answer.header("location"), format!("/status/{id}"));
        let status = client.get(&format!("/status/{id}")).await.expect("an answer").json();
        assert_eq!(status, json!({"id": id, "completed": 0, "inprogress": 1_000}));
        let result = client.get(&format!("/result/{id}")).await.expect("an answer");
        assert_eq!((result.status, result.header("retry-after"), result.json()), (202, "1", json!({})));
        let twice = posted(client, json!({ "urls": ["http://a", "http://b", "http://a"] }).to_string()).await;
        let id = twice.json()["id"].as_str().expect("an id").to_owned();
        let status = client.get(&format!("/status/{id}")).await.expect("an answer").json();
        assert_eq!(status, json!({"id": id, "completed": 0, "inprogress": 2}));
        let places = client.get(&format!("/tasks/{id}")).await.expect("an answer").json();
        assert_eq!((&places["tasks"][1]["place"], &places["errors"]), (&1.into(), &json!({})), "{places}");
    }
}
