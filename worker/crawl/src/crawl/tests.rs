mod bombs;

use super::*;
use crate::testing::{Site, answer, html, not_found, redirect};

fn crawler() -> Crawler {
    paced(Duration::ZERO)
}

fn paced(pace: Duration) -> Crawler {
    let allowed = vec!["127.0.0.0/8:*".parse().unwrap()];
    Crawler::new(Options { pace, allowed, ..Options::default() }).unwrap()
}

async fn found(crawler: &Crawler, url: &str) -> Found {
    match crawler.crawl(url, 0).await {
        Ok(Came::Found(found)) => found,
        other => panic!("{url}: {other:?}"),
    }
}

async fn images(crawler: &Crawler, url: &str) -> Vec<String> {
    found(crawler, url).await.images
}

async fn failure(crawler: &Crawler, url: &str) -> Failure {
    crawler.crawl(url, 0).await.unwrap_err()
}

/// A site without a `robots.txt`.
async fn site(answers: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Site {
    Site::start(move |path| if path == "/robots.txt" { not_found() } else { answers(path) }).await
}

#[tokio::test]
async fn a_pages_images_are_found() {
    let site = site(|_| {
        let fields =
            [("Content-Type", "text/html; charset=windows-1251"), ("Link", "<l.png>; rel=preload; as=image")];
        answer(200, &fields, b"<img src=a.png><img src='\xfe.png'>")
    })
    .await;
    let found = images(&crawler(), &site.url("/dir/page#part")).await;
    assert_eq!(found, ["l.png", "a.png", "%D1%8E.png"].map(|it| site.url(&format!("/dir/{it}"))));
    assert_eq!(site.paths(), ["/robots.txt", "/dir/page"]);
    assert_eq!(site.connections(), 1);
}

#[tokio::test]
async fn redirects_and_what_pages_say_are_followed_to_the_page() {
    let site = site(|path| match path {
        "/1" => redirect("/ü"),
        "/%C3%BC" => redirect("/2"),
        "/2" => html("<img src=no.png><meta http-equiv=refresh content='0; url=dir/3'>"),
        "/dir/3" => answer(200, &[("Content-Type", "text/html"), ("Refresh", "2; url=4")], ""),
        _ => html("<img src=a.png>"),
    })
    .await;
    assert_eq!(images(&crawler(), &site.url("/1")).await, [site.url("/dir/a.png")]);
    let late = self::site(|_| html("<img src=a.png><meta http-equiv=refresh content='11; url=no'>")).await;
    assert_eq!(images(&crawler(), &late.url("/")).await, [late.url("/a.png")]);
}

#[tokio::test]
async fn five_hops_are_taken_in_all_and_no_sixth() {
    let site = site(|path| match path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => html("<img src=a.png>"),
        Ok(left) if left % 2 == 0 => html(format!("<meta http-equiv=refresh content='0; url={}'>", left - 1)),
        Ok(left) => redirect(&format!("/{}", left - 1)),
        Err(_) => not_found(),
    })
    .await;
    let crawler = crawler();
    assert_eq!(images(&crawler, &site.url("/5")).await, [site.url("/a.png")]);
    let failed = failure(&crawler, &site.url("/6")).await;
    assert!(failed.is_final && failed.reason.contains("more than 5 redirects"), "{failed}");
    // Those that were taken before count.
    assert!(crawler.crawl(&site.url("/3"), 2).await.is_ok());
    assert!(crawler.crawl(&site.url("/3"), 3).await.is_err());
    assert!(crawler.crawl(&site.url("/0"), u32::MAX).await.is_err());
}

#[tokio::test]
async fn a_hop_to_another_site_is_judged_and_asks_that_ones_robots() {
    let other = Site::start(|path| match path {
        "/robots.txt" => answer(200, &[], "user-agent: *\ndisallow: /secret"),
        _ => html("<img src=a.png>"),
    })
    .await;
    let (page, secret) = (other.url("/page"), other.url("/secret"));
    let site = site(move |path| redirect(if path == "/1" { &page } else { &secret })).await;
    let crawler = crawler();
    assert_eq!(images(&crawler, &site.url("/1")).await, [other.url("/a.png")]);
    let failed = failure(&crawler, &site.url("/2")).await;
    assert!(failed.is_final && failed.reason.contains("disallows"), "{failed}");
    assert_eq!(other.paths(), ["/robots.txt", "/page"]);
}

