//! The settings of a serving balancer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use skep_proto::advertise::Advertise;
use skep_proto::key::KeyRing;
use skep_proto::seeds::Seed;

use super::error::ConfigError;
use super::layers::{self, Layers, Setting};
use super::secret;
use super::values;
use crate::access_log::Destination;
use crate::settings::Settings;
use crate::tls::Files;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level or `target=level,...`; known to be a filter.
    pub filter: String,
    /// `None`: human on a terminal, else JSON.
    pub format: Option<LogFormat>,
}

/// All that a serving balancer is told.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    pub http: SocketAddr,
    pub https: Option<SocketAddr>,
    /// Empty: self-signed.
    pub certificates: Vec<Files>,
    /// UDP.
    pub peer: SocketAddr,
    pub advertise: Option<Advertise>,
    pub admin: SocketAddr,
    pub seeds: Vec<Seed>,
    /// Fixed backends; then there is no gossip.
    pub backends: Vec<SocketAddr>,
    /// Never `None` where anything binds beyond loopback.
    pub cluster_key: Option<KeyRing>,
    /// `None`: one for each that the process may use.
    pub cores: Option<usize>,
    pub drain: Duration,
    pub settings: Settings,
    pub access_log: Destination,
    pub log: LogConfig,
    /// Said in the log once there is one.
    pub warnings: Vec<String>,
}

const ADMIN_DEFAULT: &str = "127.0.0.1:9401";

pub(super) fn resolve(layers: &Layers) -> Result<ServeConfig, ConfigError> {
    let (cluster_key, warning) = secret::cluster_key(layers)?;
    let config = ServeConfig {
        http: address(layers, &layers::HTTP, "127.0.0.1:8000")?,
        https: layers.read(&layers::HTTPS, values::address)?,
        certificates: certificates(layers)?,
        peer: address(layers, &layers::PEER, "127.0.0.1:7401")?,
        advertise: layers.read(&layers::ADVERTISE, values::advertise)?,
        admin: address(layers, &layers::ADMIN, ADMIN_DEFAULT)?,
        seeds: layers.read(&layers::SEEDS, values::seeds)?.unwrap_or_default(),
        backends: layers
            .read(&layers::BACKENDS, |text| values::list(text, values::address))?
            .unwrap_or_default(),
        cluster_key,
        cores: layers
            .read(&layers::CORES, |text| values::count(text, values::CORES_MAX))?
            .map(|cores| cores as usize),
        drain: duration(layers, &layers::DRAIN, Duration::from_secs(20))?,
        settings: settings(layers)?,
        access_log: layers.read(&layers::ACCESS_LOG, values::access_log)?.unwrap_or(Destination::Stdout),
        log: LogConfig {
            filter: layers.read(&layers::LOG, log_filter)?.unwrap_or_else(|| "info".into()),
            format: layers.read(&layers::LOG_FORMAT, log_format)?,
        },
        warnings: warning.into_iter().collect(),
    };
    if !config.backends.is_empty() && !config.seeds.is_empty() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&layers::BACKENDS),
            reason: "backends come from --seeds or from --backends, not from both".into(),
        });
    }
    check_key(layers, &config)?;
    check_distinct(layers, &config)?;
    Ok(config)
}

/// Limits and times: what SIGHUP reads again.
fn settings(layers: &Layers) -> Result<Settings, ConfigError> {
    let default = Settings::default();
    let count = |setting: &Setting, default: usize| {
        let read = layers.read(setting, |text| values::count(text, values::COUNT_MAX))?;
        Ok(read.map_or(default, |count| count as usize))
    };
    let settings = Settings {
        connections_max: count(&layers::MAX_CONNECTIONS, default.connections_max)?,
        connections_per_client_max: count(&layers::MAX_PER_CLIENT, default.connections_per_client_max)?,
        in_flight_max: layers
            .read(&layers::MAX_IN_FLIGHT, |text| values::count(text, values::COUNT_MAX))?
            .unwrap_or(default.in_flight_max),
        queue_max: count(&layers::MAX_QUEUE, default.queue_max)?,
        body_bytes_max: layers
            .read(&layers::MAX_BODY, values::size)?
            .map_or(default.body_bytes_max, |bytes| bytes as u64),
        head_timeout: duration(layers, &layers::HEAD_TIMEOUT, default.head_timeout)?,
        idle_timeout: duration(layers, &layers::IDLE_TIMEOUT, default.idle_timeout)?,
        body_timeout: duration(layers, &layers::BODY_TIMEOUT, default.body_timeout)?,
        request_timeout: duration(layers, &layers::REQUEST_TIMEOUT, default.request_timeout)?,
        queue_timeout: duration(layers, &layers::QUEUE_TIMEOUT, default.queue_timeout)?,
        trusted: layers
            .read(&layers::TRUSTED, |text| values::list(text, values::network))?
            .unwrap_or_default(),
        proxy_protocol: layers.read(&layers::PROXY_PROTOCOL, values::switch)?.unwrap_or(false),
        ..default
    };
    if settings.proxy_protocol && settings.trusted.is_empty() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&layers::PROXY_PROTOCOL),
            reason: "it is believed from trusted addresses alone: name them with --trusted-proxies".into(),
        });
    }
    Ok(settings)
}

