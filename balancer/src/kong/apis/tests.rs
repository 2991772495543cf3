//! What lines that Kong's clients send come to: answers, and the gateway's document, which a balancer has to obey.

use skep_gateway::Kept;

use super::*;
use crate::kong::asked::New;
use crate::kong::{Aliases, Closed, body, resources};

const FORM: &str = "application/x-www-form-urlencoded";

/// A document, and who asks of it again and again.
struct Asking {
    document: Document,
    count: u64,
    aliases: Aliases,
    closed: Closed,
}

impl Asking {
    fn new() -> Self {
        Self {
            document: Document::default(),
            count: 0,
            aliases: Aliases::default(),
            closed: Closed::default(),
        }
    }

    fn aliased() -> Self {
        let aliases = ["reader:5000=skep", "writer:3000=skep"].map(str::to_owned);
        Self { aliases: Aliases::of(&aliases).unwrap(), ..Self::new() }
    }

    /// What is asked with a form.
    fn asked(&mut self, method: &str, target: &str, form: &str) -> Asked {
        self.count += 1;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let segments: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .map(|it| body::decoded(it.as_bytes(), false).unwrap())
            .collect();
        Asked {
            method: method.parse().unwrap(),
            path: format!("/{}", segments.join("/")),
            segments,
            query: body::pairs(query.as_bytes()).unwrap(),
            params: body::read(FORM, form.as_bytes()).unwrap(),
            host: "localhost:8001".to_owned(),
            new: New {
                id: format!("00000000-0000-4000-8000-{:012}", self.count),
                created_at: 1_000 + self.count,
                key: format!("a-key-that-was-made-{}", self.count),
                salt: [1; 16],
            },
            aliases: self.aliases.clone(),
            closed: self.closed.clone(),
        }
    }

    /// The status and the body; what was changed is a document that balancers obey.
    fn ask(&mut self, method: &str, target: &str, form: &str) -> (u16, Value) {
        let asked = self.asked(method, target, form);
        let before = self.document.clone();
        let answer = match resources::answer(&asked, &mut self.document) {
            Ok(Done { answer, is_change }) => {
                assert_eq!(is_change, self.document != before, "{target}");
                answer
            }
            Err(answer) => {
                assert_eq!(self.document, before, "{target}: it was refused");
                answer
            }
        };
        let json = Value::from(self.document.0.clone()).to_string();
        let kept = Kept::read(&json).unwrap_or_else(|refused| panic!("{refused:?} {json}"));
        // As it comes back from a node.
        let Ok(Value::Object(back)) = serde_json::from_str(&kept.json().unwrap()) else { panic!("{json}") };
        self.document = Document(back);
        (answer.status, answer.body.unwrap_or_default())
    }

    /// A route or a service, without its note and whose it is.
    fn object(&self, kind: &str, name: &str) -> Value {
        let mut object = self.document.object(kind, name).cloned().unwrap_or_default();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("kong");
            fields.remove("source");
        }
        object
    }
}

mod others;

const READER: &str = "name=reader&target_url=http://reader:5000&path=/read";

#[test]
fn an_api_is_a_route_and_a_service_and_answered_as_kong_does() {
    let mut asking = Asking::new();
    let (status, api) = asking.ask("POST", "/apis/", READER);
    let id = "00000000-0000-4000-8000-000000000001";
    let expected = json!({
        "id": id, "created_at": 1001, "name": "reader", "path": "/read", "target_url": "http://reader:5000/",
    });
    assert_eq!((status, &api), (201, &expected));
    let route = json!({"match": {"path": "/read"}, "service": "reader"});
    assert_eq!(asking.object("routes", "reader"), route);
    let service = json!({"urls": ["http://reader:5000"], "host": "upstream"});
    assert_eq!(asking.object("services", "reader"), service);
    for path in ["/apis/reader", &format!("/apis/{id}")] {
        assert_eq!(asking.ask("GET", path, ""), (200, expected.clone()));
    }
    assert_eq!(asking.ask("GET", "/apis", ""), (200, json!({ "data": [expected] })));
    assert_eq!(asking.ask("DELETE", "/apis/reader", ""), (204, Value::Null));
    assert_eq!(asking.document, Document::default());
    let not_found = (404, json!({"message": "Not found"}));
    assert_eq!(asking.ask("DELETE", "/apis/reader", ""), not_found);
    assert_eq!(asking.ask("GET", &format!("/apis/{id}"), ""), not_found);
    assert_eq!(asking.ask("GET", "/apis/", ""), (200, json!({ "data": [] })));
}

