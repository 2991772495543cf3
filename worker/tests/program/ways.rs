//! Ways to do a task: by a program, by a server beside the worker; and how a worker comes to its end.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::running::{Running, Script};
use crate::server::{Bad, Server};

#[test]
fn a_program_does_what_is_claimed_and_its_result_is_told() {
    let server = Server::start();
    let _worker = Running::start(&["--url", &server.url(), "--exec", "cat", "--slots", "3"]);
    let claim = server.wait_for("/claim");
    assert_eq!(claim.authorization.as_deref(), Some("Bearer the-token"));
    let name = claim.body["worker"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("w-") && name.len() == 2 + 16, "{name}");
    let expected =
        json!({"worker": name, "number": 1, "queues": ["q"], "max": 3, "wait": "30s", "holds": []});
    assert_eq!(claim.body, expected);
    let id = server.put(7, json!({"n": [1, 2]}));
    let end = server.wait_for(&format!("/tasks/{id}/complete"));
    assert_eq!(end.body, json!({"fence": 7, "result": {"n": [1, 2]}}));
    let next = server.wait("the next claim", |seen| {
        seen.iter().find(|asked| asked.path == "/claim" && asked.body["number"] == 2).cloned()
    });
    assert_eq!(next.body["worker"], name);
}

#[test]
fn a_token_is_read_again_whole_or_not_at_all() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("worker.token");
    let (first, second) = ("0f".repeat(32), "1e".repeat(32));
    let write = |text: &str| std::fs::write(&file, text).expect("a file");
    write(&first);
    let worker = Running::start_with_token_in(
        file.to_str().expect("a plain path"),
        &["--url", &server.url(), "--exec", "cat"],
    );
    let bears = |fence: u64| {
        let id = server.put(fence, json!(1));
        server.wait_for(&format!("/tasks/{id}/complete")).authorization.expect("a token")
    };
    assert_eq!(bears(1), format!("Bearer {first}"));
    for (fence, text) in (2..).zip(["", "\n", &second[..40], &format!("{second}00"), &"x".repeat(64)]) {
        write(text);
        worker.hang_up();
        let line = worker.wait_log("the workers' token is left as it was");
        assert!(line.contains("worker.token") && line.contains("64 hex digits"), "{line}");
        assert!(text.len() < 40 || !line.contains(text), "a token is in the log");
        assert_eq!(bears(fence), format!("Bearer {first}"), "after {text:?}");
    }
    write(&format!("{second}\n"));
    worker.hang_up();
    worker.wait_log("the workers' token read again");
    assert_eq!(bears(9), format!("Bearer {second}"));
}

#[test]
fn a_server_beside_the_worker_does_what_is_claimed_and_its_status_tells_the_end() {
    let (server, beside) = (Server::start(), Server::start());
    beside.script(|asked, _| {
        assert_eq!(asked.authorization, None, "the token is for the cluster alone");
        match asked.body["status"].as_u64() {
            Some(200) => Some(Bad::Json(json!("sent"))),
            Some(status) => Some(Bad::Status(status as u16)),
            None => Some(Bad::Cut),
        }
    });
    let to = format!("{}/do", beside.url());
    let _worker = Running::start(&["--url", &server.url(), "--forward", &to]);
    let said = |fence: u64, payload: Value, how: &str| {
        let id = server.put(fence, payload);
        server.wait_for(&format!("/tasks/{id}/{how}")).body
    };
    assert_eq!(said(1, json!({"status": 200}), "complete"), json!({"fence": 1, "result": "sent"}));
    assert_eq!(said(2, json!({"status": 503}), "snooze"), json!({"fence": 2, "delay": 5.0}));
    let fail = said(3, json!({"status": 422}), "fail");
    assert!(fail["final"] == true && fail["error"].as_str().is_some_and(|it| it.contains("422")), "{fail}");
    assert_eq!(said(4, json!({"status": 404}), "fail")["final"], false);
    assert_eq!(said(5, json!({"status": "cut"}), "fail")["final"], false);
    assert_eq!(beside.wait_for("/do").path, "/do");
}

