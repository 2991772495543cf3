//! Policies that a service or the defaults state: whom they keep out, and whose requests their limits count.

use crate::harness::*;

/// A service with policies of its own, one with those of the defaults, and routes that take them or do not.
const STATED: &str = r#"
    consumers.alice = {keys = ["alice-has-this-key-0001"], groups = ["staff"]}
    consumers.bob = {keys = ["bob-has-this-key-000002"]}
    [defaults]
    auth.keys = true
    response_headers.set = {x-from = "defaults"}
    [services.app]
    urls = ["http://127.0.0.1:1"]
    auth = {keys = true, groups = ["staff"]}
    request_headers.set = {x-of = "app"}
    limits = [{rate = 3, per = "hour", burst = 3, by = "address"}]
    [services.web]
    urls = ["http://127.0.0.1:1"]
    limits = [{rate = 1, per = "hour", by = "address", shared = false}]
    [routes]
    one = {match.path = "/one", service = "app"}
    two = {match.path = "/two", service = "app"}
    own = {match.path = "/own", service = "app", limits = [{rate = 1, per = "hour", by = "address"}]}
    open = {match.path = "/open", service = "web", auth = false, limits = false, response_headers = false}
    web = {match.path = "/web", service = "web"}
    again = {match.path = "/again", service = "web"}
    nodes = {match.path = "/api", service = "skep"}
"#;

const ALICE: &str = "alice-has-this-key-0001";
const BOB: &str = "bob-has-this-key-000002";

fn asks(balancer: &Balancer, target: &str, key: &str) -> String {
    balancer
        .ask(&format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-api-key: {key}\r\n\r\n"))
}

fn status(answer: &str) -> &str {
    &answer[9..12]
}

#[test]
fn what_a_service_or_the_defaults_state_holds_for_the_routes_that_state_nothing() {
    let (nodes, app) = (Scripted::plain("n"), Scripted::plain("app"));
    let balancer = Balancer::start(&[nodes.address]);
    balancer.route(STATED, &[("app", &[app.address]), ("web", &[app.address])]);
    // Of the service alone: who is in none of its groups has a key of the defaults'.
    for (target, key, expected) in [
        ("/one", "nobody-has-this-key-03", "401"),
        ("/one", BOB, "403"),
        ("/web", "nobody-has-this-key-03", "401"),
        ("/api/x", "nobody-has-this-key-03", "401"),
        ("/api/x", BOB, "200"),
        ("/open", "nobody-has-this-key-03", "200"),
        // No route has it: the defaults would not hold there.
        ("/messages", BOB, "404"),
    ] {
        assert_eq!(status(&asks(&balancer, target, key)), expected, "{target} {key}");
    }
    let told = asks(&balancer, "/api/y", BOB);
    assert!(told.contains("\r\nx-from: defaults\r\n"), "{told}");
    assert!(!asks(&balancer, "/open", BOB).contains("x-from"));
    let heads = app.heads();
    assert!(heads.iter().all(|head| head.starts_with("GET /open")), "{heads:?}");
    asks(&balancer, "/two", ALICE);
    assert!(app.heads().last().is_some_and(|head| head.contains("x-of: app")));
}

#[test]
fn a_limit_of_a_service_counts_all_routes_that_take_it_together_and_a_routes_own_that_one() {
    let app = Scripted::plain("app");
    let balancer = Balancer::start(&[]);
    balancer.route(STATED, &[("app", &[app.address]), ("web", &[app.address])]);
    let statuses = |targets: &[&str]| -> Vec<String> {
        targets.iter().map(|it| status(&asks(&balancer, it, ALICE)).to_owned()).collect()
    };
    // Three of both together.
    assert_eq!(statuses(&["/one", "/two", "/one", "/two", "/one"]), ["200", "200", "200", "429", "429"]);
    assert_eq!(statuses(&["/own", "/own"]), ["200", "429"]);
    // Where the service says that each counts for itself.
    assert_eq!(statuses(&["/web", "/again", "/web", "/again"]), ["200", "200", "429", "429"]);
    assert_eq!(statuses(&["/open", "/open"]), ["200", "200"]);
    // The next document goes on with what was counted.
    balancer.route(STATED, &[("app", &[app.address]), ("web", &[app.address])]);
    assert_eq!(statuses(&["/two"]), ["429"]);
}
