use std::time::Instant;

use serde_json::{Value, json};
use skep_gateway::figures::{Rest, Servers};
use skep_members::gossip::GatewayAt;

use super::*;
use crate::service::peers;

const LINEAGE: u128 = 0xab;

fn balancer(id: u64, at: Option<(u64, Option<u64>)>) -> PeerRecord {
    let revision = |number| GatewayRevision { lineage: LINEAGE, number };
    PeerRecord {
        http: Some(([192, 0, 2, id as u8], 8000).into()),
        gateway: at.map(|(number, refused)| GatewayAt {
            in_force: Some(revision(number)),
            refused: refused.map(revision),
            purged: None,
        }),
        ..peers::member(id, Program::Balancer)
    }
}

fn view(live: Vec<PeerRecord>, dead: Vec<PeerRecord>) -> View {
    View { dead, ..peers::view(peers::member(99, Program::Node), live) }
}

fn counts(recent: u64, good: u64, limited: u64) -> Counts {
    Counts { recent, answers: [0, 0, good, 0, limited, 0], refused: [0, 0, limited, 0, 0, 0, 0] }
}

fn documented(document: &str) -> Documented {
    let described = Arc::new(Described::read(document).unwrap());
    let revision = Revision { lineage: LINEAGE, number: 7 };
    Documented { revision, time: "2026-11-30T10:00:00Z".into(), source: "api".into(), described }
}

fn shown(documented: &Documented, view: &View, told: Vec<(u64, Figures)>) -> Value {
    let heard = told.into_iter().map(|(id, told)| (NodeId(id), Heard::new(told, Instant::now()))).collect();
    serde_json::to_value(seen(Some(documented), &documented.described, (view, &heard), vec![])).unwrap()
}

fn servers(name: &str, known: u64, able: u64) -> Servers {
    Servers { name: name.into(), known, able }
}

#[test]
fn what_balancers_say_is_summed_up_by_the_names_of_the_document() {
    let documented = documented(
        r#"{"routes":{"a":{"match":{"path":"/a"},"service":"web"},"b":{"match":{"path":"/b"},"service":"skep"}},
            "services":{"web":{"urls":["http://10.0.0.1:1","http://[::1]:2"]}}}"#,
    );
    let there = view(vec![balancer(1, Some((7, None))), balancer(2, Some((7, None)))], vec![]);
    let first = Figures {
        over_ms: 1000,
        all: counts(30, 300, 4),
        routes: vec![("a".into(), counts(20, 200, 4)), ("<gone>".into(), counts(1, 9, 0))],
        services: vec![servers("web", 2, 2), servers("<gone>", 1, 1)],
        rest: Rest { routes: 1, services: 0, counts: counts(2, 5, 0) },
    };
    let second = Figures {
        over_ms: 2000,
        all: counts(5, 7, 0),
        routes: vec![("a".into(), counts(5, 7, 0))],
        services: vec![servers("web", 2, 1)],
        ..Figures::default()
    };
    let seen = shown(&documented, &there, vec![(1, first), (2, second), (3, Figures::default())]);
    let whole = (&seen["requests_per_s"], &seen["answers"], &seen["refused"]);
    assert_eq!(whole, (&json!(32.5), &json!({"2xx": 307, "4xx": 4}), &json!({"rate-limited": 4})));
    let [a, b] = &seen["routes"].as_array().unwrap()[..] else { panic!("{seen}") };
    let of = |it: &Value| (it["name"].clone(), it["requests_per_s"].clone(), it["answers"].clone());
    assert_eq!(of(a), (json!("a"), json!(22.5), json!({"2xx": 207, "4xx": 4})));
    assert_eq!((of(b), &a["path"]), ((json!("b"), Value::Null, json!({})), &json!("/a/")));
    let others = json!({"routes": 0, "requests_per_s": 3.0, "answers": {"2xx": 14}, "refused": {}});
    assert_eq!(seen["others"], others);
    let urls = ["http://10.0.0.1:1", "http://[::1]:2"];
    let expected = json!([
        {"name": "skep", "urls": [], "servers": null, "available": null},
        {"name": "web", "urls": urls, "servers": 2, "available": 1},
    ]);
    assert_eq!(seen["services"], expected);
    assert!(!seen.to_string().contains("gone"), "{seen}");
    let rates: Vec<_> =
        seen["balancers"].as_array().unwrap().iter().map(|it| &it["requests_per_s"]).collect();
    assert_eq!(rates, [&json!(30.0), &json!(2.5)]);
}

