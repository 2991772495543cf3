//! What is said of the service that is asked before a request goes on.

use skep_base::settings::values;

use super::target::place_at;
use crate::ask::{Ask, FIELDS_MAX, IS_QUESTION, METHOD, SENT, TIMEOUT, TIMEOUT_MAX, URI};
use crate::fault::Faults;
use crate::fields::{self, is_of_consumers, is_same};
use crate::reader::Spot;

pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Ask> {
    let mut fields = spot.fields(faults)?;
    let [service, path] = ["service", "path"].map(|name| {
        let field = fields.take(name);
        if field.is_none() {
            faults.add(&spot.pointer, format!("there is no {name:?}"));
        }
        field
    });
    let service = service.and_then(|it| it.text(faults)).map(str::to_owned);
    let path = path.and_then(|it| it.read(place_at, faults));
    let send = match fields.take("send") {
        Some(it) => names(&it, sent, faults),
        None => SENT.map(str::to_owned).into(),
    };
    let take = fields.take("take").map(|it| names(&it, taken, faults)).unwrap_or_default();
    let timeout = |text: &str| values::duration_up_to(text, TIMEOUT_MAX);
    let timeout = fields.take("timeout").map_or(Some(TIMEOUT), |it| it.read(timeout, faults));
    fields.end(faults);
    Some(Ask { service: service?, path: path?, send, take, timeout: timeout? })
}

fn names(spot: &Spot<'_>, read: fn(&str) -> Result<String, String>, faults: &mut Faults) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for spot in spot.items(FIELDS_MAX, faults) {
        let Some(name) = spot.read(read, faults) else { continue };
        if names.iter().any(|it| is_same(name.as_bytes(), it)) {
            faults.add(&spot.pointer, "this name stands here already, maybe in another spelling");
        }
        names.push(name);
    }
    names
}

/// A field of the client's.
fn sent(text: &str) -> Result<String, String> {
    let name = fields::name(text)?;
    let is_own = [METHOD, URI, IS_QUESTION].iter().any(|it| is_same(name.as_bytes(), it));
    if is_own || is_of_consumers(name.as_bytes()) {
        return Err(format!("{text:?} is said by the balancer: it is sent anyway, and never the client's"));
    }
    Ok(name)
}

/// A field of the answer's.
fn taken(text: &str) -> Result<String, String> {
    let name = fields::name(text)?;
    let is = |it: &&str| is_same(name.as_bytes(), it);
    if is_of_consumers(name.as_bytes()) || is(&IS_QUESTION) {
        return Err(format!("{text:?} is for the balancer alone to say"));
    }
    if is(&"idempotency-key") {
        return Err(format!("{text:?} says whether a request may be repeated: it is the client's to say"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Document;
    use crate::ask::{Ask, SENT, TIMEOUT};
    use crate::document::Unmatched;

    const SERVICES: &str = "[services]\nlogin.urls = [\"http://l:1\"]\napp.urls = [\"http://a:1\"]\n";

    fn faults(route: &str) -> Vec<String> {
        let read = Document::read(&format!("{SERVICES}[routes.r]\n{route}\n"));
        read.err().unwrap_or_default().into_iter().map(|it| it.pointer).collect()
    }

    #[test]
    fn a_question_is_of_a_service_and_what_is_not_said_of_it_is_usual() {
        let of = |ask: &str| {
            let text = format!("{SERVICES}[routes.r]\nservice = \"app\"\nask = {ask}\n");
            Document::read(&text).unwrap_or_else(|it| panic!("{it:?}")).routes["r"].policies.ask.clone()
        };
        let usual = Ask {
            service: "login".into(),
            path: "/auth?x=1".into(),
            send: SENT.map(str::to_owned).into(),
            take: vec![],
            timeout: TIMEOUT,
        };
        assert_eq!(of("{service = \"login\", path = \"/auth?x=1\"}"), Some(usual.clone()));
        let more = "{service = \"login\", path = \"/auth?x=1\", send = [\"Cookie\"], take = [\"X-User\"], \
                    timeout = \"500ms\"}";
        let (send, take) = (vec!["cookie".to_owned()], vec!["x-user".to_owned()]);
        assert_eq!(of(more), Some(Ask { send, take, timeout: Duration::from_millis(500), ..usual }));
        assert_eq!(of("{service = \"login\", path = \"/\", send = []}").map(|it| it.send.len()), Some(0));
        assert_eq!(of("false"), None);
    }

    #[test]
    fn a_question_that_cannot_be_asked_is_refused_at_its_place() {
        let with = |more: &str| {
            format!("service = \"app\"\nask = {{service = \"login\", path = \"/auth\", {more}}}")
        };
        for (route, pointer) in [
            ("service = \"app\"\nask = true".to_owned(), "/ask"),
            ("service = \"app\"\nask = {path = \"/\"}".to_owned(), "/ask"),
            ("service = \"app\"\nask = {service = \"login\"}".to_owned(), "/ask"),
            ("service = \"app\"\nask = {service = \"gone\", path = \"/\"}".to_owned(), ""),
            ("service = \"app\"\nask = {service = \"skep\", path = \"/\"}".to_owned(), ""),
            ("service = \"app\"\nask = {service = \"login\", path = \"auth\"}".to_owned(), "/ask/path"),
            ("service = \"app\"\nask = {service = \"login\", path = \"/a b\"}".to_owned(), "/ask/path"),
            (with("timeout = \"31s\""), "/ask/timeout"),
            (with("timeout = \"0s\""), "/ask/timeout"),
            (with("send = [\"host\"]"), "/ask/send/0"),
            (with("send = [\"X_Forwarded_Uri\"]"), "/ask/send/0"),
            (with("send = [\"x-consumer-id\"]"), "/ask/send/0"),
            (with("take = [\"x_consumer_groups\"]"), "/ask/take/0"),
            (with("take = [\"content-length\"]"), "/ask/take/0"),
            (with("take = [\"Idempotency_Key\"]"), "/ask/take/0"),
            (with("take = [\"x-user\", \"x_user\"]"), "/ask/take/1"),
            (with("method = \"POST\""), "/ask/method"),
            (format!("{}\nrequest_headers.set = {{x_user = \"1\"}}", with("take = [\"x-user\"]")), ""),
        ] {
            assert_eq!(faults(&route), [format!("/routes/r{pointer}")], "{route}");
        }
        // Wherever it is stated.
        let text = "services.a = {urls = [\"http://a:1\"], ask = {service = \"b\", path = \"/\"}}\n\
                    defaults.ask = {service = \"c\", path = \"/\"}";
        let found = Document::read(text).unwrap_err();
        assert_eq!(found.iter().map(|it| &*it.pointer).collect::<Vec<_>>(), ["/defaults", "/services/a"]);
    }

    #[test]
    fn who_is_kept_from_the_nodes_by_a_service_gets_there_by_no_other_path() {
        let text = format!(
            "{SERVICES}[routes.r]\nmatch.path = \"/a\"\nservice = \"skep\"\nask = {{service = \"login\", path = \"/\"}}\n"
        );
        assert_eq!(Document::read(&text).map(|it| it.unmatched), Ok(Unmatched::NotFound));
        let raw = "r = {match = {path = \"/r\", raw = true}, service = \"app\"}\n\
                   t = {match.path = \"/t\", service = \"app\", ask = {service = \"login\", path = \"/\"}}";
        let found = Document::read(&format!("{SERVICES}[routes]\n{raw}\n")).unwrap_err();
        assert_eq!(found[0].pointer, "/routes/r/match/raw");
    }
}
