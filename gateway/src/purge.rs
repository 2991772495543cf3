//! What balancers are not to answer with any more: as an operator says it, as it lies in the log, and as nodes tell it.
//!
//! ```text
//! {"url":"https://a.test/x?y"}     what is stored of this URL, of either scheme and any port
//! {"prefix":"https://a.test/x/"}   of all whose path begins so; "/x/": on whatever host
//! {"route":"shop"}                 by this route
//! {"service":"web"}                of this service
//! {"group":"posts"}                of this group of whatever origin (RFC 9875)
//! {"all":true}                     everything
//! {"message":7} {"messages":7}     of nodes alone: the message of this number; all messages up to it
//! ```
//!
//! A balancer takes what it cannot read for everything: a later version may say more, and to forget too much costs time
//! alone.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fault::{Fault, Refused};
use crate::names::is_name;
use crate::{host, path};

/// By which a node's answer says which message it is, in lower case.
pub const SEQ: &str = "skep-seq";
/// Most bytes of a URL, a prefix or a group.
pub const SUBJECT_BYTES_MAX: usize = 3072;
/// Longest group that is purged, in bytes.
pub const GROUP_BYTES_MAX: usize = 256;
/// Most purges in one line of a node's: all that operators said and nodes keep, and all messages that may be taken out one by
/// one above the floor.
pub const LIST_MAX: usize = 20_000;

/// What of stored answers is not to be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    All,
    Url(Url),
    /// On every host, where none is named.
    Prefix {
        host: Option<String>,
        path: String,
    },
    Route(String),
    Service(String),
    Group(String),
    Message(u64),
    Messages(u64),
}

/// A URL as answers are found by it: whatever its scheme and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    /// In its one form, and as it came, where that is another: a route may send it so.
    pub paths: Vec<String>,
    /// With its `?`, or nothing.
    pub query: String,
}

/// As it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
}

impl Purge {
    /// What an operator says, or what is wrong with it.
    pub fn read(text: &str) -> Result<Self, Refused> {
        let said: Said = serde_json::from_str(text).map_err(|error| {
            // A value is shown to nobody: who sent it knows it.
            let place = format!("line {} column {}", error.line(), error.column());
            Refused::whole(format!(
                "expected an object with one of url, prefix, route, service, group, or all: {place}"
            ))
        })?;
        if said.message.or(said.messages).is_some() {
            return Err(Refused::whole("messages are purged by taking them out (DELETE /messages/{digest})"));
        }
        Self::of(said).map_err(|fault| Refused { faults: vec![fault], is_clash: false })
    }

    /// What a node tells. One that cannot be read says everything.
    pub fn told(text: &str) -> Self {
        serde_json::from_str(text).ok().and_then(|said| Self::of(said).ok()).unwrap_or(Self::All)
    }

    fn of(said: Said) -> Result<Self, Fault> {
        let fault = |pointer: &str, fault: String| Err(Fault { pointer: pointer.into(), fault });
        let Said { url, prefix, route, service, group, all, message, messages } = said;
        let texts = [&url, &prefix, &route, &service, &group].into_iter().flatten().count();
        let rest = [all.is_some(), message.is_some(), messages.is_some()];
        if texts + rest.iter().filter(|it| **it).count() != 1 {
            return fault("", "expected one of url, prefix, route, service, group, or all".into());
        }
        let named = |pointer: &str, name: String| match is_name(&name) {
            true => Ok(name),
            false => Err(Fault { pointer: pointer.into(), fault: "this is no name of an object".into() }),
        };
        if let Some(url) = url {
            return Url::read(&url).map(Self::Url).or_else(|why| fault("/url", why));
        }
        if let Some(text) = prefix {
            return prefix_of(&text).or_else(|why| fault("/prefix", why));
        }
        if let Some(name) = route {
            return named("/route", name).map(Self::Route);
        }
        if let Some(name) = service {
            return named("/service", name).map(Self::Service);
        }
        if let Some(group) = group {
            // A string of structured fields (RFC 9651, 3.3.3).
            let is_string = group.bytes().all(|b| (0x20..0x7f).contains(&b));
            return match is_string && (1..=GROUP_BYTES_MAX).contains(&group.len()) {
                true => Ok(Self::Group(group)),
                false => {
                    fault("/group", format!("a group is a text of 1 to {GROUP_BYTES_MAX} signs of ASCII"))
                }
            };
        }
        match (all, message, messages) {
            (Some(true), ..) => Ok(Self::All),
            (_, Some(seq), _) => Ok(Self::Message(seq)),
            (.., Some(upto)) => Ok(Self::Messages(upto)),
            _ => fault("/all", "all is true, or it is left out".into()),
        }
    }

