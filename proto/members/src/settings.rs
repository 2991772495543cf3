//! The settings that say who a process's peers are: the address it tells them, the seeds, the
//! cluster key. Each program has them as rows of its table.

use std::path::{Path, PathBuf};

use skep_base::settings::{
    ConfigError, Kind, Layers, Secret, Setting, secret, secret_again, secret_in, values::list,
};

use crate::advertise::Advertise;
use crate::key::KeyRing;
use crate::seeds::Seed;

pub const ADVERTISE: Setting = Setting {
    name: "advertise",
    kind: Kind::Serving,
    value: "IP[:PORT]",
    default: "the local address on the route to the seeds, with the port of --peer",
    help: "Address that peers are told",
};
pub const SEEDS: Setting = Setting {
    name: "seeds",
    kind: Kind::Serving,
    value: "HOST:PORT,...",
    default: "none",
    help: "Seeds, comma-separated; a DNS name counts with all its addresses and is looked up again",
};
pub const CLUSTER_KEY: Setting =
    Setting { name: "cluster-key", kind: Kind::Secret, value: "", default: "none", help: "" };
pub const CLUSTER_KEY_FILE: Setting = Setting {
    name: "cluster-key-file",
    kind: Kind::Serving,
    value: "FILE",
    default: "none, allowed on loopback alone",
    help: "File with the cluster key, one a line: the first seals, all open; `skep-node keygen` prints one, \
           `skep-node edge-key` the one that balancers and address holders need; the environment's \
           SKEP_CLUSTER_KEY may hold the key itself",
};

/// An address to tell peers; without a port (or with 0) it is that of the peer socket.
pub fn advertise(text: &str) -> Result<Advertise, String> {
    let mut address: Advertise = text
        .parse()
        .map_err(|_| format!("{text:?} is not an address: expected IP or IP:PORT, as in 10.0.0.7"))?;
    address.port = address.port.filter(|port| *port != 0);
    if address.ip.is_unspecified() || address.ip.is_multicast() {
        return Err(format!("{} cannot be told to peers: nobody can connect to it", address.ip));
    }
    Ok(address)
}

/// `host:port` items; whether a name resolves is found out while running.
pub fn seeds(text: &str) -> Result<Vec<Seed>, String> {
    list(text, |seed| Seed::parse(seed).map_err(|error| error.to_string()))
}

/// Keys as a process was given them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub ring: KeyRing,
    /// None: they came by the environment, which does not change.
    pub file: Option<KeyFile>,
}

/// In no file.
impl From<KeyRing> for Given {
    fn from(ring: KeyRing) -> Self {
        Self { ring, file: None }
    }
}

/// Where keys stand that may be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    pub path: PathBuf,
    /// How it was named.
    origin: String,
    whose: Whose,
}

/// Who is to have the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A node: the cluster key alone will do.
    Node,
    /// A balancer, or a holder of addresses.
    Edge,
}

impl Whose {
    /// The keys, and what is to be said of them in the log.
    fn read(self, secret: Secret) -> Result<(KeyRing, Vec<String>), ConfigError> {
        match self {
            Self::Node => roots(secret),
            Self::Edge => edges(secret),
        }
    }

    fn given(self, layers: &Layers) -> Result<(Option<Given>, Vec<String>), ConfigError> {
        let Some(secret) = secret(layers, &CLUSTER_KEY, &CLUSTER_KEY_FILE)? else {
            return Ok((None, Vec::new()));
        };
        let file = layers.get(&CLUSTER_KEY_FILE).map(|file| self.file(Path::new(file.text), file.origin));
        let (ring, warnings) = self.read(secret)?;
        Ok((Some(Given { ring, file }), warnings))
    }

    fn given_in(self, path: &Path, origin: &str) -> Result<Given, ConfigError> {
        let (ring, _) = self.read(secret_in(path, origin.to_owned())?)?;
        Ok(Given { ring, file: Some(self.file(path, origin.to_owned())) })
    }

