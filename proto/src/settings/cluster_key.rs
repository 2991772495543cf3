//! The cluster key: where it comes from. It is never shown, not even where it is wrong.

use std::path::Path;

use super::layers::read_bounded;
use super::{CLUSTER_KEY, CLUSTER_KEY_FILE, ConfigError, Layers};
use crate::key::KeyRing;

/// Largest key file that is read, in bytes: eight keys and comments.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// The cluster key, and a warning to log where its file is readable by everyone.
pub fn cluster_key(layers: &Layers) -> Result<(Option<KeyRing>, Option<String>), ConfigError> {
    let (value, file) = (layers.get(&CLUSTER_KEY), layers.get(&CLUSTER_KEY_FILE));
    let (secret, origin, warning) = match (value, file) {
        (Some(value), Some(file)) => {
            return Err(ConfigError::BothForms { value: value.origin, file: file.origin });
        }
        (None, None) => return Ok((None, None)),
        (Some(value), None) => (value.text.to_owned(), value.origin, None),
        (None, Some(file)) => {
            let path = Path::new(file.text);
            let text = read_bounded(path, KEY_FILE_BYTES_MAX).map_err(|error| ConfigError::File {
                origin: file.origin.clone(),
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
            (text, file.origin, readable_by_all(path))
        }
    };
    match KeyRing::parse(&secret) {
        Ok(ring) => Ok((Some(ring), warning)),
        Err(error) => Err(ConfigError::Invalid { origin, reason: error.to_string() }),
    }
}

/// Swarm mounts secrets readable by all inside the container, where nobody else is.
fn readable_by_all(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    if path.starts_with("/run/secrets") {
        return None;
    }
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("the cluster key file {} is readable by every user: chmod o-r", path.display()))
}
