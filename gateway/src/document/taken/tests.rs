//! From where a route has its policies, and what does not go together.

use std::sync::Arc;

use super::StatedAt;
use crate::auth::Auth;
use crate::document::{Document, Route, Unmatched};
use crate::limit::Limit;
use crate::policy::{Cache, Maintenance};
use crate::table::Table;

/// Some of everything, in the defaults and at a service.
const AROUND: &str = r#"
    consumers.a.keys = ["0123456789abcdef"]
    services.plain.urls = ["http://b:1"]
    [defaults]
    maintenance = {retry_after_s = 7}
    https_only = true
    addresses.deny = ["192.0.2.0/24"]
    cors.origins = ["https://a.test"]
    limits = [{rate = 9, per = "second", by = "address"}]
    auth.keys = true
    ask = {service = "plain", path = "/auth"}
    max_body = "1KiB"
    compress = {min = "2KiB"}
    cache = {max_entry = "1KiB", grace = "5s"}
    request_headers.set = {x-from = "defaults"}
    response_headers.set = {x-from = "defaults"}
    [services.own]
    urls = ["http://a:1"]
    maintenance = false
    addresses.allow = ["10.0.0.0/8"]
    limits = [{rate = 5, per = "minute", by = "route"}, {rate = 6, per = "hour", by = "route", shared = false}]
    auth = {keys = true, groups = ["staff"]}
    request_headers.remove = ["x-from"]
"#;

