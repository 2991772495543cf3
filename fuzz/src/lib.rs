//! What the fuzz targets share: an allocator that counts, and first inputs.
//!
//! Each target proves of one decoder that hostile bytes never make it panic and never make it
//! allocate much more than the bytes that came, and that what it accepts survives being encoded.

pub mod bounded;
pub mod heads;
pub mod library;
pub mod seeds;
