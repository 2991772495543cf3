//! A document as it is kept and changed: the tree that was written, which holds as a whole, in one form. Keys go in,
//! and what is kept of each is its digest, of a password its hash: who reads a document can be nobody by it. Secrets of
//! issuers and keys of certificates are kept, and shown to nobody: sealed where there is a cluster key, by who keeps them. Who changes a document
//! has it opened; a secret that does not open is absent: it stays as it is kept, and nobody's token holds by it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Serialize;

use crate::auth::password::Salts;
pub use crate::document::KINDS;
pub use crate::document::secrets::Sealer;
use crate::document::secrets::{self, Absent, Sealings};
use crate::document::{Document, certificate, consumer, passwords, sources};
use crate::fault::{Fault, Refused};
use crate::table::Table;
use crate::value::{DOCUMENT_BYTES_MAX, Value};

/// A document that holds; and how secrets of it are sealed that were opened, or could not be.
#[derive(Clone, PartialEq)]
pub struct Kept(Value, Sealings);

/// As it is shown: what stands in it may be secret.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.shown().0).finish()
    }
}

/// How one document differs from another: objects as `KIND/NAME`, and what is the document's own by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

impl Difference {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Kept {
    /// One that says nothing.
    fn default() -> Self {
        Self::of(Value::Object(Default::default()))
    }
}

impl Kept {
    /// Reads one, JSON or TOML, and looks whether a balancer can obey it. No password is given as it is.
    pub fn read(text: &str) -> Result<Self, Refused> {
        Self::judged(Value::of_document(text)?)
    }

    /// The same of one that may name secrets which `before` has, by what was shown of them, and have passwords as they
    /// are. Those are hashed: that takes the processor for long.
    pub fn read_after(text: &str, before: &Self, salts: Salts<'_>) -> Result<Self, Refused> {
        let mut tree = Value::of_document(text)?;
        secrets::put_back(&mut tree, &before.0, &before.1);
        passwords::keep(&mut tree, Some(&before.0), salts)?;
        Self::judged_put(tree, &before.1)
    }

    /// The same where nobody knows which secrets there are: those that are only named are taken for granted.
    pub fn read_alone(text: &str, salts: Salts<'_>) -> Result<Self, Refused> {
        let mut tree = Value::of_document(text)?;
        passwords::keep(&mut tree, None, salts)?;
        no_absent(&tree)?;
        let mut judged = tree.clone();
        secrets::stand_in(&mut judged);
        Document::judge(&judged).and_then(Table::judge)?;
        consumer::keep(&mut tree);
        Ok(Self::of(tree))
    }

    /// One that was looked at before it was kept, maybe by another version: none where it is no tree at all.
    pub fn trusted(json: &str) -> Option<Self> {
        Value::of_document(json).ok().map(Self::of)
    }

    /// The same, with the secrets opened that are sealed: `open` is told for which place, and what.
    pub fn opened(json: &str, open: impl FnMut(&[u8], &[u8]) -> Option<Vec<u8>>) -> Option<Self> {
        let mut tree = Value::of_document(json).ok()?;
        let sealings = secrets::open(&mut tree, open);
        Some(Self(tree, sealings))
    }

    /// Without any that is sealed.
    fn of(tree: Value) -> Self {
        Self(tree, Sealings::default())
    }

    fn judged(tree: Value) -> Result<Self, Refused> {
        Self::judged_after(tree, &Sealings::default())
    }

    /// The same of one that somebody puts.
    fn judged_put(tree: Value, before: &Sealings) -> Result<Self, Refused> {
        no_absent(&tree)?;
        Self::judged_after(tree, before)
    }

    /// Secrets that could not be opened are taken for granted, where they stand as they did before.
    fn judged_after(mut tree: Value, before: &Sealings) -> Result<Self, Refused> {
        let absent = secrets::retained(&mut tree, before);
        if absent.absent() == 0 {
            Document::judge(&tree).and_then(Table::judge)?;
        } else {
            let mut judged = tree.clone();
            secrets::stand_in_for_absent(&mut judged, &absent, &Absent::Judged);
            Document::judge(&judged).and_then(Table::judge)?;
        }
        consumer::keep(&mut tree);
        Ok(Self(tree, absent))
    }

    /// The same, looked at once more by this version: one that is to be in force again.
    pub fn judged_again(self) -> Result<Self, Refused> {
        let Self(tree, before) = self;
        let Self(tree, _) = Self::judged_after(tree, &before)?;
        Ok(Self(tree, before))
    }

