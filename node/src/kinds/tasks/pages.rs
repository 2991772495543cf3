//! Pages of a batch: what was found on them, as text that is made piece by piece, and why some could not be had.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use skep_state::heap::Held;
use skep_state::kinds::tasks::{Batch, Task, Tasks};
use skep_state::task::{CRAWL_QUEUE, TaskState};

use crate::kinds::served::TaskApi;
use crate::service::ServiceError;

/// A piece of text has about so many bytes.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// A URL that was looked at, or could not be: what was posted, and what was found.
pub(super) struct Page<T> {
    payload: T,
    results: Vec<T>,
    /// Why it could not be looked at, or not to its end.
    error: Option<T>,
    is_open: bool,
}

/// What a worker is asked to look at.
#[derive(Deserialize)]
struct Payload {
    url: String,
}

/// What a worker has found.
#[derive(Deserialize)]
struct Found {
    images: Vec<String>,
}

impl Page<Held> {
    /// Those of a batch that are over, in the order in which they were posted.
    pub fn all(tasks: &Tasks, batch: &Batch) -> Vec<Self> {
        let mut pages = Vec::<Self>::new();
        let mut last = None;
        for (place, task) in tasks.members(batch) {
            if last.replace(place) != Some(place) {
                // The first in a place is what was posted.
                let payload = tasks.hold(&task.payload);
                pages.push(Page { payload, results: Vec::new(), error: None, is_open: false });
            }
            if let Some(page) = pages.last_mut() {
                page.add(task, || tasks.hold(&task.outcome));
            }
        }
        pages.retain(|page| !page.is_open);
        pages
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.results.iter().map(Held::len).sum::<usize>()
    }

    fn add(&mut self, task: &Task, outcome: impl FnOnce() -> Held) {
        self.is_open |= task.state.is_unfinished();
        match task.state {
            TaskState::Done => self.results.push(outcome()),
            TaskState::Dead => {
                let outcome = outcome();
                self.fail(match task.error(b"") {
                    b"" if outcome.is_empty() => Held::Here(Bytes::from_static(b"it failed")),
                    b"" => outcome,
                    known => Held::Here(Bytes::copy_from_slice(known)),
                });
            }
            TaskState::Cancelled => self.fail(Held::Here(Bytes::from_static(b"cancelled"))),
            _ => {}
        }
    }

    /// What went wrong first is what is told.
    fn fail(&mut self, error: Held) {
        self.error.get_or_insert(error);
    }

    async fn read<A: TaskApi>(self, api: &A) -> Result<Page<Bytes>, ServiceError> {
        let Page { payload, results, error, is_open } = self;
        let count = results.len();
        let all = [payload].into_iter().chain(results).chain(error);
        let mut read = api.read_held(all.collect()).await?.into_iter();
        let payload = read.next().unwrap_or_default();
        let results = read.by_ref().take(count).collect();
        Ok(Page { payload, results, error: read.next(), is_open })
    }
}

impl Page<Bytes> {
    fn url(&self) -> Option<String> {
        serde_json::from_slice(&self.payload).ok().map(|Payload { url }| url)
    }

    /// Its member of the object: each image once, in the order in which they were found. What is no page has none, and
    /// what is no result of a crawler no images.
    fn member(&self) -> Option<Vec<u8>> {
        let url = self.url()?;
        let found = self.results.iter().filter_map(|result| serde_json::from_slice::<Found>(result).ok());
        let all: Vec<String> = found.flat_map(|found| found.images).collect();
        let mut seen = HashSet::new();
        let images: Vec<&String> = all.iter().filter(|image| seen.insert(image.as_str())).collect();
        let mut member = serde_json::to_vec(&url).ok()?;
        member.push(b':');
        serde_json::to_writer(&mut member, &images).ok()?;
        Some(member)
    }
}

