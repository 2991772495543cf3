//! Pages are fetched by workers, and their images found, whatever becomes of workers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use skep_kit::cluster::worker::Worker;
use skep_kit::effort::machine_shared;
use skep_kit::site::{Page, Site};
use skep_kit::wait::until;
use skep_kit::{Client, Cluster};

use crate::tasks::{post, put, ready, task};
use crate::worker::everywhere;

const PATIENCE: Duration = Duration::from_secs(120);
const CRAWL: [&str; 5] = ["--crawl", "--crawl-pace", "0", "--crawl-allow", "127.0.0.0/8:*"];

/// Each form of an image; `$` is its name.
const FORMS: [&str; 32] = [
    "<img src=$>",
    "<img srcset='$ 1x'>",
    "<img src='$' alt=\"'><img src=no.png>\">",
    "<picture><source srcset='$ 100w' type=image/webp></picture>",
    "<input type=image src=$>",
    "<video poster=$ src=no.mp4></video>",
    "<svg><image href=$ /></svg>",
    "<svg><image xlink:href='$'/></svg>",
    "<link rel=icon href=$>",
    "<link rel='shortcut icon' href=$>",
    "<link rel=apple-touch-icon href=$>",
    "<link rel=mask-icon href=$>",
    "<link rel=image_src href=$>",
    "<link rel=preload as=image href=$>",
    "<link rel=preload as=image imagesrcset='$ 2x'>",
    "<meta property=og:image content=$>",
    "<meta property=og:image:url content=$>",
    "<meta property=og:image:secure_url content=$>",
    "<meta name=twitter:image content=$>",
    "<meta name=msapplication-TileImage content=$>",
    "<table background=$></table>",
    "<p style='background: url($)'></p>",
    "<style>p > a { background: image-set(\"$\" 1x) }</style>",
    "<style>/* url(no.png) */ @import 'no.css'; p { background: url( '$' ) }</style>",
    "<img data-src=$>",
    "<img data-srcset='$ 1x'>",
    "<img data-original=$ data-lazy-src=$>",
    "<div data-bg='url($)'></div>",
    "<object type=image/svg+xml data=$></object>",
    "<embed type=image/png src=$>",
    "<noscript><img src=$></noscript>",
    "<template><img src=$></template><!-- <img src=no.png> --><script>'<img src=no.png>'</script>",
];

/// A page with every form of an image, in an order of its own, and the paths of its images.
fn page(number: usize) -> (Page, Vec<String>) {
    let (mut html, mut images) =
        (format!("<!doctype html><title>{number}</title><base href=/i/>"), Vec::new());
    for at in 0..FORMS.len() {
        let form = (at * 7 + number) % FORMS.len();
        let name = format!("{number}-{form}.png");
        html += &FORMS[form].replace('$', &name);
        images.push(format!("/i/{name}"));
    }
    (Page::html(html), images)
}

/// A site of so many pages, and by their URLs what is to be found there.
async fn site(cluster: &Cluster, host: u8, pages: usize) -> (Site, BTreeMap<String, Vec<String>>) {
    let (mut served, mut found) = (BTreeMap::new(), Vec::new());
    for number in 0..pages {
        let (page, images) = page(number);
        served.insert(format!("/{number}"), page);
        found.push((format!("/{number}"), images));
    }
    let site = Site::start(cluster.subnet().host(host), served).await;
    let absolute = |(path, images): (String, Vec<String>)| {
        (site.url(&path), images.iter().map(|image| site.url(image)).collect())
    };
    let found = found.into_iter().map(absolute).collect();
    (site, found)
}

