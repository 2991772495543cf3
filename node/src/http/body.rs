//! Reading a request's body: bounded in bytes and in time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;

use super::account::{Account, Charge};
use super::problem::{Problem, ProblemKind};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of a refused body that are read and thrown away, and how long that may take: a
/// client that is still sending when the connection closes often loses the answer with it.
const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// What a body is charged whose length is not known beforehand.
const UNKNOWN_BYTES: usize = 16 * 1024;

/// The whole body, of at most `bytes_max` bytes, charged to the account while it arrives.
///
/// A body that says beforehand that it is too large is refused before `100 Continue` is sent.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    account: &Account,
) -> Result<Bytes, Problem> {
    read_charged(headers, body, bytes_max, account).await.map(|(bytes, _)| bytes)
}

/// The same, with what it is charged, for who holds it on.
pub(crate) async fn read_charged(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    account: &Account,
) -> Result<(Bytes, Charge), Problem> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let detail = "send the body as it is, with no Content-Encoding";
        return Err(Problem::new(ProblemKind::UnsupportedContentEncoding, detail));
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        // Polling the body of a client that waits for `100 Continue` would ask for it.
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(too_large(bytes_max));
    }
    let announced = announced.and_then(|length| usize::try_from(length).ok());
    let mut charge = account.charge(announced.unwrap_or(UNKNOWN_BYTES).max(1))?;
    let collecting = collect(body, announced, bytes_max, |bytes| account.cover(&mut charge, bytes));
    match tokio::time::timeout(BODY_TIMEOUT, collecting).await {
        Ok(Ok(bytes)) => Ok((bytes, charge)),
        Ok(Err(Refused::Overloaded(problem))) => Err(problem),
        Ok(Err(Refused::TooLarge(rest))) => {
            discard(rest).await;
            Err(too_large(bytes_max))
        }
        Ok(Err(Refused::Broken)) => {
            Err(Problem::new(ProblemKind::IncompleteBody, "the body ended before it was whole"))
        }
        Err(_) => {
            let detail = format!("the body did not arrive in {} seconds", BODY_TIMEOUT.as_secs());
            Err(Problem::new(ProblemKind::BodyTimeout, detail))
        }
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(ProblemKind::BodyTooLarge, format!("a body may have at most {bytes_max} bytes"))
}

enum Refused {
    /// With what is still to come.
    TooLarge(Body),
    Broken,
    /// There is no memory for it.
    Overloaded(Problem),
}

async fn collect(
    mut body: Body,
    announced: Option<usize>,
    bytes_max: usize,
    mut cover: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Bytes, Refused> {
    // Most bodies are one frame: it is taken as it is, without a copy.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refused::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(Refused::TooLarge(body));
        }
        cover(first.len() + rest.len() + data.len()).map_err(Refused::Overloaded)?;
        if !rest.is_empty() {
            rest.extend_from_slice(&data);
        } else if first.is_empty() {
            first = data;
        } else {
            // Once, where the length is known: doubling would hold it one and a half times.
            rest.reserve(announced.unwrap_or_default());
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn discard(mut body: Body) {
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                return;
            }
        }
    };
    // The refusal stands whether or not the rest came.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}
