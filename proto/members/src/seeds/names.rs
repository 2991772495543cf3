//! Looking names up: each by itself, and of each the IPv4 and the IPv6 addresses by themselves, all at once.
//! A name server that answers one question and is silent on another holds up nothing but the other.
//!
//! Names are asked of the servers in /etc/resolv.conf (and /etc/hosts), never through getaddrinfo, which a
//! static binary cannot use. Nothing is cached: the answer changes with every task that a service gains or
//! loses.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::Name;
use tokio::time::timeout;

/// One question takes no longer, whatever the name servers do.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one name server may take, and how often all are asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 2;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What the name servers said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// None where the name has no such addresses, or is not known.
    Addresses(Vec<IpAddr>),
    /// No answer came, or none that says anything of the name.
    Failed(String),
}

/// Asks for a name's addresses of one family. Always ends.
pub(super) async fn look_up(host: &str, family: Family) -> Answer {
    let asked = async {
        let name = asked_for(host)?;
        match resolver(family)?.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    };
    match timeout(LOOKUP_TIMEOUT, asked).await {
        Ok(Ok(addresses)) => Answer::Addresses(addresses),
        Ok(Err(error)) => Answer::Failed(error),
        Err(_) => Answer::Failed("the name servers do not answer".to_owned()),
    }
}

/// The name as it is written: the resolver itself would take it for one that people type, and refuse
/// the `_` in `tasks.skep_node`.
fn asked_for(host: &str) -> Result<Name, String> {
    Name::from_ascii(host).map_err(|error| error.to_string())
}

fn resolver(family: Family) -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = match family {
        Family::V4 => LookupIpStrategy::Ipv4Only,
        Family::V6 => LookupIpStrategy::Ipv6Only,
    };
    options.timeout = SERVER_TIMEOUT;
    options.attempts = ATTEMPTS;
    builder.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::Seed;

    #[test]
    fn a_name_is_asked_for_as_it_is_written() {
        for host in ["tasks.skep_node", "tasks.skep_node.", "a-b.1.example", "xn--bcher-kva.example."] {
            assert!(Seed::parse(&format!("{host}:7400")).is_ok(), "{host}");
            assert_eq!(asked_for(host).map(|name| name.to_ascii()), Ok(host.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_name_of_the_hosts_file_is_found() {
        let found = look_up("localhost", Family::V4).await;
        assert_eq!(found, Answer::Addresses(vec!["127.0.0.1".parse().unwrap()]));
    }
}
