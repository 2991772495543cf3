//! Command lines, and the verbs.

use crate::running::{Running, command};
use crate::server::{Bad, Server};

fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = command().args(args).output().expect("skep-worker starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_bad_flag_ends_with_2_and_says_what_to_do() {
    let well = ["--queues", "q", "--exec", "true"];
    for (args, words) in [
        (&["--queues", "q"][..], &["--exec PROGRAM", "--forward URL"][..]),
        (&["--exec", "true"], &["--queues"]),
        (&[&well[..], &["--url", "ftp://a"]].concat(), &["--url", "http://HOST"]),
        (&[&well[..], &["--url", "https://a"]].concat(), &["--ca FILE"]),
        (&[&well[..], &["--slots", "0"]].concat(), &["--slots", "128"]),
        (&[&well[..], &["--drain", "soon"]].concat(), &["--drain"]),
        (&[&well[..], &["--worker-token-file", "/does/not/exist"]].concat(), &["--worker-token-file"]),
        (&[&well[..], &["--forward", "http://127.0.0.1:1"]].concat(), &["one way"]),
        (&[&well[..], &["--crawl"]].concat(), &["one way"]),
        (&["--crawl", "--crawl-allow", "everywhere"], &["--crawl-allow", "NET[:PORTS]"]),
        (&[&well[..], &["--no-such-flag"]].concat(), &["--no-such-flag"]),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
    }
}

#[test]
fn help_and_version_are_printed_and_end_with_0() {
    let (code, help) = run(&["--help"]);
    assert_eq!(code, Some(0), "{help}");
    for word in [
        "--exec",
        "--forward",
        "--crawl-allow",
        "--queues",
        "--slots",
        "--url",
        "SKEP_QUEUES",
        "SKEP_TASK_ID",
        "health",
    ] {
        assert!(help.contains(word), "no word of {word} in {help}");
    }
    let (code, version) = run(&["--version"]);
    assert!(code == Some(0) && version.starts_with("skep-worker "), "{version}");
}

#[test]
fn a_worker_is_healthy_once_a_node_takes_its_token_and_says_else_why_it_is_not() {
    let server = Server::start();
    let worker = Running::start(&["--url", &server.url(), "--exec", "cat"]);
    server.wait("a claim and a beat", |seen| (seen.len() > 1).then_some(()));
    server.put(1, 1.into());
    server.wait("the end", |seen| seen.iter().find(|asked| asked.path.ends_with("/complete")).map(drop));
    let admin = worker.admin.to_string();
    assert_eq!(run(&["health", "--admin", &admin]), (Some(0), "ready\n".to_owned()));
    let metrics = worker.admin("/metrics");
    assert!(metrics.contains("skep_worker_slots 8"), "{metrics}");
    assert!(!metrics.contains("the-token"));

    let refuses = Server::start();
    refuses.script(|_, _| Some(Bad::Status(401)));
    let worker = Running::start(&["--url", &refuses.url(), "--exec", "cat"]);
    worker.wait_log("401");
    let admin = worker.admin.to_string();
    let (code, said) = run(&["health", "--admin", &admin]);
    assert!(code == Some(1) && said.contains("401") && said.contains("as the test has it"), "{said}");
    assert_eq!(run(&["health", "--live", "--admin", &admin]).0, Some(0));
}
