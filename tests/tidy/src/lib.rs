//! Rules of this repository that no compiler holds, each with the text that says what to do where it is broken.
//!
//! A rule reads files and gives complaints; it is tested on sample text, and then holds the tree to it.
//! Nothing here runs a program, and nothing is written.

pub mod circles;
pub mod crates;
pub mod exceptions;
pub mod items;
pub mod modules;
pub mod tokens;
pub mod tree;
