//! Which of several answers is for a request (RFC 9111, 4.1).

use std::collections::BTreeSet;

use crate::Field;
use crate::list::trim;

/// Most names that an answer may vary by, and most bytes of what they stand for.
pub const NAMES_MAX: usize = 24;
pub const BYTES_MAX: usize = 4096;

/// A bit each.
const _: () = assert!(NAMES_MAX <= u32::BITS as usize);

/// The fields that an answer varies by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vary {
    /// In lower case, each once.
    names: Vec<Vec<u8>>,
    is_any: bool,
}

impl Vary {
    /// Reads one line more.
    pub fn read(&mut self, value: &[u8]) {
        for name in value.split(|b| *b == b',').map(trim).filter(|name| !name.is_empty()) {
            let name = name.to_ascii_lowercase();
            let is_token = name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(b));
            // By what cannot be a field's name, or by too much, nothing is told apart.
            self.is_any |= !is_token;
            if !self.names.contains(&name) {
                self.is_any |= self.names.len() == NAMES_MAX;
                self.names.push(name);
                self.names.truncate(NAMES_MAX);
            }
        }
    }

    /// No other request has the same answer.
    pub fn is_any(&self) -> bool {
        self.is_any
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What this request says for them; None where that is too much.
    pub fn select<'a>(self, fields: impl Iterator<Item = Field<'a>> + Clone) -> Option<Variant> {
        let said: Box<[Said]> = self
            .names
            .into_iter()
            .map(|name| {
                let value = combined(&name, fields.clone()).map(Vec::into_boxed_slice);
                Said { name: name.into(), value }
            })
            .collect();
        let bytes: usize = said.iter().map(Said::bytes).sum();
        (!self.is_any && bytes <= BYTES_MAX).then_some(Variant { said })
    }
}

/// What a request said in the fields that its answer varies by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variant {
    said: Box<[Said]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    name: Box<[u8]>,
    /// None: no such field.
    value: Option<Box<[u8]>>,
}

impl Said {
    fn bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, |it| it.len())
    }
}

impl Variant {
    /// Whether another request says the same.
    pub fn matches<'a>(&self, fields: impl Iterator<Item = Field<'a>> + Clone) -> bool {
        // Of each name whether it was there, and whether all of its lines were looked at.
        let (mut there, mut whole) = (0u32, 0u32);
        // One look at each field: hits ask this.
        for (name, value) in fields.clone() {
            let is_it = |said: &&Said| name.eq_ignore_ascii_case(&said.name);
            let found = self.said.iter().zip(0..).find(|(said, _)| is_it(said));
            let Some((said, at)) = found else { continue };
            let Some(wanted) = &said.value else { return false };
            let bit = 1 << at;
            // Most say it to the letter, in one line.
            if there & bit == 0 && *trim(value) == **wanted {
                there |= bit;
                continue;
            }
            if whole & bit == 0 && combined(&said.name, fields.clone()).as_deref() != Some(&**wanted) {
                return false;
            }
            (there, whole) = (there | bit, whole | bit);
        }
        self.said.iter().zip(0..).all(|(said, at)| said.value.is_none() || there & (1 << at) != 0)
    }

    /// Whether another is told apart by the same fields: a request is then for one of them at most.
    pub fn is_by_the_same(&self, other: &Self) -> bool {
        let names = |it: &Self| it.said.iter().map(|said| said.name.clone()).collect::<BTreeSet<_>>();
        names(self) == names(other)
    }

    /// Memory that it takes, more or less.
    pub fn bytes(&self) -> usize {
        self.said.iter().map(|said| said.bytes() + size_of::<Said>()).sum()
    }
}

