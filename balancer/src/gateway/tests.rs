//! What is decided of a request, with and without what only a node promises.

use std::sync::Arc;

use super::*;
use crate::core::access_log::AccessLog;
use crate::core::routes::Routes;
use crate::core::settings::Settings;
use crate::core::shared::Shared;
use crate::forward::dispatches::Dispatches;
use crate::pools::{Pool, Pools};

const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn gateway(are_nodes: bool, by_digest: bool) -> Gateway {
    let settings = Settings { by_digest, ..Settings::default() };
    let pools = Pools::new(Pool::new("skep", are_nodes, None));
    let shared = Shared { settings: Arc::new(settings).into(), pools, ..Shared::default() };
    let worker = Worker::new(Arc::new(shared), Arc::default(), AccessLog::new(None));
    let dispatches = Rc::new(Dispatches::new(&worker));
    Gateway::new(worker, dispatches)
}

fn judge(gateway: &Gateway, line: &str, more: &str) -> Verdict {
    let text = format!("{line} HTTP/1.1\r\nhost: a\r\n{more}\r\n");
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(true));
    let client = Client { ip: [192, 0, 2, 1].into(), secure: false };
    gateway.judge(Asked { head: &head, buf: text.as_bytes(), client, came: None, resumed: None }).unwrap()
}

fn plan(gateway: &Gateway, line: &str, more: &str) -> (bool, Option<u64>) {
    match judge(gateway, line, more) {
        Verdict::Forward { plan, .. } => (plan.repeatable, plan.key),
        answer => panic!("{line}: {answer:?}"),
    }
}

#[test]
fn what_is_repeatable_is_so_by_its_method_its_content_or_the_clients_word() {
    let gateway = gateway(true, false);
    for (line, more, repeatable) in [
        ("GET /write", "", true),
        ("PUT /x", "", true),
        ("DELETE /x", "", true),
        ("POST /write", "", false),
        ("POST /write", "idempotency-key: 1\r\n", true),
        ("POST /messages", "", true),
        ("POST /endpoint/?x", "", true),
        ("POST /", "", false),
        ("POST /", "idempotency-key: 1\r\n", true),
        ("GET /result/1", "", true),
    ] {
        assert_eq!(plan(&gateway, line, more), (repeatable, None), "{line}");
    }
}

#[test]
fn what_the_nodes_api_promises_holds_for_no_other_backend() {
    let others = gateway(false, true);
    assert_eq!(plan(&others, "GET /x", ""), (true, None));
    assert_eq!(plan(&others, "POST /messages", ""), (false, None));
    assert_eq!(plan(&others, "POST /x", "idempotency-key: 1\r\n"), (false, None));
    assert_eq!(plan(&others, &format!("GET /messages/{DIGEST}"), ""), (true, None));
}

#[test]
fn a_claim_may_wait_for_a_minute_more_and_is_no_slowness() {
    let waits = |gateway: &Gateway, line: &str| match judge(gateway, line, "") {
        Verdict::Forward { plan, .. } => (plan.repeatable, plan.waits, plan.answer_within),
        answer => panic!("{line}: {answer:?}"),
    };
    let within = Settings::default().request_timeout;
    assert_eq!(waits(&gateway(true, false), "POST /claim"), (true, true, within + WAIT_MAX));
    assert_eq!(waits(&gateway(false, false), "POST /claim"), (false, false, within));
    assert_eq!(waits(&gateway(true, false), "POST /workers/w/beat"), (true, false, within));
}

#[test]
fn a_digest_is_a_key_where_that_is_asked_for() {
    let line = format!("GET /messages/{DIGEST}");
    assert_eq!(plan(&gateway(true, false), &line, ""), (true, None));
    assert_eq!(plan(&gateway(true, true), &line, ""), (true, Some(0x2c26_b46b_68ff_c68f)));
}

#[test]
fn what_may_be_a_key_is_shown_by_no_log_while_nobody_knows_where_keys_are() {
    let gateway = gateway(true, false);
    let shared = &gateway.worker.shared;
    shared.routes.store(Some(Arc::new(Routes::closed(shared.pools.skep().clone()))));
    let verdict = judge(&gateway, "GET /x?token=hidden", "");
    assert!(matches!(&verdict, Verdict::Answer(answer) if answer.status == 503), "{verdict:?}");
    assert_eq!(verdict.shown(), Some(&b"/x"[..]));
    assert_eq!(judge(&gateway, "GET /x", "").shown(), None);
}

#[test]
fn readiness_is_answered_here() {
    let gateway = gateway(true, false);
    let Verdict::Answer(answer) = judge(&gateway, "GET /-/ready", "") else { panic!("it was forwarded") };
    assert_eq!((answer.status, &*answer.body), (503, &b"no backend is ready\n"[..]));
    assert_eq!(
        answer.body.trim_ascii(),
        skep_vrrp::track::NO_BACKEND.as_bytes(),
        "who tracks it knows the words"
    );
}
