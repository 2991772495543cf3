//! The layers that a setting may come from, and which of them counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;

use super::files::read_bounded;
use super::{CONFIG, ConfigError, Setting, flag_of, values};

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A value and where it came from.
#[derive(Debug)]
pub struct Given<'a> {
    /// `--http`, `SKEP_HTTP`, or `http in skep.toml`.
    pub origin: String,
    pub text: &'a str,
}

/// All that was given, by layer and by the settings' names.
#[derive(Debug)]
pub struct Layers {
    flags: BTreeMap<&'static str, String>,
    env: BTreeMap<&'static str, String>,
    file: BTreeMap<&'static str, String>,
    path: PathBuf,
}

impl Layers {
    pub(super) fn new(
        settings: &'static [&'static Setting],
        matches: &ArgMatches,
        lookup: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut flags = BTreeMap::new();
        let mut env = BTreeMap::new();
        for setting in settings {
            if let Some(value) = flag_of(setting, matches) {
                flags.insert(setting.name, value.clone());
            }
            let Some(value) = lookup(&setting.env()).filter(|value| !value.is_empty()) else { continue };
            let value = value.into_string().map_err(|_| ConfigError::Invalid {
                origin: setting.env(),
                reason: "the value is not UTF-8".into(),
            })?;
            env.insert(setting.name, value);
        }
        let mut layers = Self { flags, env, file: BTreeMap::new(), path: PathBuf::new() };
        if let Some(given) = layers.get(&CONFIG) {
            let path = PathBuf::from(given.text);
            let file = read_file(settings, &given.origin, &path)?;
            (layers.file, layers.path) = (file, path);
        }
        Ok(layers)
    }

    /// The value that counts: flag, then environment, then file.
    pub fn get(&self, setting: &Setting) -> Option<Given<'_>> {
        if let Some(text) = self.flags.get(setting.name) {
            return Some(Given { origin: setting.flag(), text });
        }
        if let Some(text) = self.env.get(setting.name) {
            return Some(Given { origin: setting.env(), text });
        }
        let text = self.file.get(setting.name)?;
        Some(Given { origin: format!("{} in {}", setting.key(), self.path.display()), text })
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

    /// The value that counts, or the default.
    pub fn value<T>(
        &self,
        setting: &Setting,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.read(setting, &read)? {
            Some(value) => Ok(value),
            None => read(setting.default)
                .map_err(|reason| ConfigError::Invalid { origin: setting.flag(), reason }),
        }
    }

    pub fn address(&self, setting: &Setting) -> Result<SocketAddr, ConfigError> {
        self.value(setting, values::address)
    }

    /// Where a verb reaches what serves there: an address that binds all is at loopback too.
    pub fn address_to_ask(&self, setting: &Setting) -> Result<SocketAddr, ConfigError> {
        self.address(setting).map(values::reachable)
    }

    pub fn duration(&self, setting: &Setting) -> Result<Duration, ConfigError> {
        self.value(setting, values::duration)
    }

    pub fn count(&self, setting: &Setting, max: u32) -> Result<u32, ConfigError> {
        self.value(setting, |text| values::count(text, max))
    }

    pub fn size(&self, setting: &Setting, bytes_max: u64) -> Result<u64, ConfigError> {
        self.value(setting, |text| values::size(text, bytes_max))
    }

    /// Where the value came from, for errors that concern several settings.
    pub fn origin(&self, setting: &Setting) -> String {
        self.get(setting).map_or_else(|| setting.flag(), |given| given.origin)
    }
}

fn read_file(
    settings: &'static [&'static Setting],
    origin: &str,
    path: &Path,
) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let error =
        |reason: String| ConfigError::File { origin: origin.to_owned(), path: path.to_owned(), reason };
    let text = read_bounded(path, FILE_BYTES_MAX).map_err(|reason| error(reason.to_string()))?;
    let table: toml::Table = text.parse().map_err(|reason: toml::de::Error| error(reason.to_string()))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if settings.iter().any(|setting| setting.is_secret() && setting.key() == key) {
            return Err(error(format!(
                "{key}: a secret is not kept here, but in the file that {key}_file names"
            )));
        }
        let setting = settings.iter().find(|setting| setting.has_key() && setting.key() == key);
        let setting = setting.ok_or_else(|| error(format!("{key}: there is no such setting")))?;
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
        values.insert(setting.name, text);
    }
    Ok(values)
}
