//! One page, from its URL to its images: what the site's `robots.txt` says, the page's turn, the page,
//! where it sends a browser, and what is in it.
//!
//! Redirects, and what a page says a browser is to go to, are followed, [`HOPS_MAX`] in all, each judged like
//! the first; images are those of the page that they end at. A hop to another origin is handed back, where it
//! can be, for that origin has a turn of its own. Cancel-safe: nothing outlives the future but the reading of
//! a page that has come whole, which is bounded.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK, LOCATION, REFRESH};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use crate::address::Allow;
use crate::extract::{Cut, Extracted, Head, PAGE_BYTES_MAX, extract};
use crate::fetch::decode::{Coding, codings, decoded};
use crate::fetch::{AGENT_NAME, Answer, Body, Fault, Fetcher, Visit};
use crate::pace::Pace;
use crate::robots::{self, Memory, Rules, Said};

/// Most hops from the URL to its page.
pub const HOPS_MAX: u32 = 5;
/// Most redirects of a `robots.txt` (RFC 9309, 2.3.1.2).
const ROBOTS_HOPS_MAX: u32 = 5;
/// Longest that one URL takes, beside the pauses of so many requests.
const TIME_MAX: Duration = Duration::from_secs(120);
const TURNS_MAX: u32 = 2 * (HOPS_MAX + 1);
/// A page that is shown for longer before it sends a browser on is a page.
const REFRESH_SECONDS_MAX: u64 = 10;
/// Longest URL that is fetched, and longest name of a host (RFC 1035, 2.3.4).
const URL_BYTES_MAX: usize = 8 * 1024;
const HOST_BYTES_MAX: usize = 253;
/// Longest origin that is handed back: as long as a task's key may be.
const ORIGIN_BYTES_MAX: usize = 256;
/// Most `Link` fields that are read.
const LINKS_MAX: usize = 32;
/// As much is read of a body as may count decoded, and one byte that says that there is more.
const BODY_BYTES_MAX: usize = PAGE_BYTES_MAX as usize + 1;
/// Most pages that are decoded and read at once: each takes a thread, and what its coding looks back on.
const READERS_MAX: usize = 4;

/// What a crawler may do.
#[derive(Debug, Default)]
pub struct Options {
    /// Between two requests to one origin.
    pub pace: Duration,
    pub allowed: Vec<Allow>,
    /// A hop to another origin is not taken, but handed back.
    pub hands_over: bool,
    /// Trusted beside Mozilla's.
    pub roots: Vec<CertificateDer<'static>>,
}

/// A page's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub images: Vec<String>,
    /// Why not all of them are there.
    pub cut: Option<Cut>,
}

/// Where it goes on: at another origin, whose turn it is to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub url: String,
    pub origin: String,
    /// How many hops were taken to it.
    pub hops: u32,
}

/// What a URL came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    Found(Found),
    Moved(Moved),
}

/// Why it came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    pub reason: String,
    /// It will be the same at another time.
    pub is_final: bool,
}

impl Failure {
    fn at_last(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: true }
    }

    fn for_now(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: false }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            is_final: matches!(fault, Fault::Refused(_) | Fault::NoAddress { .. }),
            reason: fault.to_string(),
        }
    }
}

/// Fetches pages. One for a process.
#[derive(Debug)]
pub struct Crawler {
    fetcher: Fetcher,
    robots: Memory,
    pace: Pace,
    hands_over: bool,
    readers: Arc<Semaphore>,
    limit: Duration,
}

/// What a request came to.
enum Step {
    Found(Found),
    Hop(Url),
}

impl Crawler {
    pub fn new(options: Options) -> Result<Self, rustls::Error> {
        let fetcher = Fetcher::new(options.allowed, &options.roots)?;
        let (pace, hands_over) = (Pace::new(options.pace), options.hands_over);
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let limit = TIME_MAX + options.pace * TURNS_MAX;
        Ok(Self { fetcher, robots: Memory::default(), pace, hands_over, readers, limit })
    }

    /// The images of a page; `hops` were taken to its URL already.
    pub async fn crawl(&self, url: &str, hops: u32) -> Result<Came, Failure> {
        let came = timeout(self.limit, self.follow(url, hops)).await;
        came.unwrap_or_else(|_| Err(Failure::for_now(format!("it took over {} s", self.limit.as_secs()))))
    }

