//! Metrics as text: OpenMetrics 1.0, or the plain text format 0.0.4, whichever a scraper asks for.
//!
//! prometheus-client writes OpenMetrics alone. The plain format is the same line by line but for this: a
//! counter's family has the name of its samples, with `_total`; there are no units, no exemplars and no
//! end mark; what is `unknown` is `untyped`.

pub mod process;

use std::fmt;

use http::HeaderMap;
use http::header::HeaderValue;
use prometheus_client::registry::Registry;

use crate::accept::want_version;

/// A form that metrics can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What every scraper reads.
    Plain,
    OpenMetrics,
}

impl Form {
    /// The form that a request's `Accept` asks for. OpenMetrics has to be asked for by its name, and no
    /// less than plain text; whoever can read neither gets plain text.
    pub fn wanted(request: &HeaderMap) -> Self {
        let open = want_version(request, "application/openmetrics-text", "1.0.0");
        let plain = want_version(request, "text/plain", "0.0.4");
        match open.is_named() && open.quality() >= plain.quality() {
            true => Form::OpenMetrics,
            false => Form::Plain,
        }
    }

    pub fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }
}

/// All that is registered.
pub fn encode(registry: &Registry, form: Form) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(match form {
        Form::OpenMetrics => text,
        Form::Plain => plain(&text),
    })
}

/// OpenMetrics in the plain text format.
fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + open.len() / 16);
    // A family's help comes before its type, which may give it another name.
    let mut help = None;
    for line in open.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            push(&mut out, &[without_exemplar(line)]);
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(_), text) => help = text,
            (Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "gauge" | "histogram" | "summary" => ("", kind),
                    _ => ("", "untyped"),
                };
                if let Some(help) = help.take() {
                    push(&mut out, &["# HELP ", name, suffix, " ", help]);
                }
                push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
            }
            _ => {}
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
    out.push('\n');
}

/// A sample without what follows its value behind `#`, which a label's value may also have.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample[..at].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests;
