//! The secrets: where they come from. They are never shown, not even where they are wrong.

use std::path::Path;

use super::files::read_bounded;
use super::{ConfigError, Layers, Setting};

/// Largest file of a secret that is read, in bytes: eight keys and comments.
const SECRET_FILE_BYTES_MAX: u64 = 16 * 1024;

/// A secret as it was given.
#[derive(Debug)]
pub struct Secret {
    /// Not to be shown.
    pub text: String,
    pub origin: String,
    /// To be logged, where its file is readable by everyone.
    pub warning: Option<String>,
}

/// A secret that has two forms: the value itself, and a file with it.
pub fn secret(layers: &Layers, value: &Setting, file: &Setting) -> Result<Option<Secret>, ConfigError> {
    match (layers.get(value), layers.get(file)) {
        (Some(value), Some(file)) => Err(ConfigError::BothForms { value: value.origin, file: file.origin }),
        (None, None) => Ok(None),
        (Some(value), None) => {
            Ok(Some(Secret { text: value.text.to_owned(), origin: value.origin, warning: None }))
        }
        (None, Some(file)) => secret_in(Path::new(file.text), file.origin).map(Some),
    }
}

/// A secret in a file that `origin` names.
pub fn secret_in(path: &Path, origin: String) -> Result<Secret, ConfigError> {
    match read_bounded(path, SECRET_FILE_BYTES_MAX) {
        Ok(text) => Ok(Secret { text, origin, warning: readable_by_all(path) }),
        Err(error) => Err(ConfigError::File { origin, path: path.to_owned(), reason: error.to_string() }),
    }
}

/// The same while the process runs: who would wait for the writer of a pipe waits perhaps for ever.
pub fn secret_again(path: &Path, origin: String) -> Result<Secret, ConfigError> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let reason = "it is no regular file, and is not read again".to_owned();
        return Err(ConfigError::File { origin, path: path.to_owned(), reason });
    }
    secret_in(path, origin)
}

/// Swarm mounts secrets readable by all inside the container, where nobody else is.
fn readable_by_all(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    if path.starts_with("/run/secrets") {
        return None;
    }
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("the secret's file {} is readable by every user: chmod o-r", path.display()))
}
