//! Who may ask, as requests are told of it.

use super::digest_begin;

/// A consumer, or whom an issuer's token names.
#[derive(Debug)]
pub struct Known {
    /// A consumer's; of a token its issuer's name and its subject with a slash between them.
    pub name: String,
    /// Tells it from others wherever the document is known.
    pub id: u64,
    pub(super) groups: Vec<String>,
    /// They in one text.
    pub groups_said: String,
}

impl Known {
    /// `groups` in order.
    pub(super) fn new(name: String, groups: Vec<String>) -> Self {
        Self { id: digest_begin(name.as_bytes()), groups_said: groups.join(","), name, groups }
    }

    /// About so many bytes of memory beside its own.
    pub(super) fn bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(|it| it.len() + size_of::<String>()).sum();
        self.name.len() + groups + self.groups_said.len()
    }
}
