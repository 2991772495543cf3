use url::Url;

use super::*;

fn allows(file: impl AsRef<[u8]>, agent: &str, url: &str) -> bool {
    // What is no URL has no path: "/".
    let path = Url::parse(url).map_or_else(|_| "/".to_owned(), |url| path_of(&url).to_owned());
    Rules::parse(file.as_ref(), agent).allow(&path)
}

/// A file, and of an agent what it may fetch and what not, below `http://foo.bar`.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// The cases of google/robotstxt (`robots_test.cc`), which follow the RFC's sections.
const CASES: &[Case] = &[
    // As a whole.
    ("", "FooBot", &["/"], &[]),
    ("user-agent: FooBot\ndisallow: /\n", "", &["/"], &[]),
    ("user-agent: FooBot\ndisallow: /\n", "FooBot", &[], &["/"]),
    ("", "", &["/"], &[]),
    // Lines.
    ("user-agent: FooBot\ndisallow: /\n", "FooBot", &[], &["/x/y"]),
    ("foo: FooBot\nbar: /\n", "FooBot", &["/x/y"], &[]),
    ("user-agent FooBot\ndisallow /\n", "FooBot", &[], &["/x/y"]),
    // Groups.
    (GROUPS, "FooBot", &["/x/b", "/z/d"], &["/y/c", "/foo/bar/"]),
    (GROUPS, "BarBot", &["/y/c", "/w/a"], &["/z/d", "/foo/bar/"]),
    (GROUPS, "BazBot", &["/z/d"], &["/foo/bar/"]),
    // Other lines end no group.
    (
        "User-agent: BarBot\nSitemap: https://foo.bar/sitemap\nUser-agent: *\nDisallow: /\n",
        "FooBot",
        &[],
        &["/"],
    ),
    (
        "User-agent: BarBot\nSitemap: https://foo.bar/sitemap\nUser-agent: *\nDisallow: /\n",
        "BarBot",
        &[],
        &["/"],
    ),
    (
        "User-agent: FooBot\nInvalid-Unknown-Line: unknown\nUser-agent: *\nDisallow: /\n",
        "FooBot",
        &[],
        &["/"],
    ),
    (
        "User-agent: FooBot\nInvalid-Unknown-Line: unknown\nUser-agent: *\nDisallow: /\n",
        "BarBot",
        &[],
        &["/"],
    ),
    // Names of lines in any case.
    ("USER-AGENT: FooBot\nALLOW: /x/\nDISALLOW: /\n", "FooBot", &["/x/y"], &["/a/b"]),
    ("user-agent: FooBot\nallow: /x/\ndisallow: /\n", "FooBot", &["/x/y"], &["/a/b"]),
    ("uSeR-aGeNt: FooBot\nAlLoW: /x/\ndIsAlLoW: /\n", "FooBot", &["/x/y"], &["/a/b"]),
    // Agents in any case.
    ("User-Agent: FOO BAR\nAllow: /x/\nDisallow: /\n", "Foo", &["/x/y"], &["/a/b"]),
    ("User-Agent: foo bar\nAllow: /x/\nDisallow: /\n", "Foo", &["/x/y"], &["/a/b"]),
    ("User-Agent: FoO bAr\nAllow: /x/\nDisallow: /\n", "Foo", &["/x/y"], &["/a/b"]),
    ("User-Agent: FOO BAR\nAllow: /x/\nDisallow: /\n", "foo", &["/x/y"], &["/a/b"]),
    ("User-Agent: foo bar\nAllow: /x/\nDisallow: /\n", "foo", &["/x/y"], &["/a/b"]),
    ("User-Agent: FoO bAr\nAllow: /x/\nDisallow: /\n", "foo", &["/x/y"], &["/a/b"]),
    // Up to the first space.
    ("User-Agent: *\nDisallow: /\nUser-Agent: Foo Bar\nAllow: /x/\nDisallow: /\n", "Foo", &["/x/y"], &[]),
    ("User-Agent: *\nDisallow: /\nUser-Agent: Foo Bar\nAllow: /x/\nDisallow: /\n", "Foo Bar", &[], &["/x/y"]),
    // The group for all counts where none is for the agent.
    ("", "FooBot", &["/x/y"], &[]),
    ("user-agent: *\nallow: /\nuser-agent: FooBot\ndisallow: /\n", "FooBot", &[], &["/x/y"]),
    ("user-agent: *\nallow: /\nuser-agent: FooBot\ndisallow: /\n", "BarBot", &["/x/y"], &[]),
    (
        "user-agent: FooBot\nallow: /\nuser-agent: BarBot\ndisallow: /\nuser-agent: BazBot\ndisallow: /\n",
        "QuxBot",
        &["/x/y"],
        &[],
    ),
    // Paths in their case.
    ("user-agent: FooBot\ndisallow: /x/\n", "FooBot", &[], &["/x/y"]),
    ("user-agent: FooBot\ndisallow: /X/\n", "FooBot", &["/x/y"], &[]),
    // The longest counts.
    ("user-agent: FooBot\ndisallow: /x/page.html\nallow: /x/\n", "FooBot", &[], &["/x/page.html"]),
    ("user-agent: FooBot\nallow: /x/page.html\ndisallow: /x/\n", "FooBot", &["/x/page.html"], &["/x/"]),
    ("user-agent: FooBot\ndisallow: \nallow: \n", "FooBot", &["/x/page.html"], &[]),
    ("user-agent: FooBot\ndisallow: /\nallow: /\n", "FooBot", &["/x/page.html"], &[]),
    ("user-agent: FooBot\ndisallow: /x\nallow: /x/\n", "FooBot", &["/x/"], &["/x"]),
    ("user-agent: FooBot\ndisallow: /x/page.html\nallow: /x/page.html\n", "FooBot", &["/x/page.html"], &[]),
    ("user-agent: FooBot\nallow: /page\ndisallow: /*.html\n", "FooBot", &["/page"], &["/page.html"]),
    ("user-agent: FooBot\nallow: /x/page.\ndisallow: /*.html\n", "FooBot", &["/x/page.html"], &["/x/y.html"]),
    (
        "User-agent: *\nDisallow: /x/\nUser-agent: FooBot\nDisallow: /y/\n",
        "FooBot",
        &["/x/page"],
        &["/y/page"],
    ),
    // Escapes.
    (
        "User-agent: FooBot\nDisallow: /\nAllow: /foo/bar?qux=taz&baz=http://foo.bar?tar&par\n",
        "FooBot",
        &["/foo/bar?qux=taz&baz=http://foo.bar?tar&par"],
        &[],
    ),
    ("User-agent: FooBot\nDisallow: /\nAllow: /foo/bar/ツ\n", "FooBot", &["/foo/bar/%E3%83%84"], &[]),
    ("User-agent: FooBot\nDisallow: /\nAllow: /foo/bar/%E3%83%84\n", "FooBot", &["/foo/bar/%E3%83%84"], &[]),
    (
        "User-agent: FooBot\nDisallow: /\nAllow: /foo/bar/%62%61%7A\n",
        "FooBot",
        &["/foo/bar/%62%61%7A"],
        &["/foo/bar/baz"],
    ),
    // Special characters.
    (
        "User-agent: FooBot\nDisallow: /foo/bar/quz\nAllow: /foo/*/qux\n",
        "FooBot",
        &["/foo/quz", "/foo//quz", "/foo/bax/quz"],
        &["/foo/bar/quz"],
    ),
    (
        "User-agent: FooBot\nDisallow: /foo/bar$\nAllow: /foo/bar/qux\n",
        "FooBot",
        &["/foo/bar/qux", "/foo/bar/", "/foo/bar/baz"],
        &["/foo/bar"],
    ),
    (
        "User-agent: FooBot\n# Disallow: /\nDisallow: /foo/quz#qux\nAllow: /\n",
        "FooBot",
        &["/foo/bar"],
        &["/foo/quz"],
    ),
    // A folder's index.
    (
        "User-Agent: *\nAllow: /allowed-slash/index.html\nDisallow: /\n",
        "foobot",
        &["/allowed-slash/", "/allowed-slash/index.html"],
        &["/allowed-slash/index.htm", "/anyother-url"],
    ),
    // Google's documentation.
    (
        "user-agent: FooBot\ndisallow: /\nallow: /fish\n",
        "FooBot",
        &[
            "/fish",
            "/fish.html",
            "/fish/salmon.html",
            "/fishheads",
            "/fishheads/yummy.html",
            "/fish.html?id=anything",
        ],
        &["/bar", "/Fish.asp", "/catfish", "/?id=fish"],
    ),
    (
        "user-agent: FooBot\ndisallow: /\nallow: /fish*\n",
        "FooBot",
        &[
            "/fish",
            "/fish.html",
            "/fish/salmon.html",
            "/fishheads",
            "/fishheads/yummy.html",
            "/fish.html?id=anything",
        ],
        &["/bar", "/Fish.bar", "/catfish", "/?id=fish"],
    ),
    (
        "user-agent: FooBot\ndisallow: /\nallow: /fish/\n",
        "FooBot",
        &["/fish/", "/fish/salmon", "/fish/?salmon", "/fish/salmon.html", "/fish/?id=anything"],
        &["/bar", "/fish", "/fish.html", "/Fish/Salmon.html"],
    ),
    (
        "user-agent: FooBot\ndisallow: /\nallow: /*.php\n",
        "FooBot",
        &[
            "/filename.php",
            "/folder/filename.php",
            "/folder/filename.php?parameters",
            "//folder/any.php.file.html",
            "/filename.php/",
            "/index?f=filename.php/",
        ],
        &["/bar", "/php/", "/index?php", "/windows.PHP"],
    ),
    (
        "user-agent: FooBot\ndisallow: /\nallow: /*.php$\n",
        "FooBot",
        &["/filename.php", "/folder/filename.php"],
        &[
            "/bar",
            "/filename.php?parameters",
            "/filename.php/",
            "/filename.php5",
            "/php/",
            "/filename?php",
            "/aaaphpaaa",
            "//windows.PHP",
        ],
    ),
    (
        "user-agent: FooBot\ndisallow: /\nallow: /fish*.php\n",
        "FooBot",
        &["/fish.php", "/fishheads/catfish.php?parameters"],
        &["/bar", "/Fish.PHP"],
    ),
    ("user-agent: FooBot\nallow: /p\ndisallow: /\n", "FooBot", &["/page"], &[]),
    ("user-agent: FooBot\nallow: /folder\ndisallow: /folder\n", "FooBot", &["/folder/page"], &[]),
    ("user-agent: FooBot\nallow: /page\ndisallow: /*.htm\n", "FooBot", &[], &["/page.htm"]),
    ("user-agent: FooBot\nallow: /$\ndisallow: /\n", "FooBot", &["/"], &["/page.html"]),
];

