//! Pages of a batch: what was found on them, as text that is made piece by piece, and why some could not be had.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use skep_state::kinds::tasks::{Batch, Task, Tasks};
use skep_state::task::{CRAWL_QUEUE, TaskState};

/// A piece of text has about so many bytes.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// A URL that was looked at, or could not be: what was posted, and what was found. The bytes are the state's.
pub(super) struct Page {
    payload: Bytes,
    results: Vec<Bytes>,
    /// Why it could not be looked at, or not to its end.
    error: Option<Bytes>,
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

impl Page {
    /// Those of a batch that are over, in the order in which they were posted.
    pub fn all(tasks: &Tasks, batch: &Batch) -> Vec<Page> {
        let mut pages = Vec::<Page>::new();
        let mut last = None;
        for (place, task) in tasks.members(batch) {
            if last.replace(place) != Some(place) {
                // The first in a place is what was posted.
                let payload = task.body.payload.clone();
                pages.push(Page { payload, results: Vec::new(), error: None, is_open: false });
            }
            if let Some(page) = pages.last_mut() {
                page.add(task);
            }
        }
        pages.retain(|page| !page.is_open);
        pages
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.results.iter().map(Bytes::len).sum::<usize>()
    }

    fn url(&self) -> Option<String> {
        serde_json::from_slice(&self.payload).ok().map(|Payload { url }| url)
    }

    fn add(&mut self, task: &Task) {
        self.is_open |= task.state.is_unfinished();
        match task.state {
            TaskState::Done => self.results.push(task.outcome.clone()),
            TaskState::Dead => self.fail(task.error()),
            TaskState::Cancelled => self.fail(b"cancelled"),
            _ => {}
        }
    }

    /// What went wrong first is what is told.
    fn fail(&mut self, error: &[u8]) {
        let error = if error.is_empty() { b"it failed" } else { error };
        self.error.get_or_insert_with(|| Bytes::copy_from_slice(error));
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

/// Why pages could not be looked at: an object from each of their URLs, as it was posted, to the reason.
pub(super) struct Errors(Vec<Page>);

impl Errors {
    /// Of a batch of the crawler's; none of another one.
    pub fn of(tasks: &Tasks, batch: &Batch) -> Option<Self> {
        let (_, first) = tasks.members(batch).next()?;
        let is_of_pages = tasks.queue_of(first) == CRAWL_QUEUE;
        is_of_pages.then(|| {
            let mut pages = Page::all(tasks, batch);
            pages.retain(|page| page.error.is_some());
            Errors(pages)
        })
    }
}

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.0.iter().filter_map(|page| Some((page.url()?, page.error.as_deref()?)));
        serializer.collect_map(pairs.map(|(url, error)| (url, String::from_utf8_lossy(error))))
    }
}

/// One object of all pages, in pieces.
pub(super) struct Text {
    pages: std::vec::IntoIter<Page>,
    has_begun: bool,
    has_ended: bool,
}

impl Text {
    pub fn of(pages: Vec<Page>) -> Self {
        Self { pages: pages.into_iter(), has_begun: false, has_ended: false }
    }
}

impl Iterator for Text {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let mut text = Vec::new();
        while text.len() < PIECE_BYTES {
            let Some(page) = self.pages.next() else {
                text.extend_from_slice(if self.has_begun { b"}\n" } else { b"{}\n" });
                self.has_ended = true;
                break;
            };
            let Some(member) = page.member() else { continue };
            text.push(if self.has_begun { b',' } else { b'{' });
            text.extend_from_slice(&member);
            self.has_begun = true;
        }
        Some(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(url: &str, results: &[&str]) -> Page {
        let payload = serde_json::json!({ "url": url }).to_string().into();
        Page {
            payload,
            results: results.iter().map(|it| Bytes::from((*it).to_owned())).collect(),
            error: None,
            is_open: false,
        }
    }

    fn text(pages: Vec<Page>) -> String {
        let bytes: Vec<u8> = Text::of(pages).flatten().collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn images_are_in_the_order_in_which_they_were_found_and_each_is_there_once() {
        let pages = vec![
            page("http://b/\"", &[r#"{"images":["2","1","2"]}"#, r#"{"images":["1","3"],"cut":true}"#]),
            page("http://a", &["null", r#"{"images":[7]}"#, r#"{}"#]),
            Page { payload: Bytes::from_static(b"[1]"), results: Vec::new(), error: None, is_open: false },
        ];
        assert_eq!(text(pages), "{\"http://b/\\\"\":[\"2\",\"1\",\"3\"],\"http://a\":[]}\n");
        assert_eq!(text(Vec::new()), "{}\n");
    }

    #[test]
    fn what_is_long_is_one_object_in_pieces() {
        let result = format!(r#"{{"images":["{}"]}}"#, "x".repeat(20_000));
        let pages: Vec<_> = (0..20).map(|number| page(&number.to_string(), &[&result])).collect();
        let pieces: Vec<Bytes> = Text::of(pages).collect();
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 21_000));
        let object: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 20);
    }
}
