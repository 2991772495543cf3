use crate::document::Document;

#[test]
fn users_are_called_as_nobody_else_is_and_their_passwords_are_as_they_are_kept() {
    let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    let document = |passwords: &str| {
        let passwords = passwords.replace("HASH", hash);
        format!(
            "{{\"consumers\":{{\"a\":{{\"passwords\":[{passwords}]}},\"b\":{{\"passwords\":[\"{hash}\"]}}}}}}"
        )
    };
    let read = Document::read(&document(r#""HASH", {"user": "Jürgen M.", "password": "HASH"}"#)).unwrap();
    let users: Vec<&str> = read.consumers["a"].passwords.iter().map(|it| it.user.as_str()).collect();
    assert_eq!(users, ["a", "Jürgen M."]);
    let seventeen: Vec<String> =
        (0..17).map(|at| format!(r#"{{"user": "u{at}", "password": "HASH"}}"#)).collect();
    let bcrypt = r#""$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy""#;
    for (passwords, pointer, said) in [
        (r#""HASH", "HASH""#, "/consumers/a/passwords/1", "stands here twice"),
        (
            r#"{"user": "b", "password": "HASH"}"#,
            "/consumers/b/passwords/0",
            "the consumer \"a\" has a user \"b\"",
        ),
        (r#"{"user": "b:c", "password": "HASH"}"#, "/consumers/a/passwords/0/user", "without colon"),
        (r#"{"user": "b"}"#, "/consumers/a/passwords/0", "there is no \"password\""),
        (r#"{"name": "b", "password": "HASH"}"#, "/consumers/a/passwords/0/name", "no such field"),
        (r#""HASH=""#, "/consumers/a/passwords/0", "in base64"),
        (
            r#""$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFh""#,
            "/consumers/a/passwords/0",
            "expected is $argon2id",
        ),
        (r#""correct horse""#, "/consumers/a/passwords/0", "config password"),
        (bcrypt, "/consumers/a/passwords/0", "not known here"),
        ("7", "/consumers/a/passwords/0", "an object"),
        (&seventeen.join(","), "/consumers/a/passwords", "at most 16"),
    ] {
        let faults = Document::read(&document(passwords)).unwrap_err();
        let found = faults
            .iter()
            .find(|it| it.pointer == pointer)
            .unwrap_or_else(|| panic!("{passwords}: {faults:?}"));
        assert!(found.fault.contains(said) && !found.fault.contains("horse"), "{passwords}: {found}");
    }
    let auth = |auth: &str| {
        Document::read(&format!("routes.a = {{service = \"skep\", match.path = \"/\", auth = {auth}}}"))
    };
    assert!(auth("{basic = true}").is_ok() && auth("{basic = true, keys = true, groups = [\"g\"]}").is_ok());
    for (wrong, pointer) in
        [("{basic = false}", "/basic"), ("{basic = 1}", "/basic"), ("{groups = [\"g\"]}", "")]
    {
        assert_eq!(auth(wrong).unwrap_err()[0].pointer, format!("/routes/a/auth{pointer}"), "{wrong}");
    }
}
