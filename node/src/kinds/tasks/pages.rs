//! Pages of a batch: what was found on them, as text that is made piece by piece, and why some could not be had.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use skep_state::heap::Held;
use skep_state::kinds::tasks::{Batch, Task, Tasks};
use skep_state::task::{CRAWL_QUEUE, TaskState};

use crate::kinds::served::TaskApi;
use crate::service::ServiceError;

/// A piece of text has about so many bytes.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// Results of a page that are read at once have together no more bytes, unless it is one.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// Images of a page that are remembered, so that none is there twice; a page that has more may have some twice.
pub(super) const SEEN_MAX: usize = 64 * 1024;

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

impl<'a> Page<&'a Task> {
    /// Those of a batch that are over, in the order in which they were posted.
    fn over(tasks: &'a Tasks, batch: &Batch) -> Vec<Self> {
        let mut pages = Vec::<Self>::new();
        let mut last = None;
        for (place, task) in tasks.members(batch) {
            if last.replace(place) != Some(place) {
                // The first in a place is what was posted.
                pages.push(Page { payload: task, results: Vec::new(), error: None, is_open: false });
            }
            let Some(page) = pages.last_mut() else { continue };
            page.is_open |= task.state.is_unfinished();
            match task.state {
                TaskState::Done => page.results.push(task),
                // What went wrong first is what is told.
                TaskState::Dead | TaskState::Cancelled => {
                    page.error.get_or_insert(task);
                }
                _ => {}
            }
        }
        pages.retain(|page| !page.is_open);
        pages
    }
}

/// Why a task came to nothing.
fn why(tasks: &Tasks, task: &Task) -> Held {
    let known = |why| Held::Here(Bytes::from_static(why));
    match task.error(b"") {
        _ if task.state == TaskState::Cancelled => known(b"cancelled"),
        b"" if task.outcome.is_empty() => known(b"it failed"),
        b"" => tasks.hold(&task.outcome),
        known => Held::Here(Bytes::copy_from_slice(known)),
    }
}

impl Page<Held> {
    /// Those of a batch that are over, with what was found, in the order in which they were posted.
    pub fn all(tasks: &Tasks, batch: &Batch) -> Vec<Self> {
        let held = |task: &Task| tasks.hold(&task.outcome);
        let page = |page: Page<&Task>| Page {
            payload: tasks.hold(&page.payload.payload),
            results: page.results.into_iter().map(held).collect(),
            error: None,
            is_open: false,
        };
        Page::over(tasks, batch).into_iter().map(page).collect()
    }

    /// What is to be read of it.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.results.iter().map(Held::len).sum::<usize>()
    }

    /// What it takes before anything is read.
    pub fn places(&self) -> usize {
        (1 + self.results.len()) * size_of::<Held>()
    }
}

/// The URL that a task is to look at; what is no page has none.
fn url(payload: &[u8]) -> Option<String> {
    serde_json::from_slice(payload).ok().map(|Payload { url }| url)
}

/// The pages of a batch of the crawler's that could not be looked at; none of another one. What was found beside is not
/// told.
pub(super) fn failed(tasks: &Tasks, batch: &Batch) -> Option<Vec<Page<Held>>> {
    let (_, first) = tasks.members(batch).next()?;
    let is_of_pages = tasks.queue_of(first) == CRAWL_QUEUE;
    let page = |page: Page<&Task>| {
        let error = Some(why(tasks, page.error?));
        Some(Page { payload: tasks.hold(&page.payload.payload), results: Vec::new(), error, is_open: false })
    };
    is_of_pages.then(|| Page::over(tasks, batch).into_iter().filter_map(page).collect())
}

/// Why pages could not be looked at: from each of their URLs, as it was posted, to the reason.
pub(super) struct Errors(Vec<(String, String)>);

impl Errors {
    /// One after the other: of each the URL and the reason are kept.
    pub async fn read<A: TaskApi>(api: &A, failed: Vec<Page<Held>>) -> Result<Self, ServiceError> {
        let mut all = Vec::new();
        for Page { payload, error, .. } in failed {
            let read = api.read_held([payload].into_iter().chain(error).collect()).await?;
            if let [payload, error] = read.as_slice()
                && let Some(url) = url(payload)
            {
                all.push((url, String::from_utf8_lossy(error).into_owned()));
            }
        }
        Ok(Errors(all))
    }
}

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(url, error)| (url, error)))
    }
}

/// Images of a page that are there already, as far as they are remembered: a hash of each is enough.
#[derive(Default)]
struct Seen {
    hashes: HashSet<[u64; 2]>,
    by: [RandomState; 2],
}

impl Seen {
    fn is_new(&mut self, image: &str) -> bool {
        let hash = [self.by[0].hash_one(image), self.by[1].hash_one(image)];
        match self.hashes.len() < SEEN_MAX {
            true => self.hashes.insert(hash),
            false => !self.hashes.contains(&hash),
        }
    }
}

/// A page that is being written.
struct Open {
    results: std::vec::IntoIter<Held>,
    seen: Seen,
    has_images: bool,
}

