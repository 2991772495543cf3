//! What can be wrong with a configuration, and the exit status that it ends with.

use std::path::PathBuf;

/// A configuration that cannot be used, or a request for help.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line's shape is wrong, or `--help` or `--version` was asked for.
    #[error("{0}")]
    Usage(clap::Error),
    /// A value that is none; `origin` is the flag, the variable, or the file and key.
    #[error("{origin}: {reason}")]
    Invalid { origin: String, reason: String },
    /// A file that cannot be read or is not what it should be.
    #[error("{origin}: {path}: {reason}")]
    File { origin: String, path: PathBuf, reason: String },
    /// The key itself and a file with the key are both given.
    #[error("{value} and {file} are both set: give the cluster key in one form alone")]
    BothForms { value: String, file: String },
    /// An address that others can reach, and no cluster key.
    #[error(
        "{origin}: {address} is not a loopback address, and there is no cluster key: make one with \
         `skep-node keygen`, give it to every process with --cluster-key-file (or SKEP_CLUSTER_KEY_FILE), \
         or bind to 127.0.0.1"
    )]
    KeyRequired { origin: String, address: String },
    /// Two listeners on one address.
    #[error("{first} and {second} are both {address}: each needs an address of its own")]
    SameAddress { first: String, second: String, address: String },
    /// A flag of serving beside a verb.
    #[error("{flag}: this flag has no meaning beside a verb")]
    NotForVerb { flag: String },
}

impl ConfigError {
    /// 0 where help or the version was asked for, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Usage(error) if !error.use_stderr() => 0,
            _ => 2,
        }
    }

    /// Prints it: help and version to stdout, errors to stderr.
    pub fn print(&self) {
        match self {
            // A closed stdout (`--help | head`) is no reason to fail.
            ConfigError::Usage(error) => drop(error.print()),
            error => eprintln!("error: {error}"),
        }
    }
}
