//! The table against the order that it stands for.

use skep_base::random::Random;

use super::*;
use crate::document::Match;
use crate::fields::Edits;
use crate::policy::Policies;
use crate::{host, path};

/// The order, written down: of all routes that match, the greatest by it. The oracle.
fn naive<'a>(document: &'a Document, asked: Asked<'_>, headers: &[(&str, &str)]) -> Option<&'a str> {
    let host_rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(host) => (host == asked.host).then_some((2, host.len())),
        HostPattern::Below(host) => {
            let labels = asked.host.strip_suffix(host.as_str())?.strip_suffix('.')?;
            (!labels.is_empty()).then_some((1, host.len()))
        }
    };
    // Without the parameters of its segments.
    let cut =
        |segment: &str| segment.split("%3B").next().and_then(|it| it.split(';').next()).map(str::to_owned);
    let plain: Vec<String> = asked.path.split('/').filter_map(cut).collect();
    let plain = plain.join("/");
    let path_rank = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(path) => (*path == plain).then_some((1, path.len())),
        PathPattern::Prefix(path) => {
            let is_within = plain == *path || plain.starts_with(&format!("{path}/"));
            is_within.then_some((0, path.len()))
        }
    };
    let ranked = document.routes.iter().filter_map(|(name, route)| {
        let Match { hosts, path, methods, headers: wanted, is_raw: _ } = &route.matches;
        let host = match hosts.as_slice() {
            [] => Some((0, 0)),
            hosts => hosts.iter().filter_map(host_rank).max(),
        };
        let has = |(name, value): &(String, String)| headers.contains(&(name, value));
        let fits =
            (methods.is_empty() || methods.iter().any(|it| it == asked.method)) && wanted.iter().all(has);
        let rank = (host?, path_rank(path)?, !methods.is_empty(), wanted.len(), Reverse(name));
        fits.then_some((rank, name.as_str()))
    });
    ranked.max().map(|(_, name)| name)
}

const HOSTS: [&str; 9] =
    ["test", "a.test", "b.a.test", "c.b.a.test", "*.test", "*.a.test", "*.b.a.test", "x.test", "*.x.test"];
const SEGMENTS: [&str; 6] = ["a", "b", "ab", "a-b", "%C3%A4", "a.b"];
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "X-ODD"];
const HEADERS: [(&str, &str); 4] = [("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("x-c", "")];

fn one<'a, T>(of: &'a [T], random: &mut Random) -> &'a T {
    &of[random.below(of.len())]
}

fn some<T: Clone + Ord>(of: &[T], most: usize, random: &mut Random) -> Vec<T> {
    let mut some: Vec<T> = (0..random.below(most + 1)).map(|_| one(of, random).clone()).collect();
    some.sort();
    some.dedup();
    some
}

fn any_path(random: &mut Random) -> String {
    let mut path: String = (0..random.below(4)).map(|_| format!("/{}", one(&SEGMENTS, random))).collect();
    if path.is_empty() || random.below(4) == 0 {
        path.push('/');
    }
    path
}

fn any_route(random: &mut Random) -> Route {
    let hosts = some(&HOSTS, 2, random).into_iter().map(|it| HostPattern::read(it).unwrap()).collect();
    let path = any_path(random);
    let path = match random.below(3) {
        0 => PathPattern::read_exact(&path),
        _ => PathPattern::read_prefix(&path),
    };
    let mut headers = some(&HEADERS, 2, random);
    headers.dedup_by_key(|(name, _)| *name);
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let matches = Match {
        hosts,
        path: path.unwrap(),
        is_raw: random.below(4) == 0,
        methods: some(&METHODS, 2, random).into_iter().map(str::to_owned).collect(),
        headers: headers.into_iter().map(own).collect(),
    };
    Route {
        matches,
        to: To::Services(vec![(SKEP.into(), 1)]),
        sticky: None,
        mirror: None,
        policies: Policies::default(),
        strip_prefix: false,
        request: Edits::default(),
        response: Edits::default(),
        cors: None,
        from: Vec::new(),
    }
}

/// Some routes, no two of which are for the same requests.
fn any_document(random: &mut Random) -> Document {
    let mut document = Document::default();
    for number in 0..1 + random.below(14) {
        let mut more = document.clone();
        more.routes.insert(format!("r{number:02}"), any_route(random));
        if Table::compile(more.clone()).is_ok() {
            document = more;
        }
    }
    document
}

/// A host and a path as a client may write them.
fn written(host: &str, path: &str, random: &mut Random) -> (String, String) {
    let mut sent_host = host.replace("*.", "w.");
    if random.below(3) == 0 {
        sent_host = format!("{}{}", sent_host.to_ascii_uppercase(), one(&[".", ":80", ".:8080"], random));
    }
    let mut sent_path = String::new();
    let mut left = path.chars();
    while let Some(c) = left.next() {
        match c {
            '%' => {
                sent_path += &format!("%{}", left.by_ref().take(2).collect::<String>().to_ascii_lowercase())
            }
            c if c.is_ascii_alphabetic() && random.below(8) == 0 => sent_path += &format!("%{:x}", c as u32),
            c => sent_path.push(c),
        }
    }
    (sent_host, sent_path)
}

