//! The settings of a serving node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use skep_base::log::LogConfig;
use skep_base::settings::{ConfigError, Layers, log, require_distinct, require_key};
use skep_console::token::{self, GatewayToken};
use skep_members::advertise::Advertise;
use skep_members::seeds::Seed;
use skep_members::settings::{ADVERTISE, Given, SEEDS, cluster_key};

use super::kept;
use super::settings::{
    ADMIN, ALLOW_ORIGINS, AWAY_GRACE, BODY_BYTES_LIMIT, DATA, DEAD_GRACE, EXPECT, EXPECT_MAX,
    GATEWAY_TOKEN_FILE, HTTP, HTTP_THREADS, HTTP_TLS, IDEMPOTENCY_FOR, LEVEL_AFTER, MAX_BODY,
    OPERATOR_TOKEN_FILE, PEER, REQUEST_MEMORY, REQUEST_TIMEOUT, RETAIN_AGE, RETAIN_BYTES, SCRUB_INTERVAL,
    VOTERS, VOTERS_MAX,
};
use crate::http::{HttpTls, OperatorToken, Origins};
use crate::service::retention::RetentionConfig;

/// All that a serving node is told.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    pub http: SocketAddr,
    /// TCP and UDP.
    pub peer: SocketAddr,
    pub advertise: Option<Advertise>,
    pub admin: SocketAddr,
    pub data: PathBuf,
    /// Empty: alone.
    pub seeds: Vec<Seed>,
    pub expect: u32,
    pub voters: u32,
    /// Never `None` where anything binds beyond loopback.
    pub cluster_key: Option<Given>,
    pub log: LogConfig,
    pub max_body_bytes: usize,
    pub request_timeout: Duration,
    pub idempotency_for: Duration,
    pub dead_grace: Duration,
    pub away_grace: Duration,
    pub retention: RetentionConfig,
    pub level_after: Duration,
    pub scrub_interval: Duration,
    pub operator_token: OperatorToken,
    pub gateway_token: GatewayToken,
    /// None: by the memory that the process may have.
    pub request_memory: Option<u64>,
    /// None: by the number of cores.
    pub http_threads: Option<usize>,
    pub http_tls: HttpTls,
    pub allow_origins: Origins,
    /// Said in the log once there is one.
    pub warnings: Vec<String>,
}

pub(super) fn resolve(layers: &Layers) -> Result<ServeConfig, ConfigError> {
    let (cluster_key, mut warnings) = cluster_key(layers)?;
    let http_tls = layers.value(&HTTP_TLS, HttpTls::parse)?;
    if http_tls == HttpTls::Off {
        warnings.push(
            "--http-tls off: this node tells balancers nothing of the gateway, and where all nodes are told so, balancers of \
             this version that find them by gossip answer 503; also takes TLS beside plain HTTP"
                .into(),
        );
    }
    let operator_token = token::to_ask_for(layers, &OPERATOR_TOKEN_FILE)?;
    let config = ServeConfig {
        http: layers.address(&HTTP)?,
        peer: layers.address(&PEER)?,
        advertise: layers.read(&ADVERTISE, skep_members::settings::advertise)?,
        admin: layers.address(&ADMIN)?,
        data: data(layers),
        seeds: layers.read(&SEEDS, skep_members::settings::seeds)?.unwrap_or_default(),
        expect: layers.count(&EXPECT, EXPECT_MAX)?,
        voters: layers.count(&VOTERS, VOTERS_MAX)?,
        cluster_key,
        log: log(layers)?,
        max_body_bytes: layers.size(&MAX_BODY, BODY_BYTES_LIMIT)? as usize,
        request_timeout: layers.duration(&REQUEST_TIMEOUT)?,
        idempotency_for: layers
            .read(&IDEMPOTENCY_FOR, kept::idempotency)?
            .unwrap_or(kept::IDEMPOTENCY_DEFAULT),
        dead_grace: layers.duration(&DEAD_GRACE)?,
        away_grace: layers.duration(&AWAY_GRACE)?,
        level_after: layers.duration(&LEVEL_AFTER)?,
        scrub_interval: layers.duration(&SCRUB_INTERVAL)?,
        retention: RetentionConfig {
            age: layers.read(&RETAIN_AGE, kept::age)?,
            bytes: layers.read(&RETAIN_BYTES, kept::size)?,
        },
        gateway_token: token::gateway_to_ask_for(
            layers,
            &GATEWAY_TOKEN_FILE,
            &operator_token,
            &mut warnings,
        )?,
        operator_token,
        request_memory: layers.read(&REQUEST_MEMORY, kept::request_memory)?,
        http_threads: layers.read(&HTTP_THREADS, kept::threads)?,
        http_tls,
        allow_origins: layers.read(&ALLOW_ORIGINS, Origins::parse)?.unwrap_or_default(),
        warnings,
    };
    if config.cluster_key.is_none() {
        let advertise = config.advertise.map(|advertise| advertise.ip);
        let addresses = [
            (&PEER, Some(config.peer.ip())),
            (&ADVERTISE, advertise),
            (&HTTP, Some(config.http.ip())),
            (&ADMIN, Some(config.admin.ip())),
        ];
        require_key(layers, &addresses)?;
    }
    require_distinct(
        layers,
        &[(&HTTP, Some(config.http)), (&PEER, Some(config.peer)), (&ADMIN, Some(config.admin))],
    )?;
    Ok(config)
}

pub(super) fn data(layers: &Layers) -> PathBuf {
    layers.get(&DATA).map_or(DATA.default, |given| given.text).into()
}