    async fn follow(&self, url: &str, hops: u32) -> Result<Came, Failure> {
        let invalid = |error| Failure::at_last(format!("no URL: {error}"));
        let mut url = Url::parse(url).map_err(invalid)?;
        let mut visit = Visit::default();
        for hop in hops..=HOPS_MAX {
            check(&mut url)?;
            self.may_fetch(&mut visit, &url).await?;
            let answer = self.ask(&mut visit, &url).await?;
            let mut next = match self.step(answer, &url).await? {
                Step::Found(found) => return Ok(Came::Found(found)),
                Step::Hop(next) => next,
            };
            if self.hands_over && hop < HOPS_MAX && next.origin() != url.origin() {
                check(&mut next)?;
                let origin = next.origin().ascii_serialization();
                if origin.len() <= ORIGIN_BYTES_MAX {
                    return Ok(Came::Moved(Moved { url: next.into(), origin, hops: hop + 1 }));
                }
            }
            url = next;
        }
        Err(Failure::at_last(format!("more than {HOPS_MAX} redirects, the last to {url}")))
    }

    async fn ask(&self, visit: &mut Visit, url: &Url) -> Result<Answer, Fault> {
        self.pace.wait(&url.origin().ascii_serialization()).await;
        self.fetcher.get(visit, url).await
    }

    /// Whether the site lets its page be fetched.
    async fn may_fetch(&self, visit: &mut Visit, url: &Url) -> Result<(), Failure> {
        let origin = url.origin().ascii_serialization();
        let said = match self.robots.get(&origin) {
            Some(said) => said,
            None => {
                let (said, max_age) = self.robots_of(visit, url).await?;
                self.robots.put(&origin, said.clone(), max_age);
                said
            }
        };
        match said {
            Said::Rules(rules) if rules.allow(robots::path_of(url)) => Ok(()),
            Said::Rules(_) => Err(Failure::at_last(format!("{origin}/robots.txt disallows it"))),
            Said::Unreachable(reason) => Err(Failure::for_now(format!("{origin}/robots.txt: {reason}"))),
        }
    }

    /// What an answer comes to.
    async fn step(&self, answer: Answer, url: &Url) -> Result<Step, Failure> {
        let status = answer.status;
        if status.is_redirection() {
            let next = answer.field(LOCATION).and_then(|it| url.join(&it).ok());
            return match next {
                Some(next) => Ok(Step::Hop(next)),
                None => Err(Failure::at_last(format!("{url}: {status} that leads nowhere"))),
            };
        }
        if !status.is_success() {
            let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
            let is_final = status.is_client_error() && !passes.contains(&status);
            return Err(Failure { reason: format!("{url}: {status}"), is_final });
        }
        let content_type = answer.field(CONTENT_TYPE);
        let essence = content_type.as_deref().and_then(|it| it.split(';').next()).unwrap_or_default();
        match essence.trim().to_ascii_lowercase().as_str() {
            "text/html" | "application/xhtml+xml" | "" => {}
            // A browser shows an image as a page that has it alone.
            kind if kind.starts_with("image/") => {
                return Ok(Step::Found(Found { images: vec![url.to_string()], cut: None }));
            }
            kind => return Err(Failure::at_last(format!("{url} is no page but {kind:?}"))),
        }
        let page = Page {
            url: url.clone(),
            codings: codings(&answer.headers)
                .map_err(|reason| Failure::at_last(format!("{url}: {reason}")))?,
            links: answer.fields(LINK).take(LINKS_MAX).collect(),
            refresh: answer.field(REFRESH),
            content_type,
            body: answer
                .body(BODY_BYTES_MAX)
                .await
                .map_err(|fault| Failure::for_now(format!("{url}: {fault}")))?,
        };
        // Megabytes of markup keep a thread busy for a while.
        let read = self.apart(move || page.read()).await;
        read.map_err(|error| Failure::for_now(format!("{url}: {error}")))?
    }