#[test]
fn where_nobody_has_said_a_rate_there_is_none() {
    let documented = documented(r#"{"routes":{"a":{"match":{"path":"/a"},"service":"skep"}}}"#);
    let there = view(vec![balancer(1, Some((7, None)))], vec![]);
    let first =
        Figures { all: counts(0, 9, 0), routes: vec![("a".into(), counts(0, 9, 0))], ..Figures::default() };
    let seen = shown(&documented, &there, vec![(1, first)]);
    for it in [&seen, &seen["routes"][0], &seen["balancers"][0]] {
        assert_eq!(it["requests_per_s"], Value::Null, "{it}");
    }
    assert_eq!(seen["answers"], json!({"2xx": 9}));
    // Of who is gone nothing is shown.
    let gone = view(vec![], vec![balancer(1, Some((7, None)))]);
    let told = Figures { over_ms: 1000, all: counts(5, 9, 0), ..Figures::default() };
    let seen = shown(&documented, &gone, vec![(1, told)]);
    assert_eq!((&seen["answers"], &seen["balancers"][0]["requests_per_s"]), (&json!({}), &Value::Null));
}

#[test]
fn each_balancer_is_shown_where_it_stands() {
    let elsewhere =
        GatewayAt { in_force: Some(GatewayRevision { lineage: 1, number: 70 }), ..GatewayAt::default() };
    let other = PeerRecord { gateway: Some(elsewhere), ..balancer(5, None) };
    let left = PeerRecord { state: NodeState::Left, ..balancer(6, None) };
    let node = PeerRecord { program: Program::Node, ..balancer(7, None) };
    let live = vec![
        balancer(1, Some((7, None))),
        balancer(2, Some((6, None))),
        balancer(3, Some((6, Some(7)))),
        balancer(4, None),
        other,
        left,
        node,
    ];
    let seen = shown(&documented("{}"), &view(live, vec![balancer(8, Some((7, None)))]), vec![]);
    let stands: Vec<_> = seen["balancers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["id"].as_str().unwrap()[15..].to_owned(),
                it["stand"].as_str().unwrap(),
                it["revision"].clone(),
            )
        })
        .collect();
    let stand = |id: &str, stand, revision: Value| (id.to_owned(), stand, revision);
    let expected = [
        stand("1", "follows", json!(7)),
        stand("2", "late", json!(6)),
        stand("3", "refuses", json!(6)),
        stand("4", "apart", Value::Null),
        stand("5", "late", json!(70)),
        stand("8", "silent", json!(7)),
    ];
    assert_eq!(stands, expected);
    assert_eq!(
        (&seen["balancers"][2]["refuses"], &seen["balancers"][5]["state"]),
        (&json!(7), &json!("dead"))
    );
}

