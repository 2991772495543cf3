//! What a token says: who it is of, for whom, and from when until when (RFC 7519, 4.1).

use std::collections::BTreeMap;

use super::Refused;
use super::jws;
use crate::names::is_name;
use crate::value::Value;

/// Longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// Whom tokens are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Whoever they name, or nobody.
    Any,
    OneOf(Vec<String>),
}

impl Audience {
    pub(super) fn has_one_of(&self, named: &[String]) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(ours) => named.iter().any(|it| ours.contains(it)),
        }
    }
}

/// What a token says, as far as it matters here. Nothing of it is proved by this.
#[derive(Debug)]
pub(super) struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Vec<String>,
    /// Seconds of Unix time, which may have parts of one.
    pub exp: f64,
    nbf: Option<f64>,
    rest: BTreeMap<String, Value>,
}

impl Claims {
    /// A claim that is there and is no such thing is never passed over.
    pub(super) fn read(payload: &[u8]) -> Result<Self, Refused> {
        let mut rest = jws::object(payload)?;
        let mut take = |name| rest.remove(name);
        let iss = text(take("iss").ok_or(Refused::Claims)?)?;
        let sub = text(take("sub").ok_or(Refused::Claims)?)?;
        let exp = time(take("exp").ok_or(Refused::Claims)?)?;
        let nbf = take("nbf").map(time).transpose()?;
        take("iat").map(time).transpose()?;
        take("jti").map(text).transpose()?;
        // It is bound to a key that its bearer has to prove (RFC 7800), and nobody here asks for that proof.
        if take("cnf").is_some() {
            return Err(Refused::Claims);
        }
        let aud = match take("aud") {
            None => Vec::new(),
            Some(Value::List(list)) => list.into_iter().map(text).collect::<Result<_, _>>()?,
            Some(one) => vec![text(one)?],
        };
        if !is_subject(&sub) {
            return Err(Refused::Claims);
        }
        Ok(Self { iss, sub, aud, exp, nbf, rest })
    }

    /// Whether it is its time.
    pub(super) fn check_time(&self, now_s: u64, leeway_s: u32) -> Result<(), Refused> {
        if is_over(self.exp, now_s, leeway_s) {
            return Err(Refused::Expired);
        }
        match self.nbf {
            Some(nbf) if (now_s as f64) < nbf - f64::from(leeway_s) => Err(Refused::NotYet),
            _ => Ok(()),
        }
    }

    pub(super) fn check_audience(&self, audience: &Audience) -> Result<(), Refused> {
        if audience.has_one_of(&self.aud) { Ok(()) } else { Err(Refused::Audience) }
    }

    /// The groups that this claim names, in order: a list, or a text with spaces between them, as `scope` has
    /// (RFC 8693, 4.2). What is no name of a group is no group of a document's either, and is left out.
    pub(super) fn groups(&self, claim: &str) -> Result<Vec<String>, Refused> {
        let mut groups: Vec<String> = match self.rest.get(claim) {
            None => Vec::new(),
            Some(Value::Text(text)) => text.split(' ').map(str::to_owned).collect(),
            Some(Value::List(list)) => list.iter().cloned().map(text).collect::<Result<_, _>>()?,
            Some(_) => return Err(Refused::Claims),
        };
        groups.retain(|it| is_name(it));
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }
}

/// From this second on nothing is proved by it any more.
pub(super) fn is_over(exp: f64, now_s: u64, leeway_s: u32) -> bool {
    now_s as f64 >= exp + f64::from(leeway_s)
}

fn text(value: Value) -> Result<String, Refused> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(Refused::Claims),
    }
}

fn time(value: Value) -> Result<f64, Refused> {
    match value {
        Value::Whole(it) => Ok(it as f64),
        Value::Number(it) if it.is_finite() => Ok(it),
        _ => Err(Refused::Claims),
    }
}

/// It becomes a header field's value and a text in a line of the log: visible ASCII, nothing that ends either, and no
/// comma, for who reads a list there.
fn is_subject(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',');
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}
