//! Consumers and their keys, as Kong answers and as the document keeps them.

use serde_json::json;
use skep_gateway::Kept;
use skep_gateway::auth::password::PasswordHash;

use super::*;
use crate::kong::asked::New;
use crate::kong::{Aliases, Closed, body, resources};

fn ask(document: &mut Document, id: u64, method: &str, path: &str, form: &str) -> (u16, Value) {
    let asked = Asked {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        segments: path.trim_matches('/').split('/').map(str::to_owned).collect(),
        query: Vec::new(),
        params: body::read("application/x-www-form-urlencoded", form.as_bytes()).unwrap(),
        host: "localhost:8001".to_owned(),
        new: New {
            id: format!("00000000-0000-4000-8000-{id:012}"),
            created_at: 1_000 + id,
            key: format!("a-key-that-was-made-{id}"),
            salt: [id as u8; 16],
        },
        aliases: Aliases::default(),
        closed: Closed::default(),
    };
    let answer = match resources::answer(&asked, document) {
        Ok(done) => done.answer,
        Err(answer) => answer,
    };
    let kept = Kept::read(&Value::from(document.0.clone()).to_string()).unwrap();
    let Ok(Value::Object(back)) = serde_json::from_str(&kept.json().unwrap()) else { panic!() };
    *document = Document(back);
    (answer.status, answer.body.unwrap_or_default())
}