#[test]
fn of_many_routes_the_busiest_are_shown_and_the_others_summed_up() {
    let route = |n: usize| format!(r#""r{n:04}":{{"match":{{"path":"/{n}"}},"service":"skep"}}"#);
    let routes: Vec<String> = (0..SHOWN_MAX + 20).map(route).collect();
    let documented = documented(&format!(r#"{{"routes":{{{}}}}}"#, routes.join(",")));
    let there = view(vec![balancer(1, Some((7, None)))], vec![]);
    let name = |n: usize| format!("r{n:04}");
    // The first ones are not asked for now, and the very first never was.
    let busy = |n: usize| (name(n), counts(u64::from(n > 19), n as u64, 0));
    let told =
        Figures { over_ms: 1000, routes: (1..SHOWN_MAX + 20).map(busy).collect(), ..Figures::default() };
    let seen = shown(&documented, &there, vec![(1, told)]);
    let shown: Vec<_> = seen["routes"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    let expected: Vec<_> = (20..SHOWN_MAX + 20).map(|n| json!(name(n))).collect();
    assert_eq!(shown, expected);
    let others = json!({"routes": 20, "requests_per_s": 0.0, "answers": {"2xx": 190}, "refused": {}});
    assert_eq!((&seen["others"], &seen["of"]["routes"]), (&others, &json!(SHOWN_MAX + 20)));
}

#[test]
fn a_document_is_shown_in_short_and_without_what_opens_anything() {
    let (key, secret) = ("alice-has-this-key-0001", "a hidden secret of thirty-two bytes");
    let password = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    let documented = documented(&format!(
        r#"{{"unmatched":"skep","consumers":{{"alice":{{"groups":["staff"],"keys":[{{"key":"{key}","label":"of-alice"}}],
                "passwords":[{{"user":"user-1","password":"{password}"}},{{"user":"user-2","password":"{password}"}}]}}}},
            "issuers":{{"i":{{"iss":"i","aud":"any","keys":[{{"kid":"k","secret":"{secret}"}}]}},
                "j":{{"iss":"j","aud":"any","jwks":"https://j.test/keys"}}}},
            "services":{{"web":{{"urls":["http://web"]}}}},
            "routes":{{"all":{{"match":{{"hosts":["a.test","*.b.test"],"exact_path":"/x","methods":["GET"],"headers":{{"x":"1"}}}},
                "services":{{"web":9,"skep":1}},"maintenance":true,"https_only":true,"max_body":"1KiB",
                "addresses":{{"deny":["10.0.0.0/8"]}},"cors":{{"origins":["*"]}},
                "auth":{{"keys":true,"jwt":["i"],"groups":["staff"]}},
                "limits":[{{"rate":3,"per":"minute","by":"address"}}]}},
            "to":{{"match":{{"path":"/y"}},"redirect":{{"host":"c.test"}}}}}}}}"#
    ));
    let seen = shown(&documented, &view(vec![], vec![]), vec![]);
    let route = &seen["routes"][0];
    let matched = (&route["hosts"], &route["path"], &route["methods"], &route["headers"], &route["services"]);
    let expected =
        (json!(["a.test", "*.b.test"]), json!("=/x"), json!(["GET"]), json!(1), json!({"skep": 1, "web": 9}));
    assert_eq!(matched, (&expected.0, &expected.1, &expected.2, &expected.3, &expected.4));
    let policies = json!([
        "maintenance",
        "https only",
        "addresses",
        "cors",
        "keys",
        "tokens of i",
        "groups staff",
        "limit 3 per minute by address",
        "bodies up to 1024 bytes"
    ]);
    assert_eq!(route["policies"], policies);
    assert_eq!(seen["routes"][1]["redirect"], "302 c.test/…");
    let expected = json!([{"name": "alice", "groups": ["staff"], "keys": 1, "passwords": 2}]);
    let issuers = json!([{"name": "i", "keys": 1}, {"name": "j", "keys": null}]);
    assert_eq!((&seen["consumers"], &seen["issuers"]), (&expected, &issuers));
    let kept = skep_gateway::auth::KeyDigest::of(key.as_bytes()).fingerprint();
    for hidden in [key, secret, &kept, "sha256", "of-alice", "argon2", "user-"] {
        assert!(!seen.to_string().contains(hidden), "{hidden}: {seen}");
    }
    let head = (&seen["revision"], &seen["time"], &seen["source"], &seen["unmatched"]);
    assert_eq!(head, (&json!(7), &json!("2026-11-30T10:00:00Z"), &json!("api"), &json!("skep")));
}
