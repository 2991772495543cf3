//! How paths are read, and which have two readings.

use super::*;

#[test]
fn a_path_has_one_form() {
    for (sent, read) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("/%61%2D%7e", "/a-~"),
        ("/a%20b%c3%a4", "/a%20b%C3%A4"),
        ("/%3f%23%3b", "/%3F%23%3B"),
        ("/%252e%252e", "/%252e%252e"),
        ("/a..b/...", "/a..b/..."),
        ("/app.js;v=1", "/app.js;v=1"),
        ("/.well-known/x", "/.well-known/x"),
        ("/api..", "/api.."),
        ("/a!$&'()*+,=:@", "/a!$&'()*+,=:@"),
        ("/.a/..b/c.", "/.a/..b/c."),
    ] {
        assert_eq!(canonical(sent.as_bytes()).as_deref(), Ok(read), "{sent}");
        assert_eq!(canonical(read.as_bytes()).as_deref(), Ok(read), "{sent}: read again, it is the same");
    }
}

#[test]
fn a_path_with_two_readings_is_refused() {
    for sent in [
        "",
        "a",
        "*",
        "//",
        "/a//b",
        "//a",
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e",
        "/%2E%2e/a",
        "/.%2e/",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%+1",
        "/;x/a",
        "/a/%3bx/b",
        "/..;/a",
        "/.;x",
        "/..;",
        "/..%3b/a",
        "/%2e%2e%3Bx/",
        "/a b",
        "/a\n",
        "/a\u{e4}",
        "/a%2",
    ] {
        assert!(canonical(sent.as_bytes()).is_err(), "{sent}");
    }
}

#[test]
fn what_is_in_its_form_by_one_look_is_so_by_a_closer_one() {
    let mut random = skep_base::random::Random::new(11);
    let mut plain = 0;
    for _ in 0..100_000 {
        let path: Vec<u8> = (0..random.below(7)).map(|_| b"/a.;%2eB\\ "[random.below(10)]).collect();
        let path = [b"/", &path[..]].concat();
        if is_plain(&path) {
            plain += 1;
            assert!(canonical(&path).is_ok());
            let text = std::str::from_utf8(&path).unwrap();
            let is_bad = |segment: &str| is_dots(segment.as_bytes()) || bare(segment) != segment;
            let mut segments = text[1..].split('/').rev();
            assert!(segments.next().is_some_and(|last| !is_bad(last)), "{text}");
            assert!(segments.all(|it| !is_bad(it) && !it.is_empty()), "{text}");
        }
    }
    assert!(plain > 1000, "{plain}");
}

#[test]
fn segments_are_what_slashes_part() {
    for path in ["", "/", "//", "a", "/a", "/a/", "/a//b", "a/b", "/%C3/ä/x"] {
        let parted: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        assert_eq!(segments(path).collect::<Vec<_>>(), parted, "{path}");
    }
}

#[test]
fn a_raw_path_may_have_encoded_slashes_and_nothing_else_that_has_two_readings() {
    for (sent, matched) in [
        ("/a%2fb", "/a/b"),
        ("/a%2Fb/%63", "/a/b/c"),
        ("/a%2f", "/a/"),
        ("/@scope%2fname", "/@scope/name"),
        ("/%252f", "/%252f"),
    ] {
        let read = Read::raw(sent.as_bytes()).unwrap();
        assert_eq!(read.matched(), matched, "{sent}");
        assert_eq!(read.as_it_came(&PathPattern::Prefix(String::new())), Ok(sent));
        assert_eq!(read.form().is_err(), canonical(sent.as_bytes()).is_err());
    }
    // What a server behind makes of it once it decodes is read here: it leads out of no prefix, and to no other host.
    for sent in [
        "/a/..%2fb",
        "/a/%2e%2e%2fb",
        "/a%2f..%2fb",
        "/a%2f..",
        "/a%2f.%2e/b",
        "/a/..;x%2fb",
        "/a%2f..%3bx",
        "/a%2f.",
        "/%2fhost",
        "/a%2f%2fb",
        "/a/%2fb",
        "/a%2f/b",
        "/a%2f;x/b",
        "/a%2f%5cb",
        "/a%2f%00",
        "/a%2f%",
        "/a%2f\\b",
        "/a%2f b",
        "%2fa",
    ] {
        assert!(Read::raw(sent.as_bytes()).is_err(), "{sent}");
    }
}

#[test]
fn a_raw_path_is_the_patterns_to_the_letter() {
    let (prefix, exact) = (PathPattern::Prefix("/a/b".into()), PathPattern::Exact("/a/b".into()));
    for (sent, below, is_it) in [
        ("/a/b", true, true),
        ("/a/b/", true, false),
        ("/a/b/c%2fd", true, false),
        ("/a/b%2fc", false, false),
        ("/a%2fb", false, false),
        ("/a%2fb/c", false, false),
        ("/%61/b/c", false, false),
        ("/a;x/b/c", false, false),
        ("/a/b;x", false, false),
        ("/a/bc", false, false),
    ] {
        let read = Read::raw(sent.as_bytes()).unwrap();
        assert_eq!(read.as_it_came(&prefix).is_ok(), below, "{sent}");
        assert_eq!(read.as_it_came(&exact).is_ok(), is_it, "{sent}");
    }
}

#[test]
fn a_prefix_is_cut_by_whole_segments() {
    for (path, prefix, left) in [
        ("/read", "/read", Some("/")),
        ("/read/", "/read", Some("/")),
        ("/read/x/y", "/read", Some("/x/y")),
        ("/reader", "/read", None),
        ("/read..", "/read", None),
        ("/x", "", Some("/x")),
        ("/", "", Some("/")),
        ("/read;v=1/x;y", "/read", Some("/x;y")),
        ("/read%3Bx", "/read", Some("/")),
        ("/a/b/c", "/a/b", Some("/c")),
        ("/a", "/a/b", None),
    ] {
        assert_eq!(without(path, prefix), left, "{path} {prefix}");
    }
}

#[test]
fn a_documents_path_is_read_as_a_requests() {
    assert_eq!(PathPattern::read_prefix("/%61/"), Ok(PathPattern::Prefix("/a".into())));
    assert_eq!(PathPattern::read_prefix("/"), Ok(PathPattern::Prefix("".into())));
    assert_eq!(PathPattern::read_exact("/a/"), Ok(PathPattern::Exact("/a/".into())));
    for text in ["", "a", "/a?b", "/a#b", "/a//b", "/..", &format!("/{}", "a".repeat(PATH_BYTES_MAX))] {
        assert!(PathPattern::read_exact(text).is_err() && PathPattern::read_prefix(text).is_err(), "{text}");
    }
}

#[test]
fn a_segment_is_matched_without_its_parameters() {
    for (segment, read) in
        [("", ""), ("a", "a"), ("a;x", "a"), ("a%3Bx;y", "a"), ("a;x%3By", "a"), (";", ""), ("a%3F", "a%3F")]
    {
        assert_eq!(bare(segment), read, "{segment}");
    }
    assert!(PathPattern::read_prefix("/a;x").is_err() && PathPattern::read_prefix("/a%3bx").is_err());
}
