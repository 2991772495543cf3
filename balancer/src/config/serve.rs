//! The settings of a serving balancer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skep_base::log::LogConfig;
use skep_base::settings::{ConfigError, Layers, Setting, log, require_distinct, require_key, values};
use skep_console::token::{self, OperatorToken};
use skep_members::advertise::Advertise;
use skep_members::seeds::Seed;
use skep_members::settings::{ADVERTISE, Given, SEEDS, edge_key};
use skep_vrrp::VrrpConfig;
use skep_vrrp::config::{self as vrrp, Place};

use super::gateway as document;
use super::settings as names;
use super::settings::{ADMIN, BACKENDS, HTTP, HTTPS, PEER};
use crate::core::access_log::Destination;
use crate::core::account::ACCOUNT_BYTES_MIN;
use crate::core::settings::{FAILURE_STATUS_MIN, Network, Settings};
use crate::kong;
use crate::listen::tls::Files;
use crate::pools::tls::BackendTls;

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
    pub operator_token: OperatorToken,
    pub seeds: Vec<Seed>,
    /// Fixed backends; then there is no gossip.
    pub backends: Vec<SocketAddr>,
    pub backend_tls: BackendTlsConfig,
    /// The path that those are asked for.
    pub check: Option<Arc<str>>,
    /// The gateway's document.
    pub gateway: Option<PathBuf>,
    /// Where a copy of the cluster's configuration is kept.
    pub state: Option<PathBuf>,
    /// The door for Kong's clients.
    pub kong: Option<kong::Config>,
    /// An edge key is enough. Never `None` where anything binds beyond loopback.
    pub cluster_key: Option<Given>,
    /// `None`: one for each that the process may use.
    pub cores: Option<usize>,
    pub drain: Duration,
    /// None: by the memory that the process may have.
    pub request_memory: Option<u64>,
    /// Most bytes of answers that are stored.
    pub cache: u64,
    pub settings: Settings,
    pub access_log: Destination,
    pub log: LogConfig,
    /// Virtual addresses, where this process holds some.
    pub vrrp: Option<VrrpConfig>,
    /// Said in the log once there is one.
    pub warnings: Vec<String>,
}

impl ServeConfig {
    /// Whether there are nodes: a gateway can do without.
    pub fn has_nodes(&self) -> bool {
        self.gateway.is_none() || !self.seeds.is_empty() || !self.backends.is_empty()
    }

    /// What a start fails at before anything binds, and what read again later is none of: the gateway's document.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(file) = &self.gateway else { return Ok(()) };
        document::read(file).map(drop).map_err(|faults| {
            let reason = format!("{}:\n  {}", file.display(), document::shown(&faults));
            ConfigError::Invalid { origin: "--gateway".into(), reason }
        })
    }

    /// Whether it looks for them by gossip.
    pub fn has_gossip(&self) -> bool {
        self.has_nodes() && self.backends.is_empty()
    }
}

/// How backends are spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendTlsConfig {
    Off,
    /// With the cluster's keys.
    Cluster,
    /// With certificates of these authorities.
    Authorities(PathBuf),
}