/// All values of that name in one form: lines joined, without white space around commas that are in no quotes.
fn combined<'a>(name: &[u8], fields: impl Iterator<Item = Field<'a>>) -> Option<Vec<u8>> {
    // Of languages and codings, case says nothing (RFC 9110, 8.4.1 and 12.5.4).
    let folds = matches!(name, b"accept-language" | b"accept-encoding" | b"accept-charset");
    let mut out: Option<Vec<u8>> = None;
    for (_, value) in fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
        match &mut out {
            Some(out) => out.push(b','),
            none => *none = Some(Vec::with_capacity(value.len())),
        }
        let Some(out) = &mut out else { continue };
        let (mut quoted, mut escaped, from) = (false, false, out.len());
        for b in trim(value) {
            match b {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    while out.len() > from && matches!(out.last(), Some(b' ' | b'\t')) {
                        out.pop();
                    }
                }
                b' ' | b'\t' if !quoted && matches!(out.last(), Some(b',')) => continue,
                _ => {}
            }
            out.push(if folds { b.to_ascii_lowercase() } else { *b });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vary(lines: &[&str]) -> Vary {
        let mut vary = Vary::default();
        lines.iter().for_each(|line| vary.read(line.as_bytes()));
        vary
    }

    fn fields<'a>(of: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = Field<'a>> + Clone {
        of.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    #[test]
    fn a_request_that_says_the_same_has_the_same_answer() {
        let of = |it| vary(&["Foo, bar", "FOO"]).select(fields(it)).unwrap();
        let stored = of(&[("foo", "1, 2"), ("Other", "x")]);
        for same in [&[("Foo", "1,2")][..], &[("foo", " 1 ,\t2 ")], &[("foo", "1"), ("FOO", "2")]] {
            assert!(stored.matches(fields(same)), "{same:?}");
        }
        for other in [&[("foo", "1")][..], &[], &[("foo", "1, 2"), ("bar", "")], &[("foo", "2, 1")]] {
            assert!(!stored.matches(fields(other)), "{other:?}");
        }
        assert!(of(&[]).matches(fields(&[("other", "x")])));
        let quoted = of(&[("foo", "\"1, 2\"")]);
        assert!(
            !quoted.matches(fields(&[("foo", "\"1,2\"")])) && quoted.matches(fields(&[("foo", "\"1, 2\"")]))
        );
    }

    #[test]
    fn variants_by_the_same_fields_are_for_one_request_at_most() {
        let of = |names, value| vary(&[names]).select(fields(&[("a", value)])).unwrap();
        assert!(of("a, b", "1").is_by_the_same(&of("B,A", "2")));
        assert!(!of("a", "1").is_by_the_same(&of("a, b", "1")));
    }

    #[test]
    fn languages_are_told_apart_without_case() {
        let stored = vary(&["Accept-Language"]).select(fields(&[("accept-language", "en-GB, de")])).unwrap();
        assert!(stored.matches(fields(&[("Accept-Language", "EN-gb,DE")])));
    }

    #[test]
    fn what_no_other_request_can_have_is_known() {
        for line in ["*", ", *", "*, foo", "foo, *", "*,*", "foo bar", "f\u{1}o"] {
            assert!(vary(&[line]).is_any(), "{line}");
            assert_eq!(vary(&[line]).select(fields(&[])), None);
        }
        assert!(!vary(&["", " , ,foo"]).is_any());
        let many: Vec<String> = (0..=NAMES_MAX).map(|at| format!("x{at}")).collect();
        assert!(vary(&[&many.join(",")]).is_any());
        let long = "x".repeat(BYTES_MAX);
        assert_eq!(vary(&["foo"]).select(fields(&[("foo", &long)])), None);
    }

    proptest! {
        #[test]
        fn who_said_it_says_the_same_again(
            names in proptest::collection::vec("[a-z]{1,3}", 0..5),
            said in proptest::collection::vec(("[a-zA-Z]{1,3}", "[ a-z,\"\\\\\t]{0,9}"), 0..8),
        ) {
            let said: Vec<(&str, &str)> = said.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let variant = vary(&[&names.join(",")]).select(fields(&said)).unwrap();
            prop_assert!(variant.matches(fields(&said)));
        }

        #[test]
        fn one_look_at_each_field_finds_what_a_look_for_each_name_does(
            names in proptest::collection::vec("[a-b]", 0..4),
            one in proptest::collection::vec(("[a-cA-C]", "[ x,]{0,3}"), 0..5),
            other in proptest::collection::vec(("[a-cA-C]", "[ x,]{0,3}"), 0..5),
        ) {
            let one = || one.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let other = || other.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let variant = vary(&[&names.join(",")]).select(one()).unwrap();
            let same = |said: &Said| combined(&said.name, other()).as_deref() == said.value.as_deref();
            prop_assert_eq!(variant.matches(other()), variant.said.iter().all(same));
        }
    }
}
