//! What the public routes share that belong to no kind.

use std::sync::Arc;

use skep_console::token::OperatorToken;

use super::overview::Overview;
use crate::kinds::messages::live::Feed;
use crate::kinds::served::Served;

/// What the routes share that belong to no kind.
pub(crate) struct Public<A> {
    pub served: Arc<Served<A>>,
    pub feed: Arc<Feed<A>>,
    pub overview: Overview,
    pub token: OperatorToken,
}