pub(super) fn resolve(layers: &Layers) -> Result<ServeConfig, ConfigError> {
    let (cluster_key, mut warnings) = edge_key(layers)?;
    let drain = layers.duration(&vrrp::rows::DRAIN)?;
    let mut config = ServeConfig {
        vrrp: vrrp::resolve(layers, Place::Inside, cluster_key.is_some(), drain)?,
        http: layers.address(&HTTP)?,
        https: layers.read(&HTTPS, values::address)?,
        certificates: certificates(layers)?,
        peer: layers.address(&PEER)?,
        advertise: layers.read(&ADVERTISE, skep_members::settings::advertise)?,
        admin: layers.address(&ADMIN)?,
        operator_token: token::to_ask_for(layers, &names::OPERATOR_TOKEN_FILE)?,
        seeds: layers.read(&SEEDS, skep_members::settings::seeds)?.unwrap_or_default(),
        backends: layers.read(&BACKENDS, |text| values::list(text, values::address))?.unwrap_or_default(),
        backend_tls: backend_tls(layers)?,
        check: layers.read(&names::CHECK, check)?,
        gateway: layers.get(&names::GATEWAY).map(|it| it.text.into()),
        state: layers.get(&names::STATE).map(|it| it.text.into()),
        kong: kong(layers, &mut warnings)?,
        cluster_key,
        cores: layers
            .read(&names::CORES, |text| values::count(text, names::CORES_MAX))?
            .map(|cores| cores as usize),
        drain,
        request_memory: layers.read(&names::REQUEST_MEMORY, request_memory)?,
        cache: layers.size(&names::CACHE, names::MEMORY_BYTES_LIMIT)?,
        settings: settings(layers)?,
        access_log: layers.value(&names::ACCESS_LOG, access_log)?,
        log: log(layers)?,
        warnings,
    };
    if !config.backends.is_empty() && !config.seeds.is_empty() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&BACKENDS),
            reason: "backends come from --seeds or from --backends, not from both".into(),
        });
    }
    if config.backends.is_empty() && config.check.is_some() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&names::CHECK),
            reason: "it is for --backends: nodes that gossip found are asked for /readyz".into(),
        });
    }
    // A unit or stack sets it for all.
    if config.state.is_some() && config.gateway.is_none() && !config.has_gossip() {
        let origin = layers.origin(&names::STATE);
        config
            .warnings
            .push(format!("{origin} is not used: with --backends and no --gateway nothing is kept"));
    }
    if config.kong.is_some() && (config.gateway.is_some() || !config.has_gossip()) {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&names::KONG),
            reason: "what it is asked for goes into the document that the cluster keeps: that is followed with --seeds, and \
                     without --gateway and --backends"
                .into(),
        });
    }
    let is_edge = config.cluster_key.as_ref().is_some_and(|it| it.ring.has_edge_alone());
    if config.kong.is_some() && is_edge {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&names::KONG),
            reason: "it sends a token to nodes, and by an edge key nobody can tell them from who says to be one: give \
                     this balancer the cluster key"
                .into(),
        });
    }
    // Without a key, who is of this cluster is anybody's word.
    let is_far = |backend: &SocketAddr| !backend.ip().to_canonical().is_loopback();
    if config.backend_tls == BackendTlsConfig::Cluster
        && config.cluster_key.is_none()
        && config.backends.iter().any(is_far)
    {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&names::BACKEND_TLS),
            reason: "backends beyond loopback prove themselves by the cluster key: give it with \
                     --cluster-key-file"
                .into(),
        });
    }
    // The data ports are for strangers: without gossip, nothing here needs the key.
    if config.cluster_key.is_none() && config.has_gossip() {
        let addresses = [
            (&PEER, Some(config.peer.ip())),
            (&ADVERTISE, config.advertise.map(|advertise| advertise.ip)),
            (&HTTP, Some(config.http.ip())),
            (&HTTPS, config.https.map(|https| https.ip())),
            (&ADMIN, Some(config.admin.ip())),
            (&names::KONG, config.kong.as_ref().map(|kong| kong.address.ip())),
        ];
        require_key(layers, &addresses)?;
    }
    require_distinct(
        layers,
        &[
            (&HTTP, Some(config.http)),
            (&HTTPS, config.https),
            (&ADMIN, Some(config.admin)),
            (&names::KONG, config.kong.as_ref().map(|kong| kong.address)),
        ],
    )?;
    if config.vrrp.is_some() && !config.http.ip().is_unspecified() {
        config.warnings.push(format!(
            "--http {} does not answer at the virtual address: bind it to 0.0.0.0 (or [::])",
            config.http
        ));
    }
    Ok(config)
}

/// The door for Kong's clients, which nodes know by a token, and which is asked by names of its own beyond loopback.
fn kong(layers: &Layers, warnings: &mut Vec<String>) -> Result<Option<kong::Config>, ConfigError> {
    let Some(address) = layers.read(&names::KONG, values::address)? else { return Ok(None) };
    let invalid = |reason: &str| ConfigError::Invalid {
        origin: layers.origin(&names::KONG),
        reason: reason.to_owned(),
    };
    let (token, warning) = token::token_to_send(layers, &names::KONG_TOKEN, &names::KONG_TOKEN_FILE)?;
    warnings.extend(warning);
    let token = token.ok_or_else(|| {
        invalid(
            "it writes with a token that nodes have by --gateway-token-file: give it with --kong-token-file",
        )
    })?;
    let list = |text: &str| values::list(text, |it| Ok(it.to_owned()));
    let names = layers.read(&names::KONG_NAMES, |text| kong::names(&list(text)?))?.unwrap_or_default();
    let aliases =
        layers.read(&names::KONG_ALIAS, |text| kong::Aliases::of(&list(text)?))?.unwrap_or_default();
    if names.is_empty() && !address.ip().to_canonical().is_loopback() {
        return Err(invalid(
            "beyond loopback whoever reaches it changes where requests go: have it in a network of its own, and say \
             with --kong-names what it is called there",
        ));
    }
    Ok(Some(kong::Config { address, names, aliases, token }))
}

