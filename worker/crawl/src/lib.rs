//! Fetches a page and finds its images, where that is allowed.
//!
//! `address` says which addresses may be connected to. Pure.

pub mod address;
