//! Secrets of issuers, sealed where nodes keep them: they are in no file and in no backup, open at balancers, and follow
//! the cluster's keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use serde_json::Value;
use skep_kit::Cluster;
use skep_kit::clients::http::Answer;
use skep_kit::cluster::balancer::Balancer;
use skep_kit::cluster::node::Node;
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, write_edge_key, write_key};
use skep_kit::wait::until;
use skep_state::command::{Command, Op};
use skep_state::gateway::GatewayOp;
use skep_state::level::Level;
use skep_store::StoreConfig;

use crate::gateway::{TOKEN, change, first};

const NODES: u8 = 3;
/// Longer than anything takes that a test waits for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const READ_AGAIN: &str = "the cluster keys read again";
const SECRET: &str = "a hidden secret of thirty-two bytes";
const OTHER: &str = "another hidden one of thirty-two bytes";
/// Of `i` for `s` until the year 2100, by either secret.
const BY_SECRET: &str = concat!(
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
    "eyJpc3MiOiJpIiwic3ViIjoicyIsImF1ZCI6IngiLCJleHAiOjQxMDI0NDQ4MDB9.",
    "mD3BOGeOArWZKtseLGiBUOvdlS94glDj9MnzHML_iUk"
);
const BY_OTHER: &str = concat!(
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
    "eyJpc3MiOiJpIiwic3ViIjoicyIsImF1ZCI6IngiLCJleHAiOjQxMDI0NDQ4MDB9.",
    "-wawA7rY0WN8jbwnBQQxwZvFyBdPGia1BN0yyQLlTa8"
);

fn issuer(secret: &str) -> String {
    format!(r#"{{"iss":"i","aud":"any","keys":[{{"kid":"k","secret":"{secret}"}}]}}"#)
}

fn document(secret: &str) -> String {
    let route = r#"{"auth":{"jwt":["i"]},"match":{"path":"/closed"},"redirect":{"path":"/x"}}"#;
    format!(r#"{{"issuers":{{"i":{}}},"routes":{{"closed":{route}}}}}"#, issuer(secret))
}

/// What the balancer answers to who has this token.
async fn asked(balancer: &Balancer, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer)];
    let answer = balancer.client.send(Method::GET, "/closed", &headers, "".into()).await;
    answer.map_or(0, |answer| answer.status)
}

async fn opens(balancer: &Balancer, token: &str) {
    until("the token opens the route", PATIENCE, async || {
        (asked(balancer, token).await == 302).then_some(())
    })
    .await;
}

pub async fn figure(node: &Node, name: &str) -> Option<f64> {
    let text = node.admin.get("/metrics").await.ok()?.text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

pub async fn is_level(node: &Node, level: Level) {
    until("the members agree", PATIENCE, async || {
        (figure(node, "skep_store_level").await? >= f64::from(level.0)).then_some(())
    })
    .await;
}

/// What `/cluster` says of secrets.
async fn secrets(node: &Node) -> Option<Value> {
    Some(node.admin.get("/cluster").await.ok()?.json()["secrets"].clone())
}

pub async fn see(node: &Node, path: &str) -> Option<Answer> {
    let bearer = format!("Bearer {TOKEN}");
    let answer = node.admin.send(Method::GET, path, &[("authorization", &*bearer)], "".into()).await.ok()?;
    (answer.status == 200).then_some(answer)
}

pub fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}

/// Files below a folder that have one of these in them.
pub fn files_with(folder: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            found.extend(files_with(&path, texts));
        } else if let Ok(bytes) = fs::read(&path)
            && texts.iter().any(|text| has(&bytes, text))
        {
            found.push(path);
        }
    }
    found
}

pub async fn backup(node: &Node) -> Vec<u8> {
    let backup = until("a backup is made", PATIENCE, async || {
        let answer = node.admin.get("/snapshot").await.ok()?;
        (answer.status == 200).then_some(answer.body)
    });
    backup.await.to_vec()
}