    /// The same with its secrets sealed. What one of `known` has in the same place is still shown as it was. None where
    /// something cannot be sealed.
    pub fn sealed(&self, known: &[&Self], sealer: &Sealer<'_>) -> Option<Self> {
        let mut tree = self.0.clone();
        let known: Vec<&Sealings> = known.iter().map(|it| &it.1).collect();
        secrets::seal(&mut tree, &known, sealer)?;
        Some(Self::of(tree))
    }

    /// What is sealed in it and could not be opened.
    pub fn absent_sealed(&self) -> impl Iterator<Item = Vec<u8>> {
        self.1.absent_bytes()
    }

    /// As balancers are told it: where a secret could not be opened there is what nobody knows, and no token holds by it.
    pub fn told(&self, in_place: &dyn Fn(&[u8]) -> Option<[u8; 32]>) -> Option<Self> {
        let mut tree = self.0.clone();
        secrets::stand_in_for_absent(&mut tree, &self.1, &Absent::Told(in_place)).then_some(Self::of(tree))
    }

    /// How many secrets are sealed and could not be opened.
    pub fn secrets_absent(&self) -> usize {
        self.1.absent()
    }

    /// How many secrets lie open here.
    pub fn secrets_open(&self) -> usize {
        secrets::count_open(&self.0)
    }

    /// As it is obeyed.
    pub fn table(&self) -> Result<Table, Refused> {
        Document::judge(&self.0).and_then(Table::judge)
    }

    /// JSON, in one form for all that say the same; none where that is larger than a document may be.
    pub fn json(&self) -> Option<String> {
        serde_json::to_string(&self.0).ok().filter(|json| json.len() <= DOCUMENT_BYTES_MAX)
    }

    /// What of the objects that are others now is maybe not meant: certificates that are not valid in that second.
    pub fn warnings(&self, since: &Difference, now_s: i64) -> Vec<Fault> {
        let names = since.added.iter().chain(&since.changed);
        let certificates = names.filter_map(|name| {
            let name = name.strip_prefix("certificates/")?;
            certificate::warning(&self.0, name, now_s)
        });
        certificates.collect()
    }

    /// Whether it has certificates, whose keys a version that knows none would show.
    pub fn has_certificates(&self) -> bool {
        matches!(&self.0, Value::Object(members) if members.contains_key("certificates"))
    }

    /// Whether a route says `sticky` or `mirror`, which versions before shifts do not read.
    pub fn has_rollout(&self) -> bool {
        let Value::Object(members) = &self.0 else { return false };
        let Some(Value::Object(routes)) = members.get("routes") else { return false };
        let says = |it: &Value| matches!(it, Value::Object(said) if said.contains_key("sticky") || said.contains_key("mirror"));
        routes.values().any(says)
    }

    pub fn has_secrets(&self) -> bool {
        secrets::has_some(&self.0)
    }

    /// The same without its secrets: what is shown to who reads it.
    pub fn shown(&self) -> Self {
        let mut tree = self.0.clone();
        secrets::hide(&mut tree, &self.1);
        Self::of(tree)
    }

    /// One object, as JSON.
    pub fn object(&self, kind: &str, name: &str) -> Option<String> {
        let Value::Object(members) = &self.0 else { return None };
        let Some(Value::Object(objects)) = members.get(kind) else { return None };
        serde_json::to_string(objects.get(name)?).ok()
    }

    /// The same document with one object as this text has it. It takes the place of no other source's, unless it `takes`
    /// that. Passwords that are given as they are are hashed.
    pub fn with(
        &self,
        kind: &str,
        name: &str,
        object: &str,
        takes: bool,
        salts: Salts<'_>,
    ) -> Result<Self, Refused> {
        let object = Value::of_document(object)?;
        if !takes && let Some(other) = sources::other(&self.0, kind, name, sources::of(&object)) {
            return Err(Refused::clash(sources::anothers(kind, name, other)));
        }
        let mut tree = self.0.clone();
        if let Value::Object(members) = &mut tree {
            let none = || Value::Object(BTreeMap::new());
            if let Value::Object(objects) = members.entry(kind.to_owned()).or_insert_with(none) {
                objects.insert(name.to_owned(), object);
            }
        }
        secrets::put_back(&mut tree, &self.0, &self.1);
        passwords::keep(&mut tree, Some(&self.0), salts)?;
        Self::judged_put(tree, &self.1)
    }

    /// The same document without one object, which is this source's; or whose it is, where that one `takes` it.
    pub fn without(&self, kind: &str, name: &str, source: &str, takes: bool) -> Result<Self, Refused> {
        if !takes && let Some(other) = sources::other(&self.0, kind, name, source) {
            return Err(Refused::clash(sources::not_its(kind, name, other)));
        }
        let mut tree = self.0.clone();
        if let Value::Object(members) = &mut tree
            && let Entry::Occupied(mut there) = members.entry(kind.to_owned())
            && let Value::Object(objects) = there.get_mut()
        {
            objects.remove(name);
            if objects.is_empty() {
                there.remove();
            }
        }
        Self::judged_after(tree, &self.1)
    }

