//! The gateway's document in a cluster: put at one node, read at all, kept through deaths, restores and a lost quorum.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use skep_kit::Cluster;
use skep_kit::clients::http::{Answer, Client};
use skep_kit::effort::machine_shared;
use skep_kit::programs::{self, Ended, run_to_end};
use skep_kit::wait::{PATIENCE, until};

pub const TOKEN: &str = "an-operators-token-for-tests";
pub const READER: &str = r#"{"routes":{"read":{"match":{"path":"/read"},"service":"reader"}},"services":{"reader":{"urls":["http://127.0.0.1:5000"]}}}"#;

/// What a request of an operator comes to: 503 also where no answer came, and nobody knows.
async fn ask(client: &Client, method: Method, path: &str, condition: (&str, &str), body: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json"), condition];
    match client.send(method, path, &headers, body.to_owned().into()).await {
        Ok(answer) => answer,
        Err(failure) => {
            Answer { status: 503, headers: Default::default(), body: format!("{failure:?}").into() }
        }
    }
}

pub async fn change(client: &Client, path: &str, condition: (&str, &str), body: &str) -> Answer {
    ask(client, Method::PUT, path, condition, body).await
}

/// A cluster whose members agree at once to whatever they read.
pub async fn cluster(count: u8) -> Cluster {
    let seeds: Vec<u8> = if count == 1 { Vec::new() } else { (1..=count).collect() };
    let mut cluster = Cluster::new(u32::from(count), &seeds);
    let file = cluster.folder().join("token");
    std::fs::write(&file, TOKEN).expect("the token's file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("its mode can be set");
    let file = file.to_str().expect("a plain path");
    cluster.args = ["--level-after", "200ms", "--operator-token-file", file].map(Into::into).into();
    for node in 1..=count {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    cluster
}

/// The first document, once the members have agreed to have one; its tag.
pub async fn first(cluster: &Cluster, document: &str) -> String {
    let admin = &cluster.node(1).admin;
    until("the members agree", PATIENCE, async || {
        let answer = change(admin, "/gateway", ("if-none-match", "*"), document).await;
        match answer.status {
            201 => Some(answer.header("etag").to_owned()),
            // One whose answer was lost has set it.
            412 => Some(read(cluster, 1).await.1),
            status => {
                assert_eq!(status, 503, "{answer:?}");
                None
            }
        }
    })
    .await
}

/// The document at a node, and its tag; asked again while no leader is known.
async fn read(cluster: &Cluster, node: u8) -> (String, String) {
    let admin = &cluster.node(node).admin;
    until("the document is read", PATIENCE, async || {
        let answer = ask(admin, Method::GET, "/gateway", ("x-any", "1"), "").await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 200).then(|| (answer.text(), answer.header("etag").to_owned()))
    })
    .await
}

fn config(cluster: &Cluster, args: &[&str]) -> Ended {
    let admin = cluster.node(1).admin.address.to_string();
    let mut command = programs::node();
    command.arg("config").args(args).env("SKEP_ADMIN", admin).env("SKEP_OPERATOR_TOKEN", TOKEN);
    run_to_end(&mut command, "", Duration::from_secs(30))
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_read_at_all_nodes_and_outlives_the_death_of_all() {
    let _machine = machine_shared();
    let mut cluster = cluster(3).await;
    let tag = first(&cluster, READER).await;
    for node in 1..=3 {
        assert_eq!(read(&cluster, node).await, (READER.to_owned(), tag.clone()), "at {node}");
    }
    cluster.kill_all();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    for node in 1..=3 {
        assert_eq!(read(&cluster, node).await, (READER.to_owned(), tag.clone()), "at {node}, started again");
    }
    cluster.start(4).wait_ready().await;
    assert_eq!(read(&cluster, 4).await, (READER.to_owned(), tag), "at one that joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_change_the_same_document_one_wins_and_the_other_is_told() {
    let _machine = machine_shared();
    let cluster = cluster(3).await;
    let mut tag = first(&cluster, READER).await;
    let mut is_one_lost = false;
    for round in 0..10 {
        let document = |who: u8| READER.replace("/read", &format!("/read-{round}-{who}"));
        let (one, other) = (document(1), document(2));
        let put =
            |node: u8, document| change(&cluster.node(node).admin, "/gateway", ("if-match", &tag), document);
        let (one, other) = tokio::join!(put(1, &one), put(2, &other));
        let answers = [(&one, document(1)), (&other, document(2))];
        let with = |status: u16| answers.iter().filter(move |(answer, _)| answer.status == status);
        let are_known = answers.iter().all(|(answer, _)| matches!(answer.status, 200 | 412 | 503));
        assert!(are_known && with(200).count() <= 1, "{one:?} {other:?}");
        // Whose answer was lost, as in an election, may have been taken, also later than it was read.
        is_one_lost |= with(503).count() > 0;
        let (now, next) = read(&cluster, 3).await;
        match with(200).next() {
            Some((winner, its)) => assert_eq!((&*now, &*next), (&**its, winner.header("etag"))),
            None => assert!(is_one_lost, "{one:?} {other:?}"),
        }
        tag = next;
    }
    // Objects of it are changed by whoever comes; each change is made of the one before.
    let services: Vec<String> = (0..12).map(|number| format!("/gateway/services/s{number}")).collect();
    let puts = services.iter().zip([1, 2, 3].into_iter().cycle()).map(|(path, node)| {
        let admin = &cluster.node(node).admin;
        async move { change(admin, path, ("x-any", "1"), r#"{"urls":["http://127.0.0.1:1"]}"#).await.status }
    });
    let statuses = futures_util::future::join_all(puts).await;
    let made = statuses.iter().filter(|status| **status == 201).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!((made + refused, made >= 3), (statuses.len(), true), "{statuses:?}");
    let document: Value = serde_json::from_str(&read(&cluster, 1).await.0).expect("JSON");
    let there = document["services"].as_object().expect("services").len();
    assert!((1 + made..=1 + made + refused).contains(&there), "{there} are there: none was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_past_of_the_document_has_another_lineage() {
    let _machine = machine_shared();
    let mut old = cluster(1).await;
    let tag = first(&old, &READER.replace("/read", "/past")).await;
    let tag = until("it is changed", PATIENCE, async || {
        let answer = change(&old.node(1).admin, "/gateway", ("if-match", "*"), READER).await;
        (answer.status == 200).then(|| answer.header("etag").to_owned()).filter(|now| *now != tag)
    })
    .await;
    let path = old.folder().join("store.snapshot");
    let file = path.to_str().expect("a plain path").to_owned();
    let at = |cluster: &Cluster, args: &[&str]| programs::verb(cluster.node(1).admin.address, args);
    assert_eq!(at(&old, &["snapshot", "save", &file]).code, Some(0));

    let new = cluster(1).await;
    until("the document is restored", PATIENCE, async || {
        // Not before the members have agreed to have one.
        let restored = at(&new, &["snapshot", "restore", &file]);
        (restored.code == Some(0)).then_some(())
    })
    .await;
    let (document, restored) = read(&new, 1).await;
    assert_eq!(document, READER);
    let lineage = |tag: &str| tag.split('.').next().unwrap_or_default().to_owned();
    assert_ne!(lineage(&restored), lineage(&tag));
    let history = json(&config(&new, &["history", "--json"]));
    assert_eq!(history["revisions"].as_array().map(Vec::len), Some(1), "the newest alone: {history}");

    old.kill_all();
    let mut recover = programs::node();
    recover.args(["recover", "--yes", "--data"]).arg(&old.node(1).settings.data);
    assert_eq!(run_to_end(&mut recover, "", PATIENCE).code, Some(0));
    old.start(1).wait_ready().await;
    let (document, recovered) = read(&old, 1).await;
    assert_eq!(document, READER);
    assert!(lineage(&recovered) != lineage(&tag) && lineage(&recovered) != lineage(&restored), "{recovered}");
    let stale = until("it is told", PATIENCE, async || {
        let answer = change(&old.node(1).admin, "/gateway", ("if-match", &tag), "{}").await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(stale.status, 412, "{stale:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_checks_applies_and_takes_back_a_document() {
    let _machine = machine_shared();
    let cluster = cluster(1).await;
    first(&cluster, READER).await;
    let path = cluster.folder().join("gateway.toml");
    let write = |text: &str| std::fs::write(&path, text).expect("the document can be written");
    let file = path.to_str().expect("a plain path");

    write("[services.a]\nurls = 7\n");
    let bad = config(&cluster, &["check", file]);
    assert!(bad.code == Some(1) && bad.stderr.contains("/services/a/urls"), "{bad:?}");
    write(
        "[services.reader]\nurls = [\"http://127.0.0.1:5001\"]\n[routes.all]\nmatch.path = \"/\"\nservice = \"reader\"\n",
    );
    assert_eq!(config(&cluster, &["check", file]).code, Some(0));
    let differs = config(&cluster, &["diff", file]);
    for line in ["+ routes/all", "~ services/reader", "- routes/read", "the revision is 1"] {
        assert!(differs.code == Some(0) && differs.stdout.contains(line), "{line}: {differs:?}");
    }
    assert_eq!(json(&config(&cluster, &["apply", file, "--json"]))["revision"], 2);
    let unproved = programs::verb(cluster.node(1).admin.address, &["config", "apply", file]);
    assert!(unproved.code == Some(1) && unproved.stderr.contains("token"), "{unproved:?}");

    let explained = config(&cluster, &["explain", "http://any.test/x"]);
    assert!(explained.code == Some(0) && explained.stdout.contains("route: all"), "{explained:?}");
    let history = json(&config(&cluster, &["history", "--json"]));
    assert_eq!(history["revisions"][0]["source"], "gateway.toml", "{history}");
    let exported = config(&cluster, &["export"]);
    assert_eq!(json(&exported)["services"]["reader"]["urls"][0], "http://127.0.0.1:5001");
    write(&exported.stdout);
    let same = config(&cluster, &["apply", file]);
    assert!(same.stdout.contains("nothing is to be changed"), "what was exported says the same: {same:?}");
    assert_eq!(json(&config(&cluster, &["rollback", "1", "--json"]))["revision"], 3);
    assert_eq!(read(&cluster, 1).await.0, READER);

    // What one source has, which names a service of another.
    let route = |path: &str| format!("[routes.{path}]\nmatch.path = \"/{path}\"\nservice = \"reader\"\n");
    write(&format!("{}{}", route("a"), route("b")));
    let added = config(&cluster, &["apply", "--source", "web", file]);
    assert!(added.code == Some(0) && added.stdout.contains("+ routes/b"), "{added:?}");
    write(&route("a"));
    let fewer = config(&cluster, &["diff", "--source", "web", file]);
    assert!(fewer.stdout.contains("- routes/b") && !fewer.stdout.contains("read"), "{fewer:?}");
    let others = config(&cluster, &["apply", "--source", "blue", file]);
    assert!(
        others.code == Some(1) && others.stderr.contains("routes/a is of the source \"web\""),
        "{others:?}"
    );
    let taken = config(&cluster, &["apply", "--source", "blue", "--take", file]);
    assert!(taken.code == Some(0) && taken.stdout.contains("~ routes/a"), "{taken:?}");
    assert_eq!(config(&cluster, &["apply", "--source", "kong", file]).code, Some(2));
    assert_eq!(config(&cluster, &["rollback", "9"]).code, Some(1));
}
