//! What a shared cache may store, for how long, and which request a stored answer is for (RFC 9111). No I/O, no clock,
//! no chance: times are handed in.
//!
//! ```text
//! list, date                 how values are read
//! directives, targeted       Cache-Control; CDN-Cache-Control (RFC 9213)
//! asked, told                what a request asks of a cache; what an answer tells it
//! storing -> kept            whether it is stored; what of it may be used, and when (RFC 5861)
//! vary, conditions, range    which variant; 304 or not; which part
//! groups                     which groups it is of (RFC 9875)
//! fields                     what is stored of a head, and what a 304 changes of it
//! key                        what an answer is found by
//! ```
//!
//! Where a head has more than one reading, the one that stores less and serves less is taken.

pub mod asked;
pub mod conditions;
pub mod date;
pub mod directives;
pub mod fields;
pub mod groups;
pub mod kept;
pub mod key;
mod list;
pub mod range;
pub mod storing;
mod targeted;
pub mod told;
pub mod vary;

/// A field of a head: its name in any case, and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// Largest number of seconds that is told apart from a larger one (RFC 9111, 1.2.2).
pub const SECONDS_MAX: u64 = 1 << 31;