/// The pages of a batch of the crawler's that could not be looked at; none of another one.
pub(super) fn failed(tasks: &Tasks, batch: &Batch) -> Option<Vec<Page<Held>>> {
    let (_, first) = tasks.members(batch).next()?;
    let is_of_pages = tasks.queue_of(first) == CRAWL_QUEUE;
    is_of_pages.then(|| {
        let mut pages = Page::all(tasks, batch);
        pages.retain(|page| page.error.is_some());
        pages
    })
}

/// Why pages could not be looked at: an object from each of their URLs, as it was posted, to the reason.
pub(super) struct Errors(Vec<Page<Bytes>>);

impl Errors {
    pub async fn read<A: TaskApi>(api: &A, failed: Vec<Page<Held>>) -> Result<Self, ServiceError> {
        let mut read = Vec::new();
        for page in failed {
            // What was found beside is not told.
            read.push(Page { results: Vec::new(), ..page }.read(api).await?);
        }
        Ok(Errors(read))
    }
}

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.0.iter().filter_map(|page| Some((page.url()?, page.error.as_deref()?)));
        serializer.collect_map(pairs.map(|(url, error)| (url, String::from_utf8_lossy(error))))
    }
}

/// One object of all pages, in pieces: of each page what was found is read when it is its turn.
pub(super) struct Text {
    pages: std::vec::IntoIter<Page<Held>>,
    has_begun: bool,
    has_ended: bool,
}

impl Text {
    pub fn of(pages: Vec<Page<Held>>) -> Self {
        Self { pages: pages.into_iter(), has_begun: false, has_ended: false }
    }

    /// The next piece; none behind the last.
    pub async fn next<A: TaskApi>(&mut self, api: &A) -> Result<Option<Bytes>, ServiceError> {
        if self.has_ended {
            return Ok(None);
        }
        let mut text = Vec::new();
        while text.len() < PIECE_BYTES {
            let Some(page) = self.pages.next() else {
                text.extend_from_slice(if self.has_begun { b"}\n" } else { b"{}\n" });
                self.has_ended = true;
                break;
            };
            let Some(member) = page.read(api).await?.member() else { continue };
            text.push(if self.has_begun { b',' } else { b'{' });
            text.extend_from_slice(&member);
            self.has_begun = true;
        }
        Ok(Some(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fake::Fake;

    fn here(text: impl Into<String>) -> Held {
        Held::Here(text.into().into())
    }

    fn page(url: &str, results: &[&str]) -> Page<Held> {
        let payload = here(serde_json::json!({ "url": url }).to_string());
        Page { payload, results: results.iter().map(|it| here(*it)).collect(), error: None, is_open: false }
    }

    async fn pieces(pages: Vec<Page<Held>>) -> Vec<Bytes> {
        let (api, mut text, mut pieces) = (Fake::default(), Text::of(pages), Vec::new());
        while let Some(piece) = text.next(&api).await.unwrap() {
            pieces.push(piece);
        }
        pieces
    }

    async fn text(pages: Vec<Page<Held>>) -> String {
        String::from_utf8(pieces(pages).await.concat()).unwrap()
    }

    #[tokio::test]
    async fn images_are_in_the_order_in_which_they_were_found_and_each_is_there_once() {
        let pages = vec![
            page("http://b/\"", &[r#"{"images":["2","1","2"]}"#, r#"{"images":["1","3"],"cut":true}"#]),
            page("http://a", &["null", r#"{"images":[7]}"#, r#"{}"#]),
            Page { payload: here("[1]"), results: Vec::new(), error: None, is_open: false },
        ];
        assert_eq!(text(pages).await, "{\"http://b/\\\"\":[\"2\",\"1\",\"3\"],\"http://a\":[]}\n");
        assert_eq!(text(Vec::new()).await, "{}\n");
    }

    #[tokio::test]
    async fn what_is_long_is_one_object_in_pieces() {
        let result = format!(r#"{{"images":["{}"]}}"#, "x".repeat(20_000));
        let pages: Vec<_> = (0..20).map(|number| page(&number.to_string(), &[&result])).collect();
        let pieces = pieces(pages).await;
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 21_000));
        let object: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 20);
    }
}
