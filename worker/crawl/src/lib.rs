//! Fetches a page and finds its images, where that is allowed.
//!
//! `fetch` is one request: names, addresses, connection, body. `pace` says when an origin may be asked next.
//! `address` says which addresses may be connected to, `extract` finds the images in a page's bytes,
//! `robots` reads what a site says of who may fetch what: these are pure, and take hostile bytes.

pub mod address;
pub mod extract;
pub mod fetch;
pub mod pace;
pub mod robots;
#[cfg(test)]
mod testing;
