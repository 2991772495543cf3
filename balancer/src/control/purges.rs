//! Obeys purges, as nodes tell of them, and lets go of what was purged.
//!
//! A purge is in force as it is heard: nothing is waited for, and nothing is walked through. Which is the last, gossip
//! says then, for who waits for that. Where not all of them were heard, everything goes. Two tasks: one sweeps, one says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use skep_cache::key::key;
use skep_gateway::purge::{Purge, listed};
use skep_members::gossip::{GatewayRevision, Gossip};

use crate::core::cache::Cache;
use crate::core::cache::purges::{Change, Rule, mark};
use crate::core::following::Position;
use crate::core::shared::Shared;

/// Shortest time from one word to the next on which purge is the last: each goes to all members at once.
const WORD_PAUSE: Duration = Duration::from_millis(10);
/// Shortest time from one walk through what is stored to the next.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A node tells all purges behind `since` up to `last` of a cluster. False where what it tells is none.
pub(super) fn hear(cache: &Cache, cluster: u128, (since, last): (u64, u64), list: &str) -> bool {
    let Some(told) = listed(list) else { return false };
    let known = *cache.purges.heard.borrow();
    let upto = known.filter(|it| it.lineage == cluster && it.revision >= since).map(|it| it.revision);
    if upto.is_none() {
        // What was stored before is of a time of which nothing is known.
        cache.purges.begin_anew();
        if known.is_some() {
            cache.purged.missed.fetch_add(1, Relaxed);
        }
    }
    let new = told.iter().filter(|(number, _)| *number > upto.unwrap_or_default());
    cache.purges.add_all(new.filter_map(|(_, purge)| obey(cache, purge)));
    let revision = upto.unwrap_or_default().max(last);
    cache.purges.heard.send_replace(Some(Position { lineage: cluster, revision }));
    true
}

/// What it has to be held to from now on; a URL's are let go at once.
fn obey(cache: &Cache, purge: &Purge) -> Option<Change> {
    let counts = &cache.purged;
    let named = |name: &String| mark(name.as_bytes());
    let (change, count): (_, &AtomicU64) = match purge {
        Purge::All => (Change::Rule(Rule::All), &counts.all),
        Purge::Url(url) => {
            for path in &url.paths {
                cache.invalidate(&key(&[url.host.as_bytes(), path.as_bytes(), url.query.as_bytes()]));
            }
            counts.url.fetch_add(1, Relaxed);
            return None;
        }
        Purge::Prefix { host, path } => {
            let (host, path) = (host.clone(), path.clone());
            (Change::Rule(Rule::Prefix { host, path }), &counts.prefix)
        }
        Purge::Route(name) => (Change::Rule(Rule::Route(named(name))), &counts.route),
        Purge::Service(name) => (Change::Rule(Rule::Service(named(name))), &counts.service),
        Purge::Group(name) => (Change::Rule(Rule::Group(named(name))), &counts.group),
        Purge::Message(seq) => (Change::Message(*seq), &counts.message),
        Purge::Messages(upto) => (Change::Messages(*upto), &counts.message),
    };
    count.fetch_add(1, Relaxed);
    Some(change)
}

/// Lets go of what was purged, for as long as it is.
pub(super) async fn sweep(cache: Arc<Cache>) {
    loop {
        cache.purges.swept.notified().await;
        cache.sweep().await;
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

/// Says which purge is the last that is obeyed, for as long as it is.
pub(super) async fn say(gossip: Gossip, shared: Arc<Shared>) {
    let mut heard = shared.cache.purges.heard.subscribe();
    while heard.changed().await.is_ok() {
        heard.borrow_and_update();
        gossip.update(|record| {
            if let Some(at) = &mut record.gateway {
                at.purged = last(&shared.cache);
            }
        });
        tokio::time::sleep(WORD_PAUSE).await;
    }
}

/// The last purge that is obeyed, as gossip says it.
pub(super) fn last(cache: &Cache) -> Option<GatewayRevision> {
    let heard = *cache.purges.heard.borrow();
    heard.map(|it| GatewayRevision { lineage: it.lineage, number: it.revision })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use skep_cache::kept::Kept;
    use skep_cache::vary::Variant;
    use skep_gateway::document::SKEP;

    use super::*;
    use crate::core::cache::Realm;
    use crate::core::cache::purges::Subject;
    use crate::core::cache::stored::Head;

    /// Whether an answer of a node with that message may be stored that is asked for now.
    fn is_stored(cache: &Cache, seq: u64) -> bool {
        let head = Head {
            status: 200,
            reason: Vec::new(),
            is_old: false,
            lines: Vec::new(),
            kept: Kept::default(),
            variant: Variant::default(),
            received: Instant::now(),
            says_age: false,
            groups: Box::default(),
            message: Some(seq),
        };
        let realm = Realm { secure: false, digest: 1, route: 2, service: mark(SKEP.as_bytes()) };
        let subject = Subject::new(b"", realm, Some(&head));
        cache.purges.hold_new(&subject, cache.purges.number()).is_some()
    }

    #[test]
    fn who_begins_anew_knows_the_messages_that_were_taken_out_before() {
        let cache = Cache::default();
        let list = r#"[{"number":3,"purge":{"message":9}},{"number":7,"purge":{"messages":5}}]"#;
        assert!(hear(&cache, 1, (7, 7), list));
        let stored: Vec<bool> = [5, 6, 9, 10].into_iter().map(|seq| is_stored(&cache, seq)).collect();
        assert_eq!(stored, [false, true, false, true], "whatever node says them");
        // The next is told alone; what it knows is not told again.
        assert!(hear(&cache, 1, (7, 8), r#"[{"number":8,"purge":{"message":10}}]"#));
        assert!(!is_stored(&cache, 10) && !is_stored(&cache, 9) && is_stored(&cache, 11));
        assert!(!hear(&cache, 1, (8, 9), "{}") && last(&cache).is_some_and(|it| it.number == 8));
        // Another cluster's messages are others.
        assert!(hear(&cache, 2, (0, 0), "[]") && is_stored(&cache, 9));
        assert_eq!(cache.purged.missed.load(Relaxed), 1);
    }
}