fn read(text: &str) -> Document {
    Document::read(text).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn route(text: &str) -> Route {
    read(&format!("{AROUND}\n[routes.r]\n{text}\n")).routes.remove("r").unwrap()
}

fn faults(text: &str) -> Vec<(String, String)> {
    let found = Document::read(text).and_then(Table::compile);
    found.err().unwrap_or_default().into_iter().map(|it| (it.pointer, it.fault)).collect()
}

fn groups(auth: &Option<Arc<Auth>>) -> Option<&[String]> {
    auth.as_ref().map(|it| it.groups.as_slice())
}

#[test]
fn a_policy_comes_whole_from_the_route_else_its_service_else_the_defaults() {
    let plain = route("service = \"plain\"");
    assert_eq!(
        plain.policies.maintenance,
        Some(Maintenance { retry_after_s: Some(7), ..Maintenance::default() })
    );
    assert!(plain.policies.https_only && plain.cors.is_some());
    assert_eq!(plain.policies.addresses.deny.len(), 1);
    assert_eq!(plain.policies.body_bytes_max, Some(1024));
    assert_eq!(plain.policies.compress.as_ref().map(|it| it.length_min), Some(2048));
    assert_eq!(plain.policies.cache, Some(Cache { entry_bytes_max: 1024, grace_s: 5 }));
    assert_eq!(groups(&plain.policies.auth), Some(&[][..]));
    assert_eq!(plain.policies.ask.as_ref().map(|it| &*it.path), Some("/auth"));
    assert_eq!(plain.request.set, [("x-from".to_owned(), "defaults".to_owned())]);
    assert_eq!(plain.stated_at("auth"), Some(&StatedAt::Defaults));
    assert!(plain.from.iter().all(|it| it.at == StatedAt::Defaults && !it.is_off));

    let own = route("service = \"own\"");
    assert_eq!((own.policies.maintenance.as_ref(), own.policies.https_only), (None, true));
    // Nothing of what the defaults deny.
    assert_eq!((own.policies.addresses.allow.len(), own.policies.addresses.deny.len()), (1, 0));
    assert_eq!(groups(&own.policies.auth), Some(&["staff".to_owned()][..]));
    assert_eq!((own.request.set.len(), own.request.remove.len()), (0, 1));
    assert_eq!(own.policies.limits.iter().map(|it| it.rate).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(own.stated_at("auth"), Some(&StatedAt::Service("own".into())));

    let said =
        route("service = \"own\"\nauth.keys.header = \"x-key\"\nhttps_only = false\nmax_body = \"2KiB\"");
    assert_eq!(groups(&said.policies.auth), Some(&[][..]), "groups are a part of the policy");
    assert_eq!((said.policies.https_only, said.policies.body_bytes_max), (false, Some(2048)));
    assert_eq!(said.stated_at("auth"), Some(&StatedAt::Route));

    // The nodes are no service of the document, and a redirect goes to none.
    for text in ["service = \"skep\"", "redirect.path = \"/x\""] {
        assert_eq!(route(text).stated_at("auth"), Some(&StatedAt::Defaults), "{text}");
    }
}

#[test]
fn a_route_switches_each_policy_off_by_the_same_word() {
    let names = [
        "maintenance",
        "https_only",
        "addresses",
        "cors",
        "limits",
        "auth",
        "ask",
        "max_body",
        "cache",
        "compress",
        "request_headers",
        "response_headers",
    ];
    for name in names {
        let off = route(&format!("service = \"plain\"\n{name} = false"));
        for it in &off.from {
            assert_eq!(it.is_off, it.policy == name, "{name}: {it:?}");
        }
        assert_eq!(off.stated_at(name), Some(&StatedAt::Route));
        assert_eq!(off.from.len(), names.len());
    }
    let none: String = names.map(|name| format!("{name} = false\n")).concat();
    let bare = route(&format!("service = \"plain\"\n{none}"));
    assert!(bare.policies.is_empty() && bare.cors.is_none());
    assert!(bare.request.is_empty() && bare.response.is_empty());
    // A service, too; and defaults that state nothing are none.
    let document = read(&format!(
        "[defaults]\n{none}[services.s]\nurls = [\"http://a:1\"]\n{none}[routes.r]\nservice = \"s\"\n"
    ));
    assert!(document.routes["r"].policies.is_empty());
    assert_eq!(document.unmatched, Unmatched::Skep);
}

#[test]
fn who_goes_to_several_services_takes_what_all_of_them_state_or_states_its_own() {
    let two = |a: &str, b: &str, route: &str| {
        format!(
            "[services.a]\nurls = [\"http://a:1\"]\n{a}\n[services.b]\nurls = [\"http://b:1\"]\n{b}\n\
             [routes.r]\nservices = {{a = 1, b = 1}}\n{route}\n"
        )
    };
    let same = read(&two("auth.keys = true", "auth.keys = true", ""));
    assert!(same.routes["r"].policies.auth.is_some());
    assert_eq!(same.routes["r"].stated_at("auth"), Some(&StatedAt::Service("a, b".into())));
    let limit = "limits = [{rate = 1, per = \"hour\", by = \"address\"";
    let (shared, own) = (format!("{limit}}}]"), format!("{limit}, shared = false}}]"));
    for (a, b, route, is_well) in [
        ("auth.keys = true", "", "", false),
        ("", "auth.keys = true", "", false),
        ("auth.keys = true", "auth = {keys = true, groups = [\"g\"]}", "", false),
        ("auth.keys = true", "auth = false", "", false),
        ("auth.keys = true", "", "auth = false", true),
        ("auth.keys = true", "", "auth.keys = true", true),
        ("max_body = \"1KiB\"", "max_body = \"2KiB\"", "", false),
        // Each would count what the other gets.
        (&shared, &shared, "", false),
        (&shared, &shared, "limits = false", true),
        (&own, &own, "", true),
    ] {
        let text = two(a, b, route);
        let found = faults(&text);
        let expected: &[&str] = if is_well { &[] } else { &["/routes/r"] };
        assert_eq!(
            found.iter().map(|(it, _)| it.as_str()).collect::<Vec<_>>(),
            expected,
            "{text}: {found:?}"
        );
    }
    // The nodes state nothing.
    let nodes = two("auth.keys = true", "", "").replace("b = 1", "skep = 1");
    assert_eq!(faults(&nodes).len(), 1);
}

#[test]
fn a_limit_of_a_service_or_of_the_defaults_counts_all_routes_that_take_it_together() {
    let document = read(
        r#"
        [defaults]
        limits = [{rate = 9, per = "second", by = "address"}]
        [services.s]
        urls = ["http://a:1"]
        limits = [{rate = 5, per = "second", by = "address"}, {rate = 5, per = "hour", by = "address", shared = false}]
        [services.t]
        urls = ["http://b:1"]
        [routes]
        a = {match.path = "/a", service = "s"}
        b = {match.path = "/b", service = "s"}
        c = {match.path = "/c", service = "t"}
        d = {match.path = "/d", service = "t"}
        defaults = {match.path = "/e", service = "t", limits = [{rate = 9, per = "second", by = "address"}]}
        "#,
    );
    let id = |name: &str, at: usize| {
        let route = &document.routes[name];
        let limit: &Limit = &route.policies.limits[at];
        limit.id(&route.counted(limit, name))
    };
    assert_eq!(id("a", 0), id("b", 0));
    assert_ne!(id("a", 1), id("b", 1));
    assert_eq!(id("c", 0), id("d", 0));
    // Nor is one of the defaults that of a route which is called so.
    let ids = [id("a", 0), id("a", 1), id("b", 1), id("c", 0), id("defaults", 0)];
    assert!((1..ids.len()).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
    // What a route states itself is called as before.
    let own = &document.routes["defaults"].policies.limits[0];
    assert_eq!(id("defaults", 0), own.id("defaults"));
}

#[test]
fn what_is_stated_in_several_places_and_does_not_go_together_is_told_of_the_route() {
    let service = |stated: &str, route: &str| {
        format!(
            "[services.s]\nurls = [\"http://a:1\"]\n{stated}\n[routes.r]\nservice = \"s\"\n{route}\n[routes.t]\nmatch.path = \"/t\"\nservice = \"s\"\nlimits = false\nresponse_headers = false\n"
        )
    };
    let by_consumer = "limits = [{rate = 1, per = \"hour\", by = \"consumer\"}]";
    let cors = "cors.origins = [\"*\"]";
    let said = "response_headers.set = {access-control-allow-origin = \"x\"}";
    for (text, pointer) in [
        (service(by_consumer, ""), "/routes/r"),
        (service(by_consumer, "auth.keys = true"), ""),
        (service("auth.keys = true", by_consumer), ""),
        (service("auth.keys = true", &format!("{by_consumer}\nauth = false")), "/routes/r/limits/0"),
        (service(said, cors), "/routes/r"),
        (service(cors, said), "/routes/r"),
        (service(&format!("{cors}\n{said}"), ""), "/services/s/cors"),
        (service("auth.jwt = [\"gone\"]", "auth = false"), "/services/s"),
        (service("strip_prefix = true", ""), "/services/s/strip_prefix"),
        (
            service("", "limits = [{rate = 1, per = \"hour\", by = \"route\", shared = true}]"),
            "/routes/r/limits/0/shared",
        ),
        ("defaults.auth.jwt = [\"gone\"]".to_owned(), "/defaults"),
        ("defaults.service = \"skep\"".to_owned(), "/defaults/service"),
        ("defaults = 7".to_owned(), "/defaults"),
        ("defaults.auth = true".to_owned(), "/defaults/auth"),
    ] {
        let found = faults(&text);
        let expected: &[&str] = if pointer.is_empty() { &[] } else { &[pointer] };
        assert_eq!(
            found.iter().map(|(it, _)| it.as_str()).collect::<Vec<_>>(),
            expected,
            "{text}: {found:?}"
        );
    }
}

#[test]
fn what_routes_take_of_one_policy_is_bounded_for_all_of_them() {
    let document = |networks: usize, routes: usize| {
        let networks: String =
            (0..networks).map(|n| format!("\"10.{}.{}.0/24\",", n / 256, n % 256)).collect();
        let routes: String = (0..routes)
            .map(|n| format!("r{n} = {{match.path = \"/{n}\", redirect.path = \"/x\"}}\n"))
            .collect();
        format!("defaults.addresses.deny = [{networks}]\n[routes]\n{routes}")
    };
    assert!(faults(&document(1000, 1000)).is_empty());
    let found = faults(&document(1000, 1100));
    assert!(found.len() == 1 && found[0].1.contains("policies"), "{found:?}");
    // What each states itself is bounded by the document's length.
    let own = document(1, 1100).replace("redirect.path", "addresses = false, redirect.path");
    assert!(faults(&own).is_empty());
}

#[test]
fn what_no_route_has_gets_past_no_default() {
    let unmatched = |text: &str| read(text).unmatched;
    for stated in [
        "auth.keys = true",
        "addresses.allow = [\"10.0.0.0/8\"]",
        "maintenance = true",
        "https_only = true",
        "limits = [{rate = 1, per = \"hour\", by = \"address\"}]",
        "max_body = \"1KiB\"",
        "cache = true",
        "request_headers.remove = [\"x-a\"]",
    ] {
        let text = format!("[defaults]\n{stated}\n");
        assert_eq!(unmatched(&text), Unmatched::NotFound, "{stated}");
        let open = format!("unmatched = \"skep\"\n{text}");
        assert_eq!(faults(&open)[0].0, "/unmatched", "{stated}");
    }
    // A route for all that is left has them.
    let rest = read("[defaults]\nauth.keys = true\n[routes.rest]\nservice = \"skep\"\n");
    assert!(rest.routes["rest"].policies.auth.is_some());
    // A route to the nodes that has its policy from elsewhere keeps them as closed as one of its own does; and one that
    // switches it off keeps nobody out.
    let text = "[services.s]\nurls = [\"http://a:1\"]\nauth.keys = true\n[routes.r]\nservice = \"s\"\n";
    assert_eq!(unmatched(text), Unmatched::Skep);
    let both =
        "[services.s]\nurls = [\"http://a:1\"]\n[routes.r]\nservices = {s = 1, skep = 1}\nauth.keys = true\n";
    assert_eq!(unmatched(both), Unmatched::NotFound);
}
