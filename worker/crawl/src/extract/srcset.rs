//! `srcset` and `imagesrcset`: WHATWG's "parse a srcset attribute". Pure.

use super::is_space;

/// The URLs of the candidates that a browser would choose from, in order. None is kept here: there may be
/// millions.
pub fn urls(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c| is_space(c) || c == ',');
            if rest.is_empty() {
                return None;
            }
            let end = rest.find(is_space).unwrap_or(rest.len());
            let (url, behind) = rest.split_at(end);
            let bare = url.trim_end_matches(',');
            if bare.len() < url.len() {
                // A comma at its end is the candidate's end: it has no descriptors.
                rest = behind;
                return Some(bare);
            }
            let end = end_of_descriptors(behind);
            rest = &behind[end..];
            if are_valid(&behind[..end]) {
                return Some(url);
            }
        }
    })
}

/// Where the comma is that ends a candidate: not one in parentheses, and these do not nest.
fn end_of_descriptors(text: &str) -> usize {
    let mut in_parentheses = false;
    for (at, c) in text.char_indices() {
        match c {
            ',' if !in_parentheses => return at,
            '(' => in_parentheses = true,
            ')' => in_parentheses = false,
            _ => {}
        }
    }
    text.len()
}

/// Whether a candidate counts with these descriptors.
fn are_valid(text: &str) -> bool {
    // What is in parentheses may have spaces; as no descriptor with a parenthesis is known, it is invalid
    // as a whole and in each of its parts.
    let (mut width, mut density, mut height) = (false, false, false);
    for descriptor in text.split(is_space).filter(|it| !it.is_empty()) {
        let (value, unit) = match descriptor.char_indices().next_back() {
            Some((at, unit)) => (&descriptor[..at], unit),
            None => continue,
        };
        let is_valid = match unit {
            'w' => is_integer(value) && !is_zero(value) && !std::mem::replace(&mut width, true) && !density,
            'h' => is_integer(value) && !is_zero(value) && !std::mem::replace(&mut height, true) && !density,
            'x' => {
                is_float(value)
                    && (!value.starts_with('-') || is_zero_float(value))
                    && !std::mem::replace(&mut density, true)
                    && !width
                    && !height
            }
            _ => false,
        };
        if !is_valid {
            return false;
        }
    }
    // A height alone says nothing yet.
    !height || width
}

/// A valid non-negative integer.
fn is_integer(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| b == b'0')
}

/// A valid floating-point number: `-`, digits, `.` and digits, an exponent; digits are needed behind a point.
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_mantissa = match mantissa.split_once('.') {
        Some((whole, part)) => (whole.is_empty() || is_integer(whole)) && is_integer(part),
        None => is_integer(mantissa),
    };
    is_mantissa && exponent.is_none_or(|it| is_integer(it.strip_prefix(['-', '+']).unwrap_or(it)))
}

