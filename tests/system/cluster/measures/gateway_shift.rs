//! Shifts of a route over three nodes and three balancers, under load: back where the new service fails, and to the end
//! whoever leads.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use skep_kit::Cluster;
use skep_kit::clients::http::{Answer, Client};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::machine_alone;
use skep_kit::wait::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const TOKEN: &str = "an-operators-token-for-tests";
const SHIFT: &str = "/gateway/shifts/web";

/// A service of one server, which answers its name, or that it is broken.
struct Server {
    address: SocketAddr,
    fails: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
        let address = listener.local_addr().expect("it is bound");
        let (fails, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (is_broken, count) = (fails.clone(), asked.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (is_broken, count) = (is_broken.clone(), count.clone());
                connections.spawn(async move {
                    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
                    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
                        read.extend_from_slice(&chunk[..n]);
                        if !read.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        read.clear();
                        count.fetch_add(1, Relaxed);
                        let status = if is_broken.load(Relaxed) { 500 } else { 200 };
                        let length = name.len();
                        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{name}");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, fails, asked, _serving: serving }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

/// Nodes, balancers before them, and two services of which a route has the first.
struct Site {
    cluster: Cluster,
    balancers: Vec<Balancer>,
    blue: Server,
    green: Server,
}

impl Site {
    async fn start() -> Self {
        let mut cluster = Cluster::new(3, &[1, 2, 3]);
        let file = cluster.folder().join("token");
        fs::write(&file, TOKEN).expect("the token's file can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        let file = file.to_str().expect("a plain path");
        cluster.args = ["--level-after", "200ms", "--operator-token-file", file].map(Into::into).into();
        for node in 1..=3 {
            cluster.start(node);
        }
        cluster.wait_all_ready().await;
        let mut balancers = Vec::new();
        for nth in 0..3 {
            balancers.push(Balancer::start_nth(&cluster, nth, &[]).await);
        }
        let (blue, green) = (Server::start("blue").await, Server::start("green").await);
        let site = Self { cluster, balancers, blue, green };
        let service = |server: &Server| json!({ "urls": [format!("http://{}", server.address)] });
        let document = json!({
            "services": { "blue": service(&site.blue), "green": service(&site.green) },
            "routes": { "web": { "match": { "path": "/x" }, "services": { "blue": 100, "green": 0 } } },
        });
        until("the document is set", PATIENCE, async || {
            let answer = site.ask(Method::PUT, "/gateway", &[("if-none-match", "*")], &document).await?;
            assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            (answer.status == 201).then_some(())
        })
        .await;
        for balancer in &site.balancers {
            until("the route is in force", PATIENCE, async || {
                (balancer.client.get("/x").await.ok()?.text() == "blue").then_some(())
            })
            .await;
        }
        site
    }

    /// At any node that answers.
    async fn ask(&self, method: Method, path: &str, more: &[(&str, &str)], body: &Value) -> Option<Answer> {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [&[("authorization", &*bearer), ("content-type", "application/json")], more].concat();
        let body: Bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        for node in self.cluster.running() {
            let admin = self.cluster.node(node).admin.with_timeout(Duration::from_secs(2));
            if let Ok(answer) = admin.send(method.clone(), path, &headers, body.clone()).await
                && answer.status != 503
            {
                return Some(answer);
            }
        }
        None
    }

    async fn begin(&self, over_s: u64) {
        let shift = json!({ "from": "blue", "to": "green", "over_s": over_s, "abort": "5xx>1%" });
        until("the shift begins", PATIENCE, async || {
            let answer = self.ask(Method::PUT, SHIFT, &[], &shift).await?;
            assert_eq!(answer.status, 201, "{answer:?}");
            Some(())
        })
        .await;
    }

    async fn shift(&self) -> Option<Value> {
        let answer = self.ask(Method::GET, SHIFT, &[], &Value::Null).await?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Until so much has gone over, in percent.
    async fn wait_over(&self, percent: f64) {
        until("some go over", Duration::from_secs(60), async || {
            let shift = self.shift().await?;
            assert_eq!(shift["state"], "running", "{shift}");
            (shift["share_percent"].as_f64()? >= percent).then_some(())
        })
        .await;
    }

    async fn wait_state(&self, state: &str, patience: Duration) -> Value {
        until("the shift is over", patience, async || {
            let shift = self.shift().await?;
            (shift["state"] == state).then_some(shift)
        })
        .await
    }
}

/// What clients were answered.
#[derive(Debug, Default)]
struct Counts {
    good: AtomicU64,
    failed: AtomicU64,
}

/// Clients that ask all balancers again and again, until they are dropped.
struct Load {
    gets: Arc<Counts>,
    posts: Arc<Counts>,
    _asking: JoinSet<()>,
}

/// Each client asks so often.
const PACE: Duration = Duration::from_millis(20);
const CLIENTS: usize = 6;

impl Load {
    /// Of each balancer `CLIENTS`, of which one sends what may not be sent again.
    fn start(site: &Site) -> Self {
        let (gets, posts) = (Arc::<Counts>::default(), Arc::<Counts>::default());
        let mut asking = JoinSet::new();
        for balancer in &site.balancers {
            for client in 0..CLIENTS {
                let (method, counts) = match client {
                    0 => (Method::POST, posts.clone()),
                    _ => (Method::GET, gets.clone()),
                };
                asking.spawn(ask(Client::new(balancer.http), method, counts));
            }
        }
        Self { gets, posts, _asking: asking }
    }

    fn good(&self) -> u64 {
        self.gets.good.load(Relaxed) + self.posts.good.load(Relaxed)
    }
}

async fn ask(client: Client, method: Method, counts: Arc<Counts>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let answer = client.send(method.clone(), "/x", &[], Bytes::new()).await;
        let is_good = matches!(&answer, Ok(answer) if answer.status == 200);
        let count = if is_good { &counts.good } else { &counts.failed };
        count.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shift_to_a_service_that_fails_goes_back_before_many_requests_have_failed() {
    let _machine = machine_alone();
    let site = Site::start().await;
    let (load, began, before) = (Load::start(&site), Instant::now(), site.blue.asked());
    site.begin(40).await;
    site.wait_over(50.0).await;
    let per_s = (site.blue.asked() - before + site.green.asked()) as f64 / began.elapsed().as_secs_f64();
    assert_eq!(
        (load.gets.failed.load(Relaxed), load.posts.failed.load(Relaxed)),
        (0, 0),
        "all is well so far"
    );
    let had = site.green.asked();
    site.green.fails.store(true, Relaxed);
    let broke = Instant::now();
    let shift = site.wait_state("back", Duration::from_secs(20)).await;
    let took = broke.elapsed();
    let asked = site.green.asked();
    let good = load.good();
    until("the load goes on", PATIENCE, async || (load.good() > good + 500).then_some(())).await;
    let (gets, posts) = (load.gets.failed.load(Relaxed), load.posts.failed.load(Relaxed));
    println!(
        "measure: {per_s:.0} requests/s; back after {took:.2?}; of {had} requests that the new service had, failed: \
         {gets} GET, {posts} POST; asked of it while it failed: {}; {shift}",
        site.green.asked() - had
    );
    assert!(took < Duration::from_secs(5), "{took:?}: {shift}");
    assert!(shift["why"].as_str().is_some_and(|why| why.starts_with("5xx>1%: ")), "{shift}");
    assert_eq!(site.green.asked(), asked, "nothing is asked of it any more");
    assert_eq!(gets, 0, "what changes nothing is asked of the old service");
    let share = (gets + posts) as f64 / had as f64;
    assert!(share < 0.01, "{} failed of {had}", gets + posts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shift_goes_on_to_its_end_where_its_leader_dies_and_the_document_says_so() {
    let _machine = machine_alone();
    let mut site = Site::start().await;
    let load = Load::start(&site);
    site.begin(20).await;
    site.wait_over(20.0).await;
    let leader = site.cluster.leader().await;
    site.cluster.node_mut(leader).kill();
    let shift = site.wait_state("done", Duration::from_secs(90)).await;
    assert_eq!(shift["share_percent"], 100.0, "{shift}");
    let route =
        site.ask(Method::GET, "/gateway/routes/web", &[], &Value::Null).await.expect("an answer").json();
    assert_eq!(route["services"], json!({ "blue": 0, "green": 100 }));
    let history =
        site.ask(Method::GET, "/gateway/history", &[], &Value::Null).await.expect("an answer").json();
    assert_eq!(
        (&history["revision"], &history["revisions"][0]["source"]),
        (&2.into(), &"shift of web".into())
    );
    let (blue, good) = (site.blue.asked(), load.good());
    until("the load goes on", PATIENCE, async || (load.good() > good + 500).then_some(())).await;
    let late = site.blue.asked() - blue;
    // Those that were on their way.
    assert!(late <= (3 * CLIENTS) as u64, "{late} requests came to the old service");
    assert_eq!((load.gets.failed.load(Relaxed), load.posts.failed.load(Relaxed)), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_changes_what_the_services_of_a_route_weigh_ends_its_shift() {
    let _machine = machine_alone();
    let site = Site::start().await;
    site.begin(60).await;
    site.wait_over(1.0).await;
    let route = json!({ "match": { "path": "/x" }, "services": { "blue": 0, "green": 1 } });
    let put = site.ask(Method::PUT, "/gateway/routes/web", &[], &route).await.expect("an answer");
    assert_eq!(put.status, 200, "{put:?}");
    let shift = site.wait_state("superseded", PATIENCE).await;
    assert!(shift["why"].as_str().is_some_and(|why| why.contains("0 and 1")), "{shift}");
    for balancer in &site.balancers {
        until("all go to the new service", PATIENCE, async || {
            (balancer.client.get("/x").await.ok()?.text() == "green").then_some(())
        })
        .await;
    }
}
