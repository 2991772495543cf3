//! How every program is told what to do: the command line, the environment and a TOML file.
//!
//! Owns what a setting is, which layer counts, the settings of the log and the
//! readers of plain values; those of the cluster key and the seeds are `skep_members::settings`. Each program owns the table of its settings: a row is a flag, a
//! variable, a file key, a default and a line of help at once, so none of them can be forgotten.
//! Pure but for reading the files that it is pointed at (the TOML file, a secret). Nothing
//! binds, logs or starts here: a bad value is a [`ConfigError`] that names where it came from.
//!
//! Precedence: flag, then environment, then file (`--config`), then default. An environment
//! variable that is set but empty counts as not set.

mod addresses;
mod error;
mod files;
mod layers;
mod secret;
pub mod values;

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Subcommand};

pub use addresses::{require_distinct, require_key};
pub use error::ConfigError;
pub use layers::Layers;
pub use secret::{Secret, secret, secret_again, secret_in};

use crate::log::LogConfig;

/// One setting: its name in each layer, and what the help says of it.
#[derive(Debug)]
pub struct Setting {
    /// `max-body`: `--max-body`, `SKEP_MAX_BODY`, and `max_body` in a file.
    pub name: &'static str,
    pub kind: Kind,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// As it would be given; where none could be given, words that say what happens then.
    pub default: &'static str,
    pub help: &'static str,
}

/// Which layers a setting is read from, and who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Flag, environment, file; a flag of it beside a verb is refused.
    Serving,
    /// Flag, environment, file; verbs read it too.
    Everywhere,
    /// The file itself: flag and environment.
    File,
    /// Environment alone: a secret on a command line is in every process list.
    Secret,
}

/// What `--json` asks of a verb.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

pub const LOG: Setting = Setting {
    name: "log",
    kind: Kind::Serving,
    value: "FILTER",
    default: "info",
    help: "Log filter: a level, or target=level,...",
};
pub const LOG_FORMAT: Setting = Setting {
    name: "log-format",
    kind: Kind::Serving,
    value: "FORMAT",
    default: "human on a terminal, else json",
    help: "Log format: human or json",
};
pub const CONFIG: Setting = Setting {
    name: "config",
    kind: Kind::File,
    value: "FILE",
    default: "none",
    help: "TOML file with settings",
};

/// What stands in the help for the value of a switch.
const BOOL: &str = "BOOL";

impl Setting {
    pub const fn serving(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Serving, value, default, help }
    }

    pub const fn everywhere(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Everywhere, value, default, help }
    }

    /// With its dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    pub fn env(&self) -> String {
        format!("SKEP_{}", self.name.to_uppercase().replace('-', "_"))
    }

    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    fn has_flag(&self) -> bool {
        !self.is_secret()
    }

    fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    fn has_key(&self) -> bool {
        matches!(self.kind, Kind::Serving | Kind::Everywhere)
    }

    /// The flag. Its value stays text: the layers decide whose counts, and a bad one is reported
    /// alike wherever it came from.
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .value_name(self.value)
            .help(format!("{} [env: {}] [default: {}]", self.help, self.env(), self.default))
            .global(self.kind != Kind::Serving)
            .action(ArgAction::Set);
        match self.value {
            // A switch is on where it stands by itself.
            BOOL => arg.num_args(0..=1).default_missing_value("true"),
            _ => arg,
        }
    }
}

/// The whole command line of a program: its settings and its verbs `V`.
pub fn command<V: Subcommand>(program: Command, settings: &[&Setting]) -> Command {
    let flags = settings.iter().filter(|setting| setting.has_flag()).map(|setting| setting.arg());
    V::augment_subcommands(program.args(flags))
}

/// Reads the command line (program name first) and what stands behind it: what was given, and the
/// verb if there is one.
///
/// `env` looks up an environment variable; `main` passes `|name| std::env::var_os(name)`.
pub fn parse<V: Subcommand, I, A>(
    program: Command,
    settings: &'static [&'static Setting],
    args: I,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(Layers, Option<V>), ConfigError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let matches = command::<V>(program, settings).try_get_matches_from(args).map_err(ConfigError::Usage)?;
    let layers = Layers::new(settings, &matches, env)?;
    if matches.subcommand_name().is_none() {
        return Ok((layers, None));
    }
    // A flag that a verb would ignore is a mistake; saying nothing would hide it.
    let serving = settings.iter().filter(|setting| setting.kind == Kind::Serving);
    for setting in serving {
        if flag_of(setting, &matches).is_some() {
            return Err(ConfigError::NotForVerb { flag: setting.flag() });
        }
    }
    let verb = V::from_arg_matches(&matches).map_err(ConfigError::Usage)?;
    Ok((layers, Some(verb)))
}

/// What is logged, and how.
pub fn log(layers: &Layers) -> Result<LogConfig, ConfigError> {
    Ok(LogConfig {
        filter: layers.value(&LOG, values::log_filter)?,
        format: layers.read(&LOG_FORMAT, values::log_format)?,
    })
}

fn flag_of<'a>(setting: &Setting, matches: &'a ArgMatches) -> Option<&'a String> {
    setting.has_flag().then(|| matches.get_one::<String>(setting.name)).flatten()
}

#[cfg(test)]
mod tests;