    /// Has bytes read on another thread. Its place is taken for as long as that lasts, whoever waits for it.
    async fn apart<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let place = self.readers.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let done = spawn_blocking(move || {
            let read = read();
            drop(place);
            read
        });
        done.await.map_err(|error| error.to_string())
    }

    /// What a site says, and for how long (RFC 9309, 2.3.1).
    async fn robots_of(&self, visit: &mut Visit, url: &Url) -> Result<(Said, Option<Duration>), Failure> {
        let everything = || Said::Rules(Arc::new(Rules::default()));
        let unreachable = |reason: String| Said::Unreachable(reason.into());
        let Ok(mut target) = url.join("/robots.txt") else { return Ok((everything(), None)) };
        for hop in 0..=ROBOTS_HOPS_MAX {
            let answer = match self.ask(visit, &target).await {
                Ok(answer) => answer,
                // Of the site itself: then there is no page either.
                Err(fault @ (Fault::Refused(_) | Fault::NoAddress { .. })) if hop == 0 => {
                    return Err(fault.into());
                }
                Err(fault) => return Ok((unreachable(fault.to_string()), None)),
            };
            let status = answer.status;
            if status.is_success() {
                let max_age = answer.field(CACHE_CONTROL).and_then(|it| max_age(&it));
                let coded = codings(&answer.headers);
                let read = async {
                    let body = answer.body(robots::FILE_BYTES_MAX).await.map_err(|it| it.to_string())?;
                    let coded = coded?;
                    self.apart(move || read_robots(&body, &coded)).await?
                };
                return Ok(match read.await {
                    Ok(rules) => (Said::Rules(Arc::new(rules)), max_age),
                    Err(reason) => (unreachable(reason), None),
                });
            } else if status.is_redirection() {
                let next = answer.field(LOCATION).and_then(|it| target.join(&it).ok());
                match next {
                    Some(next) if is_http(&next) => target = next,
                    _ => return Ok((everything(), None)),
                }
            } else if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
                return Ok((everything(), None));
            } else {
                return Ok((unreachable(status.to_string()), None));
            }
        }
        Ok((everything(), None))
    }
}

/// Whether a URL is one to fetch; its fragment is the reader's alone.
fn check(url: &mut Url) -> Result<(), Failure> {
    // Credentials are not sent, and so are not told either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if !is_http(url) {
        return Err(Failure::at_last(format!("{url} is neither http nor https")));
    }
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(Failure::at_last(format!("a URL of more than {URL_BYTES_MAX} bytes")));
    }
    if url.host_str().is_none_or(|host| host.len() > HOST_BYTES_MAX) {
        return Err(Failure::at_last(format!("{url}: a host of more than {HOST_BYTES_MAX} bytes")));
    }
    url.set_fragment(None);
    Ok(())
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// A page that has come whole.
struct Page {
    url: Url,
    codings: Vec<Coding>,
    content_type: Option<String>,
    links: Vec<String>,
    refresh: Option<String>,
    body: Body,
}

impl Page {
    fn read(self) -> Result<Step, Failure> {
        let head = Head {
            url: &self.url,
            content_type: self.content_type.as_deref(),
            links: self.links.iter().map(String::as_str).collect(),
            refresh: self.refresh.as_deref(),
        };
        let Extracted { images, mut cut, refresh, error } =
            extract(decoded(&self.body.bytes, &self.codings), &head);
        if let Some((next, _)) = refresh.filter(|(_, seconds)| *seconds <= REFRESH_SECONDS_MAX) {
            return Ok(Step::Hop(next));
        }
        match error {
            // What was not read to its end is broken there.
            _ if self.body.is_cut => cut = cut.or(Some(Cut::Bytes)),
            Some(error) => return Err(Failure::for_now(format!("{}: {error}", self.url))),
            None => {}
        }
        Ok(Step::Found(Found { images, cut }))
    }
}

fn read_robots(body: &Body, codings: &[Coding]) -> Result<Rules, String> {
    use std::io::Read;
    let mut file = Vec::new();
    let read = decoded(&body.bytes, codings).take(robots::FILE_BYTES_MAX as u64).read_to_end(&mut file);
    match read {
        Err(error) if !body.is_cut => Err(error.to_string()),
        _ => Ok(Rules::parse(&file, AGENT_NAME)),
    }
}

/// Seconds that a `Cache-Control` names.
fn max_age(text: &str) -> Option<Duration> {
    let mut directives = text.split(',').map(|it| it.trim().to_ascii_lowercase());
    if directives.clone().any(|it| it == "no-store" || it == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|it| it.strip_prefix("max-age=")?.trim_matches('"').parse().ok())?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
