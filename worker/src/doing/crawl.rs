//! A task is done by the crawler: its payload names a page, and its result are the page's images.
//!
//! The payload is `{"url","hops"}`; `hops` are those that were taken to the URL already, 0 where it is not
//! there. The result is `{"images":[..]}`, with `"cut"` where not all of them are there, and with `"moved"`
//! where the page is at another origin: then the task is followed by one with that origin's key.

use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use skep_crawl::extract::Cut;
use skep_crawl::{Came, Crawler, Failure, Options};

use super::{Outcome, end_of};
use crate::api::{Follow, Task};
use crate::config::CrawlConfig;

/// What is asked for.
#[derive(Debug, Deserialize)]
struct Payload {
    url: String,
    #[serde(default)]
    hops: u32,
}

/// What is found.
#[derive(Debug, Default, Serialize)]
struct Found<'a> {
    images: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<&'a str>,
}

/// By what came of it.
type Pages = Family<[(&'static str, &'static str); 1], Counter>;

/// The crawler, and what it counts.
#[derive(Debug)]
pub struct Crawl {
    crawler: Crawler,
    pages: Pages,
    images: Counter,
}

impl Crawl {
    pub fn new(config: &CrawlConfig, counted: &mut Registry) -> anyhow::Result<Self> {
        let options = Options {
            pace: config.pace,
            allowed: config.allowed.clone(),
            hands_over: true,
            roots: Vec::new(),
        };
        let (pages, images) = (Pages::default(), Counter::default());
        counted.register("crawl_pages", "Pages that were asked for, by what came of it", pages.clone());
        counted.register("crawl_images", "Images that were found", images.clone());
        Ok(Self { crawler: Crawler::new(options).context("TLS")?, pages, images })
    }

    pub async fn run(&self, task: &Task) -> Outcome {
        let Payload { url, hops } = match serde_json::from_str(task.payload.get()) {
            Ok(payload) => payload,
            Err(error) => {
                let error = format!("the payload is not {{\"url\":\"...\"}}: {error}");
                return Outcome::Failed { error, is_final: true };
            }
        };
        let came = self.crawler.crawl(&url, hops).await;
        self.pages.get_or_create(&[("outcome", how(&came))]).inc();
        match came {
            Ok(Came::Found(found)) => {
                self.images.inc_by(found.images.len() as u64);
                let cut = found.cut.map(Cut::as_str);
                done(&Found { images: &found.images, cut, moved: None }, None)
            }
            Ok(Came::Moved(moved)) => {
                let payload = serde_json::json!({"url": moved.url, "hops": moved.hops});
                let follow = Follow { queue: task.queue.clone(), key: moved.origin, payload };
                done(&Found { moved: Some(&moved.url), ..Found::default() }, Some(follow))
            }
            Err(Failure { reason, is_final }) => {
                Outcome::Failed { error: end_of(&reason).to_owned(), is_final }
            }
        }
    }
}

fn how(came: &Result<Came, Failure>) -> &'static str {
    match came {
        Ok(Came::Found(found)) if found.cut.is_some() => "cut",
        Ok(Came::Found(_)) => "found",
        Ok(Came::Moved(_)) => "moved",
        Err(failure) if failure.is_final => "refused",
        Err(_) => "failed",
    }
}

fn done(found: &Found<'_>, follow: Option<Follow>) -> Outcome {
    match (serde_json::value::to_raw_value(found), follow) {
        (Ok(result), None) => Outcome::Done(result),
        (Ok(result), Some(follow)) => Outcome::DoneBefore(result, follow),
        (Err(error), _) => Outcome::failed(error.to_string()),
    }
}