/// Puts a task for each of these; their ids, in that order.
async fn put_pages(client: &Client, urls: impl Iterator<Item = &String>) -> Vec<String> {
    let tasks: Vec<Value> =
        urls.map(|url| json!({"queue": "q", "payload": {"url": url}, "keep": "1h"})).collect();
    let answer = post(client, "/tasks", tasks.into()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let ids = answer.json()["ids"].as_array().expect("ids").clone();
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// A task, once it is over.
async fn over(client: &Client, id: &str) -> Value {
    until("the page was looked at", PATIENCE, async || {
        let shown = task(client, id).await;
        (shown["state"] == "done" || shown["state"] == "dead").then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_image_of_every_page_is_found_and_each_page_is_fetched_once_but_for_counted_losses() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let client = &cluster.node(2).http;
    let (mut sites, mut expected) = (Vec::new(), BTreeMap::new());
    for host in 220..224 {
        let (site, found) = site(&cluster, host, 50).await;
        expected.extend(found);
        sites.push(site);
    }
    let ids = put_pages(client, expected.keys()).await;
    let mut workers = Vec::new();
    for index in 1..=3 {
        workers.push(Worker::start(&cluster, index, &everywhere(&cluster), &CRAWL).await);
    }
    let asked = || sites.iter().flat_map(Site::counts).map(|(_, count)| count).sum::<usize>();
    until("some pages were fetched", PATIENCE, async || (asked() > 40).then_some(())).await;
    workers[0].kill();
    let mut losses = BTreeMap::new();
    for ((url, images), id) in expected.iter().zip(&ids) {
        let shown = over(client, id).await;
        assert_eq!(
            (&shown["state"], &shown["result"]),
            (&"done".into(), &json!({"images": images})),
            "{url}"
        );
        losses.insert(url, shown["lost"].as_u64().expect("a number"));
    }
    for site in &sites {
        for (path, count) in site.counts().into_iter().filter(|(path, _)| path != "/robots.txt") {
            let lost = losses[&site.url(&path)];
            assert!(count as u64 <= 1 + lost, "{path} was fetched {count} times, and lost {lost} times");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_fetched_is_dead_at_its_first_try_and_says_why() {
    let _machine = machine_shared();
    let cluster = ready().await;
    let client = &cluster.node(1).http;
    let pages = [
        (
            "/robots.txt",
            Page { status: 200, fields: String::new(), body: "user-agent: *\ndisallow: /no".into() },
        ),
        ("/no", Page::html("<img src=no.png>")),
        ("/here", Page::redirect("/there")),
        ("/there", Page::html("<meta http-equiv=refresh content='0; url=page'>")),
        ("/page", Page::html("<img src=a.png>")),
        ("/round", Page::redirect("/round")),
        ("/pdf", Page { status: 200, fields: "Content-Type: application/pdf\r\n".into(), body: "x".into() }),
    ];
    let pages = pages.map(|(path, page)| (path.to_owned(), page)).into();
    let site = Site::start(cluster.subnet().host(220), pages).await;
    let hidden = Site::start(cluster.subnet().host(221), BTreeMap::new()).await;
    let allow = format!("{}:*", site.address.ip());
    let args = ["--crawl", "--crawl-pace", "0", "--crawl-allow", &allow];
    let _worker = Worker::start(&cluster, 1, &everywhere(&cluster), &args).await;
    let at = async |url: String| {
        let id = put(client, json!({"queue": "q", "payload": {"url": url}, "keep": "1h"})).await;
        over(client, &id).await
    };
    let found = at(site.url("/here")).await;
    assert_eq!(found["result"], json!({"images": [site.url("/a.png")]}), "{found}");
    for (url, words) in [
        (site.url("/no"), "robots.txt disallows it"),
        (site.url("/round"), "more than 5 redirects"),
        (site.url("/pdf"), "application/pdf"),
        (site.url("/missing"), "404"),
        (hidden.url("/"), "not a public address"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "not a public address"),
        ("http://localhost/".to_owned(), "no public address"),
        ("file:///etc/passwd".to_owned(), "neither http nor https"),
    ] {
        let shown = at(url).await;
        let error = shown["error"].as_str().unwrap_or_default();
        assert!(shown["state"] == "dead" && error.contains(words), "{words}: {shown}");
    }
    assert_eq!(hidden.counts(), BTreeMap::new());
}