    /// The same document with the objects of one source as this one has them, and no others of it. Of what other sources
    /// have by the same name it `takes` all or is refused for each. Passwords that are given as they are are hashed.
    pub fn with_part(
        &self,
        source: &str,
        part: &Self,
        takes: bool,
        salts: Salts<'_>,
    ) -> Result<Self, Refused> {
        let mut tree = sources::replaced(&self.0, source, &part.0, takes)?;
        secrets::put_back(&mut tree, &self.0, &self.1);
        passwords::keep(&mut tree, Some(&self.0), salts)?;
        Self::judged_put(tree, &self.1)
    }

    /// Reads what one source has: objects that need not be a document without those of others. Passwords are as they were
    /// given.
    pub fn read_part(text: &str, source: &str) -> Result<Self, Refused> {
        let mut tree = sources::part(Value::of_document(text)?, source)?;
        consumer::keep(&mut tree);
        Ok(Self::of(tree))
    }

    /// The same, where passwords that are given as they are are hashed.
    pub fn hashed(mut self, salts: Salts<'_>) -> Result<Self, Refused> {
        passwords::keep(&mut self.0, None, salts)?;
        Ok(self)
    }

    /// The objects of one source, if it has any.
    pub fn part(&self, source: &str) -> Option<Self> {
        sources::all_of(&self.0, source).map(Self::of)
    }