fn backend_tls(layers: &Layers) -> Result<BackendTlsConfig, ConfigError> {
    let read = |text: &str| match text {
        "off" => Ok(BackendTlsConfig::Off),
        "cluster" => Ok(BackendTlsConfig::Cluster),
        _ => Err(format!("{text:?} is neither off nor cluster")),
    };
    let with = layers.value(&names::BACKEND_TLS, read)?;
    let Some(file) = layers.get(&names::BACKEND_CA) else { return Ok(with) };
    let wrong = match (&with, layers.get(&BACKENDS)) {
        (BackendTlsConfig::Cluster, _) => {
            "a backend proves itself by the cluster's keys or by these, not by both"
        }
        (_, None) => {
            "it is for --backends: nodes that gossip found prove themselves by --backend-tls cluster"
        }
        _ => {
            // A bad one ends the program before anything binds.
            return match BackendTls::of_authorities(Path::new(file.text)) {
                Ok(_) => Ok(BackendTlsConfig::Authorities(file.text.into())),
                Err(reason) => Err(ConfigError::Invalid { origin: file.origin, reason }),
            };
        }
    };
    Err(ConfigError::Invalid { origin: file.origin, reason: wrong.into() })
}

/// Limits and times: what SIGHUP reads again.
fn settings(layers: &Layers) -> Result<Settings, ConfigError> {
    let count = |setting: &Setting| layers.count(setting, names::COUNT_MAX).map(|count| count as usize);
    let settings = Settings {
        connections_max: count(&names::MAX_CONNECTIONS)?,
        connections_per_client_max: count(&names::MAX_PER_CLIENT)?,
        in_flight_max: layers.count(&names::MAX_IN_FLIGHT, names::COUNT_MAX)?,
        queue_max: count(&names::MAX_QUEUE)?,
        uploads_per_client_max: count(&names::MAX_UPLOADS)?,
        rate_min: layers.size(&names::MIN_RATE, names::RATE_BYTES_LIMIT)?,
        upload_timeout: layers.duration(&names::UPLOAD_TIMEOUT)?,
        body_bytes_max: layers.size(&names::MAX_BODY, names::BODY_BYTES_LIMIT)?,
        head_timeout: layers.duration(&names::HEAD_TIMEOUT)?,
        idle_timeout: layers.duration(&names::IDLE_TIMEOUT)?,
        body_timeout: layers.duration(&names::BODY_TIMEOUT)?,
        request_timeout: layers.duration(&names::REQUEST_TIMEOUT)?,
        queue_timeout: layers.duration(&names::QUEUE_TIMEOUT)?,
        trusted: layers.read(&names::TRUSTED, |text| values::list(text, network))?.unwrap_or_default(),
        proxy_protocol: layers.value(&names::PROXY_PROTOCOL, values::switch)?,
        failure_statuses: failure_statuses(layers)?,
        by_digest: layers.value(&names::BY_DIGEST, values::switch)?,
        ..Settings::default()
    };
    if settings.proxy_protocol && settings.trusted.is_empty() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&names::PROXY_PROTOCOL),
            reason: "it is believed from trusted addresses alone: name them with --trusted-proxies".into(),
        });
    }
    Ok(settings)
}

fn failure_statuses(layers: &Layers) -> Result<Vec<u16>, ConfigError> {
    let status = |text: &str| match text.parse() {
        Ok(status) if (FAILURE_STATUS_MIN..600).contains(&status) => Ok(status),
        _ => Err(format!("{text:?} is no status of an error: expected {FAILURE_STATUS_MIN} to 599")),
    };
    layers.value(&names::FAILURE_STATUSES, |text| values::list(text, status))
}

fn request_memory(text: &str) -> Result<u64, String> {
    let fits = values::size(text, names::MEMORY_BYTES_LIMIT).ok().filter(|bytes| *bytes >= ACCOUNT_BYTES_MIN);
    fits.ok_or_else(|| {
        format!("{text:?} is not a size of at least {} MiB, as in 64MiB", ACCOUNT_BYTES_MIN >> 20)
    })
}

fn check(text: &str) -> Result<Arc<str>, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path && text.len() <= names::CHECK_BYTES_MAX {
        Ok(text.into())
    } else {
        Err(format!(
            "{text:?} is no path: expected as in /healthz, of at most {} bytes",
            names::CHECK_BYTES_MAX
        ))
    }
}

fn certificates(layers: &Layers) -> Result<Vec<Files>, ConfigError> {
    let paths = |setting| {
        let read = layers.read(setting, |text| values::list(text, |path| Ok(PathBuf::from(path))))?;
        Ok(read.unwrap_or_default())
    };
    let (certificates, keys): (Vec<_>, Vec<_>) = (paths(&names::CERT)?, paths(&names::CERT_KEY)?);
    if certificates.len() != keys.len() {
        return Err(ConfigError::Invalid {
            origin: layers.origin(&names::CERT_KEY),
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

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text)
        .ok_or_else(|| format!("{text:?} is not a network: expected IP or IP/BITS, as in 10.0.0.0/8"))
}

fn access_log(text: &str) -> Result<Destination, String> {
    Ok(match text {
        "off" => Destination::Off,
        "stdout" => Destination::Stdout,
        path => Destination::File(path.into()),
    })
}