/// What becomes of a path: its route, and the path that goes on, if it is not refused. The oracle: `path` is what `sent`
/// says where each encoded slash is one.
fn naive_path<'a>(
    document: &'a Document,
    asked: Asked<'_>,
    headers: &[(&str, &str)],
    sent: &str,
) -> Result<Option<(&'a str, String)>, ()> {
    let has_slash = sent.to_ascii_lowercase().contains("%2f");
    let Some(name) = naive(document, asked, headers) else {
        return if has_slash { Err(()) } else { Ok(None) };
    };
    let Match { path: pattern, is_raw, .. } = &document.routes[name].matches;
    let is_literal = match pattern {
        PathPattern::Exact(path) => sent == path,
        PathPattern::Prefix(path) => sent == path || sent.starts_with(&format!("{path}/")),
    };
    match (is_raw, has_slash) {
        (true, _) if is_literal => Ok(Some((name, sent.to_owned()))),
        (false, false) => Ok(Some((name, asked.path.to_owned()))),
        _ => Err(()),
    }
}

#[test]
fn a_path_with_encoded_slashes_has_the_route_of_one_reading_and_is_taken_by_a_raw_one_as_it_came() {
    let long = std::env::var("SKEP_TEST_LONG").is_ok_and(|it| it == "1");
    let (documents, requests) = if long { (10_000, 100) } else { (400, 100) };
    let (mut raw, mut refused) = (0, 0);
    for seed in 0..documents {
        let random = &mut Random::new(seed);
        let document = any_document(random);
        let table = Table::compile(document.clone()).unwrap();
        for _ in 0..requests {
            let (host, path) = (*one(&HOSTS, random), any_path(random));
            let (sent_host, mut sent) = written(host, &path, random);
            // The first stays one.
            if random.below(2) == 0 {
                let (first, rest) = sent.split_at(1);
                let encoded = rest.split('/').fold(String::new(), |so_far, it| match so_far.as_str() {
                    "" => it.to_owned(),
                    _ => so_far + *one::<&str>(&["/", "%2f", "%2F"], random) + it,
                });
                sent = format!("{first}{encoded}");
            }
            let host = host::canonical(sent_host.as_bytes());
            let asked = Asked { host: &host, path: &path, method: one::<&str>(&METHODS, random) };
            let headers = some(&HEADERS, 3, random);
            let has = |name: &str, value: &str| headers.contains(&(name, value));
            let came = table.read(sent.as_bytes()).and_then(|read| {
                let asked = Asked { path: read.matched(), ..asked };
                let Some(at) = table.find(asked, has) else { return read.form().map(|_| None) };
                let entry = &table.routes[at];
                raw += u64::from(entry.route.matches.is_raw);
                Ok(Some((entry.name.as_str(), entry.path(&read)?.to_owned())))
            });
            refused += u64::from(came.is_err());
            let expected = naive_path(&document, asked, &headers, &sent);
            assert_eq!(came.map_err(|_| ()), expected, "seed {seed}: {sent} {asked:?}\n{document:#?}");
        }
    }
    assert!(raw > documents && refused > documents, "{raw} raw, {refused} refused");
}

/// In the long form a million requests.
#[test]
fn the_table_finds_what_the_order_says() {
    let long = std::env::var("SKEP_TEST_LONG").is_ok_and(|it| it == "1");
    let (documents, requests) = if long { (10_000, 100) } else { (400, 100) };
    let mut found_any = 0;
    for seed in 0..documents {
        let random = &mut Random::new(seed);
        let document = any_document(random);
        let table = Table::compile(document.clone()).unwrap();
        for _ in 0..requests {
            let (host, mut path) = (*one(&HOSTS, random), any_path(random));
            if random.below(4) == 0 {
                let segment = *one(&SEGMENTS, random);
                path = path.replace(segment, &format!("{segment}{}", one(&[";x", ";a=1;b", "%3Bx"], random)));
            }
            let (sent_host, sent_path) = written(host, &path, random);
            let (host, read) = (host::canonical(sent_host.as_bytes()), path::canonical(sent_path.as_bytes()));
            assert_eq!(read.as_deref(), Ok(path.as_str()), "{sent_path}");
            let method = *one(&METHODS, random);
            let asked = Asked { host: &host, path: &path, method };
            let headers = some(&HEADERS, 3, random);
            let found = table.find(asked, |name, value| headers.contains(&(name, value)));
            let found = found.map(|at| table.routes[at].name.as_str());
            let expected = naive(&document, asked, &headers);
            assert_eq!(found, expected, "seed {seed}: {asked:?} {headers:?}\n{document:#?}");
            found_any += u64::from(found.is_some());
        }
    }
    assert!(found_any > documents * requests / 10, "{found_any} of them match anything");
}