#[test]
fn a_consumer_has_keys_of_which_the_digest_is_kept_and_shown() {
    let document = &mut Document::default();
    let id = "00000000-0000-4000-8000-000000000001";
    let expected = json!({"id": id, "created_at": 1001, "username": "shop", "custom_id": "7"});
    assert_eq!(ask(document, 1, "POST", "/consumers/", "username=shop&custom_id=7"), (201, expected.clone()));
    assert_eq!(ask(document, 2, "GET", "/consumers/shop", ""), (200, expected.clone()));
    let twice = json!({
        "username": "username already exists with value 'shop'", "custom_id": "custom_id already exists with value '7'",
    });
    assert_eq!(ask(document, 3, "POST", "/consumers/", "username=shop&custom_id=7"), (409, twice));
    let (status, key) = ask(document, 4, "POST", "/consumers/shop/keyauth/", "key=the-key-of-the-shop");
    assert_eq!((status, &key["key"], &key["consumer_id"]), (201, &"the-key-of-the-shop".into(), &id.into()));
    let (status, made) = ask(document, 5, "POST", &format!("/consumers/{id}/key-auth/"), "");
    assert_eq!((status, &made["key"]), (201, &"a-key-that-was-made-5".into()));
    let shown = ask(document, 6, "GET", "/consumers/shop/keyauth/", "").1.to_string();
    let kept = Value::from(document.0.clone()).to_string();
    for text in [&shown, &kept] {
        assert!(!text.contains("the-key-of-the-shop") && text.contains("sha256:"), "{text}");
    }
    assert_eq!(document.object("consumers", "shop").unwrap()["keys"].as_array().map(Vec::len), Some(2));
    let again = ask(document, 7, "POST", "/consumers/shop/keyauth/", "key=the-key-of-the-shop");
    assert_eq!(again.0, 409);
    let path = format!("/consumers/shop/keyauth/{}", key["id"].as_str().unwrap());
    assert_eq!(ask(document, 8, "DELETE", &path, "").0, 204);
    assert_eq!(ask(document, 9, "GET", &path, "").0, 404);
    let (_, patched) = ask(document, 10, "PATCH", "/consumers/shop", "username=market&custom_id=");
    assert_eq!(patched, json!({"id": id, "created_at": 1001, "username": "market"}));
    assert_eq!(document.object("consumers", "shop").unwrap()["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask(document, 11, "DELETE", "/consumers/market", "").0, 204);
    assert_eq!(*document, Document::default());
}

#[test]
fn keys_and_groups_that_operators_gave_stay() {
    let document = &mut Document::default();
    ask(document, 1, "POST", "/consumers", "username=shop");
    let Value::Object(object) = &mut document.0["consumers"]["shop"] else { panic!() };
    object.insert("groups".to_owned(), json!(["staff"]));
    object.insert("keys".to_owned(), json!([{"key": "a-key-of-an-operator", "label": "ci"}]));
    let (_, key) = ask(document, 2, "POST", "/consumers/shop/keyauth", "key=the-key-of-the-shop");
    assert_eq!(
        ask(document, 3, "GET", "/consumers/shop/keyauth", "").1["data"].as_array().map(Vec::len),
        Some(1)
    );
    let path = format!("/consumers/shop/keyauth/{}", key["id"].as_str().unwrap());
    assert_eq!(ask(document, 4, "DELETE", &path, "").0, 204);
    let object = document.object("consumers", "shop").unwrap();
    assert_eq!((&object["groups"], &object["keys"][0]["label"]), (&json!(["staff"]), &"ci".into()));
    assert_eq!(object["keys"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_wrong_with_a_consumer_or_a_key_is_said_in_kongs_words() {
    let document = &mut Document::default();
    let neither = json!({"custom_id": NEITHER, "username": NEITHER});
    assert_eq!(ask(document, 1, "POST", "/consumers", ""), (400, neither));
    ask(document, 2, "POST", "/consumers", "username=shop");
    let short = ask(document, 3, "POST", "/consumers/shop/keyauth", "key=short");
    assert!(short.0 == 400 && short.1["key"].as_str().unwrap().contains("16 to 256"), "{short:?}");
    assert_eq!(ask(document, 4, "POST", "/consumers/nobody/keyauth", "").0, 404);
    let short = ask(document, 5, "POST", "/consumers/shop/basicauth", "username=a&password=b");
    assert!(short.0 == 400 && short.1["password"].as_str().unwrap().contains("8 to 256"), "{short:?}");
    let none = ask(document, 6, "POST", "/consumers/shop/basicauth", "username=a:b");
    let required = "password is required";
    assert!(none.0 == 400 && none.1["password"] == required && none.1["username"].is_string(), "{none:?}");
    assert_eq!(ask(document, 7, "POST", "/consumers/shop/jwt", "").0, 400);
}

#[test]
fn a_consumer_has_users_with_passwords_of_which_the_hash_is_kept_and_shown() {
    let document = &mut Document::default();
    ask(document, 1, "POST", "/consumers", "username=shop");
    ask(document, 2, "POST", "/consumers", "username=other");
    let form = "username=of the shop&password=hidden password";
    let (status, made) = ask(document, 3, "POST", "/consumers/shop/basicauth/", form);
    assert_eq!((status, &made["username"]), (201, &"of the shop".into()));
    let kept = made["password"].as_str().unwrap().to_owned();
    let hash = PasswordHash::read(&kept).unwrap();
    assert_eq!(hash.is_of(b"hidden password"), Some(true));
    assert_eq!(ask(document, 4, "GET", "/consumers/shop/basic-auth", "").1["data"], json!([made]));
    assert_eq!(document.object("consumers", "shop").unwrap()["passwords"][0]["password"], kept);
    // The same asked for again, as where an answer was lost; another consumer's; what is known no more.
    assert_eq!(ask(document, 3, "POST", "/consumers/shop/basicauth/", form), (201, made.clone()));
    assert_eq!(ask(document, 5, "POST", "/consumers/other/basicauth", form).0, 409);
    let path = format!("/consumers/shop/basicauth/{}", made["id"].as_str().unwrap());
    let (status, renamed) = ask(document, 6, "PATCH", &path, "username=shop");
    assert_eq!(
        (status, &renamed["username"], &renamed["password"]),
        (200, &"shop".into(), &kept.clone().into())
    );
    let (_, changed) = ask(document, 7, "PATCH", &path, "password=another password");
    assert!(changed["username"] == "shop" && changed["password"] != kept, "{changed}");
    // PUT says which one it is, and makes no second.
    let form = format!("id={}&username=put&password=a third password", made["id"].as_str().unwrap());
    let (status, put) = ask(document, 12, "PUT", "/consumers/shop/basicauth", &form);
    assert_eq!((status, &put["username"], &put["id"]), (200, &"put".into(), &made["id"]), "{put}");
    assert_eq!(ask(document, 13, "GET", "/consumers/shop/basicauth", "").1["data"], json!([put]));
    assert_eq!(ask(document, 14, "PUT", "/consumers/other/basicauth", &form).0, 409);
    // Nor does a new consumer take the place of one that is none of the door's.
    document.put("consumers", "kong-9dfb9c5e-0f5e-4a53-a4a6-0a3ad7a9a0c1", json!({"groups": ["partners"]}));
    let form = "id=9dfb9c5e-0f5e-4a53-a4a6-0a3ad7a9a0c1&username=not a name";
    assert_eq!(ask(document, 15, "PUT", "/consumers", form).0, 409);
    // What operators gave it stays, and so do keys.
    let mut object = document.object("consumers", "shop").unwrap().clone();
    let own = json!({"user": "own", "password": kept});
    object["passwords"].as_array_mut().unwrap().push(own.clone());
    document.put("consumers", "shop", object);
    assert_eq!(ask(document, 8, "POST", "/consumers/shop/keyauth", "").0, 201);
    assert_eq!(ask(document, 9, "DELETE", &path, "").0, 204);
    assert_eq!(ask(document, 10, "GET", &path, "").0, 404);
    let object = document.object("consumers", "shop").unwrap();
    assert_eq!((&object["passwords"], object["keys"].as_array().map(Vec::len)), (&json!([own]), Some(1)));
    assert_eq!(
        ask(document, 11, "POST", "/consumers/shop/basicauth", "username=own&password=hidden password").0,
        409
    );
}
