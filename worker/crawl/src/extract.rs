//! The images of a page: what names them in its attributes, its CSS and the head of its answer. Pure.

pub mod css;
pub mod link;
pub mod refresh;
pub mod srcset;

/// White space as HTML has it.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}
