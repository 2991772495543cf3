//! The sealed copy of what an issuer published, under `--state`: what a balancer knows tokens by that starts while the
//! issuer is away.
//!
//! A file for each issuer, `issuer-NAME.sealed`: a line that says what it is, then the set as it came, which is read again
//! as if it came now. It is of the place that it was fetched from, and of who was believed there: for another it is none.
//! No tasks: all of it blocks.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use skep_gateway::document::{Jwks, SET_BYTES_MAX};
use skep_members::stored::For;

use super::super::sealed::{SUFFIX, Sealed, Unread};

pub const PREFIX: &str = "issuer-";
/// Most bytes before the set.
const HEAD_BYTES_MAX: usize = 1024;
/// The form of what is sealed.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    issuer: String,
    /// What tells the place that it is of from others.
    place: String,
    /// When it was fetched, in seconds of Unix time.
    fetched_s: u64,
}

/// Of one issuer.
#[derive(Debug, Clone)]
pub struct Copy {
    pub sealed: Sealed,
    issuer: String,
    place: String,
}

impl Copy {
    pub fn of(sealed: Sealed, issuer: &str, jwks: &Jwks) -> Self {
        Self { sealed, issuer: issuer.to_owned(), place: jwks.place() }
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}{SUFFIX}", self.issuer)
    }

    /// What lies there of this place, and when it was fetched.
    pub fn read(&self) -> Result<Option<(Vec<u8>, SystemTime)>, Unread> {
        let most = HEAD_BYTES_MAX + SET_BYTES_MAX;
        let Some(plain) = self.sealed.read(&self.name(), For::Keys, most)? else { return Ok(None) };
        let (head, set) = decode(plain).ok_or(Unread::Content)?;
        if head.issuer != self.issuer || head.place != self.place {
            return Ok(None);
        }
        let fetched = UNIX_EPOCH.checked_add(Duration::from_secs(head.fetched_s)).ok_or(Unread::Content)?;
        Ok(Some((set, fetched)))
    }

    pub fn write(&self, set: &[u8], fetched: SystemTime) -> io::Result<()> {
        let fetched_s = fetched.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (issuer, place) = (self.issuer.clone(), self.place.clone());
        let head = Head { format: FORMAT, issuer, place, fetched_s };
        // A struct of words and numbers always has its form in JSON.
        let mut plain = serde_json::to_vec(&head).unwrap_or_default();
        plain.push(b'\n');
        plain.extend_from_slice(set);
        self.sealed.write(&self.name(), For::Keys, &plain)
    }
}

fn decode(mut plain: Vec<u8>) -> Option<(Head, Vec<u8>)> {
    let at = plain.iter().take(HEAD_BYTES_MAX).position(|b| *b == b'\n')?;
    let head: Head = serde_json::from_slice(&plain[..at]).ok()?;
    if head.format != FORMAT {
        return None;
    }
    plain.drain(..=at);
    Some((head, plain))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use skep_gateway::Document;
    use skep_members::in_force::Keys;
    use skep_members::key::KeyRing;

    use super::*;

    fn copy(folder: &Path, name: &str, more: &str) -> Copy {
        let keys = Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap();
        let text = format!("issuers.i = {{iss = \"i\", aud = \"any\", {more}}}");
        let document = Document::read(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        Copy::of(Sealed::at(folder, keys), name, &document.jwks["i"])
    }

    #[test]
    fn what_was_written_is_read_of_the_same_place_and_issuer_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let usual = "jwks = \"https://a.test/keys\"";
        let of = |name: &str, more: &str| copy(folder.path(), name, more);
        assert!(of("i", usual).read().unwrap().is_none());
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000);
        of("i", usual).write(b"{}\n{}", then).unwrap();
        let same = format!("{usual}, refresh = \"1h\", tls.name = \"a.test\"");
        assert_eq!(of("i", &same).read().unwrap(), Some((b"{}\n{}".to_vec(), then)));
        for other in ["jwks = \"https://a.test/keys?\"", "jwks = \"https://a.test:444/keys\""] {
            assert!(of("i", other).read().unwrap().is_none(), "{other}");
        }
        // Another is believed there.
        assert!(of("i", &format!("{usual}, tls.name = \"b.test\"")).read().unwrap().is_none());
        let path = folder.path().join("issuer-i.sealed");
        std::fs::copy(&path, folder.path().join("issuer-j.sealed")).unwrap();
        assert!(of("j", usual).read().unwrap().is_none());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(of("i", usual).read().is_err());
        for plain in ["", "{}", "{\"format\":2,\"issuer\":\"i\",\"place\":\"\",\"fetched_s\":1}\n"] {
            of("i", usual).sealed.write("issuer-i.sealed", For::Keys, plain.as_bytes()).unwrap();
            assert!(matches!(of("i", usual).read(), Err(Unread::Content)), "{plain}");
        }
    }
}
