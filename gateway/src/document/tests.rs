//! What a document may say, and where each fault is.

use std::time::Duration;

use super::*;
use crate::auth::{KEY_BYTES_MAX, KeyDigest, make_key};
use crate::fault::FAULTS_MAX;
use crate::limit::{By, Limit, Per, Scope};
use crate::table::Table;

fn faults(text: &str) -> Vec<(String, String)> {
    match Document::read(text).and_then(Table::compile) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|it| (it.pointer, it.fault)).collect(),
    }
}

fn pointers(text: &str) -> Vec<String> {
    faults(text).into_iter().map(|(pointer, _)| pointer).collect()
}

const ALL: &str = r#"{
    "unmatched": "not-found",
    "services": {
        "web": {
            "urls": ["http://10.0.0.5:8080", {"url": "http://[fd00::1]:8080/", "weight": 0.5}],
            "probe": {"path": "/healthz", "status": "200-299", "interval": "1s"},
            "max_in_flight": 10, "max_queue": 5, "timeout": "30s"
        },
        "app": {"urls": ["http://tasks.App:8080"], "host": "upstream"}
    },
    "routes": {
        "web": {
            "match": {
                "hosts": ["www.example.org", "*.example.org"], "path": "/web",
                "methods": ["GET", "HEAD"], "headers": {"X-Canary": "1"}
            },
            "services": {"web": 9, "app": 1},
            "strip_prefix": true, "https_only": true, "max_body": "1MiB",
            "maintenance": {"retry_after_s": 60, "allow": ["10.0.0.0/8"]},
            "addresses": {"allow": ["0.0.0.0/0"], "deny": ["192.0.2.0/24"]},
            "request_headers": {"set": {"x-forwarded-prefix": "/web"}, "remove": ["cookie"]},
            "response_headers": {"add": {"cache-control": "no-store"}},
            "auth": {"keys": {"header": "X-Token", "authorization": false, "query": "token"}, "groups": ["b", "a"]},
            "limits": [
                {"rate": 100, "per": "second", "burst": 200, "by": "address", "scope": "balancer"},
                {"rate": 1000, "per": "hour", "by": "consumer"}, {"rate": 90, "per": "minute", "by": "route"}
            ],
            "cors": {"origins": ["https://app.example.org"], "credentials": true, "headers": ["x-a"], "max_age_s": 60}
        },
        "old": {"match": {"exact_path": "/old"}, "redirect": {"status": 301, "path": "/web/"}},
        "nodes": {"match": {"path": "/api"}, "service": "skep", "strip_prefix": true, "maintenance": false}
    },
    "consumers": {
        "alice": {
            "groups": ["b", "a"],
            "keys": [
                "a-key-that-was-given",
                {"key": "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "label": "of old"}
            ]
        },
        "bob": {}
    }
}"#;

#[test]
fn all_that_there_is_can_be_said() {
    let document = Document::read(ALL).unwrap();
    let web = &document.services["web"];
    assert_eq!(
        web.targets.iter().map(Target::authority).collect::<Vec<_>>(),
        ["10.0.0.5:8080", "[fd00::1]:8080"]
    );
    assert_eq!((web.probe.statuses.clone(), web.probe.interval), (200..=299, Duration::from_secs(1)));
    assert_eq!(document.services["app"].host_sent().as_deref(), Some("tasks.app:8080"));
    assert_eq!(web.host_sent(), None);
    let route = &document.routes["web"];
    assert!(route.leads_to("app") && !route.leads_to(SKEP));
    assert_eq!(route.matches.headers, [("x-canary".to_owned(), "1".to_owned())]);
    assert_eq!(document.routes["nodes"].policies.maintenance, None);
    let auth = route.policies.auth.as_ref().unwrap();
    let keys = auth.keys.as_ref().unwrap();
    assert_eq!((&*keys.header, keys.authorization), ("x-token", false));
    assert_eq!(keys.query.as_deref(), Some("token"));
    assert_eq!(auth.groups, ["a", "b"]);
    assert_eq!(
        route.policies.limits,
        [
            Limit {
                rate: 100,
                per: Per::Second,
                burst: 200,
                by: By::Address,
                scope: Scope::Balancer,
                is_shared: false
            },
            Limit {
                rate: 1000,
                per: Per::Hour,
                burst: 1,
                by: By::Consumer,
                scope: Scope::Cluster,
                is_shared: false
            },
            Limit {
                rate: 90,
                per: Per::Minute,
                burst: 2,
                by: By::Route,
                scope: Scope::Cluster,
                is_shared: false
            },
        ]
    );
    let alice = &document.consumers["alice"];
    let labels: Vec<&str> = alice.keys.iter().map(|it| it.label.as_str()).collect();
    assert_eq!(labels, [&*KeyDigest::of(b"a-key-that-was-given").fingerprint(), "of old"]);
    assert_eq!(document.consumers["bob"], Consumer::default());
    assert!(Table::compile(document).is_ok());
}