const GROUPS: &str = "allow: /foo/bar/\n\nuser-agent: FooBot\ndisallow: /\nallow: /x/\nuser-agent: BarBot\n\
                      disallow: /\nallow: /y/\n\n\nallow: /w/\nuser-agent: BazBot\n\nuser-agent: FooBot\n\
                      allow: /z/\ndisallow: /\n";

#[test]
fn files_say_what_googles_reader_reads() {
    for (file, agent, allowed, disallowed) in CASES {
        for path in *allowed {
            assert!(allows(file, agent, &format!("http://foo.bar{path}")), "{agent} {path}\n{file}");
        }
        for path in *disallowed {
            assert!(!allows(file, agent, &format!("http://foo.bar{path}")), "{agent} {path}\n{file}");
        }
    }
}

#[test]
fn a_path_that_is_not_escaped_is_another_one() {
    for pattern in ["/foo/bar/ツ", "/foo/bar/%E3%83%84"] {
        let rules = Rules::parse(format!("User-agent: F\nDisallow: /\nAllow: {pattern}").as_bytes(), "F");
        assert!(!rules.allow("/foo/bar/ツ") && rules.allow("/foo/bar/%E3%83%84"));
    }
}

#[test]
fn a_line_is_read_to_its_bound() {
    // A path that leaves room for one byte more in its line.
    let long = |key: &str, letter: &str| format!("/x/{}", letter.repeat(LINE_BYTES_MAX - key.len() - 4));
    let url = |path: &str| format!("http://foo.bar{path}");
    let a = long("disallow: ", "a");
    let file = format!("user-agent: FooBot\ndisallow: {a}/qux\n");
    assert!(allows(&file, "FooBot", &url("/fux")));
    assert!(!allows(&file, "FooBot", &url(&format!("{a}/fux"))));
    let (a, b) = (long("allow: ", "a"), long("allow: ", "b"));
    let file = format!("user-agent: FooBot\ndisallow: /\nallow: {a}/qux\nallow: {b}/qux\n");
    assert!(!allows(&file, "FooBot", &url("/")));
    assert!(allows(&file, "FooBot", &url(&format!("{a}/qux"))));
    assert!(allows(&file, "FooBot", &url(&format!("{b}/fux"))));
    assert!(!allows(&file, "FooBot", &url(&format!("{b}xfux"))), "what is read ends with the slash");
}

