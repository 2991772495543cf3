//! `Link` fields of an answer (RFC 8288). Pure.

/// Most links that are read of one field.
const LINKS_MAX: usize = 256;

/// A link, as far as images are concerned. Values are as they stand there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub target: String,
    pub rel: String,
    pub kind: String,
    pub srcset: String,
}

/// The links of one field's value.
pub fn parse(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find('<') {
        let Some((target, behind)) = rest[begin + 1..].split_once('>') else { break };
        let mut link = Link { target: target.trim().to_owned(), ..Link::default() };
        rest = behind;
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            let Some(behind) = rest.strip_prefix(';') else { break };
            let behind = behind.trim_start_matches([' ', '\t']);
            let end = behind.find(['=', ';', ',']).unwrap_or(behind.len());
            let (name, behind) = behind.split_at(end);
            let (value, behind) = match behind.strip_prefix('=') {
                Some(behind) => value(behind.trim_start_matches([' ', '\t'])),
                None => (String::new(), behind),
            };
            rest = behind;
            let at = match name.trim().to_ascii_lowercase().as_str() {
                "rel" => &mut link.rel,
                "as" => &mut link.kind,
                "imagesrcset" => &mut link.srcset,
                _ => continue,
            };
            // The first one counts.
            if at.is_empty() {
                *at = value;
            }
        }
        links.push(link);
        if links.len() == LINKS_MAX {
            break;
        }
    }
    links
}

/// A token or a quoted string, and what stands behind it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(target: &str, rel: &str, kind: &str, srcset: &str) -> Link {
        Link { target: target.into(), rel: rel.into(), kind: kind.into(), srcset: srcset.into() }
    }

    #[test]
    fn links_are_read_with_what_they_say() {
        for (text, expected) in [
            ("</a.png>; rel=preload; as=image", vec![link("/a.png", "preload", "image", "")]),
            (
                "</a,b.png>;rel=\"icon x\" ; sizes=any, <c.css>; rel=stylesheet",
                vec![link("/a,b.png", "icon x", "", ""), link("c.css", "stylesheet", "", "")],
            ),
            (
                "<>; rel=preload; as=image; imagesrcset=\"a.png 1x, b\\\"c.png 2x\", <d>",
                vec![link("", "preload", "image", "a.png 1x, b\"c.png 2x"), link("d", "", "", "")],
            ),
            ("<a>; rel=icon; REL=other; nopush", vec![link("a", "icon", "", "")]),
            ("<a", vec![]),
            ("<a>; rel=\"icon", vec![link("a", "icon", "", "")]),
            ("", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_field_of_very_many_is_not_read_to_its_end() {
        assert_eq!(parse(&"<a>,".repeat(LINKS_MAX * 2)).len(), LINKS_MAX);
    }
}
