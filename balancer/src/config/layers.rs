//! The layers that a setting may come from, and which of them counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::args::Cli;
use super::error::ConfigError;

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// One setting's name in each layer.
#[derive(Debug)]
pub(super) struct Setting {
    /// With its dashes; empty where there is no flag.
    pub flag: &'static str,
    pub env: &'static str,
    /// Empty where the file has no such key.
    pub key: &'static str,
}

macro_rules! settings {
    ($($name:ident: $flag:literal, $env:literal, $key:literal;)*) => {
        $(pub(super) const $name: Setting = Setting { flag: $flag, env: $env, key: $key };)*
        /// Every setting.
        pub(super) const SETTINGS: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
    HTTP: "--http", "SKEP_HTTP", "http";
    HTTPS: "--https", "SKEP_HTTPS", "https";
    CERT: "--cert", "SKEP_CERT", "cert";
    CERT_KEY: "--cert-key", "SKEP_CERT_KEY", "cert_key";
    PEER: "--peer", "SKEP_PEER", "peer";
    ADVERTISE: "--advertise", "SKEP_ADVERTISE", "advertise";
    ADMIN: "--admin", "SKEP_ADMIN", "admin";
    SEEDS: "--seeds", "SKEP_SEEDS", "seeds";
    BACKENDS: "--backends", "SKEP_BACKENDS", "backends";
    // No flag and no file key: a secret on a command line is in every process list.
    CLUSTER_KEY: "", "SKEP_CLUSTER_KEY", "";
    CLUSTER_KEY_FILE: "--cluster-key-file", "SKEP_CLUSTER_KEY_FILE", "cluster_key_file";
    CORES: "--cores", "SKEP_CORES", "cores";
    DRAIN: "--drain", "SKEP_DRAIN", "drain";
    TRUSTED: "--trusted-proxies", "SKEP_TRUSTED_PROXIES", "trusted_proxies";
    PROXY_PROTOCOL: "--proxy-protocol", "SKEP_PROXY_PROTOCOL", "proxy_protocol";
    MAX_CONNECTIONS: "--max-connections", "SKEP_MAX_CONNECTIONS", "max_connections";
    MAX_PER_CLIENT: "--max-connections-per-client", "SKEP_MAX_CONNECTIONS_PER_CLIENT", "max_connections_per_client";
    MAX_IN_FLIGHT: "--max-in-flight", "SKEP_MAX_IN_FLIGHT", "max_in_flight";
    MAX_QUEUE: "--max-queue", "SKEP_MAX_QUEUE", "max_queue";
    MAX_BODY: "--max-body", "SKEP_MAX_BODY", "max_body";
    HEAD_TIMEOUT: "--head-timeout", "SKEP_HEAD_TIMEOUT", "head_timeout";
    IDLE_TIMEOUT: "--idle-timeout", "SKEP_IDLE_TIMEOUT", "idle_timeout";
    BODY_TIMEOUT: "--body-timeout", "SKEP_BODY_TIMEOUT", "body_timeout";
    REQUEST_TIMEOUT: "--request-timeout", "SKEP_REQUEST_TIMEOUT", "request_timeout";
    QUEUE_TIMEOUT: "--queue-timeout", "SKEP_QUEUE_TIMEOUT", "queue_timeout";
    ACCESS_LOG: "--access-log", "SKEP_ACCESS_LOG", "access_log";
    LOG: "--log", "SKEP_LOG", "log";
    LOG_FORMAT: "--log-format", "SKEP_LOG_FORMAT", "log_format";
    CONFIG: "--config", "SKEP_CONFIG", "";
}

/// A value and where it came from.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// `--http`, `SKEP_HTTP`, or `http in skep.toml`.
    pub origin: String,
    pub text: &'a str,
}

/// All that was given, by layer.
#[derive(Debug)]
pub(super) struct Layers {
    flags: BTreeMap<&'static str, String>,
    env: BTreeMap<&'static str, String>,
    file: BTreeMap<String, String>,
    path: PathBuf,
}

impl Layers {
    pub fn new(cli: &Cli, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let given = cli.serve.given().into_iter().chain(cli.shared.given());
        let flags = given.filter_map(|(flag, value)| value.map(|value| (flag, value.to_owned()))).collect();
        let mut env = BTreeMap::new();
        for setting in SETTINGS {
            let Some(value) = lookup(setting.env).filter(|value| !value.is_empty()) else { continue };
            let value = value.into_string().map_err(|_| ConfigError::Invalid {
                origin: setting.env.into(),
                reason: "the value is not UTF-8".into(),
            })?;
            env.insert(setting.env, value);
        }
        let mut layers = Self { flags, env, file: BTreeMap::new(), path: PathBuf::new() };
        if let Some(given) = layers.get(&CONFIG) {
            let path = PathBuf::from(given.text);
            let file = read_file(&given.origin, &path)?;
            (layers.file, layers.path) = (file, path);
        }
        Ok(layers)
    }

    /// The value that counts: flag, then environment, then file.
    pub fn get(&self, setting: &Setting) -> Option<Given<'_>> {
        if let Some(text) = self.flags.get(setting.flag) {
            return Some(Given { origin: setting.flag.into(), text });
        }
        if let Some(text) = self.env.get(setting.env) {
            return Some(Given { origin: setting.env.into(), text });
        }
        let text = self.file.get(setting.key)?;
        Some(Given { origin: format!("{} in {}", setting.key, self.path.display()), text })
    }

    /// The value that counts, read by `read`, whose error says what is wrong.
    pub fn read<T>(
        &self,
        setting: &Setting,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.get(setting) else { return Ok(None) };
        match read(given.text) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(ConfigError::Invalid { origin: given.origin, reason }),
        }
    }

    /// Where the value came from, for errors that concern several settings.
    pub fn origin(&self, setting: &Setting) -> String {
        self.get(setting).map_or_else(|| setting.flag.to_owned(), |given| given.origin)
    }
}

fn read_file(origin: &str, path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let error =
        |reason: String| ConfigError::File { origin: origin.to_owned(), path: path.to_owned(), reason };
    let text = read_bounded(path, FILE_BYTES_MAX).map_err(|reason| error(reason.to_string()))?;
    let table: toml::Table = text.parse().map_err(|reason: toml::de::Error| error(reason.to_string()))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if key == "cluster_key" {
            return Err(error("cluster_key: a secret is not kept here: use cluster_key_file".into()));
        }
        if key.is_empty() || !SETTINGS.iter().any(|setting| setting.key == key) {
            return Err(error(format!("{key}: there is no such setting")));
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Array(items) => {
                let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                items.ok_or_else(|| error(format!("{key}: expected a list of strings")))?.join(",")
            }
            other => return Err(error(format!("{key}: a {} is no value for it", other.type_str()))),
        };
        values.insert(key, text);
    }
    Ok(values)
}

/// Reads a text file of at most `bytes_max` bytes.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        let reason = format!("the file is larger than {bytes_max} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}