fn table(text: &str) -> Result<Table, Vec<Fault>> {
    Document::read(text).and_then(Table::compile)
}

fn found(table: &Table, host: &str, path: &str) -> Option<String> {
    let asked = Asked { host, path, method: "GET" };
    table.find(asked, |_, _| false).map(|at| table.routes[at].name.clone())
}

#[test]
fn who_is_for_the_same_requests_is_refused_and_who_says_more_comes_first() {
    let route = |name: &str, more: &str| format!("[routes.{name}]\nservice = \"skep\"\n{more}\n");
    for (a, b, is_tie) in [
        ("", "", true),
        ("match.path = \"/a\"", "match.path = \"/a/\"", true),
        ("match.path = \"/a\"", "match.path = \"/%61\"", true),
        ("match.hosts = [\"A.test\", \"b.test\"]", "match.hosts = [\"a.test.\"]", true),
        ("match.methods = [\"GET\", \"PUT\"]", "match.methods = [\"PUT\"]", true),
        ("match.headers = {X-A = \"1\"}", "match.headers = {x-a = \"1\"}", true),
        ("match.path = \"/a\"", "match.exact_path = \"/a\"", false),
        ("match.methods = [\"GET\"]", "", false),
        ("match.methods = [\"GET\"]", "match.methods = [\"PUT\"]", false),
        ("match.headers = {x-a = \"1\"}", "match.headers = {x-a = \"2\"}", false),
        ("match.hosts = [\"*.test\"]", "match.hosts = [\"a.test\"]", false),
    ] {
        let read = table(&(route("a", a) + &route("b", b)));
        assert_eq!(read.is_err(), is_tie, "{a} {b}");
        if let Err(faults) = read {
            assert_eq!(faults[0].pointer, "/routes/b");
            assert!(faults[0].fault.contains("\"a\""), "{faults:?}");
        }
    }
}

#[test]
fn where_an_exact_host_has_nothing_for_a_path_a_wildcard_may() {
    let table = table(
        "[routes.one]\nservice = \"skep\"\nmatch = {hosts = [\"a.test\"], path = \"/x\"}\n\
         [routes.wide]\nservice = \"skep\"\nmatch = {hosts = [\"*.test\"], path = \"/x/y\"}\n\
         [routes.rest]\nservice = \"skep\"\nmatch.path = \"/z\"\n",
    );
    let table = table.unwrap();
    for (host, path, expected) in [
        ("a.test", "/x/y", Some("one")),
        ("b.test", "/x/y", Some("wide")),
        ("a.test", "/z", Some("rest")),
        ("test", "/x", None),
        ("a.test", "/xx", None),
        ("a.test", "/", None),
    ] {
        assert_eq!(found(&table, host, path).as_deref(), expected, "{host} {path}");
    }
}

#[test]
fn a_host_and_path_have_so_many_routes_and_no_more() {
    let routes = |count: usize| -> String {
        let route =
            |n: usize| format!("[routes.r{n}]\nservice = \"skep\"\nmatch.headers = {{x-n = \"{n}\"}}\n");
        (0..count).map(route).collect()
    };
    assert!(table(&routes(CANDIDATES_MAX)).is_ok());
    assert!(table(&routes(CANDIDATES_MAX + 1)).is_err());
}

#[test]
fn requests_are_shared_out_by_weight() {
    let table = table(
        "[services]\nblue.urls = [\"http://a:1\"]\ngreen.urls = [\"http://b:1\"]\nred.urls = [\"http://c:1\"]\n\
         [routes.r.services]\nblue = 9\ngreen = 1\nred = 0\n",
    );
    let table = table.unwrap();
    let mut counts = [0; 4];
    for drawn in 0..1000 {
        counts[table.routes[0].service(drawn).unwrap()] += 1;
    }
    assert_eq!(counts, [0, 900, 100, 0]);
}

#[test]
fn hosts_times_segments_are_bounded() {
    let (hosts, path): (Vec<String>, String) =
        ((0..64).map(|at| format!("\"h{at}\"")).collect(), "/a".repeat(500));
    let route = |at: usize| {
        format!(
            "[routes.r{at}]\nservice = \"skep\"\nmatch = {{hosts = [{}], path = \"{path}/{at}\"}}\n",
            hosts.join(",")
        )
    };
    let many = |count: usize| table(&(0..count).map(route).collect::<String>());
    assert!(many(8).is_ok());
    let faults = many(9).unwrap_err();
    assert_eq!(faults[0].pointer, "/routes", "{faults:?}");
}
