//! What a node wrote to its log.

use std::path::Path;

/// How much of a log is shown when a test fails.
const TAIL_LINES: usize = 60;

/// The whole log; empty while there is none.
pub fn text(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last lines, and what a panic said before them, for a failing test's output.
pub fn tail(path: &Path) -> String {
    let text = text(path);
    let lines: Vec<&str> = text.lines().collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(TAIL_LINES));
    let panics = before.windows(2).filter(|pair| pair[0].contains("panicked at")).flatten();
    panics.chain(last).copied().collect::<Vec<_>>().join("\n")
}

/// The first line that holds every one of `words`, whatever their case.
pub fn line_with(text: &str, words: &[&str]) -> Option<String> {
    text.lines()
        .find(|line| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        })
        .map(str::to_owned)
}
