//! What is others': addresses where no API leads, objects of other APIs, and what operators make of an API.

use super::*;

#[test]
fn no_api_leads_to_the_door_nor_to_what_of_the_cluster_is_not_for_clients() {
    let closed = ["127.0.0.1:8001", "10.0.0.1:9400", "[::]:7400", "[::1]:7"].map(|it| it.parse().unwrap());
    let mut asking = Asking { closed: Closed::new(closed), ..Asking::new() };
    let mut add = |name: &str, target: &str| {
        asking.ask("POST", "/apis/", &format!("name={name}&path=/{name}&target_url={target}")).0
    };
    for target in [
        "http://127.0.0.1:8001",
        "https://127.0.0.1:8001/",
        "http://LOCALHOST:8001",
        "http://10.0.0.1:9400",
        "http://[::ffff:10.0.0.1]:9400",
        "http://192.0.2.1:7400",
        "http://localhost:7400",
        "http://[::1]:7",
    ] {
        assert_eq!(add("closed", target), 400, "{target}");
    }
    for (name, target) in
        [("a", "http://127.0.0.1:8002"), ("b", "http://10.0.0.2:9400"), ("c", "http://reader:8001")]
    {
        assert_eq!(add(name, target), 201, "{target}");
    }
    let moved = asking.ask("PATCH", "/apis/a", "target_url=http://10.0.0.1:9400");
    assert!(moved.0 == 400 && moved.1["target_url"].is_string(), "{moved:?}");
}

#[test]
fn a_change_takes_the_place_of_nothing_that_is_there_already() {
    let mut asking = Asking::aliased();
    asking.ask("POST", "/apis/", "name=a&path=/a&target_url=http://reader:5000");
    let others = json!({"match": {"path": "/other"}, "service": "a"});
    asking.document.put("routes", "a.dns", others.clone());
    asking.document.put("services", "a", json!({"urls": ["http://10.0.0.9:80"]}));
    for (form, lost) in
        [("public_dns=a.example", "routes/a.dns"), ("target_url=http://10.0.0.1:80", "services/a")]
    {
        let (status, said) = asking.ask("PATCH", "/apis/a", form);
        assert!(status == 409 && said["message"].as_str().unwrap().contains(lost), "{form}: {said}");
    }
    assert_eq!(asking.document.object("routes", "a.dns"), Some(&others));
    asking.document.remove("routes", "a.dns");
    assert_eq!(asking.ask("PATCH", "/apis/a", "public_dns=a.example").0, 200);
}

#[test]
fn an_api_with_the_name_of_anothers_second_route_is_one_of_its_own() {
    let mut asking = Asking::aliased();
    for form in [
        "name=a&path=/a&target_url=http://reader:5000",
        "name=a.dns&path=/b&public_dns=b.example&target_url=http://reader:5000",
    ] {
        assert_eq!(asking.ask("POST", "/apis/", form).0, 201, "{form}");
    }
    let names = |asking: &mut Asking| -> Vec<Value> {
        let all = asking.ask("GET", "/apis/", "").1;
        all["data"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect()
    };
    assert_eq!(names(&mut asking), ["a", "a.dns"]);
    // Its own second route would be the other's.
    assert_eq!(asking.ask("PATCH", "/apis/a", "public_dns=a.example").0, 409);
    assert_eq!(asking.ask("DELETE", "/apis/a.dns", "").0, 204);
    assert_eq!(names(&mut asking), ["a"]);
    assert_eq!(asking.ask("PATCH", "/apis/a", "public_dns=a.example").0, 200);
    assert_eq!(names(&mut asking), ["a"]);
}

#[test]
fn what_operators_make_of_an_api_stays_an_api_and_is_taken_out_whole() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", "name=a&path=/a&public_dns=a.example&target_url=http://10.0.0.1:80");
    // Two services share what its first route takes, the other one has another name.
    let route = |asking: &Asking, name: &str| asking.document.object("routes", name).unwrap().clone();
    let (mut first, second) = (route(&asking, "a"), route(&asking, "a.dns"));
    let fields = first.as_object_mut().unwrap();
    fields.remove("service");
    fields.insert("services".to_owned(), json!({"a": 90, "b": 10}));
    asking.document.put("services", "b", json!({"urls": ["http://10.0.0.2:80"]}));
    asking.document.put("routes", "a", first);
    asking.document.remove("routes", "a.dns");
    asking.document.put("routes", "renamed", second);
    let shown = asking.ask("GET", "/apis/a", "");
    assert_eq!((shown.0, &shown.1["public_dns"]), (200, &json!("a.example")));
    assert_eq!(asking.ask("PATCH", "/apis/a", "path=/c").0, 409);
    assert_eq!(asking.ask("POST", "/apis/a/plugins/", "name=keyauth").0, 409);
    assert_eq!(asking.ask("DELETE", "/apis/a", "").0, 204);
    assert_eq!(asking.document.0.get("routes"), None, "{:?}", asking.document);
    let services = asking.document.0.get("services").unwrap();
    assert_eq!(services, &json!({"b": {"urls": ["http://10.0.0.2:80"]}}));
}