    fn file(self, path: &Path, origin: String) -> KeyFile {
        KeyFile { path: path.to_owned(), origin, whose: self }
    }
}

impl KeyFile {
    /// The keys that it has now, by the same rules as at the start, and what is to be said of them in the log.
    pub fn read_again(&self) -> Result<(KeyRing, Vec<String>), ConfigError> {
        self.whose.read(secret_again(&self.path, self.origin.clone())?)
    }
}

/// A node's keys: the cluster key, and what is to be said in the log of its file.
pub fn cluster_key(layers: &Layers) -> Result<(Option<Given>, Vec<String>), ConfigError> {
    Whose::Node.given(layers)
}

/// The cluster key in a file; `origin` is how it was named.
pub fn cluster_key_in(path: &Path, origin: &str) -> Result<Given, ConfigError> {
    Whose::Node.given_in(path, origin)
}

/// An edge's keys in a file, for tests.
#[cfg(test)]
pub(crate) fn edge_key_in(path: &Path, origin: &str) -> Result<Given, ConfigError> {
    Whose::Edge.given_in(path, origin)
}

fn roots(secret: Secret) -> Result<(KeyRing, Vec<String>), ConfigError> {
    let (ring, origin, warnings) = ring(secret)?;
    if ring.has_edge_alone() {
        let reason = "an edge key is among the keys, and the cluster key itself is needed, as `skep-node \
                      keygen` prints it";
        return Err(ConfigError::Invalid { origin, reason: reason.into() });
    }
    Ok((ring, warnings))
}

/// An edge's keys: the edge key, or the cluster key, which does as well but is more than it needs. And
/// what is to be said of that, and of its file, in the log.
pub fn edge_key(layers: &Layers) -> Result<(Option<Given>, Vec<String>), ConfigError> {
    Whose::Edge.given(layers)
}

fn edges(secret: Secret) -> Result<(KeyRing, Vec<String>), ConfigError> {
    let (ring, origin, mut warnings) = ring(secret)?;
    if ring.has_root() {
        warnings.push(format!(
            "{origin}: this is the cluster key itself, with which one may vote and write; here the edge key is \
             enough: `skep-node edge-key` prints it"
        ));
    }
    Ok((ring, warnings))
}