#[test]
fn the_crawler_finds_a_pages_images_and_hands_over_what_is_another_sites() {
    let (server, site) = (Server::start(), Server::start());
    let html = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
        Some(Bad::Bytes(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()))
    };
    site.script(move |asked, _| {
        assert_eq!(asked.authorization, None, "the token is for the cluster alone");
        match asked.path.as_str() {
            "/page" => html("<img src=a.png><p style='background: url(b.png)'>"),
            "/moved" => html("<meta http-equiv=refresh content='0; url=http://other.example/there'>"),
            "/busy" => Some(Bad::Status(503)),
            _ => Some(Bad::Status(404)),
        }
    });
    let flags = ["--crawl", "--crawl-pace", "0", "--crawl-allow", "127.0.0.1:*"];
    let _worker = Running::start(&[&["--url", &server.url()], &flags[..]].concat());
    let said = |fence: u64, payload: Value, how: &str| {
        let id = server.put(fence, payload);
        server.wait_for(&format!("/tasks/{id}/{how}")).body
    };
    let url = |path: &str| format!("{}{path}", site.url());
    let images = json!({"images": [url("/a.png"), url("/b.png")]});
    assert_eq!(said(1, json!({"url": url("/page")}), "complete"), json!({"fence": 1, "result": images}));
    let there = "http://other.example/there";
    let follow = json!({"queue": "q", "key": "http://other.example", "payload": {"url": there, "hops": 3}});
    let expected = json!({"fence": 2, "result": {"images": [], "moved": there}, "follow": [follow]});
    assert_eq!(said(2, json!({"url": url("/moved"), "hops": 2}), "complete"), expected);
    for (fence, payload, is_final, words) in [
        (3, json!({"url": url("/gone")}), true, "404"),
        (4, json!({"url": url("/busy")}), false, "503"),
        (5, json!({"url": "http://127.0.0.2/"}), true, "not a public address"),
        (6, json!({"url": url("/page"), "hops": 6}), true, "redirects"),
        (7, json!(7), true, "payload"),
    ] {
        let fail = said(fence, payload, "fail");
        let error = fail["error"].as_str().unwrap_or_default();
        assert!(fail["final"] == is_final && error.contains(words), "{fail}");
    }
}

#[test]
fn sigterm_lets_tasks_end_and_gives_the_rest_back_with_no_try_counted() {
    let server = Server::start();
    let script = Script::new("read payload\necho $payload\n[ $payload = 1 ] || exec sleep 600");
    let worker = Running::start(&[
        "--url",
        &server.url(),
        "--exec",
        &script.command(),
        "--slots",
        "2",
        "--drain",
        "1s",
    ]);
    let (short, long) = (server.put(1, 1.into()), server.put(2, 2.into()));
    server.wait_for(&format!("/tasks/{short}/complete"));
    let waits = |seen: &[crate::server::Asked]| {
        seen.iter().find(|it| it.path == "/claim" && it.body["holds"] == json!([2])).map(drop)
    };
    server.wait("a claim that names what is held", waits);
    worker.terminate();
    assert_eq!(server.wait_for(&format!("/tasks/{long}/release")).body, json!({"fence": 2}));
    let status = worker.ended();
    assert!(status.success(), "{status}");
    let late = server.put(3, 3.into());
    assert_eq!(server.count(&format!("/tasks/{late}/complete")), 0);
}

#[test]
fn sigterm_gives_back_what_the_last_claim_is_answered_with() {
    let server = Server::start();
    server.script(|asked, before| {
        // The first answer is lost; asked again, it is the same.
        let is_claim = asked.path == "/claim";
        (is_claim && before == 0).then_some(Bad::Hang)
    });
    let worker = Running::start(&["--url", &server.url(), "--exec", "cat"]);
    server.wait_for("/claim");
    let id = server.put(1, 1.into());
    worker.terminate();
    assert_eq!(server.wait_for(&format!("/tasks/{id}/release")).body, json!({"fence": 1}));
    assert!(worker.ended().success());
    let numbers = server.wait("both claims", |seen| {
        let claims: Vec<Value> =
            seen.iter().filter(|it| it.path == "/claim").map(|it| it.body["number"].clone()).collect();
        (claims.len() == 2).then_some(claims)
    });
    assert_eq!(numbers, [1, 1]);
}

#[test]
fn tls_is_spoken_to_whom_the_ca_vouches_for_and_to_nobody_else() {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("they belong together");
    let server = Server::tls(Arc::new(config));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let other = KeyPair::generate().expect("a key");
    let other = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name").self_signed(&other);
    let other = path("other.pem", other.expect("a certificate").pem());
    let url = format!("https://{}", server.address);
    let refused = Running::start(&["--url", &url, "--ca", &other, "--exec", "cat"]);
    refused.wait_log("certificate");
    assert_eq!(server.count("/claim"), 0);
    drop(refused);
    let own = path("own.pem", certificate.pem());
    let _worker = Running::start(&["--url", &url, "--ca", &own, "--exec", "cat"]);
    let id = server.put(1, 1.into());
    server.wait_for(&format!("/tasks/{id}/complete"));
}