#[test]
fn a_document_without_anything_is_one() {
    for text in ["", "{}", "# nothing yet\n"] {
        assert_eq!(Document::read(text), Ok(Document::default()));
    }
}

#[test]
fn every_fault_is_told_with_its_place() {
    let text = r#"{
        "service": {},
        "services": {
            "skep": {"urls": ["http://a:1"]},
            "a/b": {"urls": ["http://a:1"]},
            "web": {"urls": ["ftp://a", "http://a:1/x", {"url": "http://a:1", "wieght": 2}], "probe": 1}
        },
        "routes": {
            "r": {"match": {"paht": "/x", "path": "x"}, "service": "wbe"},
            "s": {"service": "web", "redirect": {}, "max_body": 5}
        }
    }"#;
    let mut found = pointers(text);
    found.sort();
    assert_eq!(
        found,
        [
            "/routes/r",
            "/routes/r/match/paht",
            "/routes/r/match/path",
            "/routes/s",
            "/routes/s/max_body",
            "/routes/s/redirect",
            "/service",
            "/services/a~1b",
            "/services/skep",
            "/services/web/probe",
            "/services/web/urls/0",
            "/services/web/urls/1",
            "/services/web/urls/2/wieght",
        ]
    );
}

#[test]
fn what_a_route_may_not_say_is_refused() {
    for (route, pointer) in [
        ("", ""),
        ("services = {}", "/services"),
        ("services = {skep = 0}", "/services"),
        ("services = {skep = -1}", "/services/skep"),
        ("service = \"gone\"", ""),
        ("service = \"skep\"\nmatch.hosts = []", "/match/hosts"),
        ("service = \"skep\"\nmatch.hosts = [\"a.test:80\"]", "/match/hosts/0"),
        ("service = \"skep\"\nmatch.methods = [\"get\"]", "/match/methods/0"),
        ("service = \"skep\"\nmatch.path = \"/a/../b\"", "/match/path"),
        ("service = \"skep\"\nmatch.path = \"/a%2fb\"", "/match/path"),
        ("service = \"skep\"\nmatch = {path = \"/a\", exact_path = \"/a\"}", "/match/exact_path"),
        ("service = \"skep\"\nmatch.headers = {x-a = \"1\", x_a = \"1\"}", "/match/headers/x_a"),
        ("service = \"skep\"\nmatch.headers = {host = \"a\"}", "/match/headers/host"),
        ("service = \"skep\"\nmatch.exact_path = \"/a\"\nstrip_prefix = true", "/strip_prefix"),
        ("service = \"skep\"\nrequest_headers.set = {x-a = \"1\\r\\nx-b: 2\"}", "/request_headers/set/x-a"),
        (
            "service = \"skep\"\nrequest_headers.add = {Content-Length = \"1\"}",
            "/request_headers/add/Content-Length",
        ),
        ("service = \"skep\"\nrequest_headers.remove = [\"transfer_encoding\"]", "/request_headers/remove/0"),
        ("service = \"skep\"\nrequest_headers.set = {x_consumer_id = \"1\"}", "/request_headers"),
        ("service = \"skep\"\nrequest_headers.remove = [\"Idempotency_Key\"]", "/request_headers"),
        (
            "service = \"skep\"\nresponse_headers = {set = {x-a = \"1\"}, remove = [\"X_A\"]}",
            "/response_headers",
        ),
        ("service = \"skep\"\naddresses = {}", "/addresses"),
        ("service = \"skep\"\naddresses.allow = []", "/addresses/allow"),
        ("service = \"skep\"\naddresses.deny = [\"10.0.0.0/33\"]", "/addresses/deny/0"),
        ("service = \"skep\"\nhttps_only = \"yes\"", "/https_only"),
        ("service = \"skep\"\ncors = {}", "/cors"),
        ("service = \"skep\"\ncors.origins = []", "/cors/origins"),
        ("service = \"skep\"\ncors.origins = [\"*\", \"https://a.test\"]", "/cors/origins/0"),
        ("service = \"skep\"\ncors.origins = [\"null\"]", "/cors/origins/0"),
        ("service = \"skep\"\ncors.origins = [\"https://A.test\"]", "/cors/origins/0"),
        ("service = \"skep\"\ncors.origins = [\"https://a.test/\"]", "/cors/origins/0"),
        ("service = \"skep\"\ncors.origins = [\"https://a.test:443\"]", "/cors/origins/0"),
        ("service = \"skep\"\ncors = {origins = [\"*\"], credentials = true}", "/cors/credentials"),
        (
            "service = \"skep\"\ncors.origins = [\"*\"]\nresponse_headers.set = {access-control-allow-origin = \"x\"}",
            "/cors",
        ),
        ("service = \"skep\"\nauth = true", "/auth"),
        ("service = \"skep\"\nauth = {}", "/auth"),
        ("service = \"skep\"\nauth.keys = false", "/auth/keys"),
        ("service = \"skep\"\nauth.keys = {cookie = \"a\"}", "/auth/keys/cookie"),
        ("service = \"skep\"\nauth.keys.header = \"x_api_key\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.header = \"Authorization\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.header = \"x.api.key\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.header = \"host\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.header = \"X-Real-Ip\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.header = \"content-type\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.header = \"x-consumer-id\"", "/auth/keys/header"),
        ("service = \"skep\"\nauth.keys.query = \"a=b\"", "/auth/keys/query"),
        ("service = \"skep\"\nauth.keys.query = \"\"", "/auth/keys/query"),
        ("service = \"skep\"\nauth = {keys = true, groups = []}", "/auth/groups"),
        ("service = \"skep\"\nauth = {keys = true, groups = [\"a,b\"]}", "/auth/groups/0"),
        ("service = \"skep\"\nauth = {keys = true, groups = [\"a\", \"a\"]}", "/auth/groups"),
        ("redirect = {}", "/redirect"),
        ("redirect = {path = \"//evil.test\"}", "/redirect/path"),
        ("redirect = {path = \"/a\\r\\nx: y\"}", "/redirect/path"),
        ("redirect = {host = \"a b\"}", "/redirect/host"),
        ("redirect = {path = \"/a\", status = 304}", "/redirect/status"),
    ] {
        let text = format!("[routes.r]\n{route}\n");
        assert!(pointers(&text).contains(&format!("/routes/r{pointer}")), "{route}: {:?}", faults(&text));
    }
}

