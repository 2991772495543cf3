//! The settings of a serving node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use skep_proto::key::KeyRing;
use skep_proto::seeds::Seed;

use super::error::ConfigError;
use super::layers::{self, Layers, Setting};
use super::secret;
use super::values;

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

/// All that a serving node is told.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    pub http: SocketAddr,
    /// TCP and UDP.
    pub peer: SocketAddr,
    /// Port 0: that of the peer socket.
    pub advertise: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub data: PathBuf,
    /// Empty: alone.
    pub seeds: Vec<Seed>,
    pub expect: u32,
    pub voters: u32,
    /// Never `None` where anything binds beyond loopback.
    pub cluster_key: Option<KeyRing>,
    pub log: LogConfig,
    pub max_body_bytes: usize,
    pub request_timeout: Duration,
    pub dead_grace: Duration,
    /// Said in the log once there is one.
    pub warnings: Vec<String>,
}

pub(super) const ADMIN_DEFAULT: &str = "127.0.0.1:9400";
pub(super) const DATA_DEFAULT: &str = "./data";

pub(super) fn resolve(layers: &Layers) -> Result<ServeConfig, ConfigError> {
    let address = |setting: &Setting, default: &'static str| match layers.read(setting, values::address)? {
        Some(address) => Ok(address),
        None => values::address(default)
            .map_err(|reason| ConfigError::Invalid { origin: setting.flag.into(), reason }),
    };
    let (cluster_key, warning) = secret::cluster_key(layers)?;
    let config = ServeConfig {
        http: address(&layers::HTTP, "127.0.0.1:8080")?,
        peer: address(&layers::PEER, "127.0.0.1:7400")?,
        advertise: layers.read(&layers::ADVERTISE, values::advertise)?,
        admin: address(&layers::ADMIN, ADMIN_DEFAULT)?,
        data: data(layers),
        seeds: layers.read(&layers::SEEDS, values::seeds)?.unwrap_or_default(),
        expect: layers.read(&layers::EXPECT, |text| values::count(text, values::EXPECT_MAX))?.unwrap_or(1),
        voters: layers.read(&layers::VOTERS, |text| values::count(text, values::VOTERS_MAX))?.unwrap_or(5),
        cluster_key,
        log: LogConfig {
            filter: layers.read(&layers::LOG, log_filter)?.unwrap_or_else(|| "info".into()),
            format: layers.read(&layers::LOG_FORMAT, log_format)?,
        },
        max_body_bytes: layers.read(&layers::MAX_BODY, values::size)?.unwrap_or(1024 * 1024),
        request_timeout: duration(layers, &layers::REQUEST_TIMEOUT, 10)?,
        dead_grace: duration(layers, &layers::DEAD_GRACE, 30)?,
        warnings: warning.into_iter().collect(),
    };
    check_key(layers, &config)?;
    check_distinct(layers, &config)?;
    Ok(config)
}

pub(super) fn data(layers: &Layers) -> PathBuf {
    layers.get(&layers::DATA).map_or_else(|| DATA_DEFAULT.into(), |given| given.text.into())
}

fn duration(layers: &Layers, setting: &Setting, default_s: u64) -> Result<Duration, ConfigError> {
    Ok(layers.read(setting, values::duration)?.unwrap_or(Duration::from_secs(default_s)))
}

/// Beyond loopback the cluster key is what keeps strangers out of the cluster.
fn check_key(layers: &Layers, config: &ServeConfig) -> Result<(), ConfigError> {
    if config.cluster_key.is_some() {
        return Ok(());
    }
    let addresses = [
        (&layers::PEER, Some(config.peer)),
        (&layers::ADVERTISE, config.advertise),
        (&layers::HTTP, Some(config.http)),
        (&layers::ADMIN, Some(config.admin)),
    ];
    for (setting, address) in addresses {
        if let Some(address) = address.filter(|address| !address.ip().to_canonical().is_loopback()) {
            let address = address.ip().to_string();
            return Err(ConfigError::KeyRequired { origin: layers.origin(setting), address });
        }
    }
    Ok(())
}

fn check_distinct(layers: &Layers, config: &ServeConfig) -> Result<(), ConfigError> {
    let listeners =
        [(&layers::HTTP, config.http), (&layers::PEER, config.peer), (&layers::ADMIN, config.admin)];
    for (i, (first, address)) in listeners.iter().enumerate() {
        for (second, other) in &listeners[i + 1..] {
            if address == other && address.port() != 0 {
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
