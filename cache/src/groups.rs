//! Groups of answers (RFC 9875): Cache-Groups and Cache-Group-Invalidation, lists of strings of structured fields
//! (RFC 9651). One that is no such list is passed over.

use crate::Field;
use crate::targeted::Reader;

/// Most groups of an answer, and longest one, in bytes: no less than RFC 9875 asks for.
pub const GROUPS_MAX: usize = 128;
pub const GROUP_BYTES_MAX: usize = 256;
/// Most bytes of a field that are read.
const BYTES_MAX: usize = 16 * 1024;

/// In lower case: which groups an answer is of, and which are not to be used any more.
pub const GROUPS: &str = "cache-groups";
pub const INVALIDATION: &str = "cache-group-invalidation";

/// There are more groups than are read, or longer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The groups that the field of that name says; none where it is malformed.
pub fn read<'a>(fields: impl Iterator<Item = Field<'a>>, field: &str) -> Result<Vec<Vec<u8>>, TooMany> {
    let its = fields.filter(|(name, _)| name.eq_ignore_ascii_case(field.as_bytes()));
    let mut text = Vec::new();
    for (_, line) in its {
        if text.len() + line.len() > BYTES_MAX {
            return Err(TooMany);
        }
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(line);
    }
    let groups = list(&text).unwrap_or_default();
    match groups.len() > GROUPS_MAX || groups.iter().any(|it| it.len() > GROUP_BYTES_MAX) {
        true => Err(TooMany),
        false => Ok(groups),
    }
}

fn list(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = Reader { text };
    let mut groups = Vec::new();
    rest.skip(b" ");
    while !rest.text.is_empty() {
        groups.push(string(&mut rest)?);
        rest.parameters()?;
        rest.skip(b" \t");
        if rest.text.is_empty() {
            break;
        }
        if !rest.take(b',') {
            return None;
        }
        rest.skip(b" \t");
        if rest.text.is_empty() {
            return None;
        }
    }
    Some(groups)
}

fn string(rest: &mut Reader<'_>) -> Option<Vec<u8>> {
    if !rest.take(b'"') {
        return None;
    }
    let mut out = Vec::new();
    loop {
        let (b, behind) = rest.text.split_first()?;
        rest.text = behind;
        match b {
            b'"' => return Some(out),
            b'\\' => {
                let (b @ (b'"' | b'\\'), behind) = rest.text.split_first()? else { return None };
                rest.text = behind;
                out.push(*b);
            }
            0x20..0x7f => out.push(*b),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(lines: &[&str]) -> Result<Vec<String>, TooMany> {
        let fields = lines.iter().map(|line| (&b"Cache-Groups"[..], line.as_bytes()));
        let read = read(fields.chain([(&b"Other"[..], &b"\"x\""[..])]), GROUPS)?;
        Ok(read.into_iter().map(|it| String::from_utf8(it).unwrap()).collect())
    }

    #[test]
    fn groups_are_strings_whatever_their_parameters() {
        for (lines, expected) in [
            (&["\"a\", \"b c\""][..], &["a", "b c"][..]),
            (&["\"a\";x=1;y , \"A\""], &["a", "A"]),
            (&["\"a\"", "\"b\""], &["a", "b"]),
            (&[" \"\\\"\\\\\" "], &["\"\\"]),
            (&["\"\""], &[""]),
            (&[], &[]),
            (&[""], &[]),
        ] {
            assert_eq!(groups(lines).unwrap(), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_strings_says_nothing() {
        for line in
            ["a", "\"a\", b", "\"a\",", "\"a", "\"a\" \"b\"", "(\"a\")", "\"\\x\"", "\"\u{1}\"", "\"ä\"", "1"]
        {
            assert_eq!(groups(&[line]).unwrap(), [""; 0], "{line}");
        }
        assert_eq!(groups(&["\"a\"", "b"]).unwrap(), [""; 0], "of all lines together");
    }

    #[test]
    fn no_more_are_read_than_so_many_of_so_many_bytes() {
        let many = |count: usize| vec!["\"a\""; count].join(",");
        assert_eq!(groups(&[&many(GROUPS_MAX)]).unwrap().len(), GROUPS_MAX);
        assert_eq!(groups(&[&many(GROUPS_MAX + 1)]), Err(TooMany));
        let long = |count: usize| format!("\"{}\"", "x".repeat(count));
        assert!(groups(&[&long(GROUP_BYTES_MAX)]).is_ok());
        assert_eq!(groups(&[&long(GROUP_BYTES_MAX + 1)]), Err(TooMany));
        assert_eq!(groups(&[&long(BYTES_MAX)]), Err(TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(groups) = read([(&b"cache-groups"[..], &value[..])].into_iter(), GROUPS) {
                prop_assert!(groups.iter().map(Vec::len).sum::<usize>() <= value.len());
            }
        }
    }
}