#[test]
fn a_limit_that_cannot_be_kept_to_is_refused_at_its_place() {
    let many = ["address", "route"].map(|by| {
        ["second", "minute", "hour"]
            .map(|per| format!("{{rate = 1, per = \"{per}\", by = \"{by}\"}},"))
            .concat()
    });
    for (limits, pointer) in [
        ("true", ""),
        ("[]", ""),
        (&*format!("[{}]", many.concat()), ""),
        ("[{}]", "/0"),
        ("[{rate = 1, by = \"route\"}]", "/0"),
        ("[{rate = 1, per = \"second\"}]", "/0"),
        ("[{per = \"second\", by = \"route\"}]", "/0"),
        ("[{rate = 0, per = \"second\", by = \"route\"}]", "/0/rate"),
        ("[{rate = 0.5, per = \"second\", by = \"route\"}]", "/0/rate"),
        ("[{rate = 1000001, per = \"second\", by = \"route\"}]", "/0/rate"),
        ("[{rate = 1, per = \"day\", by = \"route\"}]", "/0/per"),
        ("[{rate = 1, per = \"second\", by = \"user\"}]", "/0/by"),
        ("[{rate = 1, per = \"second\", by = \"route\", burst = 0}]", "/0/burst"),
        ("[{rate = 100, per = \"second\", by = \"route\", burst = 1000001}]", "/0/burst"),
        ("[{rate = 1, per = \"hour\", by = \"route\", burst = 25}]", "/0/burst"),
        ("[{rate = 1, per = \"second\", by = \"route\", brust = 1}]", "/0/brust"),
        ("[{rate = 1, per = \"second\", by = \"route\", scope = \"world\"}]", "/0/scope"),
        ("[{rate = 1, per = \"second\", by = \"consumer\"}]", "/0"),
        (
            "[{rate = 1, per = \"second\", by = \"route\"}, {rate = 2, per = \"second\", by = \"route\"}]",
            "/1",
        ),
    ] {
        let text = format!("[routes.r]\nservice = \"skep\"\nlimits = {limits}\n");
        let found = pointers(&text);
        assert!(
            found.iter().all(|it| *it == format!("/routes/r/limits{pointer}")),
            "{limits}: {:?}",
            faults(&text)
        );
        assert!(!found.is_empty(), "{limits}");
    }
    for limits in [
        "[{rate = 1, per = \"hour\", by = \"route\", burst = 24}]",
        "[{rate = 1000000, per = \"second\", by = \"route\", burst = 1000000}]",
        "[{rate = 1, per = \"second\", by = \"route\"}, {rate = 2, per = \"second\", by = \"address\"}]",
        "[{rate = 1, per = \"second\", by = \"consumer\", scope = \"balancer\"}]\nauth.keys = true",
    ] {
        let text = format!("[routes.r]\nservice = \"skep\"\nlimits = {limits}\n");
        assert_eq!(faults(&text), [], "{limits}");
    }
}

