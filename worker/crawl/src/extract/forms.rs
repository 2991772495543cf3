//! Where in HTML an image is named: elements, and what each of their attributes means. Pure.

use super::{css, is_space, srcset};

/// A start tag: its name and its attributes in lower case, values decoded, each name once.
#[derive(Debug, Default)]
pub struct Tag {
    pub name: Vec<u8>,
    pub attributes: Vec<(Vec<u8>, String)>,
}

impl Tag {
    pub fn get(&self, name: &[u8]) -> Option<&str> {
        self.attributes.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    fn is(&self, name: &[u8], value: &str) -> bool {
        self.get(name).is_some_and(|it| it.trim_matches(is_space).eq_ignore_ascii_case(value))
    }
}

/// What an attribute's value is.
enum Form {
    Url,
    Srcset,
    Css,
    /// A URL, or CSS with one in it.
    UrlOrCss,
}

/// Relations of a link whose target is an image.
const RELATIONS: [&str; 7] = [
    "icon",
    "apple-touch-icon",
    "apple-touch-icon-precomposed",
    "apple-touch-startup-image",
    "fluid-icon",
    "image_src",
    "mask-icon",
];

/// Properties of a page that name an image.
const PROPERTIES: [&str; 10] = [
    "og:image",
    "og:image:secure_url",
    "og:image:url",
    "twitter:image",
    "twitter:image:src",
    "msapplication-tileimage",
    "msapplication-square70x70logo",
    "msapplication-square150x150logo",
    "msapplication-square310x310logo",
    "msapplication-wide310x150logo",
];

/// Elements whose `data-src` is what they themselves load late, and no image.
const NO_IMAGES: [&[u8]; 9] =
    [b"audio", b"embed", b"frame", b"iframe", b"link", b"object", b"script", b"source", b"track"];

/// Gives what a tag names, in the order of its attributes, unresolved.
pub fn images(tag: &Tag, found: &mut dyn FnMut(&str)) {
    for (name, value) in &tag.attributes {
        match form(tag, name) {
            None => {}
            Some(Form::Url) => found(value),
            Some(Form::Srcset) => srcset::urls(value).for_each(&mut *found),
            Some(Form::Css) => css::urls(value, found),
            Some(Form::UrlOrCss) => {
                let mut is_css = false;
                css::urls(value, &mut |url| {
                    is_css = true;
                    found(url);
                });
                if !is_css {
                    found(value);
                }
            }
        }
    }
}

fn form(tag: &Tag, attribute: &[u8]) -> Option<Form> {
    let element = tag.name.as_slice();
    let form = match attribute {
        b"style" => Form::Css,
        b"background" => Form::Url,
        b"src" => match element {
            b"img" | b"image" => Form::Url,
            b"input" if tag.is(b"type", "image") => Form::Url,
            b"embed" if is_image_type(tag) => Form::Url,
            _ => return None,
        },
        b"srcset" if matches!(element, b"img" | b"image" | b"source") => Form::Srcset,
        b"poster" if element == b"video" => Form::Url,
        // Of SVG; in HTML an `image` is an `img`.
        b"href" | b"xlink:href" if matches!(element, b"image" | b"feimage") => Form::Url,
        b"href" if element == b"link" && (is_icon(tag.get(b"rel")) || is_preload(tag)) => Form::Url,
        b"imagesrcset" if element == b"link" && is_preload(tag) => Form::Srcset,
        b"content" if element == b"meta" && is_property(tag) => Form::Url,
        b"data" if element == b"object" && is_image_type(tag) => Form::Url,
        b"data-src" | b"data-original" | b"data-lazy-src" | b"data-bg"
            if element == b"video" || NO_IMAGES.contains(&element) =>
        {
            return None;
        }
        b"data-src" | b"data-original" | b"data-lazy-src" => Form::Url,
        b"data-bg" => Form::UrlOrCss,
        b"data-srcset" => Form::Srcset,
        _ => return None,
    };
    Some(form)
}

/// Whether a link of these relations leads to an image.
pub fn is_icon(rel: Option<&str>) -> bool {
    has(rel, |it| RELATIONS.iter().any(|known| it.eq_ignore_ascii_case(known)))
}

/// Whether what is loaded ahead is an image.
pub fn is_preload_of_image(rel: Option<&str>, kind: Option<&str>) -> bool {
    let is_image = kind.is_some_and(|it| it.trim_matches(is_space).eq_ignore_ascii_case("image"));
    is_image && has(rel, |it| it.eq_ignore_ascii_case("preload"))
}

fn is_preload(tag: &Tag) -> bool {
    is_preload_of_image(tag.get(b"rel"), tag.get(b"as"))
}

fn has(words: Option<&str>, is: impl Fn(&str) -> bool) -> bool {
    words.is_some_and(|it| it.split(is_space).any(is))
}

fn is_property(tag: &Tag) -> bool {
    let names = [tag.get(b"property"), tag.get(b"name")];
    let is = |name: &str| PROPERTIES.iter().any(|it| name.trim_matches(is_space).eq_ignore_ascii_case(it));
    names.into_iter().flatten().any(is)
}

fn is_image_type(tag: &Tag) -> bool {
    let kind = tag.get(b"type").unwrap_or_default().trim_start_matches(is_space);
    kind.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("image/"))
}