#[test]
fn what_is_there_already_is_a_conflict_that_names_each_field() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", READER);
    let expected = json!({"name": "name already exists with value 'reader'", "path": "path already exists with value '/read'"});
    assert_eq!(asking.ask("POST", "/apis/", READER), (409, expected));
    let other = "name=other&target_url=http://b:1&path=read/";
    assert_eq!(
        asking.ask("POST", "/apis/", other),
        (409, json!({"path": "path already exists with value '/read'"}))
    );
}

#[test]
fn what_is_wrong_is_said_of_each_field_in_kongs_words() {
    let both = json!({
        "public_dns": NEITHER, "path": NEITHER, "target_url": "target_url is required",
    });
    let mut asking = Asking::new();
    assert_eq!(asking.ask("POST", "/apis/", ""), (400, both));
    let missing = json!({"target_url": "target_url is required"});
    assert_eq!(asking.ask("POST", "/apis/", "name=reader&path=/read"), (400, missing));
    let mut wrong = |form: &str, field: &str| {
        let (status, body) = asking.ask("POST", "/apis/", form);
        assert_eq!((status, body.as_object().map(|it| it.len())), (400, Some(1)), "{form}: {body}");
        body[field].as_str().unwrap_or_else(|| panic!("{form}: {body}")).to_owned()
    };
    for (form, field, why) in [
        ("path=/a&target_url=ftp://b", "target_url", "Supported protocols are HTTP and HTTPS"),
        ("path=/a&target_url=b:80", "target_url", "Invalid target URL"),
        ("path=/a&target_url=http://", "target_url", "Invalid target URL"),
        ("path=/a//b&target_url=http://b", "path", "path is invalid: /a//b"),
        (
            "path=/[a]&target_url=http://b",
            "path",
            "path must only contain alphanumeric and '. -, _, ~, /' characters",
        ),
        ("public_dns=*.a.*&target_url=http://b", "public_dns", "Only one wildcard is allowed: *.a.*"),
        ("public_dns=a*.b&target_url=http://b", "public_dns", "Invalid wildcard placement: a*.b"),
        ("path=/a&target_url=http://b&strip_path=perhaps", "strip_path", "strip_path is not a boolean"),
    ] {
        assert_eq!(wrong(form, field), why);
    }
    assert!(wrong("path=/a&target_url=http://b/v1", "target_url").contains("no path"));
    assert!(wrong("public_dns=a.*&target_url=http://b", "public_dns").contains("at the begin"));
    // What later versions call things.
    for (form, field) in [
        ("path=/a&target_url=http://b&upstream_url=http://b", "upstream_url"),
        ("path=/a&target_url=http://b&uris=/a", "uris"),
    ] {
        let why = wrong(form, field);
        assert!(why.contains("unknown field") && why.contains("skep-node config apply"), "{why}");
    }
    let (status, body) = asking.ask("POST", "/services/", "name=a");
    assert!(status == 400 && body["message"].as_str().unwrap().contains("config apply"), "{body}");
    assert_eq!(asking.ask("GET", "/nothing", ""), (404, json!({"message": "Not found"})));
    assert_eq!(asking.ask("DELETE", "/apis/", ""), (405, json!({"message": "Method not allowed"})));
}

