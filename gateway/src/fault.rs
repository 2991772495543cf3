//! What is wrong with a document, and where.

use std::fmt;

use serde::Serialize;

/// Most faults that are told of one document.
pub const FAULTS_MAX: usize = 1000;

/// Something that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where, as a JSON pointer (RFC 6901); empty for the document as a whole.
    pub pointer: String,
    pub fault: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            return f.write_str(&self.fault);
        }
        write!(f, "{}: {}", self.pointer, self.fault)
    }
}

/// Those that were found so far.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// More than can be told are left out.
    pub fn add(&mut self, pointer: &str, fault: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault { pointer: pointer.to_owned(), fault: fault.into() });
        }
    }

    /// `it`, where there are none.
    pub fn none_or<T>(self, it: T) -> Result<T, Vec<Fault>> {
        if self.0.is_empty() { Ok(it) } else { Err(self.0) }
    }
}

/// The pointer to what has this name there.
pub fn below(pointer: &str, name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{name}")
}
