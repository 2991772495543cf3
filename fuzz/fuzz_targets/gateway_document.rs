//! Documents of the gateway: read and compiled, or refused with a place for each fault.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_fuzz::seeds;
use skep_gateway::document::To;
use skep_gateway::kept::Sealer;
use skep_gateway::table::Asked;
use skep_gateway::{Document, Kept, Table};

fuzz_target!(init: seeds::write(seeds::gateway_documents), |bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // What is kept of keys says the same when it is given again.
    if let Ok(kept) = Kept::read(text)
        && let Some(json) = kept.json()
    {
        let again = Kept::read(&json).expect("what is kept holds");
        assert!(again.since(&kept).changed.iter().all(|it| !it.starts_with("consumers/")));
        // And so does what is shown of secrets, where they are known.
        if let Some(shown) = kept.shown().json() {
            let again = Kept::read_after(&shown, &kept, &|| None).expect("what is shown holds there");
            assert!(again.since(&kept).changed.iter().all(|it| !it.starts_with("issuers/")));
        }
        // Sealed and opened it says the same; where nothing opens a balancer can obey it still.
        let sealed = kept.sealed(&[], &Sealer { stays: &|_| true, seal: &|_, plain| Some(plain.to_vec()), draw: &|| Some([7; 32]) });
        if let Some(json) = sealed.and_then(|it| it.json()) {
            let again = Kept::opened(&json, |_, sealed| Some(sealed.to_vec())).expect("it was kept");
            assert!(again.since(&kept).is_none());
            let absent = Kept::opened(&json, |_, _| None).expect("it was kept");
            assert_eq!(absent.secrets_absent(), kept.secrets_open());
        }
    }
    // As it may lie in a log that somebody has changed.
    if let Some(kept) = Kept::opened(text, |place, sealed| (place.len() % 2 == 0).then(|| sealed.to_vec())) {
        let _ = (kept.shown(), kept.told(&|_| Some([7; 32])), kept.secrets_absent());
        let _ = kept.judged_again();
    }
    match Document::read(text).and_then(Table::compile) {
        Ok(table) => {
            // Each route has the requests that it names, or one that comes before it has.
            for entry in &table.routes {
                assert_eq!(entry.services.is_empty(), matches!(entry.route.to, To::Redirect(_)));
                let asked = Asked { host: "a.test", path: "/a/b", method: "GET" };
                if let Some(at) = table.find(asked, |_, _| true) {
                    assert!(table.routes.get(at).is_some());
                    assert!(table.routes[at].path_sent("/a/b").starts_with('/'));
                }
                // Who comes first is let in, and who is refused once the burst is spent is let in when it was told.
                for limit in &entry.route.policies.limits {
                    let first = limit.take(0, 7).expect("there is a burst");
                    assert_eq!(first.left, limit.burst - 1);
                    let spent = first.tat + u64::from(first.left) * (first.tat - 7);
                    let wait = limit.take(spent, 7).expect_err("it is spent");
                    assert!(limit.take(spent, 7 + wait).is_ok());
                }
                for drawn in [0, 1, u64::MAX] {
                    assert_eq!(entry.service(drawn).is_some(), !entry.services.is_empty());
                }
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|it| it.pointer.is_empty() || it.pointer.starts_with('/')));
        }
    }
});