#[test]
fn an_alias_leads_to_the_nodes_and_its_path_is_cut_where_that_is_said() {
    let mut asking = Asking::aliased();
    let (_, api) = asking.ask("POST", "/apis/", READER);
    assert_eq!(api["target_url"], "http://reader:5000/");
    assert_eq!(asking.object("routes", "reader"), json!({"match": {"path": "/read"}, "service": "skep"}));
    assert_eq!(asking.document.object("services", "reader"), None);
    let (_, patched) = asking.ask("PATCH", "/apis/reader", "strip_path=true");
    assert_eq!(patched["strip_path"], true);
    let cut = json!({"match": {"path": "/read"}, "service": "skep", "strip_prefix": true});
    assert_eq!(asking.object("routes", "reader"), cut);
    // Over TLS it is not the one that was meant.
    let (_, _) = asking.ask("POST", "/apis/", "name=tls&target_url=https://reader:5000&path=/tls");
    assert_eq!(asking.object("routes", "tls")["service"], "tls");
}

#[test]
fn an_api_of_a_host_and_a_path_is_two_routes_and_one_api() {
    let mut asking = Asking::new();
    let form =
        "name=a&public_dns=*.A.example&path=/a&strip_path=true&preserve_host=true&target_url=https://b:8443/";
    let (status, api) = asking.ask("POST", "/apis/", form);
    assert_eq!((status, &api["public_dns"]), (201, &"*.a.example".into()), "{api}");
    let by_path = json!({"match": {"path": "/a"}, "service": "a", "strip_prefix": true});
    let by_host = json!({"match": {"hosts": ["*.a.example"]}, "service": "a"});
    assert_eq!((asking.object("routes", "a"), asking.object("routes", "a.dns")), (by_path, by_host.clone()));
    assert_eq!(asking.object("services", "a"), json!({"urls": ["https://b:8443"]}));
    assert_eq!(asking.ask("GET", "/apis/", "").1["data"].as_array().map(Vec::len), Some(1));
    // One of both is taken away, and put back.
    let (_, patched) = asking.ask("PATCH", "/apis/a", "path=");
    assert_eq!(patched.get("path"), None);
    assert_eq!((asking.object("routes", "a"), asking.object("routes", "a.dns")), (by_host, Value::Null));
    asking.ask("PATCH", "/apis/a", "path=/b");
    assert_eq!(asking.object("routes", "a")["match"]["path"], "/b");
    asking.ask("DELETE", "/apis/a", "");
    assert_eq!(asking.document, Document::default());
}

#[test]
fn a_name_that_is_none_of_an_object_or_is_taken_is_the_apis_all_the_same() {
    let mut asking = Asking::new();
    asking.document.put("routes", "taken", json!({"match": {"path": "/x"}, "service": "skep"}));
    for name in ["taken", "skep", "with a space", "skep2"] {
        let form = format!("name={name}&target_url=http://b:1&path=/{}", name.replace(' ', "-"));
        let (status, api) = asking.ask("POST", "/apis/", &form);
        assert_eq!((status, &api["name"]), (201, &name.into()));
    }
    let routes: Vec<&String> = asking.document.0["routes"].as_object().unwrap().keys().collect();
    assert_eq!(routes.len(), 5);
    assert_eq!(routes.iter().filter(|it| it.starts_with("kong-")).count(), 3, "{routes:?}");
    // An API without a name, too.
    let (status, api) = asking.ask("POST", "/apis/", "path=/nameless&target_url=http://b:1");
    assert_eq!((status, api.get("name")), (201, None));
}

