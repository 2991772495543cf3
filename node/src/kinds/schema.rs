//! The shapes of bodies, for the API's document. Where a body is written by hand, a test holds it
//! against these.

// Read by the document alone.
#![allow(dead_code)]

use utoipa::ToSchema;

/// A message that is a text.
#[derive(ToSchema)]
pub(crate) struct TextMessage {
    /// The text. It has at least one character.
    #[schema(min_length = 1, example = "foo")]
    pub message: String,
}

/// Bytes of whatever kind.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary, min_length = 1)]
pub(crate) struct Raw(Vec<u8>);

/// A text.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, example = "a text")]
pub(crate) struct Text(String);

/// Any JSON value.
#[derive(ToSchema)]
#[schema(value_type = Value, example = json!({"any": ["JSON", 1]}))]
pub(crate) struct Json(serde_json::Value);

/// What a message came to.
#[derive(ToSchema)]
pub(crate) struct Stored {
    /// The SHA-256 of the message's bytes: its id.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    /// Its place in the log of messages.
    #[schema(minimum = 1)]
    pub seq: u64,
}

/// How many texts were written.
#[derive(ToSchema)]
pub(crate) struct TextVersion {
    #[schema(minimum = 1)]
    pub version: u64,
}

/// A stored message.
#[derive(ToSchema)]
pub(crate) struct Message {
    /// Its place in the log of messages, from 1.
    #[schema(minimum = 1)]
    pub seq: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub time: String,
    pub content_type: String,
    /// The text, or base64 where it is none.
    pub message: String,
    /// `base64`, or absent.
    #[schema(required = false, pattern = "^base64$", nullable = false)]
    pub encoding: Option<String>,
}

/// A stored message; one that came as JSON is the value that it is.
#[derive(ToSchema)]
pub(crate) struct Item {
    #[schema(minimum = 1)]
    pub seq: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    #[schema(value_type = String, format = DateTime)]
    pub time: String,
    pub content_type: String,
    #[schema(value_type = Value)]
    pub message: serde_json::Value,
    #[schema(required = false, pattern = "^base64$", nullable = false)]
    pub encoding: Option<String>,
}

/// Messages in order.
#[derive(ToSchema)]
pub(crate) struct MessagePage {
    pub messages: Vec<Message>,
    /// The `after` of the next page; null where this one reaches the end.
    #[schema(required = true)]
    pub next: Option<u64>,
}

/// An error (RFC 9457). The types are stable: see the table of problems.
#[derive(ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    #[schema(example = "urn:skep:problem:message-not-found")]
    pub r#type: String,
    pub title: String,
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    pub detail: String,
}