fn certificates(layers: &Layers) -> Result<Vec<Files>, ConfigError> {
    let paths = |setting| {
        let read = layers.read(setting, |text| values::list(text, |path| Ok(PathBuf::from(path))))?;
        Ok(read.unwrap_or_default())
    };
    let (certificates, keys): (Vec<_>, Vec<_>) = (paths(&layers::CERT)?, paths(&layers::CERT_KEY)?);
    if certificates.len() != keys.len() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&layers::CERT_KEY),
            reason: format!(
                "{} certificates and {} keys: each needs its own",
                certificates.len(),
                keys.len()
            ),
        });
    }
    let pairs = certificates.into_iter().zip(keys);
    Ok(pairs.map(|(certificate, key)| Files { certificate, key }).collect())
}

fn address(layers: &Layers, setting: &Setting, default: &str) -> Result<SocketAddr, ConfigError> {
    match layers.read(setting, values::address)? {
        Some(address) => Ok(address),
        None => values::address(default)
            .map_err(|reason| ConfigError::Invalid { origin: setting.flag.into(), reason }),
    }
}

/// Where the admin address is reached: one that binds every address is at loopback too.
pub(super) fn admin_to_ask(layers: &Layers) -> Result<SocketAddr, ConfigError> {
    let mut admin = address(layers, &layers::ADMIN, ADMIN_DEFAULT)?;
    match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => admin.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => admin.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(admin)
}

fn duration(layers: &Layers, setting: &Setting, default: Duration) -> Result<Duration, ConfigError> {
    Ok(layers.read(setting, values::duration)?.unwrap_or(default))
}

/// Beyond loopback the cluster key is what keeps strangers out of the gossip. The data ports are
/// for strangers: without gossip, nothing here needs the key.
fn check_key(layers: &Layers, config: &ServeConfig) -> Result<(), ConfigError> {
    if config.cluster_key.is_some() || !config.backends.is_empty() {
        return Ok(());
    }
    let addresses = [
        (&layers::PEER, Some(config.peer.ip())),
        (&layers::ADVERTISE, config.advertise.map(|advertise| advertise.ip)),
        (&layers::HTTP, Some(config.http.ip())),
        (&layers::HTTPS, config.https.map(|https| https.ip())),
        (&layers::ADMIN, Some(config.admin.ip())),
    ];
    for (setting, ip) in addresses {
        if let Some(ip) = ip.filter(|ip| !ip.to_canonical().is_loopback()) {
            return Err(ConfigError::KeyRequired { origin: layers.origin(setting), address: ip.to_string() });
        }
    }
    Ok(())
}

fn check_distinct(layers: &Layers, config: &ServeConfig) -> Result<(), ConfigError> {
    let listeners = [
        (&layers::HTTP, Some(config.http)),
        (&layers::HTTPS, config.https),
        (&layers::ADMIN, Some(config.admin)),
    ];
    for (i, (first, address)) in listeners.iter().enumerate() {
        for (second, other) in &listeners[i + 1..] {
            if let (Some(address), true) = (address, address == other)
                && address.port() != 0
            {
                return Err(ConfigError::SameAddress {
                    first: layers.origin(first),
                    second: layers.origin(second),
                    address: address.to_string(),
                });
            }
        }
    }
    Ok(())
}

fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a log filter: {error}; expected a level, as in info"))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not a log format: expected human or json")),
    }
}