#[test]
fn put_makes_one_or_replaces_it_and_what_is_kept_of_it_stays() {
    let mut asking = Asking::new();
    let (status, api) = asking.ask("PUT", "/apis/", READER);
    assert_eq!(status, 201);
    asking.ask("POST", "/apis/reader/plugins/", "name=ratelimiting&value.minute=5");
    let form = format!("id={}&name=renamed&target_url=http://c:1&path=/c", api["id"].as_str().unwrap());
    let (status, replaced) = asking.ask("PUT", "/apis/", &form);
    assert_eq!((status, &replaced["id"], &replaced["created_at"]), (200, &api["id"], &api["created_at"]));
    assert_eq!(asking.object("services", "reader")["urls"][0], "http://c:1");
    assert_eq!(asking.object("routes", "reader")["limits"][0]["rate"], 5, "its plugins stay");
    assert_eq!(asking.ask("PUT", "/apis/renamed", "target_url=http://c:1&path=/d").1["path"], "/d");
    // As who reads it, changes a field and puts all back.
    let form = format!(
        "id={}&created_at={}&name=renamed&target_url=http://c:1&path=/e",
        api["id"].as_str().unwrap(),
        api["created_at"]
    );
    assert_eq!(asking.ask("PUT", "/apis/", &form).1["path"], "/e");
    assert_eq!(asking.ask("PATCH", "/apis/renamed", "created_at=7").0, 400);
    let (status, body) = asking.ask("PATCH", "/apis/d", "id=7");
    assert_eq!((status, body), (404, json!({"message": "Not found"})));
    let id = api["id"].as_str().unwrap();
    let refused = (400, json!({"id": "id cannot be updated"}));
    assert_eq!(asking.ask("PATCH", &format!("/apis/{id}"), "id=7"), refused);
}

#[test]
fn a_write_whose_answer_was_lost_is_known_again() {
    let mut asking = Asking::new();
    let asked = asking.asked("POST", "/apis/", READER);
    let first = resources::answer(&asked, &mut asking.document).unwrap();
    let again = resources::answer(&asked, &mut asking.document).unwrap();
    assert!(first.is_change && !again.is_change);
    assert_eq!(first.answer, again.answer);
}

#[test]
fn what_operators_changed_otherwise_is_not_lost() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", READER);
    let Value::Object(route) = &mut asking.document.0["routes"]["reader"] else { panic!() };
    route.insert("https_only".to_owned(), true.into());
    for (method, path, form) in
        [("PATCH", "/apis/reader", "path=/x"), ("POST", "/apis/reader/plugins", "name=keyauth")]
    {
        let (status, body) = asking.ask(method, path, form);
        assert!(status == 409 && body["message"].as_str().unwrap().contains("routes/reader"), "{body}");
    }
    assert_eq!(asking.ask("DELETE", "/apis/reader", "").0, 204);
}

#[test]
fn lists_are_told_page_by_page_and_by_what_the_query_says() {
    let mut asking = Asking::new();
    for n in 1..=5 {
        asking.ask("POST", "/apis/", &format!("name=a{n}&target_url=http://b:1&path=/{n}"));
    }
    let names = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let (mut seen, mut target) = (Vec::new(), "/apis/?size=2".to_owned());
    loop {
        let (_, page) = asking.ask("GET", &target, "");
        seen.extend(names(&page));
        let Some(next) = page["next"].as_str() else { break };
        target = next.strip_prefix("http://localhost:8001").unwrap().to_owned();
    }
    assert_eq!(seen, ["a1", "a2", "a3", "a4", "a5"]);
    assert_eq!(names(&asking.ask("GET", "/apis/?name=a3", "").1), ["a3"]);
    let target = "size=2&target_url=http%3A%2F%2Fb%3A1%2F";
    let (_, page) = asking.ask("GET", &format!("/apis/?{target}"), "");
    let id = "00000000-0000-4000-8000-000000000003";
    let next = format!("http://localhost:8001/apis/?size=2&offset={id}&target_url=http%3A%2F%2Fb%3A1%2F");
    assert_eq!(page["next"], next);
    asking.ask("POST", "/apis/", "name=a b&target_url=http://b:1&path=/b");
    for form in ["name=keyauth", "name=ratelimiting&value.hour=1"] {
        assert_eq!(asking.ask("POST", "/apis/a%20b/plugins", form).0, 201);
    }
    let (_, page) = asking.ask("GET", "/apis/a%20b/plugins/?size=1", "");
    let next = page["next"].as_str().unwrap();
    assert!(next.starts_with("http://localhost:8001/apis/a%20b/plugins/?size=1&offset="), "{next}");
    for query in ["size=0", "size=x", "size=1001", "x=1"] {
        assert_eq!(asking.ask("GET", &format!("/apis/?{query}"), "").0, 400, "{query}");
    }
}

