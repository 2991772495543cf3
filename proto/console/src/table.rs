//! Aligned columns for eyes.

use std::io::{self, Write};

/// Writes a head line and the rows, each column as wide as its widest cell; those named in `numbers`
/// stand to the right.
pub fn write(
    out: &mut (dyn Write + Send),
    columns: &[&str],
    numbers: &[&str],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let head: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
    let mut widths = vec![0; columns.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, column), width)| {
            let width = *width;
            if numbers.contains(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let rows =
            [vec!["a".into(), "7".into(), "up".into()], vec!["bücher".into(), "1000".into(), "-".into()]];
        let mut out = Vec::new();
        write(&mut out, &["id", "lag", "state"], &["lag"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ID       LAG  STATE\na          7  up\nbücher  1000  -\n");
    }
}
