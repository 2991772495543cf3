//! Who asks again has the same of a route's services.

use std::collections::BTreeSet;

use skep_gateway::shift::Told;

use crate::harness::*;

const SERVICES: [&str; 2] = ["blue", "green"];

struct Site {
    balancer: Balancer,
    _servers: [Scripted; 2],
}

impl Site {
    /// Two services, of which a route has each by half, with this said of it.
    fn start(said: &str) -> Self {
        let servers = SERVICES.map(|name| {
            Scripted::start(move |served| {
                while served.head().is_some() {
                    let fields = format!("cache-control: max-age=60\r\ncontent-length: {}", name.len());
                    served.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{name}"));
                }
            })
        });
        let balancer = Balancer::start(&[]);
        let document = format!(
            "services.blue.urls = [\"http://{}\"]\nservices.green.urls = [\"http://{}\"]\n\
             [routes.web]\nmatch.path = \"/\"\nservices = {{blue = 50, green = 50}}\n{said}\n",
            servers[0].address, servers[1].address
        );
        let addresses = servers.each_ref().map(|it| [it.address]);
        let of = [("blue", &addresses[0][..]), ("green", &addresses[1][..])];
        balancer.route(&document, &of);
        Self { balancer, _servers: servers }
    }

    /// Which service answers who has these fields, and the cookie that is set.
    fn ask(&self, fields: &str) -> (String, Option<String>) {
        let request = format!("GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
        let answer = self.balancer.ask(&request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        (body.to_owned(), cookie.map(str::to_owned))
    }

    /// Those that answer so many, each with a cookie of its own.
    fn clients(&self, count: usize) -> Vec<(String, String)> {
        let one = |_| {
            let (service, cookie) = self.ask("");
            let cookie = cookie.expect("who is not known gets a cookie");
            (service, cookie.split(';').next().unwrap().to_owned())
        };
        (0..count).map(one).collect()
    }
}

#[test]
fn who_has_a_cookie_has_the_same_service_and_who_has_none_gets_one() {
    let site = Site::start("sticky = \"cookie\"");
    let (_, cookie) = site.ask("");
    let cookie = cookie.unwrap();
    // A cache on the way gives it to nobody else.
    let answer = site.balancer.ask(&get_and_close("/x"));
    assert!(answer.contains("\r\ncache-control: private\r\n"), "{answer}");
    assert!(
        cookie.starts_with("skep-place=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let clients = site.clients(40);
    let services: BTreeSet<&str> = clients.iter().map(|(service, _)| service.as_str()).collect();
    assert_eq!(services.len(), 2, "both have some");
    for (service, cookie) in &clients {
        for _ in 0..3 {
            let again = site.ask(&format!("cookie: a=1; {cookie}\r\n"));
            assert_eq!(again, (service.clone(), None), "{cookie}");
        }
    }
    // What is no place is passed over.
    for bad in ["skep-place=10000", "skep-place=x", "skep-place=", "Skep-Place=1", "other=1"] {
        assert!(site.ask(&format!("cookie: {bad}\r\n")).1.is_some(), "{bad}");
    }
}

#[test]
fn a_shift_leads_over_as_many_as_its_share_and_nobody_back_until_it_goes_back() {
    let site = Site::start("sticky = {cookie = \"app\"}");
    let clients = site.clients(60);
    let told = |share| {
        let (from, to) = ("blue".into(), "green".into());
        vec![Told { id: 7, route: "web".into(), from, to, share, abort: String::new() }]
    };
    let at = |clients: &[(String, String)]| -> Vec<String> {
        clients.iter().map(|(_, cookie)| site.ask(&format!("cookie: {cookie}\r\n")).0).collect()
    };
    let shifts = &site.balancer.shared.shifts;
    let mut before = at(&clients);
    let first = before.clone();
    for (at_change, share) in [(1, 0), (2, 3_000), (3, 6_000), (4, 10_000)] {
        shifts.take(at_change, told(share), std::time::Instant::now());
        let now = at(&clients);
        let is_back = before.iter().zip(&now).any(|(was, is)| was == "green" && is == "blue");
        assert!(!is_back, "at {share}");
        before = now;
    }
    assert!(before.iter().all(|it| it == "green"));
    shifts.take(5, vec![], std::time::Instant::now());
    assert_eq!(at(&clients), first, "each is where it was");
}

#[test]
fn by_address_and_by_consumer_who_asks_has_one_service_and_no_cookie() {
    let by_address = Site::start("sticky = \"address\"");
    let services: BTreeSet<_> = (0..30).map(|_| by_address.ask("")).collect();
    assert_eq!(services.len(), 1, "all come from one address: {services:?}");
    assert!(services.iter().all(|(_, cookie)| cookie.is_none()));

    let mut said = "sticky = \"consumer\"\nauth.keys = true\n[consumers]\n".to_owned();
    for n in 0..20 {
        said.push_str(&format!("c{n}.keys = [\"a-key-of-consumer-{n:02}\"]\n"));
    }
    let by_consumer = Site::start(&said);
    let of = |n: usize| by_consumer.ask(&format!("x-api-key: a-key-of-consumer-{n:02}\r\n"));
    let services: Vec<_> = (0..20).map(of).collect();
    assert_eq!(services.iter().collect::<BTreeSet<_>>().len(), 2, "both have some");
    assert_eq!((0..20).map(of).collect::<Vec<_>>(), services);
}

#[test]
fn an_answer_that_sets_a_cookie_is_stored_for_nobody() {
    let site = Site::start("sticky = \"cookie\"\ncache = true");
    // Nothing of it is in what the next gets, who has a cookie of its own.
    let clients = site.clients(6);
    let cookies: BTreeSet<&String> = clients.iter().map(|(_, cookie)| cookie).collect();
    assert!(cookies.len() > 1, "{cookies:?}");
    for (service, cookie) in &clients {
        assert_eq!(site.ask(&format!("cookie: {cookie}\r\n")), (service.clone(), None));
    }
}