#[test]
fn plugins_are_policies_of_the_apis_routes() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", "name=a&public_dns=a.example&path=/a&target_url=http://b:1");
    let mut add = |form: &str| asking.ask("POST", "/apis/a/plugins/", form);
    let (status, plugin) = add("name=rate-limiting&config.minute=5&config.hour=100");
    let value = json!({"minute": 5, "hour": 100});
    assert_eq!((status, &plugin["name"], &plugin["value"]), (201, &"ratelimiting".into(), &value));
    assert_eq!((&plugin["enabled"], plugin["api_id"].as_str().map(str::len)), (&true.into(), Some(36)));
    assert_eq!(add("name=keyauth&value.key_names=apikey").0, 201);
    assert_eq!(add("name=requestsizelimiting&value.allowed_payload_size=2").0, 201);
    assert_eq!(add("name=ip_restriction&value.blacklist=10.0.0.0/8, 192.0.2.1/32").0, 201);
    assert_eq!(add("name=cors&value.origin=https://a.example&value.headers=x-a,x-b&value.max_age=60").0, 201);
    assert_eq!(add("name=key-auth"), (409, json!({"message": "Plugin configuration already exists"})));
    let limit = |rate: u32, per: &str| json!({"rate": rate, "per": per, "by": "consumer", "burst": rate});
    for route in ["a", "a.dns"] {
        let route = asking.object("routes", route);
        assert_eq!(route["limits"], json!([limit(100, "hour"), limit(5, "minute")]));
        let keys = json!({"header": "apikey", "authorization": false, "query": "apikey"});
        assert_eq!((&route["auth"]["keys"], &route["max_body"]), (&keys, &"2MiB".into()));
        assert_eq!(route["addresses"], json!({"deny": ["10.0.0.0/8", "192.0.2.1/32"]}));
        assert_eq!(route["cors"]["methods"].as_array().map(Vec::len), Some(6));
        assert_eq!((&route["cors"]["headers"][1], &route["cors"]["max_age_s"]), (&"x-b".into(), &60.into()));
    }
    assert_eq!(asking.ask("GET", "/apis/a/plugins/", "").1["data"].as_array().map(Vec::len), Some(5));
    assert_eq!(asking.ask("GET", "/plugins_configurations", "").1["data"].as_array().map(Vec::len), Some(5));
    // One is changed, one turned off, and one taken away.
    let (_, changed) = asking.ask("PATCH", "/apis/a/plugins/rate-limiting", "value.minute=7");
    assert_eq!(changed["value"], json!({"minute": 7, "hour": 100}));
    asking.ask("PATCH", "/apis/a/plugins/keyauth", "enabled=false");
    let route = asking.object("routes", "a");
    assert_eq!((route.get("auth"), &route["limits"][0]["by"]), (None, &"address".into()));
    let id = changed["id"].as_str().unwrap().to_owned();
    assert_eq!(asking.ask("DELETE", &format!("/apis/a/plugins/{id}"), "").0, 204);
    assert_eq!(asking.object("routes", "a").get("limits"), None);
    assert_eq!(asking.ask("GET", &format!("/apis/a/plugins/{id}"), "").0, 404);
    // By passwords, too; not by either of two, where Kong asks for both.
    let (status, it) = asking.ask("POST", "/apis/a/plugins/", "name=basic-auth&value.hide_credentials=true");
    assert_eq!((status, &it["name"]), (201, &"basicauth".into()));
    assert_eq!(asking.ask("POST", "/apis/a/plugins/", "name=ratelimiting&value.minute=5").0, 201);
    let route = asking.object("routes", "a");
    assert_eq!((&route["auth"], &route["limits"][0]["by"]), (&json!({"basic": true}), &"consumer".into()));
    let (status, both) = asking.ask("PATCH", "/apis/a/plugins/keyauth", "enabled=true");
    assert!(status == 400 && both.to_string().contains("not both"), "{both}");
}

