//! What must hold of a program's addresses together.

use std::net::{IpAddr, SocketAddr};

use super::{ConfigError, Layers, Setting};

/// Refuses an address that others can reach; called where there is no cluster key, which is what
/// keeps strangers out beyond loopback.
pub fn require_key(layers: &Layers, addresses: &[(&Setting, Option<IpAddr>)]) -> Result<(), ConfigError> {
    for (setting, ip) in addresses {
        if let Some(ip) = ip.filter(|ip| !ip.to_canonical().is_loopback()) {
            return Err(ConfigError::KeyRequired { origin: layers.origin(setting), address: ip.to_string() });
        }
    }
    Ok(())
}

/// Refuses two listeners on one address; port 0 is a new one each time.
pub fn require_distinct(
    layers: &Layers,
    listeners: &[(&Setting, Option<SocketAddr>)],
) -> Result<(), ConfigError> {
    for (i, (first, address)) in listeners.iter().enumerate() {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        if let Some((second, _)) = listeners[i + 1..].iter().find(|(_, other)| *other == Some(address)) {
            return Err(ConfigError::SameAddress {
                first: layers.origin(first),
                second: layers.origin(second),
                address: address.to_string(),
            });
        }
    }
    Ok(())
}
