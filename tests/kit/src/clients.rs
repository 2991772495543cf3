//! Clients: our own, one for HTTP and one for the feed; writers with a ledger, and who judges it; those that
//! others wrote.

pub mod browser;
pub mod feed;
pub mod http;
pub mod load;
pub mod oracle;
pub mod tools;
