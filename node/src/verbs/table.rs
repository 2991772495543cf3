//! Aligned columns for eyes.

use std::io::{self, Write};

/// Writes a head line and the rows, each column as wide as its widest cell.
pub(super) fn write(out: &mut (dyn Write + Send), columns: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let head: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
    let mut widths = vec![0; columns.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