#[test]
fn what_a_service_may_not_say_is_refused() {
    for (service, pointer) in [
        ("", ""),
        ("urls = []", "/urls"),
        ("urls = [\"http://a:0\"]", "/urls/0"),
        ("urls = [\"http://a:99999\"]", "/urls/0"),
        ("urls = [\"http://0.0.0.0:80\"]", "/urls/0"),
        ("urls = [\"http://1.2.3:80\"]", "/urls/0"),
        ("urls = [\"http://u@a:80\"]", "/urls/0"),
        ("urls = [\"http://a:80\", \"http://a\"]", "/urls"),
        ("urls = [{url = \"http://a\", weight = 0}]", "/urls/0/weight"),
        ("urls = [{weight = 1}]", "/urls/0"),
        ("urls = [\"http://a\", \"http://b\"]\nhost = \"upstream\"", "/host"),
        ("urls = [\"http://a\"]\nprobe.status = \"200\"", "/probe/status"),
        ("urls = [\"http://a\"]\nprobe = {path = \"/a b\"}", "/probe/path"),
        ("urls = [\"http://a\"]\nprobe = {path = \"/a\", status = \"300-200\"}", "/probe/status"),
        ("urls = [\"http://a\"]\nprobe.interval = \"1ms\"", "/probe/interval"),
        ("urls = [\"http://a\"]\nmax_in_flight = 0", "/max_in_flight"),
    ] {
        let text = format!("[services.s]\n{service}\n");
        assert!(pointers(&text).contains(&format!("/services/s{pointer}")), "{service}: {:?}", faults(&text));
    }
}