    /// As it is put into the log, and told.
    pub fn json(&self) -> String {
        let mut said = Said::default();
        match self {
            Self::All => said.all = Some(true),
            Self::Url(url) => said.url = Some(url.text()),
            Self::Prefix { host, path } => {
                let host = host.as_ref().map(|host| format!("http://{host}")).unwrap_or_default();
                said.prefix = Some(format!("{host}{path}"));
            }
            Self::Route(name) => said.route = Some(name.clone()),
            Self::Service(name) => said.service = Some(name.clone()),
            Self::Group(name) => said.group = Some(name.clone()),
            Self::Message(seq) => said.message = Some(*seq),
            Self::Messages(upto) => said.messages = Some(*upto),
        }
        // Texts and numbers always have their form in JSON.
        serde_json::to_string(&said).unwrap_or_default()
    }
}

impl Url {
    fn read(text: &str) -> Result<Self, String> {
        let (host, rest) = parts(text)?.ok_or("this is no URL: expected http://HOST/PATH, or https")?;
        let (came, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let came = if came.is_empty() { "/" } else { came };
        let read = path::Read::raw(came.as_bytes()).map_err(|why| format!("no path: {}", why.0))?;
        let mut paths: Vec<String> = read.form().iter().map(|it| (*it).to_owned()).collect();
        if paths.iter().all(|it| it != came) {
            paths.push(came.to_owned());
        }
        Ok(Self { host, paths, query: query.to_owned() })
    }

    fn text(&self) -> String {
        let came = self.paths.last().map_or("/", String::as_str);
        format!("http://{}{came}{}", self.host, self.query)
    }
}

fn prefix_of(text: &str) -> Result<Purge, String> {
    let (host, rest) = match parts(text)? {
        Some((host, rest)) => (Some(host), rest),
        None if text.starts_with('/') => (None, text),
        None => return Err("this is no prefix: expected http://HOST/PATH, https, or /PATH".into()),
    };
    if rest.contains('?') {
        return Err("a prefix is of paths: it has no query".into());
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    let path = path::canonical(rest.as_bytes()).map_err(|why| format!("no path: {}", why.0))?;
    Ok(Purge::Prefix { host, path: path.into_owned() })
}

/// The host of a URL, in the form in which it is matched, and what follows; None where it has no scheme.
fn parts(text: &str) -> Result<Option<(String, &str)>, String> {
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(format!("this has more than {SUBJECT_BYTES_MAX} bytes"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
        return Err("this has a sign that no URL is asked for by".into());
    }
    let scheme = text.split_once("://").filter(|(it, _)| ["http", "https"].contains(it));
    let Some((_, rest)) = scheme else { return Ok(None) };
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = host::canonical(authority.as_bytes());
    let is_host = host::is_name(&host) || host.starts_with('[') && host.ends_with(']');
    match is_host && !authority.contains('@') {
        true => Ok(Some((host.into_owned(), rest))),
        false => Err("this names no host".into()),
    }
}

/// One of a list, as nodes tell it.
#[derive(Deserialize)]
struct Listed<'a> {
    number: u64,
    #[serde(borrow)]
    purge: &'a RawValue,
}

/// Purges and their numbers as a list in JSON, of what each says in JSON.
pub fn list<'a>(purges: impl Iterator<Item = (u64, &'a str)>) -> String {
    let mut out = String::from("[");
    for (number, purge) in purges {
        let comma = if out.len() > 1 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(out, "{comma}{{\"number\":{number},\"purge\":{purge}}}");
    }
    out + "]"
}

