//! The addresses of a host's name, asked of the servers in /etc/resolv.conf (and /etc/hosts), never through
//! getaddrinfo, which a static binary cannot use.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::Name;
use tokio::time::{Instant, timeout};

/// One name takes no longer, whatever the name servers do.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// How long one name server may take, and how often all are asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Answers that are remembered, and for how long at most.
const ANSWERS_MAX: u64 = 1_024;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// How long the machine's configuration is taken to be as it was.
const CONFIGURED_FOR: Duration = Duration::from_secs(60);

/// Asks for names.
pub enum Names {
    /// As the machine is configured.
    System(Mutex<Option<(TokioResolver, Instant)>>),
    /// Of these servers alone.
    #[cfg(test)]
    Of(TokioResolver),
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    pub fn system() -> Self {
        Self::System(Mutex::new(None))
    }

    /// The addresses of a name, which is a whole one where it has a dot in any case, those of IPv4 first: a container has often no other.
    pub async fn look_up(&self, host: &str, is_whole: bool) -> Result<Vec<IpAddr>, String> {
        let mut name = Name::from_ascii(host).map_err(|error| error.to_string())?;
        // A name with a dot is a whole one, and none of the machine's own domain.
        if is_whole || host.trim_end_matches('.').contains('.') {
            name.set_fqdn(true);
        }
        let asked = self.resolver()?;
        match timeout(LOOKUP_TIMEOUT, asked.lookup_ip(name)).await {
            Ok(Ok(found)) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_by_key(IpAddr::is_ipv6);
                Ok(addresses)
            }
            Ok(Err(error)) if error.is_no_records_found() => Ok(Vec::new()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the name servers do not answer".to_owned()),
        }
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        match self {
            Self::System(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((resolver, since)) = &*kept
                    && since.elapsed() < CONFIGURED_FOR
                {
                    return Ok(resolver.clone());
                }
                let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
                let options = builder.options_mut();
                options.cache_size = ANSWERS_MAX;
                options.positive_max_ttl = Some(ANSWER_TIME_MAX);
                options.negative_max_ttl = Some(ANSWER_TIME_MAX);
                options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
                options.timeout = SERVER_TIMEOUT;
                options.attempts = ATTEMPTS;
                let resolver = builder.build().map_err(|error| error.to_string())?;
                *kept = Some((resolver.clone(), Instant::now()));
                Ok(resolver)
            }
            #[cfg(test)]
            Self::Of(resolver) => Ok(resolver.clone()),
        }
    }
}