/// The document as a node has it once a source has put this.
fn put(asking: &mut Asking, source: &str, text: &str, takes: bool) {
    let before = Kept::read(&Value::from(asking.document.0.clone()).to_string()).unwrap();
    let after = before.with_part(source, &Kept::read_part(text, source).unwrap(), takes, &|| None).unwrap();
    let Ok(Value::Object(back)) = serde_json::from_str(&after.json().unwrap()) else { panic!() };
    asking.document = Document(back);
}

#[test]
fn what_the_door_makes_is_its_own_and_no_part_of_anothers() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", "name=a&path=/a&target_url=http://10.0.0.1:80");
    asking.ask("POST", "/consumers/", "username=shop");
    for (kind, name) in [("routes", "a"), ("services", "a"), ("consumers", "shop")] {
        assert_eq!(asking.document.object(kind, name).unwrap()["source"], "kong", "{kind}");
    }
    put(&mut asking, "web", "services.web.urls = [\"http://b:1\"]", false);
    put(&mut asking, "web", "", false);
    assert_eq!(asking.ask("PATCH", "/apis/a", "path=/b").0, 200);
    assert_eq!(asking.ask("DELETE", "/apis/a", "").0, 204);
}

#[test]
fn what_another_source_took_is_changed_there_and_not_by_the_door() {
    let mut asking = Asking::new();
    asking.ask("POST", "/apis/", "name=a&path=/a&target_url=http://10.0.0.1:80");
    asking.ask("POST", "/consumers/", "username=shop");
    asking.ask("POST", "/consumers/shop/keyauth/", "key=the-key-of-the-shop");
    asking.ask("POST", "/consumers/shop/basicauth/", "username=shop&password=of-the-shop");
    let mut whole = asking.document.0.clone();
    for objects in whole.values_mut() {
        for object in objects.as_object_mut().unwrap().values_mut() {
            object.as_object_mut().unwrap().remove("source");
        }
    }
    put(&mut asking, "web", &Value::from(whole).to_string(), true);
    let mut id = |path: &str| asking.ask("GET", path, "").1["data"][0]["id"].as_str().unwrap().to_owned();
    let (key, password) = (id("/consumers/shop/keyauth/"), id("/consumers/shop/basicauth/"));
    for (method, path, form) in [
        ("PATCH", "/apis/a", "path=/b"),
        ("DELETE", "/apis/a", ""),
        ("POST", "/apis/a/plugins/", "name=keyauth"),
        ("PATCH", "/consumers/shop", "custom_id=7"),
        ("DELETE", "/consumers/shop", ""),
        ("POST", "/consumers/shop/keyauth/", "key=another-key-of-the-shop"),
        ("DELETE", &format!("/consumers/shop/keyauth/{key}"), ""),
        ("POST", "/consumers/shop/basicauth/", "username=other&password=of-the-other"),
        ("PATCH", &format!("/consumers/shop/basicauth/{password}"), "username=other"),
        ("DELETE", &format!("/consumers/shop/basicauth/{password}"), ""),
    ] {
        let (status, said) = asking.ask(method, path, form);
        assert!(
            status == 409 && said["message"].as_str().unwrap().contains("'web'"),
            "{method} {path}: {said}"
        );
    }
    assert_eq!(asking.ask("GET", "/apis/a", "").0, 200);
}
