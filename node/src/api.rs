//! The two APIs: the public one, of which the kinds have their own routes, and the admin one.

mod admin;
mod assets;
mod export;
#[cfg(test)]
pub(crate) mod fake;
mod members;
mod node;
mod openapi;
mod overview;
mod public;
mod shared;

pub use admin::{Tokens, admin_app};
pub use node::{AdminApi, NodeAdmin};
pub use public::{PublicLimits, public_app};

#[cfg(test)]
mod tests;
