//! The gateway's document, out of its file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use skep_gateway::document::DOCUMENT_BYTES_MAX;
use skep_gateway::{Document, Fault, Table};

/// Most faults that are told in a log or at a start; the verb tells all.
pub const FAULTS_SHOWN_MAX: usize = 20;

/// Reads and compiles it.
pub fn read(path: &Path) -> Result<Table, Vec<Fault>> {
    let whole = |fault: String| vec![Fault { pointer: String::new(), fault }];
    let mut text = String::new();
    // One byte more than it may have, so that it is seen to have too many.
    let read =
        File::open(path).and_then(|it| it.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| whole(format!("{}: {error}", path.display())))?;
    Document::read(&text).and_then(Table::compile)
}

/// Faults in one text.
pub fn shown(faults: &[Fault]) -> String {
    let mut lines: Vec<String> = faults.iter().take(FAULTS_SHOWN_MAX).map(Fault::to_string).collect();
    if faults.len() > FAULTS_SHOWN_MAX {
        lines.push(format!("and {} more", faults.len() - FAULTS_SHOWN_MAX));
    }
    lines.join("\n  ")
}
