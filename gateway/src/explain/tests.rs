//! Requests that are explained as they would be judged.

use aws_lc_rs::hmac;

use super::*;
use crate::Document;
use crate::auth::jwt::encode;

const LIMITED: &str = "5 per minute, 1 at once, by address";

#[test]
fn a_request_is_explained_as_it_would_be_judged() {
    let document = r#"
        unmatched = "not-found"
        services.app.urls = ["http://a:1"]
        services.next.urls = ["http://b:1"]
        [routes.app]
        match = {hosts = ["*.test"], path = "/app"}
        services = {app = 9, next = 1}
        strip_prefix = true
        [routes.canary]
        match = {hosts = ["*.test"], path = "/app", headers = {x-canary = "1"}}
        service = "next"
        https_only = true
        [routes.inner]
        match.path = "/inner"
        service = "app"
        addresses.allow = ["10.0.0.0/8"]
        limits = [{rate = 5, per = "minute", by = "address"}]
    "#;
    let table = Table::compile(Document::read(document).unwrap()).unwrap();
    for (url, headers, route, outcome, sent) in [
        ("http://A.test:80/app/x?y", vec![], Some("app"), "app (9), next (1)", Some("/x?y")),
        ("http://a.test/app", vec!["X-Canary: 1"], Some("canary"), "308: https://a.test/app", None),
        ("https://a.test/app", vec!["X-Canary: 1"], Some("canary"), "next", Some("/app")),
        ("http://a.test/inner", vec![], Some("inner"), "403: not for 192.0.2.1", None),
        ("a.test", vec![], None, "404: no route has it", None),
    ] {
        let headers = headers.into_iter().map(str::to_owned).collect();
        let question =
            Question { url: url.into(), method: "GET".into(), headers, from: [192, 0, 2, 1].into() };
        let (route, sent) = (route.map(str::to_owned), sent.map(str::to_owned));
        let limits = if route.as_deref() == Some("inner") { vec![LIMITED.to_owned()] } else { vec![] };
        let policies = match route.as_deref() {
            Some("inner") => ["addresses: routes/inner", "limits: routes/inner"].map(str::to_owned).into(),
            Some("canary") => vec!["https_only: routes/canary".to_owned()],
            _ => vec![],
        };
        let outcome = outcome.into();
        let expected = Explained {
            certificate: None,
            route,
            auth: None,
            consumer: None,
            ask: None,
            limits,
            cache: None,
            compress: None,
            policies,
            outcome,
            sent,
        };
        assert_eq!(question.explain(&table, 0), expected, "{url}");
    }
}

#[test]
fn what_a_route_asks_of_who_asks_is_explained_with_who_that_is() {
    let document = r#"
        services.app.urls = ["http://a:1"]
        consumers.alice = {keys = ["0123456789abcdef"], groups = ["staff"]}
        consumers.bob = {keys = ["fedcba9876543210"]}
        [routes.app]
        service = "app"
        auth = {keys = {query = "apikey"}, groups = ["staff"]}
        limits = [{rate = 5, per = "minute", by = "consumer", burst = 3}, {rate = 9, per = "second", by = "route"}]
        [routes.moved]
        match.path = "/moved"
        redirect.host = "b.test"
        auth.keys.query = "apikey"
    "#;
    let table = Table::compile(Document::read(document).unwrap()).unwrap();
    let explain = |url: &str, headers: &[&str]| {
        let headers = headers.iter().map(|it| (*it).to_owned()).collect();
        let from = loopback();
        Question { url: url.into(), method: get(), headers, from }.explain(&table, 0)
    };
    let answer = explain("http://a.test/moved?a=1&apikey=0123456789abcdef", &[]);
    assert_eq!(answer.outcome, "302: http://b.test/moved?a=1");
    let answer = explain("http://a.test/x?a=1&apikey=0123456789abcdef", &[]);
    let shown = "route: app\nauth: a key in x-api-key, or Authorization: Bearer, or ?apikey; of a consumer in staff\n\
                 consumer: alice\nlimit: 5 per minute, 3 at once, by consumer\n\
                 limit: 9 per second, 9 at once, by route\npolicy: limits: routes/app\npolicy: auth: routes/app\n\
                 outcome: app\nsent: /x?a=1";
    assert_eq!(answer.to_string(), shown);
    for (headers, consumer, outcome) in [
        (&[][..], None, "401: no key"),
        (&["x-api-key: 0123456789abcdeF"], None, "401: a key that nobody has"),
        (&["authorization: Bearer fedcba9876543210"], Some("bob"), "403: in none of the groups"),
        (
            &["x-api-key: 0123456789abcdef", "x-api-key: fedcba9876543210"],
            None,
            "401: several keys that differ",
        ),
    ] {
        let answer = explain("http://a.test/x", headers);
        assert_eq!((answer.consumer.as_deref(), &*answer.outcome), (consumer, outcome), "{headers:?}");
        assert_eq!(answer.sent, None);
    }
}

