//! A service is asked whether a request may go on, before it does.

use crate::gateway_cache::{body, status};
use crate::harness::*;

pub const DOCUMENT: &str = r#"
    services = {app.urls = ["http://127.0.0.1:1"], login.urls = ["http://127.0.0.1:2"]}
    consumers.ann.keys = ["0123456789abcdef"]
    [defaults]
    ask = {service = "login", path = "/auth?for=app", take = ["x-user", "x-groups"], timeout = "500ms"}
    [routes.app]
    match.path = "/app"
    service = "app"
    strip_prefix = true
    [routes.known]
    match.path = "/known"
    service = "app"
    auth.keys.query = "apikey"
    [routes.open]
    match.path = "/open"
    service = "app"
    ask = false
    [routes.stored]
    match.path = "/stored"
    service = "app"
    cache = true
    [routes.limited]
    match.path = "/limited"
    service = "app"
    limits = [{rate = 3, per = "hour", by = "address", burst = 3}, {rate = 2, per = "hour", by = "route", burst = 2}]
    [routes.pages]
    match.path = "/pages"
    service = "app"
    cors.origins = ["https://page.test"]
    [routes.bare]
    match.path = "/bare"
    service = "app"
    ask = {service = "login", path = "/", send = []}
"#;

/// A refusal with a page of so many bytes.
fn long(bytes: usize) -> String {
    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-type: text/html\r\n";
    format!("{head}content-length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
}

/// Says what the cookie wants it to say.
pub fn answer(head: &str) -> String {
    let cookie = head.split("cookie: ").nth(1).and_then(|it| it.lines().next()).unwrap_or("ok");
    match cookie {
        "ok" => "HTTP/1.1 200 OK\r\nX-User: ann\r\nx-groups: a\r\nx-groups: b\r\nx-other: 1\r\ncontent-length: 2\r\n\r\nhi",
        "nobody" => "HTTP/1.1 204 No Content\r\nx_user: ann\r\n\r\n",
        "no" => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Login\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
                 cache-control: max-age=60\r\ncontent-type: text/html\r\naccess-control-allow-origin: *\r\n\
                 skep-unprocessed: 1\r\ncontent-length: 5\r\n\r\nlogin",
        "never" => "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "login" => "HTTP/1.1 302 Found\r\nlocation: https://login.test/?a\r\nset-cookie: c=3\r\ncontent-length: 0\r\n\r\n",
        "nowhere" => "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n",
        "same" => "HTTP/1.1 304 Not Modified\r\n\r\n",
        "odd" => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "failed" => "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        "bad" => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "change" => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "page" => return long(60000),
        "long" => return long(99999),
        "much" => {
            let user = "x".repeat(9000);
            return format!("HTTP/1.1 200 OK\r\nx-user: {user}\r\ncontent-length: 0\r\n\r\n");
        }
        // No more of it comes.
        "cut" => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\nlog",
        "slow" => "HTTP/1.1 200 OK\r\nx-user: ann\r\ncontent-length: 9\r\n\r\nlog",
        "late" => "",
        other => panic!("{other}"),
    }
    .to_owned()
}

/// A service that is asked, and one that is not served before; each answers a bodiless request.
pub fn serving() -> (Balancer, Scripted, Scripted) {
    let login = Scripted::start(|served| {
        while let Some(head) = served.head() {
            served.send(answer(&head));
        }
    });
    let app = Scripted::plain("app");
    let balancer = Balancer::start(&[]);
    balancer.route(DOCUMENT, &[("app", &[app.address]), ("login", &[login.address])]);
    (balancer, login, app)
}

pub fn asking(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n")
}

/// The values of a field, of whatever spelling.
pub fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let plain = |it: &str| it.to_ascii_lowercase().replace(['_', '.'], "-");
    let of =
        |line: &'a str| line.split_once(": ").filter(|(it, _)| plain(it) == name).map(|(_, value)| value);
    head.split("\r\n\r\n").next().unwrap_or_default().lines().filter_map(of).collect()
}

