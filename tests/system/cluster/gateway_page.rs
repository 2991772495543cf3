//! What operators see of the gateway at a node, as JSON and on the page: the balancer's routes with traffic, refusals, and
//! a balancer that dies.
//!
//! Screenshots are left in `target/tmp/page-gateway-*.png`, to be looked at.

use hyper::Method;
use serde_json::Value;
use skep_kit::Cluster;
use skep_kit::clients::browser::{self, Browser};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{left_out, machine_shared};
use skep_kit::wait::{PATIENCE, until};

use crate::gateway::{TOKEN, change, cluster, first};
use crate::page::{LIVE, look_at};

/// A route to the nodes, one that is closed, one that is asked too often, one to nowhere; and a consumer.
const DOCUMENT: &str = r#"{
    "unmatched": "not-found",
    "services": {"nowhere": {"urls": ["http://127.0.0.1:9", "http://127.0.0.1:10"]}},
    "consumers": {"alice": {"groups": ["staff"], "keys": [{"key": "alice-has-this-key-0001", "label": "of-alice"}],
        "passwords": ["alice-has-this-password"]}},
    "issuers": {"corp": {"iss": "corp", "aud": "any", "keys": [{"secret": "a secret that is as long as thirty-two bytes"}]}},
    "routes": {
        "closed": {"match": {"path": "/closed"}, "service": "skep", "auth": {"keys": true, "groups": ["staff"]}},
        "limited": {"match": {"path": "/limited"}, "redirect": {"host": "a.test"},
            "limits": [{"rate": 1, "per": "hour", "by": "address"}]},
        "lost": {"match": {"path": "/lost", "hosts": ["a.test"], "methods": ["GET", "PUT"]}, "service": "nowhere"},
        "read": {"match": {"path": "/members"}, "service": "skep", "cors": {"origins": ["*"]}},
        "shut": {"match": {"path": "/shut"}, "service": "skep", "maintenance": true}
    }
}"#;

async fn see(cluster: &Cluster, node: u8, token: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer)];
    let answer = cluster.node(node).admin.send(Method::GET, "/gateway/seen", &headers, "".into()).await;
    let answer = answer.expect("an answer");
    let json = serde_json::from_slice(&answer.body);
    (answer.status, json.unwrap_or_else(|error| panic!("{error}: {answer:?}")))
}

/// One request of each kind that is refused, and some that are answered.
async fn ask_all(balancer: &Balancer) {
    for (path, status) in [
        ("/members/self", 200),
        ("/closed", 401),
        ("/limited", 302),
        ("/limited", 429),
        ("/shut", 503),
        ("/nothing", 404),
        ("/a//b", 400),
    ] {
        assert_eq!(balancer.client.get(path).await.expect("an answer").status, status, "{path}");
    }
}

fn row<'a>(seen: &'a Value, kind: &str, name: &str) -> &'a Value {
    let rows = seen[kind].as_array().expect("rows");
    rows.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {kind} {name}: {seen}"))
}

