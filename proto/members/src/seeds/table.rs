//! What is known of each seed: pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::names::{Answer, FAMILIES, Family};
use super::{ADDRESSES_MAX, Seed};

/// The seeds' addresses as answers come.
pub(super) struct Table {
    fixed: Vec<SocketAddr>,
    names: Vec<Known>,
}

/// One name.
struct Known {
    host: String,
    port: u16,
    /// The last addresses of each family; an answer that failed takes none away.
    found: [Vec<IpAddr>; 2],
    last: [Option<Result<(), String>>; 2],
}

/// A question: the name's number, and the family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub name: usize,
    pub host: String,
    pub family: Family,
}

impl Table {
    pub fn new(seeds: &[Seed]) -> Self {
        let mut table = Self { fixed: Vec::new(), names: Vec::new() };
        for seed in seeds {
            match seed {
                Seed::Address(address) => table.fixed.push(*address),
                Seed::Name { host, port } => table.names.push(Known {
                    host: host.clone(),
                    port: *port,
                    found: Default::default(),
                    last: Default::default(),
                }),
            }
        }
        table
    }

    /// All that there is to ask.
    pub fn questions(&self) -> Vec<Question> {
        let of = |(name, known): (usize, &Known)| {
            FAMILIES.map(|family| Question { name, host: known.host.clone(), family })
        };
        self.names.iter().enumerate().flat_map(of).collect()
    }

    pub fn note(&mut self, question: &Question, answer: Answer) {
        let Some(known) = self.names.get_mut(question.name) else { return };
        let at = question.family as usize;
        known.last[at] = Some(match answer {
            Answer::Addresses(addresses) => {
                known.found[at] = addresses;
                Ok(())
            }
            Answer::Failed(error) => Err(error),
        });
    }

    /// All addresses, sorted, each once, at most [`ADDRESSES_MAX`].
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let of = |known: &Known| -> Vec<SocketAddr> {
            known.found.iter().flatten().map(|ip| SocketAddr::new(*ip, known.port)).collect()
        };
        let all: BTreeSet<_> = self.fixed.iter().copied().chain(self.names.iter().flat_map(of)).collect();
        all.into_iter().take(ADDRESSES_MAX).collect()
    }

    /// Whether each name has addresses, or nothing more is to be heard of it for now.
    pub fn is_enough(&self) -> bool {
        self.names.iter().all(|known| known.has_addresses() || known.last.iter().all(Option::is_some))
    }

    /// A name of which all has been heard and which has no address, and why.
    pub fn missing(&self) -> Option<String> {
        let heard = |known: &&Known| known.last.iter().all(Option::is_some) && !known.has_addresses();
        let known = self.names.iter().find(heard)?;
        let failed = known.last.iter().flatten().find_map(|last| last.as_ref().err());
        Some(format!("{}: {}", known.host, failed.map_or("no such name", String::as_str)))
    }
}

impl Known {
    fn has_addresses(&self) -> bool {
        self.found.iter().any(|found| !found.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(&["127.0.0.9:2", "one:7400", "two:7401"].map(|text| Seed::parse(text).unwrap()))
    }

    fn question(name: usize, family: Family) -> Question {
        let host = ["one", "two"][name].to_owned();
        Question { name, host, family }
    }

    fn found(addresses: &[&str]) -> Answer {
        Answer::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn shown(table: &Table) -> Vec<String> {
        table.addresses().iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn each_answer_counts_as_it_comes() {
        let mut table = table();
        assert_eq!(shown(&table), ["127.0.0.9:2"]);
        assert!(!table.is_enough());
        assert_eq!(table.questions().len(), 4);
        table.note(&question(1, Family::V4), found(&["10.0.0.2", "10.0.0.3"]));
        assert_eq!(shown(&table), ["10.0.0.2:7401", "10.0.0.3:7401", "127.0.0.9:2"]);
        assert!(!table.is_enough(), "of the first nothing is known");
        table.note(&question(0, Family::V6), found(&["::2"]));
        assert!(table.is_enough(), "one family of each is enough to begin with");
        assert_eq!(shown(&table).len(), 4);
        assert_eq!(table.missing(), None);
    }

    #[test]
    fn a_failure_takes_no_address_away_and_an_answer_without_any_does() {
        let mut table = table();
        table.note(&question(0, Family::V4), found(&["10.0.0.1"]));
        table.note(&question(0, Family::V4), Answer::Failed("silent".into()));
        assert_eq!(shown(&table), ["10.0.0.1:7400", "127.0.0.9:2"]);
        table.note(&question(0, Family::V4), found(&[]));
        assert_eq!(shown(&table), ["127.0.0.9:2"]);
    }

    #[test]
    fn a_name_without_addresses_is_named_once_all_was_heard_of_it() {
        let mut table = table();
        table.note(&question(0, Family::V4), found(&[]));
        assert_eq!(table.missing(), None);
        table.note(&question(0, Family::V6), Answer::Failed("silent".into()));
        assert_eq!(table.missing(), Some("one: silent".into()));
        table.note(&question(0, Family::V6), found(&[]));
        assert_eq!(table.missing(), Some("one: no such name".into()));
    }
}
