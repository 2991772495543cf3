//! A service's servers over TLS: who is believed to be one, and who gets no request.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::backend_tls::{Sealed, certified};
use crate::gateway_file::{self, Document, without_nodes};
use crate::harness::*;
use crate::process::{Process, ask};

/// A server with a certificate for that name, and the text of its authority.
fn server(name: &str) -> (Sealed, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let server = certified(name, &file);
    (server, std::fs::read_to_string(file).unwrap())
}

/// Everything goes to that server, of which more is said.
fn all_to(server: SocketAddr, more: &str) -> String {
    format!(
        "routes.all.service = \"web\"\n[services.web]\nurls = [\"https://{server}\"]\nprobe = {{path = \"/\", interval = \"100ms\"}}\n{more}\n"
    )
}

fn ca(text: &str) -> String {
    format!("tls.ca = \"\"\"\n{text}\"\"\"")
}

/// A balancer whose only server is not believed.
fn start(document: &Path) -> Process {
    let (any, path) = ("127.0.0.1:0", document.to_str().unwrap());
    let process = Process::start(&["--http", any, "--admin", any, "--gateway", path]);
    wait("it is not believed", || ask(process.admin, "/backends").contains("\"untrusted\""));
    process
}

#[test]
fn requests_and_websockets_go_to_servers_that_prove_their_address_over_connections_that_are_kept() {
    let (web, authority) = server("127.0.0.1");
    let document = Document::new(&all_to(web.address, &ca(&authority)));
    let process = without_nodes(&document.path(), &[]);
    let mut client = Client::connect(process.http);
    for _ in 0..5 {
        client.send("POST /x HTTP/1.1\r\nhost: client.test\r\ncontent-length: 5\r\n\r\nhello");
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 200 ") && body == "hello", "{head}");
    }
    // One for each of two cores.
    assert!(web.used.load(Ordering::SeqCst) <= 2, "connections are kept");
    assert!(web.asked().iter().all(|head| head.contains("host: client.test\r\n")));
    client.send("GET /live HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    client.until("hello");
    client.send("more");
    client.until("more");
    // Probes ask for the host that the URL has.
    let host = format!("host: {}\r\n", web.address);
    let heads = web.heads.lock().unwrap().clone();
    assert!(heads.iter().any(|head| head.starts_with("GET / ") && head.contains(&host)), "{heads:?}");
}

#[test]
fn a_server_proves_the_name_that_the_service_says() {
    let (web, authority) = server("web.test");
    let document =
        Document::new(&all_to(web.address, &format!("{}\ntls.name = \"web.test\"", ca(&authority))));
    let process = without_nodes(&document.path(), &[]);
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_does_not_prove_who_it_is_gets_no_request() {
    let (web, authority) = server("127.0.0.1");
    let (named, others) = server("web.test");
    for (why, server, more) in [
        ("the public web's authorities have not signed it", &web, String::new()),
        ("another authority is believed", &web, ca(&others)),
        ("it proves another name", &web, format!("{}\ntls.name = \"web.test\"", ca(&authority))),
        ("it proves a name and is asked by its address", &named, ca(&others)),
    ] {
        let document = Document::new(&all_to(server.address, &more));
        let process = start(&document.path());
        assert!(ask(process.http, "/secret").starts_with("HTTP/1.1 503"), "{why}");
        assert_eq!(server.asked(), Vec::<String>::new(), "{why}");
    }
    // Nor who speaks no TLS, whatever it answers.
    let said = Arc::<Mutex<Vec<u8>>>::default();
    let hears = said.clone();
    let plain = Scripted::start(move |served| {
        served.send("HTTP/1.1 400 no\r\ncontent-length: 0\r\n\r\n");
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = std::io::Read::read(&mut served.stream, &mut bytes) {
            hears.lock().unwrap().extend_from_slice(&bytes[..n]);
        }
    });
    let document = Document::new(&all_to(plain.address, ""));
    let process = start(&document.path());
    assert!(ask(process.http, "/secret").starts_with("HTTP/1.1 503"));
    let said = said.lock().unwrap();
    assert!(!said.is_empty() && !said.windows(6).any(|it| it == b"secret"), "in plain text");
}

#[test]
fn who_is_not_believed_any_more_gets_no_request_over_a_connection_that_was_kept() {
    let (web, authority) = server("127.0.0.1");
    let (_, another) = server("127.0.0.1");
    let document = Document::new(&all_to(web.address, &ca(&authority)));
    let process = without_nodes(&document.path(), &[]);
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200 "));
    document.replace(&all_to(web.address, &ca(&another)));
    process.logged("no TLS with it");
    wait("it gets no more", || ask(process.http, "/x").starts_with("HTTP/1.1 503"));
    let asked = web.asked().len();
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 503"));
    assert_eq!(web.asked().len(), asked);
    // Two authorities at once are the way from one to the other.
    document.replace(&all_to(web.address, &ca(&format!("{another}{authority}"))));
    wait("it is believed again", || ask(process.http, "/x").starts_with("HTTP/1.1 200 "));
    // From TLS to none: it is the same service, and another who is spoken to.
    let plain = Scripted::plain("plain");
    document.replace(&gateway_file::all_to("web", plain.address));
    wait("it is another", || ask(process.http, "/x").ends_with("plain /x"));
}

#[test]
fn what_an_operator_set_of_a_server_outlives_a_change_of_who_is_believed() {
    let (web, authority) = server("127.0.0.1");
    let (_, another) = server("127.0.0.1");
    let document = Document::new(&all_to(web.address, &ca(&authority)));
    let process = without_nodes(&document.path(), &[]);
    let drained = process.verb(&["drain", &web.address.to_string()]);
    assert!(drained.status.success(), "{drained:?}");
    let is_drained = || ask(process.admin, "/backends").contains("\"drained\":true");
    wait("it is drained", is_drained);
    document.replace(&all_to(web.address, &ca(&format!("{authority}{another}"))));
    process.logged("is in force");
    wait("it is asked anew", || ask(process.admin, "/backends").contains("\"up\""));
    assert!(is_drained(), "{}", ask(process.admin, "/backends"));
}

#[test]
fn each_probe_proves_the_server_anew_for_its_certificate_may_be_over_since() {
    let (web, authority) = server("127.0.0.1");
    let document = Document::new(&all_to(web.address, &ca(&authority)));
    let process = without_nodes(&document.path(), &[]);
    assert!(ask(process.http, "/x").starts_with("HTTP/1.1 200 "));
    let probes = || web.heads.lock().unwrap().iter().filter(|head| head.starts_with("GET / ")).count();
    wait("it is probed", || probes() >= 5);
    assert_eq!(web.resumed_probes.load(Ordering::SeqCst), 0);
}
