//! What a route has of all that one may have, in eight bytes beside its name: most have little, and a request of such a
//! one looks at nothing else of it.

use compact_str::CompactString;

use super::Entry;
use crate::document::To;
use crate::policy::{Addresses, Policies};

/// Of one route.
#[derive(Debug, Clone, Copy)]
pub struct Brief {
    has: u32,
    /// The only service, by its place in the table; [`NO_ONE`] where it is not one alone.
    service: u32,
}

const NO_ONE: u32 = u32::MAX;

/// What each request of a route looks at, in one line of memory.
#[derive(Debug)]
#[repr(align(32))]
pub(super) struct Usual {
    pub brief: Brief,
    pub name: CompactString,
}

impl Usual {
    pub fn of(entry: &Entry) -> Self {
        Self { brief: Brief::of(entry), name: entry.name.as_str().into() }
    }
}

/// What a route may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Has {
    /// Methods or header fields that a request must have.
    Conditions = 1,
    /// Paths as they came.
    RawPaths = 1 << 1,
    /// A prefix that is cut.
    StripPrefix = 1 << 2,
    /// Something that refuses whoever asks: see [`Policies::refusal`].
    Refusals = 1 << 3,
    Cors = 1 << 4,
    Auth = 1 << 5,
    Limits = 1 << 6,
    Redirect = 1 << 7,
    /// A largest body.
    Size = 1 << 8,
    RequestEdits = 1 << 9,
    ResponseEdits = 1 << 10,
    /// Answers are stored.
    Cache = 1 << 11,
    /// Requests are copied.
    Mirror = 1 << 12,
    /// A service that is asked whether a request may go on.
    Ask = 1 << 13,
    /// Answers are compressed.
    Compress = 1 << 14,
}

impl Brief {
    fn of(entry: &Entry) -> Self {
        let Entry { route, services, .. } = entry;
        // All by their names: what a route comes to have is said here, or nobody would look for it.
        let Policies {
            maintenance,
            https_only,
            addresses,
            auth,
            ask,
            limits,
            body_bytes_max,
            cache,
            compress,
        } = &route.policies;
        let refuses = maintenance.is_some() || *https_only || *addresses != Addresses::default();
        let has = [
            (Has::Conditions, !route.matches.methods.is_empty() || !route.matches.headers.is_empty()),
            (Has::RawPaths, route.matches.is_raw),
            (Has::StripPrefix, route.strip_prefix),
            (Has::Refusals, refuses),
            (Has::Cors, route.cors.is_some()),
            (Has::Auth, auth.is_some()),
            (Has::Limits, !limits.is_empty()),
            (Has::Redirect, matches!(route.to, To::Redirect(_))),
            (Has::Size, body_bytes_max.is_some()),
            (Has::RequestEdits, !route.request.is_empty()),
            (Has::ResponseEdits, !route.response.is_empty()),
            (Has::Cache, cache.is_some()),
            (Has::Mirror, route.mirror.is_some()),
            (Has::Ask, ask.is_some()),
            (Has::Compress, compress.is_some()),
        ];
        let has = has.into_iter().filter(|(_, has)| *has).fold(0, |all, (one, _)| all | one as u32);
        let service = match services[..] {
            [(only, _)] => u32::try_from(only).unwrap_or(NO_ONE),
            _ => NO_ONE,
        };
        Self { has, service }
    }

    pub fn has(self, one: Has) -> bool {
        self.has & one as u32 != 0
    }

    /// The same of any of them.
    pub fn has_any(self, some: &[Has]) -> bool {
        some.iter().any(|it| self.has(*it))
    }

    /// The service that all its requests go to, by its place in the table; None where that is not one alone.
    pub fn service(self) -> Option<usize> {
        (self.service != NO_ONE).then_some(self.service as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, Table};

    #[test]
    fn two_are_a_line_of_memory() {
        assert_eq!(size_of::<Usual>(), 32);
    }

    #[test]
    fn a_route_has_what_it_states_and_nothing_else() {
        for (stated, has) in [
            ("", vec![]),
            ("match.methods = [\"GET\"]", vec![Has::Conditions]),
            ("match.headers = {x-a = \"1\"}", vec![Has::Conditions]),
            ("match.raw = true\nmatch.path = \"/a\"", vec![Has::RawPaths]),
            ("match.path = \"/a\"\nstrip_prefix = true", vec![Has::StripPrefix]),
            ("maintenance = {retry_after_s = 60}", vec![Has::Refusals]),
            ("https_only = true", vec![Has::Refusals]),
            ("addresses.deny = [\"10.0.0.0/8\"]", vec![Has::Refusals]),
            ("cors = {origins = [\"https://a.test\"]}", vec![Has::Cors]),
            ("auth.keys = true", vec![Has::Auth]),
            ("limits = [{rate = 5, per = \"second\", by = \"address\"}]", vec![Has::Limits]),
            ("max_body = \"1KiB\"", vec![Has::Size]),
            ("request_headers.set = {x-a = \"1\"}", vec![Has::RequestEdits]),
            ("response_headers.set = {x-a = \"1\"}", vec![Has::ResponseEdits]),
            ("cache = true", vec![Has::Cache]),
            ("mirror.service = \"a\"", vec![Has::Mirror]),
            ("ask = {service = \"a\", path = \"/\"}", vec![Has::Ask]),
            ("compress = true", vec![Has::Compress]),
        ] {
            let text =
                format!("[services]\na.urls = [\"http://a:1\"]\n[routes.r]\nservice = \"a\"\n{stated}\n");
            let table = Document::read(&text)
                .and_then(Table::compile)
                .unwrap_or_else(|it| panic!("{stated}: {it:?}"));
            let brief = table.brief(0);
            assert_eq!(brief.service(), Some(1), "{stated}");
            let all = 0..u32::BITS;
            let found: Vec<u32> = all.map(|bit| 1 << bit).filter(|bit| brief.has & bit != 0).collect();
            let expected: Vec<u32> = has.into_iter().map(|it| it as u32).collect();
            assert_eq!(found, expected, "{stated}");
        }
    }
}
