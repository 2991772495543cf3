//! Which pages of other origins may read what a route answers: CORS, as the Fetch standard has it. Pure.

use crate::fields::Edits;

/// What a route says of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// These alone; none: any, and then never with credentials.
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    /// Fields that a request may have beside those that any page may send.
    pub headers: Vec<String>,
    /// Fields that a page may read beside those that any may.
    pub expose: Vec<String>,
    pub credentials: bool,
    pub max_age_s: u32,
}

/// What a service may not say beside what its route says.
const OURS: [&str; 3] =
    ["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"];

/// Whether a field, whose name is in lower case, says what a page of another origin may read.
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name)
}

impl Cors {
    /// The fields of the answer to a page that asks beforehand; of one that may not ask there are none that let it.
    pub fn preflight(&self, origin: &str) -> Vec<(&'static str, String)> {
        let mut fields = self.allowed(origin);
        if !fields.is_empty() {
            fields.push(("access-control-allow-methods", self.methods.join(", ")));
            if !self.headers.is_empty() {
                fields.push(("access-control-allow-headers", self.headers.join(", ")));
            }
            fields.push(("access-control-max-age", self.max_age_s.to_string()));
        }
        fields.extend(self.vary());
        fields
    }

    /// How an answer is edited, beside what its route says anyway; `origin` is who asks, where a page does.
    pub fn edits(&self, origin: Option<&str>, others: &Edits) -> Edits {
        let mut edits = others.clone();
        edits.remove.extend(OURS.map(str::to_owned));
        let fields = self.fields(origin).into_iter();
        edits.add.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        edits
    }

    /// What an answer says of who may read it; `origin` is who asks, where a page does.
    pub fn fields(&self, origin: Option<&str>) -> Vec<(&'static str, String)> {
        let mut fields = origin.map(|it| self.allowed(it)).unwrap_or_default();
        if !fields.is_empty() && !self.expose.is_empty() {
            fields.push(("access-control-expose-headers", self.expose.join(", ")));
        }
        fields.extend(self.vary());
        fields
    }

    fn allowed(&self, origin: &str) -> Vec<(&'static str, String)> {
        let name = "access-control-allow-origin";
        if self.origins.is_empty() {
            return vec![(name, "*".to_owned())];
        }
        if !self.origins.iter().any(|it| it == origin) {
            return Vec::new();
        }
        let mut fields = vec![(name, origin.to_owned())];
        if self.credentials {
            fields.push(("access-control-allow-credentials", "true".to_owned()));
        }
        fields
    }

    /// Caches tell answers to several origins apart.
    fn vary(&self) -> Option<(&'static str, String)> {
        (!self.origins.is_empty()).then(|| ("vary", "origin".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        let own = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
        Cors {
            origins: own(origins),
            methods: own(&["GET", "PUT"]),
            headers: own(&["x-a"]),
            expose: own(&["x-b"]),
            credentials,
            max_age_s: 600,
        }
    }

    #[test]
    fn an_origin_that_is_named_is_told_itself_and_another_nothing() {
        let some = cors(&["https://a.test"], true);
        assert_eq!(
            some.preflight("https://a.test"),
            [
                ("access-control-allow-origin", "https://a.test".to_owned()),
                ("access-control-allow-credentials", "true".to_owned()),
                ("access-control-allow-methods", "GET, PUT".to_owned()),
                ("access-control-allow-headers", "x-a".to_owned()),
                ("access-control-max-age", "600".to_owned()),
                ("vary", "origin".to_owned()),
            ]
        );
        for other in ["https://a.test.evil", "https://A.test", "http://a.test", "null", ""] {
            assert_eq!(some.preflight(other), [("vary", "origin".to_owned())], "{other}");
        }
    }

    #[test]
    fn any_origin_is_never_told_with_credentials() {
        let any = cors(&[], false).preflight("null");
        assert_eq!(any[0], ("access-control-allow-origin", "*".to_owned()));
        assert!(!any.iter().any(|(name, _)| name.ends_with("credentials") || *name == "vary"));
    }

    #[test]
    fn what_a_service_says_of_origins_falls() {
        let some = cors(&["https://a.test"], false);
        let edits = some.edits(Some("https://a.test"), &Edits::default());
        assert!(OURS.iter().all(|it| edits.drops(it.as_bytes())));
        let added: Vec<&str> = edits.added().map(|(name, _)| name.as_str()).collect();
        assert_eq!(added, ["access-control-allow-origin", "access-control-expose-headers", "vary"]);
        for strange in [None, Some("https://b.test")] {
            let edits = some.edits(strange, &Edits::default());
            assert_eq!(edits.added().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["vary"]);
        }
    }
}