impl Open {
    /// The results that are to be read next; none behind the last.
    fn next(&self) -> Vec<Held> {
        let mut bytes = 0;
        let fits = |held: &&Held| {
            bytes += held.len();
            bytes <= READ_BYTES
        };
        let all = self.results.as_slice();
        let count = all.iter().take_while(fits).count().max(1).min(all.len());
        all[..count].to_vec()
    }

    /// Each image once, in the order in which they were found. What is no result of a crawler has none.
    fn write(&mut self, result: &[u8], text: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let Ok(found) = serde_json::from_slice::<Found>(result) else { return Ok(()) };
        for image in found.images.iter().filter(|image| self.seen.is_new(image)) {
            if std::mem::replace(&mut self.has_images, true) {
                text.push(b',');
            }
            serde_json::to_writer(&mut *text, image)?;
        }
        Ok(())
    }
}

/// One object of all pages, in pieces: of each page what was found is read when it is its turn, little at a time.
pub(super) struct Text {
    pages: std::vec::IntoIter<Page<Held>>,
    open: Option<Open>,
    /// What is made of the next piece.
    text: Vec<u8>,
    has_begun: bool,
    has_ended: bool,
}

impl Text {
    pub fn of(pages: Vec<Page<Held>>) -> Self {
        Self { pages: pages.into_iter(), open: None, text: Vec::new(), has_begun: false, has_ended: false }
    }

    /// The next piece; none behind the last. Where it fails, it goes on from there when it is called again.
    pub async fn next<A: TaskApi>(&mut self, api: &A) -> Result<Option<Bytes>, ServiceError> {
        if self.has_ended {
            return Ok(None);
        }
        while self.text.len() < PIECE_BYTES && !self.has_ended {
            match self.open.is_some() {
                true => self.go_on(api).await?,
                false => self.begin(api).await?,
            }
        }
        Ok(Some(std::mem::take(&mut self.text).into()))
    }

    /// Begins the next page, or ends.
    async fn begin<A: TaskApi>(&mut self, api: &A) -> Result<(), ServiceError> {
        let Some(page) = self.pages.as_slice().first() else {
            self.text.extend_from_slice(if self.has_begun { b"}\n" } else { b"{}\n" });
            self.has_ended = true;
            return Ok(());
        };
        let payload = api.read_held(vec![page.payload.clone()]).await?.concat();
        let Some(page) = self.pages.next() else { return Ok(()) };
        if let Some(url) = url(&payload) {
            self.text.push(if self.has_begun { b',' } else { b'{' });
            serde_json::to_writer(&mut self.text, &url).map_err(unwritten)?;
            self.text.extend_from_slice(b":[");
            self.has_begun = true;
            self.open =
                Some(Open { results: page.results.into_iter(), seen: Seen::default(), has_images: false });
        }
        Ok(())
    }

    /// Goes on with a page, or ends it.
    async fn go_on<A: TaskApi>(&mut self, api: &A) -> Result<(), ServiceError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let next = open.next();
        if next.is_empty() {
            self.text.push(b']');
            self.open = None;
            return Ok(());
        }
        for result in api.read_held(next).await? {
            open.results.next();
            open.write(&result, &mut self.text).map_err(unwritten)?;
        }
        Ok(())
    }
}

fn unwritten(error: serde_json::Error) -> ServiceError {
    ServiceError::Fatal { detail: format!("what was found cannot be written: {error}") }
}

#[cfg(test)]
mod tests {
    use skep_state::heap::Lost;

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
    async fn of_a_page_with_many_results_little_is_read_and_held_at_a_time() {
        let of = |number: usize| format!(r#"{{"images":["{number}","{}"]}}"#, "x".repeat(100_000));
        let all: Vec<String> = (0..100).map(of).collect();
        let (api, mut pieces, mut count) = (Fake::default(), Vec::new(), 0);
        let results: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut text = Text::of(vec![page("http://a", &results)]);
        while let Some(piece) = text.next(&api).await.unwrap() {
            pieces.push(piece);
            count += 1;
        }
        let most = api.state.lock().unwrap().read_bytes_max;
        assert!((100_000..=READ_BYTES).contains(&most), "{most} bytes were read at once");
        assert!(count > 1 && pieces.iter().all(|piece| piece.len() < PIECE_BYTES + READ_BYTES));
        let object: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(object["http://a"].as_array().unwrap().len(), 101, "the long one is there once");
    }

    #[tokio::test]
    async fn what_fails_goes_on_where_it_was() {
        let (api, mut text) = (Fake::default(), Text::of(vec![page("http://a", &[r#"{"images":["1"]}"#])]));
        text.begin(&api).await.unwrap();
        let open = text.open.as_mut().unwrap();
        let lost = Held::Lost(Lost("gone".into()));
        open.results = [vec![lost], open.results.as_slice().to_vec()].concat().into_iter();
        text.next(&api).await.unwrap_err();
        text.open.as_mut().unwrap().results.next();
        assert_eq!(text.next(&api).await.unwrap().unwrap(), "{\"http://a\":[\"1\"]}\n");
    }

    #[test]
    fn images_beyond_those_that_are_remembered_take_no_memory() {
        let mut seen = Seen::default();
        assert!((0..2 * SEEN_MAX).all(|number| seen.is_new(&number.to_string())));
        assert!(!seen.is_new("7") && seen.is_new("no number"));
        assert_eq!(seen.hashes.len(), SEEN_MAX);
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