#[test]
fn lines_end_as_on_any_system() {
    for file in [
        "User-Agent: foo\nAllow: /some/path\nUser-Agent: bar\n\n\nDisallow: /\n",
        "User-Agent: foo\r\nAllow: /some/path\r\nUser-Agent: bar\r\n\r\n\r\nDisallow: /\r\n",
        "User-Agent: foo\rAllow: /some/path\rUser-Agent: bar\r\r\rDisallow: /\r",
        "User-Agent: foo\nAllow: /some/path\nUser-Agent: bar\n\n\nDisallow: /",
        "User-Agent: foo\nAllow: /some/path\r\nUser-Agent: bar\n\r\n\nDisallow: /",
    ] {
        assert!(!allows(file, "bar", "http://a/x") && allows(file, "foo", "http://a/x"), "{file:?}");
        assert_eq!(Rules::parse(file.as_bytes(), "foo").rules.len(), 1);
    }
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_beginning_alone() {
    let rules = "User-Agent: foo\nDisallow: /AnyValue\n";
    for (mark, is_read) in
        [(&b"\xef\xbb\xbf"[..], true), (b"\xef\xbb", true), (b"\xef", true), (b"\xef\x11\xbf", false)]
    {
        let file = [mark, rules.as_bytes()].concat();
        assert_eq!(!allows(file, "foo", "http://a/AnyValue"), is_read, "{mark:?}");
    }
    let file = b"User-Agent: foo\n\xef\xbb\xbfDisallow: /AnyValue\n";
    assert!(allows(file, "foo", "http://a/AnyValue"));
}

#[test]
fn lines_of_others_say_nothing() {
    for file in [
        "User-Agent: foo\nDisallow: /some/path\nUser-Agent: bar\n\n\nSitemap: http://foo.bar/sitemap.xml\n",
        "Sitemap: http://foo.bar/sitemap.xml\nUser-Agent: foo\nDisallow: /some/path\nUser-Agent: bar\n\n\n",
        "User-Agent: foo\nCrawl-delay: 10\nDisallow: /some/path\n",
    ] {
        assert!(!allows(file, "foo", "http://a/some/path") && allows(file, "foo", "http://a/x"), "{file:?}");
        assert!(allows(file, "bar", "http://a/some/path"));
    }
}

#[test]
fn a_url_is_compared_by_its_path_and_query() {
    for (url, path) in [
        ("http://www.example.com", "/"),
        ("http://www.example.com/", "/"),
        ("http://www.example.com/a", "/a"),
        ("http://www.example.com/a/", "/a/"),
        ("http://www.example.com/a/b?c=http://d.e/", "/a/b?c=http://d.e/"),
        ("http://www.example.com/a/b?c=d&e=f#fragment", "/a/b?c=d&e=f"),
        ("http://example.com?a", "/?a"),
        ("http://example.com/a;b#c", "/a;b"),
    ] {
        assert_eq!(path_of(&Url::parse(url).unwrap()), path);
    }
}

#[test]
fn patterns_are_escaped() {
    for (pattern, expected) in [
        ("http://www.example.com", "http://www.example.com"),
        ("/a/b/c", "/a/b/c"),
        ("á", "%C3%A1"),
        ("%aa", "%AA"),
        ("%", "%"),
        ("%a", "%a"),
        ("%zz", "%zz"),
    ] {
        assert_eq!(escaped(pattern.as_bytes()), expected);
    }
}

#[test]
fn a_group_of_its_own_counts_though_it_says_nothing() {
    let file = "user-agent: *\ndisallow: /\nuser-agent: a\ndisallow:\n";
    assert!(allows(file, "a", "http://x/y") && !allows(file, "b", "http://x/y"));
}

#[test]
fn what_is_behind_the_bound_of_a_file_is_not_read() {
    let mut file = b"user-agent: a\ndisallow: /x\n#".to_vec();
    file.resize(FILE_BYTES_MAX, b' ');
    file.extend(b"\ndisallow: /y\n");
    assert!(!allows(&file, "a", "http://h/x") && allows(&file, "a", "http://h/y"));
}

#[test]
fn stars_without_end_are_matched_in_a_time_that_grows_with_both() {
    let file = format!("user-agent: a\ndisallow: /{}b$\n", "*a".repeat(5_000));
    let path = format!("/{}", "a".repeat(8_000));
    assert!(Rules::parse(file.as_bytes(), "a").allow(&path));
}