/// The files of keys that programs read, and one key after another.
struct Files {
    folder: PathBuf,
    nodes: PathBuf,
    edges: PathBuf,
}

impl Files {
    fn new(cluster: &Cluster) -> Self {
        let folder = cluster.folder().to_owned();
        Self { nodes: folder.join("cluster.key"), edges: folder.join("edge.key"), folder }
    }

    fn key(&self, name: &str) -> String {
        let path = self.folder.join(name);
        write_key(&path);
        fs::read_to_string(path).expect("it was written").trim().to_owned()
    }

    fn write(&self, keys: &[&str]) {
        fs::write(&self.nodes, keys.join("\n")).expect("it can be written");
        write_edge_key(&self.nodes, &self.edges);
    }

    /// SIGHUP to one program after another; each has taken it before the next is told.
    async fn tell_all(&self, keys: &[&str], cluster: &Cluster, balancer: &Balancer) {
        self.write(keys);
        for node in 1..=NODES {
            let node = cluster.node(node);
            let count = || node.log_text().matches(READ_AGAIN).count();
            let before = count();
            node.hang_up();
            until("the node has read its keys", PATIENCE, async || (count() > before).then_some(())).await;
        }
        let count = || balancer.log_text().matches(READ_AGAIN).count();
        let before = count();
        balancer.hang_up();
        until("the balancer has read its keys", PATIENCE, async || (count() > before).then_some(())).await;
    }
}

