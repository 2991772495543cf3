//! Fetches a page and finds its images, where that is allowed.
//!
//! `address` says which addresses may be connected to, `extract` finds the images in a page's bytes,
//! `robots` reads what a site says of who may fetch what. All three are pure, and take hostile bytes.

pub mod address;
pub mod extract;
pub mod robots;