#[tokio::test]
async fn a_hop_to_another_origin_is_handed_back_where_it_can_be() {
    let other = Site::start(|_| html("")).await;
    let (page, refused) = (other.url("/page#x"), "file:///etc/passwd");
    let site = site(move |path| match path {
        "/1" => redirect("/2"),
        "/2" => redirect(&page),
        "/3" => html(format!("<meta http-equiv=refresh content='0; url={page}'>")),
        "/4" => redirect(refused),
        _ => html("<img src=a.png>"),
    })
    .await;
    let allowed = vec!["127.0.0.0/8:*".parse().unwrap()];
    let crawler = Crawler::new(Options { allowed, hands_over: true, ..Options::default() }).unwrap();
    let moved = |hops| {
        Ok(Came::Moved(Moved { url: other.url("/page"), origin: format!("http://{}", other.address), hops }))
    };
    assert_eq!(crawler.crawl(&site.url("/1"), 0).await, moved(2));
    assert_eq!(crawler.crawl(&site.url("/3"), 3).await, moved(4));
    assert!(crawler.crawl(&site.url("/2"), HOPS_MAX).await.unwrap_err().is_final, "that is one too many");
    assert!(crawler.crawl(&site.url("/4"), 0).await.unwrap_err().is_final);
    assert_eq!(images(&crawler, &site.url("/5")).await, [site.url("/a.png")]);
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn no_hop_leads_to_a_refused_address() {
    let hidden = Site::at("[::1]:0".parse().unwrap(), None, |_| html("secret")).await;
    let port = hidden.address.port();
    for target in [
        format!("http://[::1]:{port}/"),
        format!("//[::1]:{port}/"),
        "http://10.0.0.1/".to_owned(),
        "http://0xa9fea9fe/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "https://192.168.0.1/".to_owned(),
    ] {
        let to = target.clone();
        let by_status = site(move |_| redirect(&to)).await;
        let to = target.clone();
        let by_page = site(move |_| html(format!("<meta http-equiv=refresh content='0; url={to}'>"))).await;
        let to = target.clone();
        let by_robots = Site::start(move |_| redirect(&to)).await;
        for (site, is_final) in [(by_status, true), (by_page, true), (by_robots, false)] {
            let failed = failure(&crawler(), &site.url("/")).await;
            assert!(failed.reason.contains("is not a public address"), "{target}: {failed}");
            assert_eq!(failed.is_final, is_final, "{target}: {failed}");
        }
    }
    assert_eq!(hidden.connections(), 0);
}

#[tokio::test]
async fn what_is_no_page_says_so_at_once() {
    let site = site(|path| match path {
        "/pdf" => answer(200, &[("Content-Type", "application/pdf")], "x"),
        "/json" => answer(200, &[("Content-Type", "application/json")], "{}"),
        "/nowhere" => answer(302, &[], ""),
        "/file" => redirect("file:///etc/passwd"),
        "/coding" => answer(200, &[("Content-Type", "text/html"), ("Content-Encoding", "compress")], "x"),
        "/410" => answer(410, &[], ""),
        "/403" => answer(403, &[], ""),
        _ => not_found(),
    })
    .await;
    let crawler = crawler();
    for path in ["/pdf", "/json", "/nowhere", "/file", "/coding", "/410", "/403", "/404"] {
        let failed = failure(&crawler, &site.url(path)).await;
        assert!(failed.is_final, "{path}: {failed}");
    }
    for url in [
        "",
        "nonsense",
        "http://",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "javascript:1",
        "data:text/html,x",
    ] {
        assert!(failure(&crawler, url).await.is_final, "{url}");
    }
    let long = site.url(&format!("/{}", "x".repeat(URL_BYTES_MAX)));
    assert!(failure(&crawler, &long).await.is_final);
    for url in ["ftp://user:secret@127.0.0.1/", "http://user:secret@10.0.0.1/", "http://user:secret@[::1/"] {
        assert!(!failure(&crawler, url).await.reason.contains("secret"), "{url}");
    }
}

#[tokio::test]
async fn what_passes_is_to_be_tried_again() {
    let site = site(|path| match path {
        "/hangs-up" => Vec::new(),
        "/broken" => answer(200, &[("Content-Type", "text/html"), ("Content-Encoding", "gzip")], "no gzip"),
        "/short" => {
            b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 99\r\nConnection: close\r\n\r\nx"
                .to_vec()
        }
        path => answer(path[1..].parse().unwrap_or(404), &[], ""),
    })
    .await;
    let crawler = crawler();
    for path in ["/500", "/502", "/503", "/429", "/408", "/425", "/hangs-up", "/broken"] {
        let failed = failure(&crawler, &site.url(path)).await;
        assert!(!failed.is_final, "{path}: {failed}");
    }
    let gone = Site::start(|_| html("")).await.url("/");
    tokio::task::yield_now().await;
    assert!(!failure(&crawler, &gone).await.is_final);
}

#[tokio::test]
async fn html_counts_by_its_type_and_an_image_is_its_own() {
    let site = site(|path| match path {
        "/xhtml" => {
            answer(200, &[("Content-Type", "Application/XHTML+XML; charset=utf-8")], "<img src=\"a.png\"/>")
        }
        "/none" => answer(200, &[], "<img src=a.png>"),
        "/image" => answer(200, &[("Content-Type", "image/png")], b"\x89PNG"),
        _ => answer(204, &[], ""),
    })
    .await;
    let crawler = crawler();
    assert_eq!(images(&crawler, &site.url("/xhtml")).await, [site.url("/a.png")]);
    assert_eq!(images(&crawler, &site.url("/none")).await, [site.url("/a.png")]);
    assert_eq!(images(&crawler, &site.url("/image#x")).await, [site.url("/image")]);
    assert_eq!(images(&crawler, &site.url("/204")).await, [""; 0]);
}

#[tokio::test]
async fn robots_are_asked_once_and_obeyed_as_the_rfc_has_it() {
    /// Each: the status of `robots.txt`, its text, whether `/a` may be fetched, and if not, whether ever.
    const CASES: &[(u16, &str, Result<(), bool>)] = &[
        (200, "", Ok(())),
        (200, "user-agent: *\ndisallow: /b", Ok(())),
        (200, "user-agent: *\ndisallow: /a", Err(true)),
        (200, "user-agent: *\ndisallow: /\nuser-agent: Skep-Worker/9\nallow: /a", Ok(())),
        (200, "user-agent: *\nallow: /\nuser-agent: skep-worker\ndisallow: /a", Err(true)),
        (200, "<html>no such thing</html>", Ok(())),
        (401, "", Ok(())),
        (403, "", Ok(())),
        (404, "user-agent: *\ndisallow: /a", Ok(())),
        (410, "", Ok(())),
        (429, "", Err(false)),
        (500, "", Err(false)),
        (503, "", Err(false)),
    ];
    for (status, text, expected) in CASES {
        let site = Site::start(move |path| match path {
            "/robots.txt" => answer(*status, &[("Content-Type", "text/plain")], text),
            _ => html("<img src=a.png>"),
        })
        .await;
        let crawler = crawler();
        for _ in 0..2 {
            let found = crawler.crawl(&site.url("/a"), 0).await;
            assert_eq!(found.map(|_| ()).map_err(|it| it.is_final), *expected, "{status} {text}");
        }
        let asked = site.paths().iter().filter(|it| *it == "/robots.txt").count();
        assert_eq!(asked, 1, "{status} {text}");
        assert_eq!(site.paths().len(), if expected.is_ok() { 3 } else { 1 });
    }
}

#[tokio::test]
async fn redirects_of_robots_are_followed_five_times() {
    let robots = |hops: u32| {
        Site::start(move |path| match path.strip_prefix("/hop") {
            Some(hop) if hop.parse() == Ok(hops) => answer(200, &[], "user-agent: *\ndisallow: /"),
            Some(hop) => redirect(&format!("/hop{}", hop.parse::<u32>().unwrap_or_default() + 1)),
            None if path == "/robots.txt" => redirect("/hop1"),
            None => html(""),
        })
    };
    let crawler = crawler();
    assert!(failure(&crawler, &robots(5).await.url("/")).await.reason.contains("disallows"));
    assert!(crawler.crawl(&robots(6).await.url("/"), 0).await.is_ok());
}

#[tokio::test]
async fn a_site_is_asked_once_a_pause() {
    let site = site(|path| if path == "/1" { redirect("/2") } else { html("") }).await;
    let pause = Duration::from_millis(60);
    let crawler = paced(pause);
    let (one, two, three) = (site.url("/1"), site.url("/3"), site.url("/4"));
    let (one, two, three) =
        tokio::join!(crawler.crawl(&one, 0), crawler.crawl(&two, 0), crawler.crawl(&three, 0));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    let times = site.times();
    assert!(times.len() >= 5);
    // What is sent in time may be read late, but as a whole it takes its pauses.
    let took = times[times.len() - 1] - times[0];
    assert!(took >= pause * (u32::try_from(times.len()).unwrap() - 2), "{took:?} for {}", times.len());
}

#[test]
fn what_an_answer_says_of_its_age_is_read() {
    for (text, expected) in [
        ("max-age=60", Some(60)),
        ("public, Max-Age=\"5\"", Some(5)),
        ("no-cache", Some(0)),
        ("max-age=9, no-store", Some(0)),
        ("public", None),
        ("max-age=x", None),
    ] {
        assert_eq!(max_age(text), expected.map(Duration::from_secs), "{text}");
    }
}
