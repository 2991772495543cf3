//! What is said of which answers are compressed.

use skep_base::settings::values;

use crate::compress::{Compress, LENGTH_MIN_MAX, LEVEL_MAX, TYPES_MAX, type_of};
use crate::fault::Faults;
use crate::reader::Spot;

/// `true`, or an object that says more.
pub(super) fn read(spot: &Spot<'_>, faults: &mut Faults) -> Option<Compress> {
    let mut compress = Compress::default();
    if spot.is_switch() {
        return Some(compress);
    }
    let mut fields = spot.fields(faults)?;
    if let Some(types) = fields.take("types") {
        let items = types.some_items(TYPES_MAX, faults);
        compress.types = items.iter().filter_map(|it| it.read(type_of, faults)).collect();
    }
    let size = |text: &str| values::size(text, LENGTH_MIN_MAX);
    if let Some(bytes) = fields.take("min").and_then(|it| it.read(size, faults)) {
        compress.length_min = bytes;
    }
    if let Some(level) = fields.take("level").and_then(|it| it.whole(1..=LEVEL_MAX, faults)) {
        compress.level = level;
    }
    fields.end(faults);
    Some(compress)
}

#[cfg(test)]
mod tests {
    use crate::Document;
    use crate::compress::Compress;

    #[test]
    fn what_is_compressed_is_what_a_route_says_or_what_is_usual() {
        let of = |compress: &str| {
            let text = format!("[routes.r]\nservice = \"skep\"\ncompress = {compress}\n");
            Document::read(&text).map(|it| it.routes["r"].policies.compress.clone())
        };
        assert_eq!(of("true"), Ok(Some(Compress::default())));
        assert_eq!(of("{}"), Ok(Some(Compress::default())));
        assert_eq!(of("false"), Ok(None));
        let types = vec!["text/html".to_owned(), "+json".to_owned()];
        let said = of("{types = [\"Text/HTML\", \"+json\"], min = \"2KiB\", level = 3}");
        assert_eq!(said, Ok(Some(Compress { types, length_min: 2048, level: 3 })));
        for (bad, pointer) in [
            ("1", ""),
            ("{types = []}", "/types"),
            ("{types = [\"*/*\"]}", "/types/0"),
            ("{types = [\"text/event-stream\"]}", "/types/0"),
            ("{min = \"2MiB\"}", "/min"),
            ("{level = 0}", "/level"),
            ("{level = 4}", "/level"),
            ("{codings = [\"br\"]}", "/codings"),
        ] {
            assert_eq!(of(bad).unwrap_err()[0].pointer, format!("/routes/r/compress{pointer}"), "{bad}");
        }
    }
}