#[test]
fn what_of_a_routes_answers_is_stored_is_explained() {
    let document = |cache: &str| format!("[routes.app]\nservice = \"skep\"\ncache = {cache}\n");
    let explained = |cache| {
        let table = Table::compile(Document::read(&document(cache)).unwrap()).unwrap();
        let (url, headers) = ("http://a.test/x".to_owned(), vec![]);
        Question { url, method: get(), headers, from: loopback() }.explain(&table, 0).to_string()
    };
    let some = "cache: answers of at most 1024 bytes are stored, and used for 5 s beyond their time\n";
    assert!(explained("{max_entry = \"1KiB\", grace = \"5s\"}").contains(some));
    assert!(explained("true").contains("cache: answers of at most 4194304 bytes are stored\n"));
    assert!(!explained("false").contains("cache: answers"));
    for bad in ["{max_entry = \"5MiB\"}", "{grace = \"8d\"}", "{ttl = 5}", "1"] {
        assert!(Document::read(&document(bad)).is_err(), "{bad}");
    }
}

#[test]
fn whom_a_route_asks_before_it_lets_a_request_go_on_is_explained() {
    let document = r#"
        services = {app.urls = ["http://a:1"], login.urls = ["http://l:1"]}
        [routes.app]
        service = "app"
        ask = {service = "login", path = "/auth", send = ["cookie"], take = ["x-user"]}
    "#;
    let table = Table::compile(Document::read(document).unwrap()).unwrap();
    let (url, headers) = ("http://a.test/x".to_owned(), vec![]);
    let answer = Question { url, method: get(), headers, from: loopback() }.explain(&table, 0);
    let ask = "login is asked by GET /auth within 2s, with cookie; x-user is taken over";
    assert_eq!(answer.ask.as_deref(), Some(ask));
    assert!(answer.to_string().contains(&format!("ask: {ask}\n")) && answer.outcome == "app");
}

#[test]
fn of_each_policy_it_is_explained_who_states_it() {
    let document = r#"
        [defaults]
        https_only = true
        maintenance = true
        limits = [{rate = 5, per = "minute", by = "address"}]
        [services.app]
        urls = ["http://a:1"]
        auth.keys = true
        [routes.app]
        service = "app"
        maintenance = false
    "#;
    let table = Table::compile(Document::read(document).unwrap()).unwrap();
    let question =
        Question { url: "http://a.test/x".into(), method: get(), headers: vec![], from: loopback() };
    let answer = question.explain(&table, 0);
    assert_eq!(
        answer.policies,
        ["maintenance: routes/app, none", "https_only: defaults", "limits: defaults", "auth: services/app"]
    );
    assert_eq!(answer.limits, [format!("{LIMITED}, for all routes that take it together")]);
    assert_eq!(answer.outcome, "308: https://a.test/x");
}

#[test]
fn a_token_is_explained_by_its_issuer_and_told_to_nobody() {
    let document = r#"
        [issuers.corp]
        iss = "https://corp.test/"
        aud = "any"
        groups = "roles"
        keys = [{secret = "a hidden secret of thirty-two bytes"}]
        [routes.app]
        service = "skep"
        auth = {jwt = ["corp"], groups = ["staff"]}
    "#;
    let table = Table::compile(Document::read(document).unwrap()).unwrap();
    let token = |sub: &str, roles: &str| {
        let claims = format!(r#"{{"iss":"https://corp.test/","sub":"{sub}","exp":1000,"roles":"{roles}"}}"#);
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a hidden secret of thirty-two bytes");
        format!("authorization: Bearer {signed}.{}", encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    for (headers, now_s, consumer, outcome) in [
        (vec![], 7, None, "401: no token"),
        (vec![token("a", "staff")], 7, Some("corp/a"), "skep"),
        (vec![token("b", "other")], 7, Some("corp/b"), "403: in none of the groups"),
        (vec![token("a", "staff")], 1030, None, "401: a token: its time is over"),
        (vec![token("a", "staff"), token("b", "staff")], 7, None, "401: several tokens that differ"),
    ] {
        let question = Question { url: "http://a.test/x".into(), method: get(), headers, from: loopback() };
        let answer = question.explain(&table, now_s);
        assert_eq!((answer.consumer.as_deref(), &*answer.outcome), (consumer, outcome));
        let auth = "a token of corp in Authorization: Bearer; of a consumer in staff";
        assert_eq!(answer.auth.as_deref(), Some(auth));
        assert!(!answer.to_string().contains("eyJ"), "{answer}");
    }
    let published = document.replace(
        "keys = [{secret = \"a hidden secret of thirty-two bytes\"}]",
        "jwks = \"https://corp.test/keys\"",
    );
    let table = Table::compile(Document::read(&published).unwrap()).unwrap();
    let (url, headers) = ("http://a.test/x".to_owned(), vec![token("a", "staff")]);
    let answer = Question { url, method: get(), headers, from: loopback() }.explain(&table, 7);
    assert_eq!(answer.outcome, "a token of an issuer whose keys balancers fetch: it is not looked at here");
}
