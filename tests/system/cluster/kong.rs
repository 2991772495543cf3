//! The door for Kong's clients, between curl and a cluster: its lines are run as they are, and what they come to is in force
//! at once, and after everything was started anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use skep_kit::Cluster;
use skep_kit::clients::http::{Answer, Client};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, run_to_end};
use skep_kit::wait::{PATIENCE, until};

const TOKEN: &str = "a-gateway-token-for-tests";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A cluster whose nodes take the gateway's token, and a balancer with a door.
struct Doors {
    cluster: Cluster,
    balancer: Balancer,
    kong: Client,
    args: Vec<String>,
}

fn secret(cluster: &Cluster, name: &str, text: &str) -> PathBuf {
    let file = cluster.folder().join(name);
    std::fs::write(&file, text).expect("a token's file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("its mode can be set");
    file
}

fn text(path: &std::path::Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

impl Doors {
    async fn open(count: u8) -> Self {
        Self::open_with(count, TOKEN).await
    }

    /// `token` is what the balancer has.
    async fn open_with(count: u8, token: &str) -> Self {
        let seeds: Vec<u8> = if count == 1 { Vec::new() } else { (1..=count).collect() };
        let mut cluster = Cluster::new(u32::from(count), &seeds);
        let of_nodes = text(&secret(&cluster, "gateway-token", TOKEN));
        cluster.args = ["--level-after", "200ms", "--gateway-token-file", &of_nodes].map(Into::into).into();
        for node in 1..=count {
            cluster.start(node);
        }
        cluster.wait_all_ready().await;
        let own = text(&secret(&cluster, "kong-token", token));
        // The door is on the balancer's own loopback address.
        let address = SocketAddr::new(cluster.subnet().host(200), 8001);
        let state = text(&cluster.folder().join("state"));
        let args = [
            ["--kong", &address.to_string()],
            ["--kong-token-file", &own],
            ["--kong-alias", "reader:5000=skep,writer:3000=skep"],
            ["--state", &state],
        ];
        let args: Vec<String> = args.concat().iter().map(ToString::to_string).collect();
        let balancer = Self::balancer(&cluster, &args).await;
        // A document is kept once the members have agreed to that.
        until("the members agree", PATIENCE, async || {
            let answer = cluster.node(1).admin.get("/metrics").await.ok()?.text();
            let level = answer
                .lines()
                .find_map(|it| it.strip_prefix("skep_store_level")?.rsplit(' ').next()?.parse().ok());
            level.filter(|level: &f64| *level >= 7.0)
        })
        .await;
        Self { cluster, balancer, kong: Client::new(address).with_timeout(Duration::from_secs(40)), args }
    }

    async fn balancer(cluster: &Cluster, args: &[String]) -> Balancer {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Balancer::start(cluster, &args).await
    }

    async fn ask(&self, method: Method, path: &str, form: &str) -> Answer {
        self.kong.send(method, path, &[FORM], form.to_owned().into()).await.expect("the door answers")
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        self.ask(Method::POST, path, form).await
    }

    /// What `curl` prints of a line that stands in Kong's guides, where the door is not at `localhost:8001`.
    fn curl(&self, line: &str) -> String {
        let line = line.replace("http://localhost:8001", &format!("http://{}", self.kong.address));
        let ended = run_to_end(Command::new("sh").args(["-c", &line]), "", Duration::from_secs(60));
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended.stdout
    }

    async fn write(&self, what: &str) -> u16 {
        let answer = self.balancer.client.send(Method::POST, "/write", &[], what.to_owned().into()).await;
        answer.map_or(0, |answer| answer.status)
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.balancer.client.send(Method::GET, path, headers, "".into()).await.expect("the balancer answers")
    }
}

const READER: &str = "curl -s -i -X POST --url http://localhost:8001/apis/ --data 'name=reader' \
    --data 'target_url=http://reader:5000' --data 'path=/read'";
const WRITER: &str = "curl -s -i -X POST --url http://localhost:8001/apis/ --data 'name=writer' \
    --data 'target_url=http://writer:3000' --data 'path=/write'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kongs_lines_make_routes_that_are_there_at_once_and_after_everything_was_started_anew() {
    let _machine = machine_shared();
    let mut doors = Doors::open(3).await;
    for (line, name) in [(READER, "reader"), (WRITER, "writer")] {
        let said = doors.curl(line);
        assert!(
            said.starts_with("HTTP/1.1 201 Created") && said.contains(&format!("\"name\":\"{name}\"")),
            "{said}"
        );
        // No 404 after it, not once: what no route has is not found here.
        let shown = doors.balancer.admin.get("/gateway").await.expect("an answer").json();
        let routes = shown["routes"].as_array().expect("routes");
        assert!(routes.iter().any(|it| it["name"] == name), "{shown}");
    }
    let again = doors.curl(READER);
    assert!(
        again.starts_with("HTTP/1.1 409 ") && again.contains("name already exists with value 'reader'"),
        "{again}"
    );
    let listed = doors.ask(Method::GET, "/apis/", "").await.json();
    for round in ["first", "second"] {
        assert!(matches!(doors.write(round).await, 200 | 201 | 204));
        assert_eq!(doors.get("/read", &[]).await.text(), round);
    }

    drop(doors.balancer);
    doors.cluster.kill_all();
    for node in 1..=3 {
        doors.cluster.start(node);
    }
    doors.cluster.wait_all_ready().await;
    doors.balancer = Doors::balancer(&doors.cluster, &doors.args).await;
    assert_eq!(doors.get("/read", &[]).await.text(), "second");
    let shown = doors.balancer.admin.get("/gateway").await.expect("an answer").json();
    assert_eq!(shown["routes"].as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!(doors.ask(Method::GET, "/apis/", "").await.json(), listed, "ids and times stay");
    let counted = shown["routes"].as_array().expect("routes").iter().any(|it| it["name"] == "reader");
    assert!(counted, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_answered_in_kongs_words_and_pages_are_not_let_in() {
    let _machine = machine_shared();
    let doors = Doors::open(1).await;
    let missing = doors.post("/apis/", "name=reader&path=/read").await;
    assert_eq!((missing.status, missing.json()), (400, json!({"target_url": "target_url is required"})));
    let unknown = doors.ask(Method::GET, "/apis/00000000-0000-4000-8000-000000000000", "").await;
    assert_eq!((unknown.status, unknown.json()), (404, json!({"message": "Not found"})));
    let json = ("content-type", "application/json");
    let send = async |headers: &[(&str, &str)], body: &str| {
        let sent = doors.kong.send(Method::POST, "/apis/", headers, body.to_owned().into()).await;
        sent.expect("the door answers").status
    };
    assert_eq!(send(&[json], "{\"hello\":\"world\"").await, 400);
    for page in [("origin", "http://localhost:8001"), ("sec-fetch-site", "same-origin")] {
        assert_eq!(send(&[FORM, page], "").await, 403, "{page:?}");
    }
    assert_eq!(send(&[FORM, ("sec-fetch-site", "none")], "").await, 400, "who types an address is no page");
    let rebound = doors
        .curl("curl -s -o /dev/null -w '%{http_code}' -H 'Host: evil.example' http://localhost:8001/apis/");
    assert_eq!(rebound, "403");
    let body = json!({"name": "reader", "path": "/read", "target_url": "http://reader:5000"}).to_string();
    assert_eq!(send(&[json], &body).await, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_limit_and_ask_for_keys() {
    let _machine = machine_shared();
    let doors = Doors::open(1).await;
    assert_eq!(
        doors.post("/apis/", "name=reader&target_url=http://reader:5000&path=/read").await.status,
        201
    );
    // Nothing was written yet, which the nodes say.
    assert_eq!(doors.get("/read", &[]).await.status, 404);
    let limited = doors.post("/apis/reader/plugins/", "name=ratelimiting&value.hour=3").await;
    assert_eq!(limited.status, 201, "{limited:?}");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(doors.get("/read", &[]).await.status);
    }
    assert_eq!(statuses, [404, 404, 404, 429]);
    assert_eq!(doors.ask(Method::DELETE, "/apis/reader/plugins/ratelimiting", "").await.status, 204);
    assert_eq!(doors.post("/apis/reader/plugins/", "name=keyauth").await.status, 201);
    assert_eq!(doors.get("/read", &[]).await.status, 401);
    assert_eq!(doors.post("/consumers/", "username=shop").await.status, 201);
    let key = doors.post("/consumers/shop/keyauth/", "key=the-key-of-the-shop").await;
    assert_eq!(key.status, 201, "{key:?}");
    for (path, headers) in
        [("/read", &[("apikey", "the-key-of-the-shop")][..]), ("/read?apikey=the-key-of-the-shop", &[])]
    {
        let answer = doors.get(path, headers).await;
        assert!(answer.status == 404 && answer.text().contains("no-text"), "{answer:?}");
    }
    let logs = doors.balancer.log_text() + &doors.cluster.node(1).log_text();
    assert!(!logs.contains("the-key-of-the-shop") && !logs.contains(TOKEN), "{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_or_with_another_token_nothing_is_changed_and_traffic_goes_on() {
    let _machine = machine_shared();
    let mut doors = Doors::open(3).await;
    assert_eq!(
        doors.post("/apis/", "name=a&target_url=http://reader:5000&path=/a&strip_path=true").await.status,
        201
    );
    for node in [2, 3] {
        doors.cluster.node_mut(node).kill();
    }
    let refused = doors.post("/apis/", "name=b&target_url=http://reader:5000&path=/b").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let shown: Value = doors.balancer.admin.get("/gateway").await.expect("an answer").json();
    assert_eq!(shown["routes"].as_array().map(Vec::len), Some(1), "what was in force stays: {shown}");

    let other = Doors::open_with(1, "another-token-of-somebody").await;
    let refused = other.post("/apis/", "name=b&target_url=http://reader:5000&path=/b").await;
    assert!(refused.status == 503 && refused.text().contains("--gateway-token-file"), "{refused:?}");
    let logs = other.balancer.log_text();
    assert!(logs.contains("--gateway-token-file") && !logs.contains("another-token-of-somebody"), "{logs}");
}

#[test]
fn a_door_without_its_token_or_a_cluster_is_a_mistake() {
    let seeds = ["--seeds", "127.0.0.1:1"];
    let kong = ["--kong", "127.0.0.1:8001"];
    for (args, word) in [
        ([&kong[..], &seeds].concat(), "--kong-token-file"),
        ([&["--kong", "0.0.0.0:8001"][..], &seeds].concat(), "--kong-names"),
        ([&kong[..], &["--backends", "127.0.0.1:1"]].concat(), "--seeds"),
    ] {
        let mut command = programs::balancer();
        command.args(args);
        if word != "--kong-token-file" {
            command.env("SKEP_KONG_TOKEN", TOKEN);
        }
        let ended = run_to_end(&mut command, "", Duration::from_secs(30));
        assert!(ended.code == Some(2) && ended.stderr.contains(word), "{word}: {ended:?}");
    }
}