/// The list that this is; None where it is none.
pub fn listed(text: &str) -> Option<Vec<(u64, Purge)>> {
    let all: Vec<Listed<'_>> = serde_json::from_str(text).ok()?;
    let read = |it: &Listed<'_>| (it.number, Purge::told(it.purge.get()));
    (all.len() <= LIST_MAX).then(|| all.iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, paths: &[&str], query: &str) -> Purge {
        let paths = paths.iter().map(|it| (*it).to_owned()).collect();
        Purge::Url(Url { host: host.into(), paths, query: query.into() })
    }

    fn prefix(host: Option<&str>, path: &str) -> Purge {
        Purge::Prefix { host: host.map(str::to_owned), path: path.into() }
    }

    #[test]
    fn what_is_said_is_read_and_written_so_that_it_says_the_same() {
        for (text, purge) in [
            (r#"{"url":"https://A.test:8443/x?y=1"}"#, url("a.test", &["/x"], "?y=1")),
            (r#"{"url":"http://a.test"}"#, url("a.test", &["/"], "")),
            (r#"{"url":"http://a.test?y"}"#, url("a.test", &["/"], "?y")),
            (r#"{"url":"http://a.test/%61%2fb"}"#, url("a.test", &["/%61%2fb"], "")),
            (r#"{"url":"http://a.test/%61"}"#, url("a.test", &["/a", "/%61"], "")),
            (r#"{"url":"http://[::1]:80/"}"#, url("[::1]", &["/"], "")),
            (r#"{"prefix":"https://a.test/img/2024-"}"#, prefix(Some("a.test"), "/img/2024-")),
            (r#"{"prefix":"/img/"}"#, prefix(None, "/img/")),
            (r#"{"route":"shop"}"#, Purge::Route("shop".into())),
            (r#"{"service":"skep"}"#, Purge::Service("skep".into())),
            (r#"{"group":"posts, all"}"#, Purge::Group("posts, all".into())),
            (r#" {"all" : true} "#, Purge::All),
        ] {
            assert_eq!(Purge::read(text), Ok(purge.clone()), "{text}");
            assert_eq!(Purge::told(&purge.json()), purge, "{text}");
        }
        for purge in [Purge::Message(7), Purge::Messages(u64::MAX)] {
            assert_eq!(Purge::told(&purge.json()), purge);
            assert!(Purge::read(&purge.json()).is_err(), "that is the nodes' alone");
        }
    }

    #[test]
    fn what_says_nothing_or_too_much_is_refused_where_it_is_wrong() {
        let long = format!(r#"{{"url":"http://a.test/{}"}}"#, "x".repeat(SUBJECT_BYTES_MAX));
        let group = format!(r#"{{"group":"{}"}}"#, "x".repeat(GROUP_BYTES_MAX + 1));
        for (text, pointer) in [
            ("", ""),
            ("[]", ""),
            ("{}", ""),
            (r#"{"url":"http://a.test/","all":true}"#, ""),
            (r#"{"uri":"http://a.test/"}"#, ""),
            (r#"{"url":7}"#, ""),
            (r#"{"url":"a.test/x"}"#, "/url"),
            (r#"{"url":"ftp://a.test/x"}"#, "/url"),
            (r#"{"url":"http:///x"}"#, "/url"),
            (r#"{"url":"http://u@a.test/x"}"#, "/url"),
            (r#"{"url":"http://a.test/../x"}"#, "/url"),
            (r#"{"url":"http://a.test/x#y"}"#, "/url"),
            (r#"{"url":"http://a.test/ x"}"#, "/url"),
            (long.as_str(), "/url"),
            (r#"{"prefix":"x"}"#, "/prefix"),
            (r#"{"prefix":"/x?y"}"#, "/prefix"),
            (r#"{"prefix":"/x//y"}"#, "/prefix"),
            (r#"{"route":""}"#, "/route"),
            (r#"{"service":"a b"}"#, "/service"),
            (r#"{"group":""}"#, "/group"),
            (r#"{"group":"ä"}"#, "/group"),
            (group.as_str(), "/group"),
            (r#"{"all":false}"#, "/all"),
        ] {
            let refused = Purge::read(text).unwrap_err();
            assert_eq!(refused.faults[0].pointer, pointer, "{text}");
            assert_eq!(Purge::told(text), Purge::All, "{text}");
        }
    }

    #[test]
    fn a_list_is_read_back_and_what_a_later_version_says_is_everything() {
        let said = [(3, Purge::Route("a".into()).json()), (9, r#"{"later":[{}]}"#.to_owned())];
        let text = list(said.iter().map(|(number, it)| (*number, it.as_str())));
        assert_eq!(listed(&text), Some(vec![(3, Purge::Route("a".into())), (9, Purge::All)]));
        assert_eq!(listed(&list(std::iter::empty())), Some(vec![]));
        for bad in ["", "{}", r#"[{"number":-1,"purge":{}}]"#, r#"[{"purge":{}}]"#, r#"[{"number":1}]"#] {
            assert_eq!(listed(bad), None, "{bad}");
        }
        let many = list((0..=LIST_MAX as u64).map(|number| (number, "{}")));
        assert_eq!(listed(&many), None);
    }
}
