//! Which certificate is shown to whom, by the name that a client asks for as it connects (SNI, RFC 6066, section 3).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::document::Certificate;

/// Those of a document, by name, and who is shown which.
#[derive(Debug, Default)]
pub struct Certificates {
    all: Vec<(String, Certificate)>,
    /// By host; one that begins with `*.` as it is written.
    by_host: HashMap<String, usize>,
}

impl Certificates {
    pub fn new(certificates: BTreeMap<String, Certificate>) -> Self {
        let all: Vec<_> = certificates.into_iter().collect();
        let hosts = |(at, (_, it)): (usize, &(String, Certificate))| {
            it.hosts.iter().map(|host| (host.clone(), at)).collect::<Vec<_>>()
        };
        let by_host = all.iter().enumerate().flat_map(hosts).collect();
        Self { all, by_host }
    }

    pub fn all(&self) -> &[(String, Certificate)] {
        &self.all
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The place of the one for that host: one that names it before one that has a `*` in place of its first label.
    pub fn find(&self, host: &str) -> Option<usize> {
        let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        // A star stands for a label, and for no star.
        let (label, parent) = host.split_once('.').unwrap_or((&*host, ""));
        if matches!(label, "" | "*") {
            return None;
        }
        let exact = self.by_host.get(&*host);
        exact.or_else(|| self.by_host.get(&format!("*.{parent}"))).copied()
    }

    /// Its name.
    pub fn name_for(&self, host: &str) -> Option<&str> {
        self.find(host).map(|at| self.all[at].0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Document, Table};

    fn table(certificates: &[(&str, &[&str])]) -> Table {
        let object = |(name, hosts): &(&str, &[&str])| {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            let made = rcgen::generate_simple_self_signed(hosts).unwrap();
            let object = json!({ "certificate": made.cert.pem(), "key": made.signing_key.serialize_pem() });
            ((*name).to_owned(), object)
        };
        let all: serde_json::Map<_, _> = certificates.iter().map(object).collect();
        Table::compile(Document::read(&json!({ "certificates": all }).to_string()).unwrap()).unwrap()
    }

    #[test]
    fn a_host_has_the_one_that_names_it_before_one_with_a_star_in_place_of_its_first_label() {
        let table = table(&[("exact", &["a.x.test", "x.test"]), ("star", &["*.x.test", "*.y.test"])]);
        for (host, expected) in [
            ("a.x.test", Some("exact")),
            ("A.X.test", Some("exact")),
            ("x.test", Some("exact")),
            ("b.x.test", Some("star")),
            ("B.y.TEST", Some("star")),
            ("a.b.x.test", None),
            ("y.test", None),
            ("*.x.test", None),
            (".x.test", None),
            ("test", None),
            ("", None),
        ] {
            assert_eq!(table.certificates.name_for(host), expected, "{host}");
        }
    }

    #[test]
    fn which_is_shown_is_explained_of_what_comes_by_tls() {
        let table = table(&[("star", &["*.x.test"])]);
        for (url, expected) in [
            ("https://a.X.test:8443/p?q", Some("star")),
            ("https://a.x.test", Some("star")),
            ("http://a.x.test/", None),
            ("https://x.test/", None),
            ("https://192.0.2.1/", None),
        ] {
            let question: crate::explain::Question = serde_json::from_value(json!({ "url": url })).unwrap();
            let explained = question.explain(&table, 0);
            assert_eq!(explained.certificate.as_deref(), expected, "{url}");
            let told = explained.to_string();
            assert_eq!(told.starts_with("certificate: star\n"), expected.is_some(), "{told}");
        }
    }
}