/// The keys, where they come from, and a warning where everyone can read their file.
fn ring(secret: Secret) -> Result<(KeyRing, String, Vec<String>), ConfigError> {
    let Secret { text, origin, warning } = secret;
    match KeyRing::parse(&text) {
        Ok(ring) => Ok((ring, origin, warning.into_iter().collect())),
        Err(error) => Err(ConfigError::Invalid { origin, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write;

    use clap::{Command, Subcommand};

    use super::*;

    const KEY: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    const NO_ENV: &[(&str, &str)] = &[];

    #[derive(Debug, Subcommand)]
    enum NoVerb {}

    type Read = fn(&Layers) -> Result<(Option<Given>, Vec<String>), ConfigError>;

    fn key(args: &[&str], env: &[(&str, &str)]) -> Result<(Option<KeyRing>, Vec<String>), ConfigError> {
        read(cluster_key, args, env)
    }

    fn read(
        read: Read,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<(Option<KeyRing>, Vec<String>), ConfigError> {
        let env: HashMap<&str, &str> = env.iter().copied().collect();
        let args = ["program"].iter().chain(args);
        let settings = &[&CLUSTER_KEY, &CLUSTER_KEY_FILE, &skep_base::settings::CONFIG];
        let lookup = |name: &str| env.get(name).map(|value| (*value).into());
        let (layers, _) =
            skep_base::settings::parse::<NoVerb, _, _>(Command::new("program"), settings, args, &lookup)?;
        read(&layers).map(|(given, warnings)| (given.map(|given| given.ring), warnings))
    }

    fn said<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn both_forms_of_the_key_at_once_are_an_error() {
        let file = file(KEY);
        let path = file.path().to_str().unwrap();
        let value = ("SKEP_CLUSTER_KEY", "key");
        let by_flag = said(key(&["--cluster-key-file", path], &[value]));
        let by_env = said(key(&[], &[value, ("SKEP_CLUSTER_KEY_FILE", path)]));
        assert!(by_flag.contains("SKEP_CLUSTER_KEY and --cluster-key-file"), "{by_flag}");
        assert!(by_env.contains("SKEP_CLUSTER_KEY and SKEP_CLUSTER_KEY_FILE"), "{by_env}");
    }

    #[test]
    fn the_key_is_the_same_from_a_file_and_from_the_environment_and_is_not_shown() {
        let file = file(KEY);
        let path = file.path().to_str().unwrap();
        let (ring, _) = key(&["--cluster-key-file", path], NO_ENV).unwrap();
        assert_eq!(ring, Some(KeyRing::parse(KEY).unwrap()));
        assert_eq!(ring, key(&[], &[("SKEP_CLUSTER_KEY", KEY)]).unwrap().0);
        assert!(!format!("{ring:?}").contains("00112233"));
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_shown() {
        let empty = file("# nothing\n\n");
        let by_file = said(key(&["--cluster-key-file", empty.path().to_str().unwrap()], NO_ENV));
        assert!(by_file.starts_with("--cluster-key-file"), "{by_file}");
        let missing = said(key(&["--cluster-key-file", "/no/such/key"], NO_ENV));
        assert!(missing.starts_with("--cluster-key-file: /no/such/key"), "{missing}");
        let by_env = said(key(&[], &[("SKEP_CLUSTER_KEY", "hunter2")]));
        assert!(by_env.starts_with("SKEP_CLUSTER_KEY") && !by_env.contains("hunter2"), "{by_env}");
    }

    #[test]
    fn a_key_file_that_everyone_reads_is_warned_about() {
        use std::os::unix::fs::PermissionsExt;
        let file = file(KEY);
        let args = ["--cluster-key-file", file.path().to_str().unwrap()];
        let warned = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            !key(&args, NO_ENV).unwrap().1.is_empty()
        };
        assert_eq!((warned(0o600), warned(0o644)), (false, true));
    }

    #[test]
    fn a_node_takes_no_edge_key_and_an_edge_takes_either_and_is_warned_of_one() {
        let edge = KeyRing::parse(KEY).unwrap().edge_lines().remove(0);
        let given = |key: &str, by: Read| read(by, &[], &[("SKEP_CLUSTER_KEY", key)]);
        let refused = said(given(&edge, cluster_key));
        assert!(refused.starts_with("SKEP_CLUSTER_KEY") && refused.contains("edge key"), "{refused}");
        assert!(!refused.contains(&edge[20..]), "{refused}");
        let (ring, warnings) = given(&edge, edge_key).unwrap();
        assert!(ring.is_some() && warnings.is_empty(), "{warnings:?}");
        let (ring, warnings) = given(KEY, edge_key).unwrap();
        assert!(ring.is_some());
        assert!(warnings.len() == 1 && warnings[0].contains("edge-key"), "{warnings:?}");
        assert!(!warnings[0].contains("00112233"), "{warnings:?}");
        assert_eq!(given(KEY, cluster_key).unwrap().1, Vec::<String>::new());
    }

    #[test]
    fn an_address_for_peers_is_one_that_they_can_reach() {
        assert_eq!(advertise("10.0.0.7:0").unwrap().port, None);
        assert_eq!(advertise("10.0.0.7:5").unwrap().port, Some(5));
        for text in ["0.0.0.0", "224.0.0.1:5", "node-1"] {
            assert!(advertise(text).is_err(), "{text}");
        }
        assert!(seeds(&"a:1,".repeat(257)).is_err());
    }
}