#[test]
fn what_no_policy_can_say_is_refused_with_the_reason() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", READER);
    let mut refused = |form: &str, word: &str| {
        let (status, body) = asking.ask("POST", "/apis/reader/plugins/", form);
        assert!(status == 400 && body.to_string().contains(word), "{form}: {status} {body}");
    };
    refused("", "name is required");
    refused("name=oauth2", "skep-node config apply");
    refused("name=request-termination", "not found");
    refused("name=basicauth&value.hide_credentials=false", "no service is sent one");
    refused("name=basic-auth&value.x=1", "value.x");
    refused("name=keyauth&value.key_names=a,b", "one name");
    refused("name=keyauth&value.hide_credentials=false", "no service is sent one");
    refused("name=keyauth&value.x=1", "value.x");
    refused("name=ratelimiting", "You need to set at least one limit");
    refused("name=ratelimiting&value.day=5", "none per day");
    refused("name=ratelimiting&value.minute=0", "must be greater than zero");
    refused("name=ratelimiting&value.minute=5&value.hour=4", "cannot be lower than the value for minute");
    refused("name=ratelimiting&value.minute=many", "minute is not a number");
    refused("name=ratelimiting&value.minute=1.5", "whole number");
    refused("name=ratelimiting&value.minute=5&consumer_id=x", "No consumer can be configured");
    refused("name=cors&value.origin=https://a.example", "name the headers");
    refused("name=cors&value.headers=x&value.preflight_continue=true", "preflights");
    refused("name=ip_restriction", "one of the two");
    refused("name=ip_restriction&value.whitelist=a&value.blacklist=b", "one of the two");
    refused("name=requestsizelimiting&value.allowed_payload_size=0.5", "megabytes");
}

#[test]
fn a_note_that_is_none_of_the_doors_makes_no_api_and_breaks_nothing() {
    let api = json!({"id": "x", "created_at": 1, "name": "x", "path": "/x", "target_url": "no url"});
    let plugin = |name: &str| json!({"id": "p", "created_at": 1, "name": name, "value": {}, "enabled": true});
    let plugins: Vec<Value> =
        ["keyauth", "ratelimiting", "cors", "requestsizelimiting", "x"].map(plugin).into();
    let whole = |object: &str, service: &str| json!({"api": api, "plugins": plugins, "object": object, "service": service});
    for note in [
        json!({}),
        json!({"api": 7}),
        json!({"api": api}),
        whole("r", "skep"),
        whole("r", "other"),
        whole("other", "other"),
        whole("\u{0}", ""),
    ] {
        let mut asking = Asking::new();
        let route = json!({"match": {"path": "/x"}, "service": "skep", "kong": note});
        asking.document.put("routes", "r", route);
        for (method, target) in [
            ("GET", "/apis/"),
            ("GET", "/apis/x/plugins/"),
            ("PATCH", "/apis/x"),
            ("POST", "/apis/x/plugins"),
            ("GET", "/plugins_configurations/"),
        ] {
            let (status, _) = asking.ask(method, target, "name=ratelimiting&value.minute=1");
            assert!(matches!(status, 200 | 201 | 400 | 404 | 409), "{target}: {status}");
        }
    }
}

#[test]
fn who_puts_an_entity_with_an_id_has_it_under_that() {
    let mut asking = Asking::new();
    let id = "11111111-1111-4111-8111-111111111111";
    for (path, form, more) in [
        ("/apis/", READER, "strip_path=true"),
        ("/apis/reader/plugins/", "name=keyauth", "enabled=false"),
        ("/consumers/", "username=shop", "custom_id=7"),
    ] {
        let made = asking.ask("PUT", path, &format!("{form}&id={id}"));
        assert_eq!((made.0, &made.1["id"]), (201, &json!(id)), "{path}");
        let again = asking.ask("PUT", path, &format!("{form}&{more}&id={id}"));
        assert_eq!((again.0, &again.1["created_at"]), (200, &made.1["created_at"]), "{path}");
        assert_eq!(asking.ask("PUT", path, &format!("{form}&id=7")).1, json!({"id": "id is not an id"}));
    }
    let refused = asking.ask("PATCH", "/apis/reader/plugins/keyauth", "value=abc");
    assert_eq!(refused, (400, json!({"value": "value is not a table"})));
}