/// And no fault has a key in it.
#[test]
fn what_a_consumer_may_not_say_is_refused() {
    let made = make_key([7; 32]);
    let mistyped = made.replace("0707", "0770");
    let long = "x".repeat(KEY_BYTES_MAX + 1);
    let many = format!(
        "keys = [{}]",
        (0..=KEYS_MAX).map(|n| format!("\"0123456789abcd{n:02}\",")).collect::<String>()
    );
    let crowd = format!("groups = [{}]", (0..=GROUPS_MAX).map(|n| format!("\"g{n}\",")).collect::<String>());
    for (consumer, pointer) in [
        ("secrets = []", "/secrets"),
        ("keys = \"0123456789abcdef\"", "/keys"),
        ("keys = [7]", "/keys/0"),
        ("keys = [\"0123456789abcde\"]", "/keys/0"),
        (&format!("keys = [\"{long}\"]"), "/keys/0"),
        ("keys = [\"0123456789 abcdef\"]", "/keys/0"),
        ("keys = [\"0123456789äbcdef\"]", "/keys/0"),
        (&format!("keys = [\"{mistyped}\"]"), "/keys/0"),
        ("keys = [\"skp_0123456789abcdef\"]", "/keys/0"),
        ("keys = [\"sha256:0123456789abcdef\"]", "/keys/0"),
        (&format!("keys = [\"sha256:{}\"]", "A".repeat(64)), "/keys/0"),
        ("keys = [\"0123456789abcdef\", \"0123456789abcdef\"]", "/keys/1"),
        (
            &format!("keys = [\"0123456789abcdef\", \"{}\"]", KeyDigest::of(b"0123456789abcdef").kept()),
            "/keys/1",
        ),
        ("keys = [{label = \"a\"}]", "/keys/0"),
        ("keys = [{key = \"0123456789abcdef\", label = \" a\"}]", "/keys/0/label"),
        ("keys = [{key = \"0123456789abcdef\", name = \"a\"}]", "/keys/0/name"),
        (&many, "/keys"),
        (&crowd, "/groups"),
        ("groups = [\"a b\"]", "/groups/0"),
        ("groups = [\"a\", \"a\"]", "/groups"),
    ] {
        let text = format!("[consumers.c]\n{consumer}\n");
        let found = faults(&text);
        assert!(found.iter().any(|(it, _)| *it == format!("/consumers/c{pointer}")), "{consumer}: {found:?}");
        for secret in ["0123456789", &mistyped, &long] {
            assert!(!found.iter().any(|(_, fault)| fault.contains(secret)), "{found:?}");
        }
    }
    assert_eq!(pointers("consumers.\"a/b\" = {}"), ["/consumers/a~1b"]);
    assert!(faults(&format!("consumers.c.keys = [\"{made}\"]")).is_empty());
}

#[test]
fn two_consumers_have_no_key_in_common_however_it_is_given() {
    let kept = KeyDigest::of(b"0123456789abcdef").kept();
    for other in ["0123456789abcdef", &kept] {
        let text = format!(
            "consumers.a.keys = [\"0123456789abcdef\"]\nconsumers.b.keys = [\"fedcba9876543210\", \"{other}\"]\n"
        );
        assert_eq!(pointers(&text), ["/consumers/b/keys/1"]);
        assert!(Document::judge(&Value::read(&text).unwrap()).unwrap_err().is_clash);
    }
}