    /// What is another here than it was before.
    pub fn since(&self, before: &Self) -> Difference {
        let (now, before) = (self.parts(), before.parts());
        let mut difference = Difference::default();
        for (name, value) in &now {
            match before.get(name) {
                None => difference.added.push(name.clone()),
                Some(other) if other != value => difference.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        difference.removed = before.into_keys().filter(|name| !now.contains_key(name)).collect();
        difference
    }

    /// Each object and each of the document's own members.
    fn parts(&self) -> BTreeMap<String, &Value> {
        let mut parts = BTreeMap::new();
        let Value::Object(members) = &self.0 else { return parts };
        for (member, value) in members {
            match value {
                Value::Object(objects) if KINDS.contains(&member.as_str()) => {
                    parts.extend(objects.iter().map(|(name, value)| (format!("{member}/{name}"), value)));
                }
                value => drop(parts.insert(member.clone(), value)),
            }
        }
        parts
    }
}

/// Nobody puts what stands for a key that no node could open.
fn no_absent(tree: &Value) -> Result<(), Refused> {
    match secrets::says_absent(tree) {
        true => Err(Refused::whole("a certificate has no key: put the key itself, or what is shown of it")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: &str = "services.reader.urls = [\"http://a:1\"]\nroutes.read = {match.path = \"/read\", service = \"reader\"}\n";

    fn kept(text: &str) -> Kept {
        Kept::read(text).unwrap()
    }

    #[test]
    fn documents_that_say_the_same_have_one_form_that_says_it_as_well() {
        let toml = kept(READER);
        let json = toml.json().unwrap();
        let expected = r#"{"routes":{"read":{"match":{"path":"/read"},"service":"reader"}},"services":{"reader":{"urls":["http://a:1"]}}}"#;
        assert_eq!(json, expected);
        assert_eq!(kept(&json), toml);
        let spaced = json.replace(':', " : ").replace("http : //a : 1", "http://a:1");
        assert_eq!(kept(&spaced).json().unwrap(), expected);
    }

    #[test]
    fn one_object_is_read_changed_and_taken_out_and_the_document_holds_or_nothing_is_done() {
        let before = kept(READER);
        assert_eq!(before.object("services", "reader").unwrap(), r#"{"urls":["http://a:1"]}"#);
        assert_eq!((before.object("services", "x"), before.object("x", "reader")), (None, None));
        let after = before.with("services", "writer", "urls = [\"http://b:1\"]", false, &|| None).unwrap();
        let after = after
            .with("routes", "read", r#"{"match":{"path":"/r"},"service":"writer"}"#, false, &|| None)
            .unwrap();
        let after = after.without("services", "reader", sources::API, false).unwrap();
        let difference = after.since(&before);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(difference.added, names(&["services/writer"]));
        assert_eq!(difference.changed, names(&["routes/read"]));
        assert_eq!(difference.removed, names(&["services/reader"]));
        assert!(after.since(&after).is_none());
        let unmatched = kept(&format!("unmatched = \"not-found\"\n{READER}")).since(&before);
        assert_eq!(unmatched.added, names(&["unmatched"]));

        let dangling = after.without("services", "writer", sources::API, false).unwrap_err();
        assert!(dangling.is_clash, "{dangling:?}");
        assert_eq!(dangling.faults[0].pointer, "/routes/read");
        let bad = after.with("services", "writer", "urls = 7", false, &|| None).unwrap_err();
        assert!(!bad.is_clash && bad.faults[0].pointer == "/services/writer/urls", "{bad:?}");
    }

    #[test]
    fn keys_go_in_and_their_digests_come_out_and_what_came_out_says_the_same() {
        let given = "consumers.a = {groups = [\"g\"], keys = [\"hidden-key-of-a-1\", {key = \"hidden-key-of-a-2\", label = \"ci\"}]}\n";
        let document = kept(given);
        let json = document.json().unwrap();
        assert!(!json.contains("hidden"), "{json}");
        // As sha256sum has them.
        let expected = concat!(
            r#"{"consumers":{"a":{"groups":["g"],"keys":["#,
            r#"{"key":"sha256:12e9dda1067cdbe7a52dd62672589d85696a800170ca1297dd6fcbe10f4d0909","label":"12e9dda1067c"},"#,
            r#"{"key":"sha256:5fe0e0c185398d91bcd72468d724245a956ed7dd13aa3634fa45453e13ea0a65","label":"ci"}]}}}"#
        );
        assert_eq!(json, expected);
        assert_eq!(kept(&json), document);
        assert!(kept(given).since(&document).is_none(), "the same keys given again are no change");
        // One object by itself, too.
        let object = r#"{"keys":["hidden-key-of-b-1"]}"#;
        let with = document.with("consumers", "b", object, false, &|| None).unwrap();
        assert!(!with.object("consumers", "b").unwrap().contains("hidden"));
        assert_eq!(with.since(&document).added, ["consumers/b"]);
        let shared = r#"{"keys":["hidden-key-of-a-2"]}"#;
        let refused = document.with("consumers", "b", shared, false, &|| None).unwrap_err();
        assert!(refused.is_clash && refused.faults[0].pointer == "/consumers/b/keys/0", "{refused:?}");
    }

    #[test]
    fn passwords_go_in_and_their_hashes_come_out_and_the_same_given_again_are_no_change() {
        let salts = |first: u8| move || Some([first; 16]);
        let given = "consumers.a.passwords = [\"hidden-password-1\", {user = \"b\", password = \"hidden-password-2\"}]\n";
        let none = Kept::default();
        let document = Kept::read_after(given, &none, &salts(1)).unwrap();
        let json = document.json().unwrap();
        assert!(!json.contains("hidden") && json.contains(r#""user":"b""#), "{json}");
        assert_eq!(json.matches(r#"{"password":"$argon2id$v=19$m=19456,t=2,p=1$AQEB"#).count(), 2, "{json}");
        // What came out says the same, and so does what went in where it is known.
        assert_eq!(kept(&json), document);
        assert!(Kept::read_after(given, &document, &|| None).unwrap().since(&document).is_none());
        let object = r#"{"passwords":["hidden-password-1",{"user":"b","password":"hidden-password-2"}]}"#;
        assert!(
            document.with("consumers", "a", object, false, &salts(2)).unwrap().since(&document).is_none()
        );
        let other = object.replace("password-2", "password-3");
        let changed = document.with("consumers", "a", &other, false, &salts(2)).unwrap();
        assert_eq!(changed.since(&document).changed, ["consumers/a"]);
        // Where nobody hashes it, none is taken; nor many at once, nor without chance.
        let alone = Kept::read(given).unwrap_err();
        assert!(
            alone
                .faults
                .iter()
                .all(|it| it.fault.contains("config password") && !it.fault.contains("hidden"))
        );
        let many = |count: usize| {
            let consumer = |at| format!("consumers.c{at}.passwords = [\"hidden-password\"]\n");
            (0..count).map(consumer).collect::<String>()
        };
        assert!(
            Kept::read_after(&many(65), &none, &salts(1)).unwrap_err().faults[0].fault.contains("at most 64")
        );
        assert!(Kept::read_after(given, &none, &|| None).unwrap_err().faults[0].fault.contains("no chance"));
    }

    #[test]
    fn two_routes_for_the_same_requests_clash_and_what_is_no_document_does_not() {
        let twice = format!("{READER}routes.again = {{match.path = \"/read\", service = \"reader\"}}\n");
        assert!(Kept::read(&twice).unwrap_err().is_clash);
        assert!(
            !Kept::read(&format!("{twice}x = 1")).unwrap_err().is_clash,
            "one that is no clash is the worse"
        );
        assert!(!Kept::read("{").unwrap_err().is_clash);
        assert!(!Kept::read(&" ".repeat(DOCUMENT_BYTES_MAX + 1)).unwrap_err().is_clash);
    }
}
