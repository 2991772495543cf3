//! What is stored of answers, and what requests had of it; where any route stores some.

use std::fmt::Error;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, Metrics, counter, gauge};
use crate::core::routes::Routes;

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    metrics: &Metrics,
    routes: &Routes,
) -> Result<(), Error> {
    if !routes.has_cache {
        return Ok(());
    }
    let cache = &metrics.shared.cache;
    let requests: [(&Labels<'_>, u64); 5] = [
        (&[("result", "hit")], metrics.sum(|it| &it.cache_hits)),
        (&[("result", "stale")], metrics.sum(|it| &it.cache_stale)),
        (&[("result", "miss")], metrics.sum(|it| &it.cache_misses)),
        (&[("result", "collapsed")], metrics.sum(|it| &it.cache_collapsed)),
        (&[("result", "passed")], metrics.sum(|it| &it.cache_passed)),
    ];
    counter(
        encoder,
        "cache_requests",
        "Requests of routes that store answers, by what they had of it",
        &requests,
    )?;
    let counts = &cache.counts;
    let answers: [(&Labels<'_>, u64); 5] = [
        (&[("event", "stored")], counts.stored.load(Relaxed)),
        (&[("event", "evicted")], counts.evicted.load(Relaxed)),
        (&[("event", "invalidated")], counts.invalidated.load(Relaxed)),
        (&[("event", "purged")], counts.purged.load(Relaxed)),
        (&[("event", "refused")], counts.refused.load(Relaxed)),
    ];
    counter(
        encoder,
        "cache_answers",
        "Answers by what became of them; refused: there was no room",
        &answers,
    )?;
    let each = cache.purged.each();
    let labels: Vec<[(&str, &str); 1]> = each.iter().map(|(of, _)| [("of", *of)]).collect();
    let purges: Vec<(&Labels<'_>, u64)> =
        labels.iter().zip(&each).map(|(labels, (_, count))| (&labels[..], *count)).collect();
    counter(
        encoder,
        "cache_purges",
        "Purges that are obeyed, by what they are of; missed: everything went, as some were not heard",
        &purges,
    )?;
    let untold = &cache.untold;
    let voids: [(&Labels<'_>, u64); 3] = [
        (&[("event", "told")], untold.told.load(Relaxed)),
        (&[("event", "lost")], untold.lost.load(Relaxed)),
        (&[("event", "heard")], untold.heard.load(Relaxed)),
    ];
    counter(
        encoder,
        "cache_invalidations",
        "What unsafe requests invalidated, as balancers tell one another; lost: it was not told",
        &voids,
    )?;
    let gauges: [(&str, &str, u64); 3] = [
        (
            "cache_entries",
            "Answers that are stored, and URLs whose answers are known not to be",
            cache.count() as u64,
        ),
        (
            "cache_bytes",
            "Bytes that they take, with those that went and are still read",
            cache.budget().held(),
        ),
        ("cache_max_bytes", "Most bytes that they may take", cache.budget().bytes_max()),
    ];
    for (name, help, value) in gauges {
        gauge(encoder, name, help, &[(&[], value as f64)])?;
    }
    Ok(())
}