#[test]
fn where_a_route_to_the_nodes_keeps_somebody_out_no_other_path_leads_there_unless_the_document_says_so() {
    let guarded =
        "[routes.r]\nservice = \"skep\"\nmatch.path = \"/api\"\naddresses.allow = [\"10.0.0.0/8\"]\n";
    let unmatched = |text: &str| Document::read(text).unwrap().unmatched;
    assert_eq!(unmatched(guarded), Unmatched::NotFound);
    assert_eq!(unmatched(&format!("unmatched = \"skep\"\n{guarded}")), Unmatched::Skep);
    let proved = "[routes.r]\nservice = \"skep\"\nmatch.path = \"/api\"\nauth.keys = true\n";
    assert_eq!(unmatched(proved), Unmatched::NotFound);
    assert_eq!(unmatched("[routes.r]\nservice = \"skep\"\nhttps_only = true\n"), Unmatched::Skep);
}

#[test]
fn a_document_has_so_many_bytes_and_objects_and_no_more() {
    let padded = format!("#{}", "x".repeat(DOCUMENT_BYTES_MAX));
    assert_eq!(pointers(&padded), [""]);
    let routes = |count: usize| -> String {
        (0..count).map(|n| format!("r{n} = {{service = \"skep\", match.path = \"/{n}\"}}\n")).collect()
    };
    assert!(faults(&format!("[routes]\n{}", routes(OBJECTS_MAX))).is_empty());
    assert_eq!(pointers(&format!("[routes]\n{}", routes(OBJECTS_MAX + 1))), [""]);
    assert_eq!(pointers(&format!("[consumers.c]\n[routes]\n{}", routes(OBJECTS_MAX))), [""]);
    let wrong: String = (0..2 * FAULTS_MAX).map(|n| format!("f{n} = 1\n")).collect();
    assert_eq!(faults(&wrong).len(), FAULTS_MAX);
}

#[test]
fn a_note_is_an_object_of_bounded_length_and_says_nothing_of_requests() {
    let document = |note: &str| {
        format!(
            "{{\"consumers\":{{\"c\":{{\"kong\":{note}}}}},\"routes\":{{\"r\":{{\"service\":\"skep\",\"kong\":{note}}}}}}}"
        )
    };
    let bare =
        Document::read("{\"consumers\":{\"c\":{}},\"routes\":{\"r\":{\"service\":\"skep\"}}}").unwrap();
    assert_eq!(Document::read(&document("{\"api\":{\"x\":[1,null]}}")).unwrap(), bare);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(NOTE_BYTES_MAX));
    for note in ["7", "[]", "null", &long] {
        assert_eq!(pointers(&document(note)), ["/routes/r/kong", "/consumers/c/kong"], "{note:.20}");
    }
}

#[test]
fn who_asks_again_has_the_same_of_several_services_where_a_route_says_by_what() {
    let with = |said: &str| {
        format!(
            "services.a.urls = [\"http://a:1\"]\nservices.b.urls = [\"http://b:1\"]\n[routes.r]\n{said}\n"
        )
    };
    let both = "services = {a = 1, b = 1}";
    for (said, pointer) in [
        ("sticky = \"address\"", None),
        ("sticky = \"cookie\"", None),
        ("sticky = {cookie = \"app\"}", None),
        ("sticky = \"consumer\"\nauth.keys = true", None),
        ("sticky = \"consumer\"", Some("/routes/r/sticky")),
        ("sticky = \"colour\"", Some("/routes/r/sticky")),
        ("sticky = {}", Some("/routes/r/sticky")),
        ("sticky = {cookie = \"a b\"}", Some("/routes/r/sticky/cookie")),
        ("sticky = {cookie = \"a\", age = 1}", Some("/routes/r/sticky/age")),
        ("sticky = true", Some("/routes/r/sticky")),
    ] {
        let expected: Vec<&str> = pointer.into_iter().collect();
        assert_eq!(pointers(&with(&format!("{both}\n{said}"))), expected, "{said}");
    }
    for one in ["service = \"a\"", "services = {a = 1}", "redirect.host = \"x.test\""] {
        assert_eq!(pointers(&with(&format!("{one}\nsticky = \"address\""))), ["/routes/r/sticky"], "{one}");
    }
}
