//! `<meta http-equiv=refresh>` and the field `Refresh`: WHATWG's "shared declarative refresh steps". Pure.

use super::is_space;

/// Where a page says that a browser is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    pub seconds: u64,
    /// Not resolved; none where it is the page itself.
    pub url: Option<String>,
}

/// What a `content` says; none where it says nothing.
pub fn parse(text: &str) -> Option<Refresh> {
    let text = text.trim_start_matches(is_space);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 && !text.starts_with('.') {
        return None;
    }
    // A number that no clock reaches is one all the same.
    let seconds = if digits == 0 { 0 } else { text[..digits].parse().unwrap_or(u64::MAX) };
    let rest = text[digits..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if rest.is_empty() {
        return Some(Refresh { seconds, url: None });
    }
    if !rest.starts_with(|c| is_space(c) || c == ';' || c == ',') {
        return None;
    }
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start_matches(is_space);
    let url = (!rest.is_empty()).then(|| unquoted(behind_the_name(rest)).to_owned());
    Some(Refresh { seconds, url })
}

/// What stands behind `url =`, or all where that is not there.
fn behind_the_name(text: &str) -> &str {
    let named = || {
        let (name, rest) = text.split_at_checked(3)?;
        let rest = rest.trim_start_matches(is_space).strip_prefix('=')?;
        name.eq_ignore_ascii_case("url").then(|| rest.trim_start_matches(is_space))
    };
    named().unwrap_or(text)
}

fn unquoted(text: &str) -> &str {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].split(quote).next().unwrap_or_default(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    const PAGE: &str = "http://example.org/a/page";
    /// The page itself.
    const SELF: &str = "page";

    /// What web-platform-tests holds a browser to (`attr-meta-http-equiv-refresh/parsing.html`).
    const CASES: &[(&str, Option<(u64, &str)>)] = &[
        ("", None),
        ("1", Some((1, SELF))),
        ("1 ", Some((1, SELF))),
        ("1\t", Some((1, SELF))),
        ("1\r", Some((1, SELF))),
        ("1\n", Some((1, SELF))),
        ("1\u{c}", Some((1, SELF))),
        ("1;", Some((1, SELF))),
        ("1,", Some((1, SELF))),
        ("1; url=foo", Some((1, "foo"))),
        ("1, url=foo", Some((1, "foo"))),
        ("1 url=foo", Some((1, "foo"))),
        ("1;\turl=foo", Some((1, "foo"))),
        ("1,\turl=foo", Some((1, "foo"))),
        ("1\turl=foo", Some((1, "foo"))),
        ("1;\rurl=foo", Some((1, "foo"))),
        ("1,\rurl=foo", Some((1, "foo"))),
        ("1\rurl=foo", Some((1, "foo"))),
        ("1;\nurl=foo", Some((1, "foo"))),
        ("1,\nurl=foo", Some((1, "foo"))),
        ("1\nurl=foo", Some((1, "foo"))),
        ("1;\u{c}url=foo", Some((1, "foo"))),
        ("1,\u{c}url=foo", Some((1, "foo"))),
        ("1\u{c}url=foo", Some((1, "foo"))),
        ("1url=foo", None),
        ("1x;url=foo", None),
        ("1 x;url=foo", Some((1, "x;url=foo"))),
        ("1;;url=foo", Some((1, ";url=foo"))),
        ("  1  ;  url  =  foo", Some((1, "foo"))),
        ("  1  ,  url  =  foo", Some((1, "foo"))),
        ("  1  ;  foo", Some((1, "foo"))),
        ("  1  ,  foo", Some((1, "foo"))),
        ("  1  url  =  foo", Some((1, "foo"))),
        ("1; url=foo ", Some((1, "foo"))),
        ("1; url=f\to\no", Some((1, "foo"))),
        ("1; url=\"foo\"bar", Some((1, "foo"))),
        ("1; url='foo'bar", Some((1, "foo"))),
        ("1; url=\"foo'bar", Some((1, "foo'bar"))),
        ("1; url foo", Some((1, "url foo"))),
        ("1; urlfoo", Some((1, "urlfoo"))),
        ("1; urfoo", Some((1, "urfoo"))),
        ("1; ufoo", Some((1, "ufoo"))),
        ("1; \"foo\"bar", Some((1, "foo"))),
        ("; foo", None),
        (", foo", None),
        ("foo", None),
        ("+1; url=foo", None),
        ("-1; url=foo", None),
        ("+0; url=foo", None),
        ("-0; url=foo", None),
        ("0; url=foo", Some((0, "foo"))),
        ("+1; foo", None),
        ("-1; foo", None),
        ("+0; foo", None),
        ("-0; foo", None),
        ("0; foo", Some((0, "foo"))),
        ("+1", None),
        ("-1", None),
        ("+0", None),
        ("-0", None),
        ("0", Some((0, SELF))),
        ("1.9; url=foo", Some((1, "foo"))),
        ("1.9..5.; url=foo", Some((1, "foo"))),
        (".9; url=foo", Some((0, "foo"))),
        ("0.9; url=foo", Some((0, "foo"))),
        ("1e0; url=foo", None),
        ("1e1; url=foo", None),
        ("10e-1; url=foo", None),
        ("-0.1; url=foo", None),
    ];

    #[test]
    fn it_goes_where_a_browser_goes() {
        let page = Url::parse(PAGE).unwrap();
        for (text, expected) in CASES {
            let found =
                parse(text).map(|it| (it.seconds, page.join(it.url.as_deref().unwrap_or(SELF)).unwrap()));
            let expected = expected.map(|(seconds, url)| (seconds, page.join(url).unwrap()));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn a_time_without_end_is_one() {
        assert_eq!(parse("99999999999999999999999; a").map(|it| it.seconds), Some(u64::MAX));
    }
}
