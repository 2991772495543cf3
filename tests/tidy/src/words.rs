//! Words that say that something is not done.

use crate::tree::Files;

/// In halves, so that this file may have them.
const UNFINISHED: [(&str, &str); 4] = [("FIX", "ME"), ("TO", "DO"), ("to", "do!"), ("unimpl", "emented!")];

/// Texts that say so.
pub fn unfinished(files: &Files) -> Vec<String> {
    let words: Vec<String> = UNFINISHED.iter().map(|(first, second)| format!("{first}{second}")).collect();
    let mut found = Vec::new();
    for (path, text) in files {
        for (number, line) in text.lines().enumerate() {
            let has = |word: &&String| {
                let parts: Vec<&str> = line.split(word.as_str()).collect();
                parts.windows(2).any(|around| {
                    !around[0].ends_with(char::is_alphanumeric)
                        && !around[1].starts_with(char::is_alphanumeric)
                })
            };
            if let Some(word) = words.iter().find(has) {
                found.push(format!("{path}:{}: {word}: do it, or file what is left as an issue", number + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{files, sample};

    #[test]
    fn a_word_by_itself_is_found_and_a_part_of_another_is_not() {
        let [fixme, todo, macro_, _] = UNFINISHED.map(|(first, second)| format!("{first}{second}"));
        let text = format!("// {fixme}: later\n{macro_}(\"x\")\nauto{todo}s {todo}_LIST\n# {todo}");
        let found = unfinished(&sample(&[("a.rs", &text)]));
        let lines: Vec<&str> = found.iter().map(|one| one.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["1", "2", "3", "4"]);
        assert_eq!(unfinished(&sample(&[("a.rs", &format!("auto{todo}s"))])), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_left_unfinished() {
        let found = unfinished(&files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