/// The token of operators, where nodes read it.
pub fn token_file(cluster: &Cluster) -> String {
    let file = cluster.folder().join("token");
    fs::write(&file, TOKEN).expect("the token's file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, mode).expect("its mode can be set");
    file.to_str().expect("a plain path").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_in_no_file_and_no_backup_and_opens_at_balancers_through_a_rotation_and_restarts() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(u32::from(NODES), &[1, 2, 3]);
    let files = Files::new(&cluster);
    let [old, new] = ["old.key", "new.key"].map(|name| files.key(name));
    let (old, new) = (&*old, &*new);
    files.write(&[old]);
    cluster.key_file = Some(files.nodes.clone());
    let token = token_file(&cluster);
    cluster.args = ["--http-tls", "also", "--level-after", "200ms", "--operator-token-file", &token]
        .map(Into::into)
        .into();
    for node in 1..=NODES {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=NODES {
        is_level(cluster.node(node), Level::SEALED).await;
    }
    let edges = files.edges.to_str().expect("a plain path");
    let flags = ["--backend-tls", "cluster", "--cluster-key-file", edges];
    let balancer = Balancer::start(&cluster, &flags).await;
    let tag = first(&cluster, &document(SECRET)).await;
    opens(&balancer, BY_SECRET).await;
    assert_eq!(asked(&balancer, BY_OTHER).await, 401);

    // What is shown names it and says nothing of it; put again it is no change.
    let shown = until("it is shown", PATIENCE, async || see(cluster.node(2), "/gateway").await).await.text();
    assert!(shown.contains("\"sealed:") && !shown.contains("hidden"), "{shown}");
    let again = until("it is put again", PATIENCE, async || {
        let answer = change(&cluster.node(3).admin, "/gateway", ("if-match", &tag), &shown).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!((again.status, again.header("etag")), (200, &*tag), "{again:?}");

    // Each node makes a checkpoint for its backup; nowhere is the secret.
    for node in 1..=NODES {
        let backup = backup(cluster.node(node)).await;
        assert!(has(&backup, "sealed1:") && !has(&backup, "hidden"), "node {node}");
        let data = &cluster.node(node).settings.data;
        assert_eq!(files_with(data, &[SECRET, "hidden"]), [] as [PathBuf; 0]);
        assert!(!files_with(data, &["sealed1:"]).is_empty(), "it is looked for where it lies");
        assert!(!cluster.node(node).log_text().contains("hidden"));
        assert_eq!(figure(cluster.node(node), "skep_gateway_secrets_open").await, Some(0.0));
    }

    for keys in [&[old, new][..], &[new, old], &[new]] {
        files.tell_all(keys, &cluster, &balancer).await;
        for node in 1..=NODES {
            until("each data key is wrapped for the ring", PATIENCE, async || {
                let said = secrets(cluster.node(node)).await?;
                (said["old_key_may_go_since"].is_string() && said["absent"] == 0).then_some(())
            })
            .await;
        }
        opens(&balancer, BY_SECRET).await;
    }
    // What is put under the new key, beside what was there.
    let put = until("another secret is put", PATIENCE, async || {
        let admin = &cluster.node(1).admin;
        let answer = change(admin, "/gateway/issuers/i", ("x-any", "1"), &issuer(OTHER)).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(put.status, 200, "{put:?}");
    opens(&balancer, BY_OTHER).await;
    assert_eq!(asked(&balancer, BY_SECRET).await, 401, "the secret before opens nothing");
    // And a way back, to what was sealed under the old key.
    let back = until("it is rolled back", PATIENCE, async || {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let admin = &cluster.node(2).admin;
        let body = r#"{"revision":1}"#;
        let answer = admin.send(Method::POST, "/gateway/rollback", &headers, body.into()).await.ok()?;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(back.status, 200, "{back:?}");
    opens(&balancer, BY_SECRET).await;

    cluster.kill_all();
    for node in 1..=NODES {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=NODES {
        let node = cluster.node(node);
        until("its secrets are counted", PATIENCE, async || {
            secrets(node).await?["old_key_may_go_since"].is_string().then_some(())
        })
        .await;
        assert_eq!(figure(node, "skep_gateway_secrets_absent").await, Some(0.0));
        assert_eq!(files_with(&node.settings.data, &["hidden"]), [] as [PathBuf; 0]);
    }
    drop(balancer);
    let balancer = Balancer::start(&cluster, &flags).await;
    opens(&balancer, BY_SECRET).await;
}

/// Adds to a stopped node's log what one of the version before would have in it.
async fn add(data: &Path, ops: Vec<Op>) {
    let mut store = skep_store::open(StoreConfig::new(data)).expect("a stopped node's store opens");
    let entries =
        store.log.get_log_reader().await.try_get_log_entries(..).await.expect("the log can be read");
    let mut entry = entries.last().expect("there is a log").clone();
    entry.log_id.index += 1;
    entry.payload = EntryPayload::Normal(Command::new(ops));
    store.log.blocking_append([entry]).await.expect("the log can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_the_version_before_left_open_is_sealed_once_the_members_agree_and_keeps_its_tag() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    let files = Files::new(&cluster);
    let key = files.key("a.key");
    files.write(&[&key]);
    cluster.key_file = Some(files.nodes.clone());
    let token = token_file(&cluster);
    cluster.args = ["--level-after", "1h", "--operator-token-file", &token].map(Into::into).into();
    cluster.start(1);
    cluster.wait_all_ready().await;
    cluster.node_mut(1).kill();
    let data = cluster.node(1).settings.data.clone();
    let set = |nonce, expect, document: String| {
        let (document, source) = (document.into(), "api".into());
        Op::Gateway { time_ms: 1, op: GatewayOp::Set { nonce, expect, lineage: 7, document, source } }
    };
    let first = Some(skep_state::gateway::Revision { lineage: 7, number: 1 });
    let ops =
        vec![Op::Level { level: Level(8) }, set(1, None, document(SECRET)), set(2, first, document(OTHER))];
    add(&data, ops).await;
    cluster.start(1).wait_ready().await;
    let node = cluster.node(1);
    until("they lie open", PATIENCE, async || {
        (figure(node, "skep_gateway_secrets_open").await? == 2.0).then_some(())
    })
    .await;
    let seen = until("it is shown", PATIENCE, async || see(node, "/gateway").await).await;
    let (tag, shown) = (seen.header("etag").to_owned(), seen.text());
    assert!(shown.contains("\"sha256:") && !shown.contains("hidden"), "{shown}");
    assert!(has(&backup(node).await, SECRET));

    // The members agree.
    cluster.node_mut(1).kill();
    cluster.node_mut(1).settings.args[1] = "200ms".into();
    cluster.start(1).wait_ready().await;
    let node = cluster.node(1);
    is_level(node, Level::SEALED).await;
    until("all are sealed", PATIENCE, async || {
        (figure(node, "skep_gateway_secrets_open").await? == 0.0).then_some(())
    })
    .await;
    let seen = until("it is shown", PATIENCE, async || see(node, "/gateway").await).await;
    assert_eq!(seen.header("etag"), tag, "it is the same document");
    assert!(seen.text().contains("\"sealed:"), "{}", seen.text());
    let backup = backup(node).await;
    assert!(!has(&backup, "hidden"), "the history is sealed, too");
    // What was shown while it lay open means the same.
    let again = change(&node.admin, "/gateway", ("if-match", &tag), &shown).await;
    assert_eq!((again.status, again.header("etag")), (200, &*tag), "{again:?}");
}

/// One node with these keys in its file, whose members have agreed; and the file.
async fn alone(keys: &[&str]) -> (Cluster, Files) {
    let mut cluster = Cluster::new(1, &[]);
    let files = Files::new(&cluster);
    files.write(keys);
    cluster.key_file = Some(files.nodes.clone());
    let token = token_file(&cluster);
    cluster.args = ["--level-after", "200ms", "--operator-token-file", &token].map(Into::into).into();
    cluster.start(1).wait_ready().await;
    is_level(cluster.node(1), Level::SEALED).await;
    (cluster, files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_sealed_anew_where_its_key_is_and_its_secrets_are_absent_where_it_is_not() {
    let _machine = machine_shared();
    let keys = tempfile::tempdir().expect("a folder");
    let [past, today] = ["past.key", "today.key"].map(|name| {
        let path = keys.path().join(name);
        write_key(&path);
        fs::read_to_string(path).expect("it was written").trim().to_owned()
    });
    let (past, today) = (&*past, &*today);
    let (old, _) = alone(&[past]).await;
    first(&old, &document(SECRET)).await;
    let path = old.folder().join("store.snapshot");
    let file = path.to_str().expect("a plain path");
    let verb = |cluster: &Cluster, args: &[&str]| programs::verb(cluster.node(1).admin.address, args);
    assert_eq!(verb(&old, &["snapshot", "save", file]).code, Some(0));
    let absent = async |cluster: &Cluster, count: f64| {
        let node = cluster.node(1);
        until("its secrets are counted", PATIENCE, async || {
            (figure(node, "skep_gateway_secrets_absent").await? == count).then_some(())
        })
        .await;
    };
    let read_again = async |cluster: &Cluster, files: &Files, keys: &[&str]| {
        let node = cluster.node(1);
        let count = || node.log_text().matches(READ_AGAIN).count();
        let before = count();
        files.write(keys);
        node.hang_up();
        until("the node has read its keys", PATIENCE, async || (count() > before).then_some(())).await;
    };

    // Where the key of the past is still there, and goes then.
    let (new, files) = alone(&[today, past]).await;
    assert_eq!(verb(&new, &["snapshot", "restore", file]).code, Some(0));
    read_again(&new, &files, &[today]).await;
    until("no secret needs the key of the past", PATIENCE, async || {
        secrets(new.node(1)).await?["old_key_may_go_since"].is_string().then_some(())
    })
    .await;
    absent(&new, 0.0).await;
    // Where it is not there, and comes.
    let (other, files) = alone(&[today]).await;
    assert_eq!(verb(&other, &["snapshot", "restore", file]).code, Some(0));
    absent(&other, 1.0).await;
    let said = secrets(other.node(1)).await.expect("an answer");
    assert_eq!((&said["absent"], &said["old_key_may_go_since"]), (&1.into(), &Value::Null), "{said}");
    read_again(&other, &files, &[today, past]).await;
    absent(&other, 0.0).await;
}
