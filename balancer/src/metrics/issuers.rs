//! Of the keys that issuers publish.

use std::fmt::Error;
use std::time::UNIX_EPOCH;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, counter, gauge};
use crate::core::routes::Routes;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> Result<(), Error> {
    if routes.published.is_empty() {
        return Ok(());
    }
    let seen: Vec<_> =
        routes.published.iter().map(|(name, it)| ([("issuer", name.as_str())], it.seen())).collect();
    let keys: Vec<(&Labels<'_>, f64)> = seen
        .iter()
        .map(|(labels, it)| (&labels[..], it.keys.as_ref().map_or(0, |it| it.len()) as f64))
        .collect();
    let help = "Keys that an issuer was seen to publish, by which its tokens are looked at";
    gauge(encoder, "gateway_issuer_keys", help, &keys)?;
    let fetched = |labels, at: std::time::SystemTime| -> (&Labels<'_>, f64) {
        (labels, at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    };
    let fetched: Vec<(&Labels<'_>, f64)> =
        seen.iter().filter_map(|(labels, it)| Some(fetched(&labels[..], it.fetched?))).collect();
    if !fetched.is_empty() {
        let help = "Unix time at which the last of them were fetched, also where those count no more";
        gauge(encoder, "gateway_issuer_fetched_timestamp_seconds", help, &fetched)?;
    }
    let failures: Vec<(&Labels<'_>, u64)> =
        seen.iter().map(|(labels, it)| (&labels[..], it.failures)).collect();
    counter(encoder, "gateway_issuer_fetch_failures", "Times that they could not be fetched", &failures)
}
