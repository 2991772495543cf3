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

/// Why a document is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub faults: Vec<Fault>,
    /// Each object is one by itself, and does not go with the others: of one that is not there, or two for the very
    /// same requests.
    pub is_clash: bool,
}

impl Refused {
    /// Of the document as a whole.
    pub fn whole(fault: impl Into<String>) -> Self {
        Self { faults: vec![Fault { pointer: String::new(), fault: fault.into() }], is_clash: false }
    }

    /// Between two objects.
    pub fn clash(fault: Fault) -> Self {
        Self { faults: vec![fault], is_clash: true }
    }
}

/// Those that were found so far.
#[derive(Debug, Default)]
pub struct Faults {
    found: Vec<Fault>,
    clashes: usize,
}

impl Faults {
    /// More than can be told are left out.
    pub fn add(&mut self, pointer: &str, fault: impl Into<String>) {
        if self.found.len() < FAULTS_MAX {
            self.found.push(Fault { pointer: pointer.to_owned(), fault: fault.into() });
        }
    }

    /// Whether there are as many as can be told: to look for more is of no use.
    pub fn are_all(&self) -> bool {
        self.found.len() >= FAULTS_MAX
    }

    /// One between two objects.
    pub fn clash(&mut self, pointer: &str, fault: impl Into<String>) {
        let before = self.found.len();
        self.add(pointer, fault);
        self.clashes += self.found.len() - before;
    }

    /// `it`, where there are none.
    pub fn none_or<T>(self, it: T) -> Result<T, Refused> {
        if self.found.is_empty() {
            return Ok(it);
        }
        Err(Refused { is_clash: self.clashes == self.found.len(), faults: self.found })
    }
}

/// The pointer to what has this name there.
pub fn below(pointer: &str, name: &str) -> String {
    // Each member of a document is read with its own, whether it has a fault or not.
    if !name.bytes().any(|b| matches!(b, b'~' | b'/')) {
        return [pointer, "/", name].concat();
    }
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{name}")
}
