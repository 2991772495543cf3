//! Fetches a page and finds its images, where that is allowed.
//!
//! `crawl` is one page, from its URL to its images. `fetch` is one request: names, addresses, connection,
//! body. `pace` says when an origin may be asked next. `address` says which addresses may be connected to,
//! `extract` finds the images in a page's bytes, `robots` reads what a site says of who may fetch what: these
//! are pure, and take hostile bytes.

pub mod address;
mod crawl;
pub mod extract;
mod fetch;
mod pace;
pub mod robots;
#[cfg(test)]
mod testing;

pub use crawl::{Came, Crawler, Failure, Found, HOPS_MAX, Moved, Options};
pub use fetch::{AGENT, decode};
