//! A tree read member by member, with the pointer of each: nothing is passed over, and a fault ends nothing.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::fault::{Faults, below};
use crate::value::Value;

/// A place in a document.
#[derive(Debug, Clone)]
pub struct Spot<'a> {
    pub pointer: String,
    value: &'a Value,
}

impl<'a> Spot<'a> {
    /// The whole document.
    pub fn of(value: &'a Value) -> Self {
        Self { pointer: String::new(), value }
    }

    fn expected(&self, what: &str, faults: &mut Faults) {
        faults.add(&self.pointer, format!("this is {}; expected is {what}", self.value.kind()));
    }

    /// The members of an object whose names are known.
    pub fn fields(&self, faults: &mut Faults) -> Option<Fields<'a>> {
        let Value::Object(members) = self.value else {
            self.expected("an object", faults);
            return None;
        };
        let left = members.iter().map(|(name, value)| (name.as_str(), value)).collect();
        Some(Fields { pointer: self.pointer.clone(), left })
    }

    /// The members of an object whose names are the document's own.
    pub fn members(&self, faults: &mut Faults) -> Vec<(&'a str, Spot<'a>)> {
        let Value::Object(members) = self.value else {
            self.expected("an object", faults);
            return Vec::new();
        };
        let spot = |name: &str, value| Spot { pointer: below(&self.pointer, name), value };
        members.iter().map(|(name, value)| (name.as_str(), spot(name, value))).collect()
    }

    /// The items of a list of at most so many.
    pub fn items(&self, most: usize, faults: &mut Faults) -> Vec<Spot<'a>> {
        let Value::List(items) = self.value else {
            self.expected("a list", faults);
            return Vec::new();
        };
        if items.len() > most {
            faults.add(&self.pointer, format!("{} items are too many: at most {most}", items.len()));
            return Vec::new();
        }
        let spot = |(at, value)| Spot { pointer: format!("{}/{at}", self.pointer), value };
        items.iter().enumerate().map(spot).collect()
    }

    /// Whether it is this text.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.value, Value::Text(it) if it == text)
    }

    pub fn is_text(&self) -> bool {
        matches!(self.value, Value::Text(_))
    }

    /// The same of a list that has one at least: an empty one might mean all or none.
    pub fn some_items(&self, most: usize, faults: &mut Faults) -> Vec<Spot<'a>> {
        if self.is_list_of_none() {
            faults.add(&self.pointer, "an empty list may mean all or none: leave it out for all");
        }
        self.items(most, faults)
    }

    pub fn is_list(&self) -> bool {
        matches!(self.value, Value::List(_))
    }

    pub fn is_list_of_none(&self) -> bool {
        matches!(self.value, Value::List(items) if items.is_empty())
    }

    /// An object that says nothing of requests: what whoever wrote the document wants to find in it again. Of at most
    /// so many bytes as JSON.
    pub fn note(&self, bytes_max: usize, faults: &mut Faults) {
        if !matches!(self.value, Value::Object(_)) {
            self.expected("an object", faults);
        } else if serde_json::to_string(self.value).map_or(true, |it| it.len() > bytes_max) {
            faults.add(&self.pointer, format!("a note has at most {bytes_max} bytes"));
        }
    }

    pub fn is_switch(&self) -> bool {
        matches!(self.value, Value::Switch(_))
    }

    /// Whether it is `false`.
    pub fn is_off(&self) -> bool {
        matches!(self.value, Value::Switch(false))
    }

    pub fn text(&self, faults: &mut Faults) -> Option<&'a str> {
        let Value::Text(text) = self.value else {
            self.expected("a text", faults);
            return None;
        };
        Some(text)
    }

    /// A text that `read` makes something of.
    pub fn read<T>(&self, read: impl Fn(&str) -> Result<T, String>, faults: &mut Faults) -> Option<T> {
        read(self.text(faults)?).map_err(|fault| faults.add(&self.pointer, fault)).ok()
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let text = self.text(faults)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, it)| *it);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            faults.add(&self.pointer, format!("{text:?} is not one of: {}", words.join(", ")));
        }
        found
    }

    pub fn switch(&self, faults: &mut Faults) -> Option<bool> {
        let Value::Switch(it) = self.value else {
            self.expected("true or false", faults);
            return None;
        };
        Some(*it)
    }

    pub fn whole(&self, range: RangeInclusive<u32>, faults: &mut Faults) -> Option<u32> {
        let whole = match self.value {
            Value::Whole(it) => u32::try_from(*it).ok(),
            Value::Number(_) => None,
            _ => {
                self.expected("a number", faults);
                return None;
            }
        };
        self.within(whole, range, faults)
    }

    pub fn number(&self, range: RangeInclusive<f64>, faults: &mut Faults) -> Option<f64> {
        let number = match self.value {
            Value::Whole(it) => *it as f64,
            Value::Number(it) => *it,
            _ => {
                self.expected("a number", faults);
                return None;
            }
        };
        self.within(Some(number), range, faults)
    }

    fn within<T>(&self, it: Option<T>, range: RangeInclusive<T>, faults: &mut Faults) -> Option<T>
    where
        T: PartialOrd + Display,
    {
        let fits = it.filter(|it| range.contains(it));
        if fits.is_none() {
            let (least, most) = range.into_inner();
            faults.add(&self.pointer, format!("expected is a number from {least} to {most}"));
        }
        fits
    }
}

/// Members of an object that were not looked at yet.
#[derive(Debug)]
pub struct Fields<'a> {
    pub pointer: String,
    left: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Fields<'a> {
    pub fn take(&mut self, name: &str) -> Option<Spot<'a>> {
        let value = self.left.remove(name)?;
        Some(Spot { pointer: below(&self.pointer, name), value })
    }

    /// What was not asked for is known to nobody: to pass over it would be to obey another document than the one
    /// that was meant.
    pub fn end(self, faults: &mut Faults) {
        for name in self.left.keys() {
            faults.add(&below(&self.pointer, name), "no such field is known here");
        }
    }
}
