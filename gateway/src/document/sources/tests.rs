//! What a source has, and what it takes from nobody.

use super::*;
use crate::Kept;

const WEB: &str = r#"
    services.web.urls = ["http://a:1"]
    routes.web = {match.path = "/web", service = "web"}
    routes.shop = {match.path = "/shop", service = "web"}
"#;
const OTHERS: &str = r#"
    unmatched = "not-found"
    services.own.urls = ["http://b:1"]
    routes.own = {match.path = "/own", service = "own"}
    consumers.door = {keys = ["the-key-of-the-door"], source = "kong"}
"#;

fn others() -> Kept {
    Kept::read(OTHERS).unwrap()
}

fn put(document: &Kept, source: &str, text: &str, takes: bool) -> Result<Kept, Refused> {
    document.with_part(source, &Kept::read_part(text, source)?, takes, &|| None)
}

fn pointers(refused: &Refused) -> Vec<&str> {
    refused.faults.iter().map(|it| it.pointer.as_str()).collect()
}

#[test]
fn a_source_puts_and_takes_out_its_own_and_what_others_have_stays() {
    let first = put(&others(), "web", WEB, false).unwrap();
    assert_eq!(first.since(&others()).added, ["routes/shop", "routes/web", "services/web"]);
    assert!(first.since(&others()).changed.is_empty());
    let object = first.object("routes", "web").unwrap();
    assert_eq!(object, r#"{"match":{"path":"/web"},"service":"web","source":"web"}"#);
    // Again is no change, also where it says whose it is, as what it is shown does.
    assert_eq!(put(&first, "web", WEB, false).unwrap(), first);
    let shown = first.part("web").unwrap();
    assert_eq!(put(&first, "web", &shown.json().unwrap(), false).unwrap(), first);
    assert_eq!(first.part("kong").unwrap().json().map(|it| it.matches("source").count()), Some(1));
    assert_eq!(first.part("gone"), None);
    // What it says no more is gone, and nothing else.
    let fewer =
        "services.web.urls = [\"http://a:2\"]\nroutes.web = {match.path = \"/web\", service = \"web\"}\n";
    let difference = put(&first, "web", fewer, false).unwrap().since(&first);
    assert_eq!(
        (difference.changed, difference.removed),
        (vec!["services/web".into()], vec!["routes/shop".into()])
    );
    assert_eq!(put(&first, "web", "", false).unwrap(), others());
    // Of a whole document, exported and put again, each is whose it was.
    assert_eq!(Kept::read(&first.json().unwrap()).unwrap(), first);
}

#[test]
fn what_another_source_has_is_taken_by_who_says_so_alone() {
    let document = put(&others(), "web", WEB, false).unwrap();
    let wanted = "routes.web = {match.path = \"/w\", service = \"own\"}\nconsumers.door = {}\nroutes.own = {match.path = \"/o\", service = \"own\"}\n";
    let refused = put(&document, "blue", wanted, false).unwrap_err();
    assert!(refused.is_clash);
    assert_eq!(pointers(&refused), ["/consumers/door", "/routes/own", "/routes/web"]);
    for (fault, owner) in refused.faults.iter().zip(["\"kong\"", "\"api\"", "\"web\""]) {
        let object = &fault.pointer[1..];
        assert!(fault.fault.contains(object) && fault.fault.contains(owner), "{fault}");
    }
    let taken = put(&document, "blue", wanted, true).unwrap();
    assert_eq!(taken.object("consumers", "door").unwrap(), r#"{"source":"blue"}"#);
    // It is no more the other's, which leaves it alone, or takes it back.
    let left = put(&taken, "web", "services.web.urls = [\"http://a:1\"]", false).unwrap();
    assert!(left.object("routes", "web").is_some() && left.object("routes", "shop").is_none());
    assert!(put(&taken, "web", WEB, false).unwrap_err().is_clash);
}

#[test]
fn one_object_is_put_by_who_has_it() {
    let document = put(&others(), "web", WEB, false).unwrap();
    let with = |object: &str, takes| document.with("routes", "web", object, takes, &|| None);
    let refused = with(r#"{"match":{"path":"/w"},"service":"web"}"#, false).unwrap_err();
    assert_eq!((refused.is_clash, pointers(&refused)), (true, vec!["/routes/web"]));
    let without = |source, takes| document.without("routes", "web", source, takes);
    for (source, takes, is_well) in
        [("api", false, false), ("blue", false, false), ("api", true, true), ("web", false, true)]
    {
        let left = without(source, takes);
        assert_eq!(left.as_ref().is_ok_and(|it| it.object("routes", "web").is_none()), is_well, "{source}");
        if let Err(refused) = left {
            assert_eq!((refused.is_clash, pointers(&refused)), (true, vec!["/routes/web"]));
            assert!(refused.faults[0].fault.contains("?source=web"), "{refused:?}");
        }
    }
    // Nor does a source take out what is the API's.
    assert!(document.without("routes", "own", "web", false).unwrap_err().is_clash);
    // As it was read, it is put again.
    let edited = document.object("routes", "web").unwrap().replace("/web", "/w");
    assert!(with(&edited, false).is_ok());
    let taken = with(r#"{"match":{"path":"/w"},"service":"web"}"#, true).unwrap();
    assert!(!taken.object("routes", "web").unwrap().contains("source"));
    // Whose it is says whoever makes it.
    let new =
        document.with("services", "x", "urls = [\"http://x:1\"]\nsource = \"ci\"", false, &|| None).unwrap();
    assert!(new.part("ci").is_some());
    assert!(
        document.without("services", "own", "api", false).unwrap_err().faults[0].fault.contains("no service")
    );
}

#[test]
fn a_part_is_of_objects_alone_and_all_of_them_are_its_own() {
    for (text, pointer) in [
        ("unmatched = \"skep\"", "/unmatched"),
        ("defaults.auth.keys = true", "/defaults"),
        ("routes = 7", "/routes"),
        ("routes.r = 7", "/routes/r"),
        ("services.s = {urls = [\"http://a:1\"], source = \"other\"}", "/services/s/source"),
        ("services.s = {urls = [\"http://a:1\"], source = 7}", "/services/s/source"),
        ("services.s = {urls = 7}", "/services/s/urls"),
    ] {
        let refused = put(&others(), "web", text, false).unwrap_err();
        assert_eq!((refused.is_clash, pointers(&refused)), (false, vec![pointer]), "{text}");
    }
    // A document without what it needs of others is none, with that it is.
    let needs = "routes.r = {match.path = \"/r\", service = \"own\"}";
    assert!(Kept::read(needs).is_err() && put(&others(), "web", needs, false).is_ok());
    let dangling = put(&others(), "web", &needs.replace("\"own\"", "\"gone\""), false).unwrap_err();
    assert_eq!((dangling.is_clash, pointers(&dangling)), (true, vec!["/routes/r"]));
    // What another's route leads to stays.
    let web = put(&others(), "web", WEB, false).unwrap();
    let leads = put(&web, "blue", "routes.b = {match.path = \"/b\", service = \"web\"}", false).unwrap();
    assert_eq!(pointers(&put(&leads, "web", "", false).unwrap_err()), ["/routes/b"]);
}

#[test]
fn keys_of_a_part_are_kept_by_their_digests() {
    let part = Kept::read_part("consumers.a.keys = [\"hidden-key-of-a-1\"]", "web").unwrap();
    assert!(!part.json().unwrap().contains("hidden"));
    let kept = put(&others(), "web", "consumers.a.keys = [\"hidden-key-of-a-1\"]", false).unwrap();
    assert!(!kept.json().unwrap().contains("hidden"));
}

#[test]
fn passwords_of_a_part_are_kept_by_their_hashes_and_the_same_given_again_are_no_change() {
    let salts = |first: u8| move || Some([first; 16]);
    let text = "consumers.a.passwords = [\"hidden-password-1\"]";
    let put = |document: &Kept, text: &str, first: u8| {
        document.with_part("web", &Kept::read_part(text, "web").unwrap(), false, &salts(first)).unwrap()
    };
    let kept = put(&others(), text, 1);
    assert!(!kept.json().unwrap().contains("hidden"));
    assert_eq!(put(&kept, text, 2), kept);
    assert_eq!(put(&kept, &text.replace("-1", "-2"), 2).since(&kept).changed, ["consumers/a"]);
    // What is sent of it need not have them.
    let sent = Kept::read_part(text, "web").unwrap().hashed(&salts(3)).unwrap().json().unwrap();
    assert!(sent.contains("$argon2id$") && !sent.contains("hidden"), "{sent}");
    assert!(put(&kept, &sent, 4).json().unwrap().contains("AwMDAw"));
}

#[test]
fn a_source_has_a_name_and_none_of_those_that_come_otherwise() {
    assert_eq!(read("web-1.x"), Ok("web-1.x".to_owned()));
    for name in ["", "a b", "a/b", "api", "kong", &"x".repeat(65)] {
        assert!(read(name).is_err(), "{name}");
    }
    for kind in KINDS {
        let text = format!("{kind}.x = {{source = \"a b\"}}");
        let refused = Kept::read(&text).unwrap_err();
        assert!(pointers(&refused).contains(&&*format!("/{kind}/x/source")), "{refused:?}");
    }
}