/// Of a valid one: whether it is zero.
fn is_zero_float(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    mantissa.bytes().all(|b| matches!(b, b'-' | b'.' | b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What web-platform-tests holds a browser to (`srcset/parse-a-srcset-attribute.html`): each srcset with
    /// the image that is chosen, here the first of those that may be.
    const CASES: &[(&str, &str)] = &[
        // Splitting.
        ("", ""),
        (",", ""),
        (",,,", ""),
        ("  data:,a  1x  ", "data:,a"),
        ("\t\tdata:,a\t\t1x\t\t", "data:,a"),
        ("\n\ndata:,a\n\n1x\n\n", "data:,a"),
        ("\u{b}\u{b}data:,a\u{b}\u{b}1x\u{b}\u{b}", "\u{b}\u{b}data:,a\u{b}\u{b}1x\u{b}\u{b}"),
        ("\u{c}\u{c}data:,a\u{c}\u{c}1x\u{c}\u{c}", "data:,a"),
        ("\r\rdata:,a\r\r1x\r\r", "data:,a"),
        ("\u{e}\u{e}data:,a\u{e}\u{e}1x\u{e}\u{e}", "\u{e}\u{e}data:,a\u{e}\u{e}1x\u{e}\u{e}"),
        ("\u{f}\u{f}data:,a\u{f}\u{f}1x\u{f}\u{f}", "\u{f}\u{f}data:,a\u{f}\u{f}1x\u{f}\u{f}"),
        ("\u{10}\u{10}data:,a\u{10}\u{10}1x\u{10}\u{10}", "\u{10}\u{10}data:,a\u{10}\u{10}1x\u{10}\u{10}"),
        ("data:,a", "data:,a"),
        ("data:,a ", "data:,a"),
        ("data:,a ,", "data:,a"),
        ("data:,a,", "data:,a"),
        ("data:,a, ", "data:,a"),
        ("data:,a,,,", "data:,a"),
        ("data:,a,, , ", "data:,a"),
        (" data:,a", "data:,a"),
        (",,,data:,a", "data:,a"),
        (" , ,,data:,a", "data:,a"),
        ("\u{a0}data:,a", "\u{a0}data:,a"),
        ("data:,a\u{a0}", "data:,a\u{a0}"),
        // Descriptors apart.
        ("data:,a 1x", "data:,a"),
        ("data:,a 1x ", "data:,a"),
        ("data:,a 1x,", "data:,a"),
        ("data:,a ( , data:,b 1x, ), data:,c", "data:,c"),
        ("data:,a ((( , data:,b 1x, ), data:,c", "data:,c"),
        ("data:,a [ , data:,b 1x, ], data:,c", "data:,b"),
        ("data:,a { , data:,b 1x, }, data:,c", "data:,b"),
        ("data:,a \" , data:,b 1x, \", data:,c", "data:,b"),
        ("data:,a \\,data:;\\,b, data:,c", "data:;\\,b"),
        ("data:,a, data:,b (", "data:,a"),
        ("data:,a, data:,b (  ", "data:,a"),
        ("data:,a, data:,b (,", "data:,a"),
        ("data:,a, data:,b (x", "data:,a"),
        ("data:,a, data:,b ()", "data:,a"),
        ("data:,a (, data:,b", ""),
        ("data:,a /*, data:,b, data:,c */", "data:,b"),
        ("data:,a //, data:,b", "data:,b"),
        // What they say.
        ("data:,a foo", ""),
        ("data:,a foo foo", ""),
        ("data:,a foo 1x", ""),
        ("data:,a foo 1x foo", ""),
        ("data:,a foo 1w", ""),
        ("data:,a foo 1w foo", ""),
        ("data:,a 1x 1x", ""),
        ("data:,a 1w 1w", ""),
        ("data:,a 1w 1x", ""),
        ("data:,a 1x 1w", ""),
        ("data:,a 1w 1h", "data:,a"),
        ("data:,a 1h 1w", "data:,a"),
        ("data:,a 1h 1h", ""),
        ("data:,a 1h 1x", ""),
        ("data:,a 1h 1w 1x", ""),
        ("data:,a 1x 1w 1h", ""),
        ("data:,a 1h", ""),
        ("data:,a 1h foo", ""),
        ("data:,a foo 1h", ""),
        ("data:,a 0w", ""),
        ("data:,a -1w", ""),
        ("data:,a 1w -1w", ""),
        ("data:,a 1.0w", ""),
        ("data:,a 1w 1.0w", ""),
        ("data:,a 1e0w", ""),
        ("data:,a 1w 1e0w", ""),
        ("data:,a 1www", ""),
        ("data:,a 1w 1www", ""),
        ("data:,a +1w", ""),
        ("data:,a 1w +1w", ""),
        ("data:,a 1W", ""),
        ("data:,a 1w 1W", ""),
        ("data:,a Infinityw", ""),
        ("data:,a 1w Infinityw", ""),
        ("data:,a NaNw", ""),
        ("data:,a 1w NaNw", ""),
        ("data:,a 0x1w", ""),
        ("data:,a 0X1w", ""),
        ("data:,a 0x", "data:,a"),
        ("data:,a -0x", "data:,a"),
        ("data:,a 1x -0x", ""),
        ("data:,a -1x", ""),
        ("data:,a 1x -1x", ""),
        ("data:,a 1e0x", "data:,a"),
        ("data:,a 1E0x", "data:,a"),
        ("data:,a 1e-1x", "data:,a"),
        ("data:,a 1.5e1x", "data:,a"),
        ("data:,a -x", ""),
        ("data:,a .x", ""),
        ("data:,a -.x", ""),
        ("data:,a 1.x", ""),
        ("data:,a .5x", "data:,a"),
        ("data:,a .5e1x", "data:,a"),
        ("data:,a 1x 1.5e1x", ""),
        ("data:,a 1x 1e1.5x", ""),
        ("data:,a 1.0x", "data:,a"),
        ("data:,a 1x 1.0x", ""),
        ("data:,a +1x", ""),
        ("data:,a 1X", ""),
        ("data:,a Infinityx", ""),
        ("data:,a NaNx", ""),
        ("data:,a 0x1x", ""),
        ("data:,a 0X1x", ""),
        ("data:,a 1w 0h", ""),
        ("data:,a 1w -1h", ""),
        ("data:,a 1w 1.0h", ""),
        ("data:,a 1w 1e0h", ""),
        ("data:,a 1w 1hhh", ""),
        ("data:,a 1w +1h", ""),
        ("data:,a 1w 1H", ""),
        ("data:,a 1w Infinityh", ""),
        ("data:,a 1w NaNh", ""),
        ("data:,a 0x1h", ""),
        ("data:,a 0X1h", ""),
    ];

    /// What is no space of HTML's, before and behind a number.
    const NO_SPACES: &[char] = &[
        '\u{1}', '\u{a0}', '\u{1680}', '\u{2000}', '\u{2001}', '\u{2002}', '\u{2003}', '\u{2004}',
        '\u{2005}', '\u{2006}', '\u{2007}', '\u{2008}', '\u{2009}', '\u{200a}', '\u{200c}', '\u{200d}',
        '\u{202f}', '\u{205f}', '\u{3000}', '\u{feff}',
    ];

    #[test]
    fn candidates_are_those_of_a_browser() {
        for (text, expected) in CASES {
            assert_eq!(urls(text).next().unwrap_or_default(), *expected, "{text:?}");
        }
        for c in NO_SPACES {
            for (before, unit) in [("", "w"), ("", "x"), ("1w ", "h")] {
                for text in [format!("data:,a {before}1{c}{unit}"), format!("data:,a {before}{c}1{unit}")] {
                    assert_eq!(urls(&text).next(), None, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn all_candidates_are_given_in_order() {
        let urls = |text| urls(text).collect::<Vec<&str>>();
        assert_eq!(urls("a.png 1x, b.png 2x,c,d 100w,e , f 3q, g"), ["a.png", "b.png", "c,d", "e", "g"]);
        assert_eq!(urls("/w_1,h_2/a.png 1x, /w_2,h_4/a.png 2x"), ["/w_1,h_2/a.png", "/w_2,h_4/a.png"]);
    }
}
