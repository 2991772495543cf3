//! What routes' limits refused, and how full the tables are that they are counted in.

use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::DescriptorEncoder;
use skep_gateway::limit::By;

use super::{Labels, counter, gauge};
use crate::core::rates::{KEYS_MAX, Rates};
use crate::core::routes::Routes;

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    rates: &Rates,
    routes: &Routes,
) -> Result<(), Error> {
    let mut refused = Vec::new();
    for (entry, counts) in routes.table.routes.iter().zip(&routes.counts) {
        for ((by, _), count) in By::WORDS.iter().zip(&counts.limited) {
            let count = count.load(Relaxed);
            if count > 0 {
                refused.push(([("route", entry.name.as_str()), ("by", *by)], count));
            }
        }
    }
    let samples: Vec<(&Labels<'_>, u64)> =
        refused.iter().map(|(labels, count)| (&labels[..], *count)).collect();
    counter(
        encoder,
        "route_limited",
        "Requests of a route that came too often, by whose limit that was",
        &samples,
    )?;
    let it = &rates.exchanged;
    let exchanged =
        [("told", &it.told), ("untold", &it.untold), ("heard", &it.heard), ("strange", &it.strange)];
    let help = "Requests by limits over all balancers, by what became of the word that was said of them";
    words(encoder, "limit_exchanged", help, exchanged)?;
    gauge(encoder, "limit_peers", "Other balancers that hear of limits", &[(&[], rates.peers() as f64)])?;
    let it = &rates.handed;
    let handed = [("given", &it.given), ("taken", &it.taken), ("read", &it.read), ("strange", &it.strange)];
    let help =
        "Debts by limits that went from one run of a balancer to another, by what became of the word of them";
    words(encoder, "limit_debts", help, handed)?;
    let fill = rates.fill().map(|it| ([("table", it.table)], it));
    let forgotten: Vec<(&Labels<'_>, u64)> =
        fill.iter().map(|(labels, it)| (&labels[..], it.forgotten)).collect();
    let help = "Keys of limits that were forgotten before their time, for there was no room";
    counter(encoder, "limit_keys_forgotten", help, &forgotten)?;
    let keys: Vec<(&Labels<'_>, f64)> =
        fill.iter().map(|(labels, it)| (&labels[..], it.keys as f64)).collect();
    gauge(encoder, "limit_keys", "Keys of limits that are remembered", &keys)?;
    gauge(encoder, "limit_keys_max", "Most keys that each table has", &[(&[], KEYS_MAX as f64)])
}

/// Counts by what became of each word.
fn words<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: [(&str, &AtomicU64); N],
) -> Result<(), Error> {
    let counts = counts.map(|(word, count)| ([("word", word)], count.load(Relaxed)));
    let samples: Vec<(&Labels<'_>, u64)> =
        counts.iter().map(|(labels, count)| (&labels[..], *count)).collect();
    counter(encoder, name, help, &samples)
}