/// A balancer that obeys the document.
async fn obeying(cluster: &Cluster) -> Balancer {
    let balancer = Balancer::start(cluster, &[]).await;
    first(cluster, DOCUMENT).await;
    until("the document is in force", PATIENCE, async || {
        (balancer.client.get("/shut").await.ok()?.status == 503).then_some(())
    })
    .await;
    balancer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_shows_operators_what_the_balancer_does_by_each_route() {
    let _machine = machine_shared();
    let cluster = cluster(3).await;
    let balancer = obeying(&cluster).await;
    ask_all(&balancer).await;
    for node in 1..=3 {
        // The first who asks at a balancer hears of no rate; and one request a look is one.
        let seen = until("the node shows a rate", PATIENCE, async || {
            assert_eq!(balancer.client.get("/members").await.expect("an answer").status, 200);
            let (status, seen) = see(&cluster, node, TOKEN).await;
            assert_eq!(status, 200, "{seen}");
            let rate = row(&seen, "routes", "read")["requests_per_s"].as_f64();
            rate.is_some_and(|it| it > 0.0).then_some(seen)
        })
        .await;
        assert_eq!(
            (&seen["revision"], &seen["source"], &seen["unmatched"]),
            (&1.into(), &"api".into(), &"not-found".into())
        );
        let shown = &seen["balancers"][0];
        assert_eq!((&shown["stand"], &shown["revision"]), (&"follows".into(), &1.into()), "{seen}");
        assert_eq!(shown["http"], balancer.http.to_string());
        assert!(
            shown["requests_per_s"].as_f64() > Some(0.0) && seen["requests_per_s"].as_f64() > Some(0.0),
            "{seen}"
        );
        // That it is in force was asked, too.
        for (reason, least) in [
            ("unauthenticated", 1),
            ("rate-limited", 1),
            ("maintenance", 2),
            ("not-found", 1),
            ("ambiguous-path", 1),
        ] {
            assert!(seen["refused"][reason].as_u64() >= Some(least), "{reason}: {seen}");
        }
        for (route, reason) in
            [("closed", "unauthenticated"), ("limited", "rate-limited"), ("shut", "maintenance")]
        {
            let refused = &row(&seen, "routes", route)["refused"];
            assert!(
                refused[reason].as_u64() >= Some(1) && refused.as_object().unwrap().len() == 1,
                "{refused}"
            );
        }
        assert!(row(&seen, "routes", "read")["answers"]["2xx"].as_u64() >= Some(2), "{seen}");
        assert_eq!(row(&seen, "routes", "limited")["answers"], serde_json::json!({"3xx": 1, "4xx": 1}));
        let skep = row(&seen, "services", "skep");
        assert_eq!((&skep["servers"], &skep["available"]), (&3.into(), &3.into()));
        let nowhere = row(&seen, "services", "nowhere");
        assert_eq!((&nowhere["servers"], &nowhere["available"]), (&2.into(), &0.into()));
        assert_eq!(
            seen["consumers"],
            serde_json::json!([{"name": "alice", "groups": ["staff"], "keys": 1, "passwords": 1}])
        );
        assert!(!seen.to_string().contains("of-alice") && !seen.to_string().contains("sha256"), "{seen}");
    }
    let (status, problem) = see(&cluster, 1, "another-token-of-nobody").await;
    assert_eq!((status, &problem["type"]), (401, &"urn:skep:problem:no-operator".into()));
}

/// The row of a table that has this name.
fn named(table: &str, name: &str) -> String {
    format!("[...document.querySelectorAll('#{table} tr')].find(row => row.dataset.name === '{name}')")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_routes_refusals_and_the_death_of_a_balancer_on_the_page_of_the_gateway() {
    if !browser::is_there() {
        left_out("the page of the gateway in a browser", "no /usr/bin/chromium: apt-get install chromium");
        return;
    }
    let _machine = machine_shared();
    let cluster = cluster(3).await;
    let browser = Browser::start().await;
    let page = format!("http://{}/gateway", cluster.node(2).admin.address);
    let window = browser.open(&page, 1280, 1100).await;
    let unlocked = "document.querySelector('#unlocked').textContent";
    let is_loaded = "document.readyState === 'complete' && !!document.querySelector('#unlocked')";
    window.wait("it asks for the token", is_loaded).await;
    let unlock = |token: &str| {
        format!(
            "document.querySelector('#token').value = '{token}'; document.querySelector('#unlock').requestSubmit()"
        )
    };
    window.value(&unlock("another-token-of-nobody")).await;
    window.wait("a wrong token opens nothing", &format!("{unlocked}.includes('another one')")).await;
    assert_eq!(window.value("document.querySelector('#whole').hidden").await, true);
    look_at(&window, "gateway-locked").await;
    window.value(&unlock(TOKEN)).await;
    window.wait("it is live", LIVE).await;
    let revision = "document.querySelector('#revision').textContent";
    window.wait("it says that there is none", &format!("{revision}.includes('nothing is configured')")).await;

    let balancer = obeying(&cluster).await;
    window.wait("the document is shown", &format!("{revision}.startsWith('revision 1, since ')")).await;
    ask_all(&balancer).await;
    let cell = |table: &str, name: &str, cell: &str| {
        format!("{}?.querySelector('{cell}')?.textContent", named(table, name))
    };
    for (table, name, which, text) in [
        ("routes", "closed", ".refused", "unauthenticated 1"),
        ("routes", "closed", ".policies", "keysgroups staff"),
        ("routes", "limited", ".refused", "rate-limited 1"),
        ("routes", "limited", ".to", "302 a.test/…"),
        ("routes", "lost", ".for", "GET, PUT /lost/… at a.test"),
        ("routes", "shut", ".policies", "maintenance"),
        ("services", "nowhere", ".able", "0 of 2"),
        ("services", "skep", ".able", "3 of 3"),
        ("consumers", "alice", ".keys", "1"),
        ("consumers", "alice", ".passwords", "1"),
    ] {
        let expression = format!("{} === '{text}'", cell(table, name, which));
        window.wait(&format!("{table} {name}: {text}"), &expression).await;
    }
    let issuers = "document.querySelector('#issuers').textContent === 'Tokens are taken of corp (1 key).'";
    window.wait("issuers are shown", issuers).await;
    // While it is asked, there is a rate, and its graph.
    let rate = format!("Number({}) > 0", cell("routes", "read", ".rate"));
    until("the route's rate is shown", PATIENCE, async || {
        assert_eq!(balancer.client.get("/members").await.expect("an answer").status, 200);
        (window.value(&rate).await == true).then_some(())
    })
    .await;
    let all = "document.querySelector('#refused').textContent";
    for reason in ["not-found 1", "ambiguous-path 1", "rate-limited 1"] {
        assert!(window.value(&format!("{all}.includes('{reason}')")).await == true, "{reason}");
    }
    let stand = "document.querySelector('#balancers .stand')?.textContent";
    window.wait("the balancer follows", &format!("{stand} === 'follows'")).await;
    look_at(&window, "gateway-seen").await;

    // What comes from outside is text.
    let object = r#"{"match": {"path": "/later"}, "service": "skep"}"#;
    let path = "/gateway/routes/later?source=%3Cb%3Ebold%3C/b%3E";
    // One whose answer was lost has set it.
    until("it is changed", PATIENCE, async || {
        let put = change(&cluster.node(1).admin, path, ("x-any", "1"), object).await;
        matches!(put.status, 200 | 201).then_some(())
    })
    .await;
    window.wait("the change is shown", &format!("{revision}.includes('from <b>bold</b>,')")).await;
    window.wait("and its route", &format!("!!{}", named("routes", "later"))).await;
    assert_eq!(window.value("document.querySelectorAll('main b').length").await, 0);

    drop(balancer);
    window.wait("the balancer is silent", &format!("{stand} === 'is silent'")).await;
    window
        .wait("nobody says how servers are", &format!("{} === '–'", cell("services", "skep", ".able")))
        .await;
    look_at(&window, "gateway-silent").await;
    let complaints: Vec<String> =
        browser.take_complaints().into_iter().filter(|text| !text.contains("401")).collect();
    assert_eq!(complaints, Vec::<String>::new());
}