#[test]
fn a_request_goes_on_with_what_the_service_says_that_is_asked() {
    let (balancer, login, app) = serving();
    let fields = "cookie: ok\r\nauthorization: Basic x\r\nx-private: 1\r\nx-forwarded-uri: /admin\r\n\
                  X-User: root\r\nx_groups: root\r\nx-skep-other: 1\r\n";
    let answer = balancer.ask(&format!(
        "POST /app/x?y=1 HTTP/1.1\r\nhost: a.test:80\r\n{fields}content-length: 0\r\nconnection: close\r\n\r\n"
    ));
    assert_eq!((status(&answer), body(&answer)), ("200", "app /x?y=1"));
    let heads = login.heads();
    let [question] = heads.as_slice() else { panic!("{heads:?}") };
    assert!(question.starts_with("GET /auth?for=app HTTP/1.1\r\n"), "{question}");
    for (name, expected) in [
        ("cookie", &["ok"][..]),
        ("authorization", &["Basic x"]),
        ("host", &["a.test:80"]),
        ("x-forwarded-method", &["POST"]),
        ("x-forwarded-uri", &["/app/x?y=1"]),
        ("x-forwarded-host", &["a.test:80"]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-skep-ask", &["1"]),
        ("x-private", &[]),
        ("x-user", &[]),
        ("content-length", &[]),
        ("connection", &[]),
    ] {
        assert_eq!(values(question, name), expected, "{name}: {question}");
    }
    assert_eq!(values(question, "x-request-id").len(), 1);
    let head = &app.heads()[0];
    assert_eq!(values(head, "x-request-id"), values(question, "x-request-id"), "it is known by that");
    assert_eq!((values(head, "x-user"), values(head, "x-groups")), (vec!["ann"], vec!["a", "b"]));
    assert!(values(head, "x-other").is_empty() && values(head, "x-skep-ask").is_empty(), "{head}");
    assert_eq!((values(head, "cookie"), values(head, "x-private")), (vec!["ok"], vec!["1"]));
    assert_eq!(balancer.stats.asks_admitted.get(), 1);
    assert_eq!(status(&balancer.ask(&asking("/open", "cookie: no\r\n"))), "200", "none is asked there");
    assert_eq!(login.heads().len(), 1);
    balancer.ask(&asking("/bare", "cookie: no\r\n"));
    assert!(values(&login.heads()[1], "cookie").is_empty(), "nothing is sent that is not to be");
}

#[test]
fn what_the_service_does_not_say_is_said_by_nobody() {
    let (balancer, _, app) = serving();
    for spelling in ["x-user", "X-USER", "x_user", "x.user", "X_Groups"] {
        let fields = format!("cookie: nobody\r\n{spelling}: root\r\n");
        assert_eq!(status(&balancer.ask(&asking("/app", &fields))), "200", "{spelling}");
    }
    for head in app.heads() {
        assert!(values(&head, "x-user").is_empty() && values(&head, "x-groups").is_empty(), "{head}");
    }
    // A field behind the body is read as one before it by some.
    let count = app.heads().len();
    let head = "POST /app HTTP/1.1\r\nhost: a\r\ncookie: ok\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = balancer.ask(&format!("{head}2\r\nhi\r\n0\r\nX-User: root\r\n\r\n"));
    assert_eq!(status(&answer), "400", "{answer}");
    assert_eq!(app.heads().len(), count);
}

#[test]
fn a_request_ends_where_the_service_says_nothing_that_is_understood() {
    let (balancer, login, app) = serving();
    let cookies = ["nowhere", "same", "odd", "failed", "bad", "change", "much", "late"];
    for cookie in cookies {
        let answer = balancer.ask(&asking("/app", &format!("cookie: {cookie}\r\n")));
        assert_eq!(status(&answer), "503", "{cookie}: {answer}");
        assert!(answer.contains("urn:skep:problem:ask-failed"), "{cookie}: {answer}");
        assert_eq!(
            (values(&answer, "retry-after"), values(&answer, "skep-unprocessed")),
            (vec!["1"], vec!["1"])
        );
    }
    assert_eq!(login.heads().len(), cookies.len(), "what was answered is not asked again");
    assert_eq!(balancer.stats.asks_failed.get(), cookies.len() as u64);
    for at in [&[][..], &[Scripted::refused()]] {
        balancer.route(DOCUMENT, &[("login", at)]);
        assert_eq!(status(&balancer.ask(&asking("/app", ""))), "503");
    }
    assert!(app.heads().is_empty());
}

#[test]
fn a_refusal_goes_to_the_client_as_it_is() {
    let (balancer, _, app) = serving();
    let mut client = balancer.client();
    client.send("GET /app HTTP/1.1\r\nhost: a\r\ncookie: no\r\n\r\n");
    let (head, text) = client.answer();
    assert_eq!((status(&head), text.as_str()), ("401", "login"));
    assert_eq!(values(&head, "www-authenticate"), ["Login"]);
    assert_eq!(values(&head, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(values(&head, "content-type"), ["text/html"]);
    assert_eq!(values(&head, "cache-control"), ["no-store"], "it is nobody else's");
    assert_eq!(values(&head, "access-control-allow-origin"), ["*"]);
    assert!(values(&head, "skep-unprocessed").is_empty());
    // The connection is good for another.
    client.send("HEAD /app HTTP/1.1\r\nhost: a\r\ncookie: no\r\n\r\n");
    let head = client.until("\r\n\r\n");
    assert_eq!((status(&head), values(&head, "content-length")), ("401", vec!["5"]));
    client.send(asking("/app", "cookie: never\r\n"));
    let answer = client.rest();
    assert_eq!((status(&answer), body(&answer)), ("403", "no"));
    let answer = balancer.ask(&asking("/app", "cookie: login\r\n"));
    assert_eq!((status(&answer), values(&answer, "location")), ("302", vec!["https://login.test/?a"]));
    assert_eq!(values(&answer, "set-cookie"), ["c=3"]);
    for cookie in ["long", "cut"] {
        let answer = balancer.ask(&asking("/app", &format!("cookie: {cookie}\r\n")));
        assert_eq!((status(&answer), body(&answer)), ("401", ""), "a body that is not whole is none");
        assert!(values(&answer, "content-type").is_empty());
    }
    // Which pages read it is the route's to say.
    let fields = "cookie: no\r\norigin: https://page.test\r\n";
    let answer = balancer.ask(&asking("/pages", fields));
    assert_eq!(values(&answer, "access-control-allow-origin"), ["https://page.test"]);
    assert!(app.heads().is_empty());
    // A preflight is answered without the service.
    let preflight = "origin: https://page.test\r\naccess-control-request-method: GET\r\n";
    let answer = balancer.ask(&asking("/pages", preflight).replace("GET /", "OPTIONS /"));
    assert_eq!(status(&answer), "200");
    assert_eq!(balancer.stats.asks_refused.get(), 7);
    let slow = balancer.ask(&asking("/app", "cookie: slow\r\n"));
    assert_eq!(status(&slow), "200", "its first line says all");
}

#[test]
fn who_asks_proves_it_first_and_the_service_is_told_who_that_is_and_not_the_key() {
    let (balancer, login, app) = serving();
    assert_eq!(status(&balancer.ask(&asking("/known", ""))), "401");
    assert!(login.heads().is_empty(), "who proves nothing is asked about by nobody");
    for (target, fields) in [
        ("/known?apikey=0123456789abcdef&a=1", ""),
        ("/known?a=1", "authorization: Bearer 0123456789abcdef\r\nx-consumer-id: root\r\n"),
    ] {
        assert_eq!(status(&balancer.ask(&asking(target, fields))), "200");
        let (heads, ends) = (login.heads(), app.heads());
        let (question, head) = (heads.last().unwrap(), ends.last().unwrap());
        assert!(!question.contains("0123456789abcdef") && !head.contains("0123456789abcdef"), "{question}");
        assert_eq!(values(question, "x-forwarded-uri"), ["/known?a=1"]);
        assert_eq!(values(question, "x-consumer-id"), ["ann"]);
        assert_eq!((values(head, "x-consumer-id"), values(head, "x-user")), (vec!["ann"], vec!["ann"]));
    }
}

#[test]
fn a_refused_request_counts_by_its_address_once_and_by_nothing_behind_that() {
    let (balancer, _, _) = serving();
    let ask = |cookie: &str| balancer.ask(&asking("/limited", &format!("cookie: {cookie}\r\n")));
    let refused = ask("no");
    assert_eq!(status(&refused), "401");
    assert!(values(&refused, "ratelimit")[0].contains("\"address-hour\";r=2"), "{refused}");
    let served = ask("ok");
    assert_eq!(status(&served), "200");
    let said = values(&served, "ratelimit").join(",");
    assert!(said.contains("\"address-hour\";r=1") && said.contains("\"route-hour\";r=1"), "{said}");
    assert_eq!(status(&ask("ok")), "200");
    assert_eq!(status(&ask("ok")), "429", "the address has spent its three");
}

#[test]
fn nothing_of_the_body_is_asked_for_before_the_service_has_said_yes() {
    let (balancer, _, app) = serving();
    let head = |cookie: &str| {
        format!(
            "POST /app HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        )
    };
    let mut client = balancer.client();
    client.send(head("no"));
    let (answer, _) = client.answer();
    assert_eq!(status(&answer), "401", "and no 100 before it");
    let expecting = Scripted::start(|served| {
        served.head();
        served.send("HTTP/1.1 100 Continue\r\n\r\n");
        let text = served.body(5);
        served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{text}"));
    });
    balancer.route(DOCUMENT, &[("app", &[expecting.address])]);
    let mut client = balancer.client();
    client.send(head("ok"));
    assert_eq!(status(&client.until("\r\n\r\n")), "100");
    client.send("hello");
    assert_eq!(client.answer().1, "hello");
    assert!(app.heads().is_empty());
}

#[test]
fn what_is_stored_is_for_who_may_have_it_and_is_asked_for_each_time() {
    for (control, is_shared) in [("max-age=60", false), ("public, max-age=60", true)] {
        let (balancer, login, _) = serving();
        let app = Scripted::start(move |served| {
            while served.head().is_some() {
                served.send(format!(
                    "HTTP/1.1 200 OK\r\ncache-control: {control}\r\ncontent-length: 2\r\n\r\nhi"
                ));
            }
        });
        balancer.route(DOCUMENT, &[("app", &[app.address])]);
        for _ in 0..3 {
            assert_eq!(body(&balancer.ask(&asking("/stored", ""))), "hi");
        }
        assert_eq!(app.heads().len(), if is_shared { 1 } else { 3 }, "{control}");
        assert_eq!(login.heads().len(), 3, "{control}");
        assert_eq!(body(&balancer.ask(&asking("/stored", "cookie: no\r\n"))), "login", "{control}");
        assert_eq!(status(&balancer.ask(&asking("/stored", "cookie: failed\r\n"))), "503", "{control}");
    }
}
