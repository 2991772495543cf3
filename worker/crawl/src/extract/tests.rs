use super::*;

const PAGE: &str = "http://example.org/dir/page.html?q";

fn page(html: impl AsRef<[u8]>) -> Extracted {
    with_head(html, None, &[], None)
}

fn with_head(
    html: impl AsRef<[u8]>,
    content_type: Option<&str>,
    links: &[&str],
    refresh: Option<&str>,
) -> Extracted {
    let url = Url::parse(PAGE).unwrap();
    extract(html.as_ref(), &Head { url: &url, content_type, links: links.to_vec(), refresh })
}

/// The images, without what all of them begin with.
fn images(html: &str) -> Vec<String> {
    let page = page(html);
    assert!(page.error.is_none() && page.cut.is_none());
    page.images.iter().map(|it| it.strip_prefix("http://example.org/dir/").unwrap_or(it).to_owned()).collect()
}

#[test]
fn every_form_of_an_image_is_found() {
    for (html, expected) in [
        ("<img src=a.png>", &["a.png"][..]),
        ("<IMG SRC='a.png' Alt=x/>", &["a.png"]),
        ("<img srcset='a.png 1x, b.png 2x' src=c.png>", &["a.png", "b.png", "c.png"]),
        (
            "<picture><source srcset='a.webp 100w, b.webp 200w' type=image/webp><img src=c.png></picture>",
            &["a.webp", "b.webp", "c.png"],
        ),
        ("<input type=IMAGE src=a.png><input type=text src=no.png><input src=no.png>", &["a.png"]),
        ("<video poster=a.png src=no.mp4><source src=no.webm></video>", &["a.png"]),
        (
            "<svg><image href=a.png /><image xlink:href='b.png'/><use href=no.svg#x /></svg>",
            &["a.png", "b.png"],
        ),
        ("<svg><filter><feImage href=a.png /></filter></svg>", &["a.png"]),
        ("<image src=a.png>", &["a.png"]),
        ("<link rel=icon href=a.ico><link rel='shortcut ICON' href=b.ico>", &["a.ico", "b.ico"]),
        (
            "<link rel=apple-touch-icon href=a.png><link rel=apple-touch-icon-precomposed href=b.png>",
            &["a.png", "b.png"],
        ),
        ("<link rel=mask-icon href=a.svg><link rel=image_src href=b.png>", &["a.svg", "b.png"]),
        (
            "<link rel=preload as=image href=a.png imagesrcset='b.png 1x, c.png 2x'>",
            &["a.png", "b.png", "c.png"],
        ),
        ("<link rel=preload as=script href=no.js><link rel=stylesheet href=no.css>", &[]),
        (
            "<meta property=og:image content=a.png><meta property=og:image:url content=b.png>",
            &["a.png", "b.png"],
        ),
        (
            "<meta property=og:image:secure_url content=a.png><meta name=twitter:image content=b.png>",
            &["a.png", "b.png"],
        ),
        ("<meta name=msapplication-TileImage content=a.png><meta name=description content=no>", &["a.png"]),
        ("<meta property=og:image:width content=600>", &[]),
        (
            "<body background=a.png><table background=b.png><td background=c.png>",
            &["a.png", "b.png", "c.png"],
        ),
        ("<p style='background:url(a.png), image-set(\"b.png\" 1x)'>", &["a.png", "b.png"]),
        ("<p style=\"background:url(&quot;a.png&quot;)\">", &["a.png"]),
        (
            "<style>p > a { background: url(a.png) } @import url(no.css);</style><img src=b.png>",
            &["a.png", "b.png"],
        ),
        ("<style>/* <img src=no.png> */ a { b: url('c.png') }", &["c.png"]),
        (
            "<img data-src=a.png data-srcset='b.png 1x, c.png 2x' src=d.png>",
            &["a.png", "b.png", "c.png", "d.png"],
        ),
        ("<img data-original=a.png><img data-lazy-src=b.png>", &["a.png", "b.png"]),
        ("<div data-bg=a.png></div><div data-bg='url(b.png)'></div>", &["a.png", "b.png"]),
        (
            "<iframe data-src=no.html></iframe><script data-src=no.js></script><video data-src=no.mp4></video>",
            &[],
        ),
        (
            "<object type=image/svg+xml data=a.svg></object><object type=text/html data=no></object>",
            &["a.svg"],
        ),
        ("<embed type=Image/png src=a.png><embed type=video/mp4 src=no><embed src=no>", &["a.png"]),
        ("<noscript><img src=a.png></noscript><template><img src=b.png></template>", &["a.png", "b.png"]),
        // What is none.
        ("<!-- <img src=no.png> --><script>'<img src=no.png>'</script>", &[]),
        (
            "<textarea><img src=no.png></textarea><title><img src=no.png></title><xmp><img src=no.png></xmp>",
            &[],
        ),
        ("<iframe><img src=no.png></iframe><noembed><img src=no.png></noembed><img src=a.png>", &["a.png"]),
        ("<a href=no.png>x</a><audio src=no.ogg></audio><img alt=x><img src><img src=''><img src=' '>", &[]),
        ("<img src=no.png", &[]),
        ("</img src=no.png>", &[]),
        ("<plaintext><img src=no.png>", &[]),
    ] {
        assert_eq!(images(html), expected, "{html}");
    }
}

#[test]
fn names_are_those_that_a_browser_would_ask_for() {
    for (html, expected) in [
        ("<img src='a&amp;b.png?x=1&copy=2&lt;'>", "a&b.png?x=1&copy=2%3C"),
        ("<img src=' a\nb.png\t'>", "ab.png"),
        ("<img src='a b.png'>", "a%20b.png"),
        ("<img src=ü.png>", "%C3%BC.png"),
        ("<img src=/a.png>", "http://example.org/a.png"),
        ("<img src=//b.example/a.png>", "http://b.example/a.png"),
        ("<img src=..\\a.png>", "http://example.org/a.png"),
        ("<img src=../../../a.png>", "http://example.org/a.png"),
        ("<img src=?x>", "page.html?x"),
        ("<img src='a.png#part'>", "a.png"),
        ("<img src='HTTPS://B.Example:443/a.png'>", "https://b.example/a.png"),
        ("<img src='//bücher.example/a.png'>", "http://xn--bcher-kva.example/a.png"),
        ("<img src=//0x7f.1/a.png>", "http://127.0.0.1/a.png"),
        ("<img src=a.png src=b.png>", "a.png"),
    ] {
        assert_eq!(images(html), [expected], "{html}");
    }
    for url in [
        "data:image/png,x",
        "DATA:,x",
        "blob:x",
        "javascript:x",
        "about:blank",
        "ftp://a/b.png",
        "cid:x",
        "http://[::1",
    ] {
        assert_eq!(images(&format!("<img src='{url}'>")), [""; 0], "{url}");
    }
}

#[test]
fn they_come_in_the_documents_order_and_once() {
    let html = "<link rel=icon href=f.ico><img src=b.png><p style='background:url(a.png)'>\
                <img src=./b.png#x><img src=c.png srcset='a.png, d.png'>";
    assert_eq!(images(html), ["f.ico", "b.png", "a.png", "c.png", "d.png"]);
}

#[test]
fn the_first_base_counts_for_the_whole_document() {
    for (html, expected) in [
        ("<img src=a.png><base href=/x/><base href=/y/>", "http://example.org/x/a.png"),
        ("<base target=_top><base href='http://b.example/'><img src=a.png>", "http://b.example/a.png"),
        ("<base href='data:x'><img src=a.png>", "http://example.org/dir/a.png"),
        ("<base href='http://[x'><img src=a.png>", "http://example.org/dir/a.png"),
        ("<base href=''><img src=a.png>", "http://example.org/dir/a.png"),
    ] {
        assert_eq!(page(html).images, [expected], "{html}");
    }
}

#[test]
fn a_base_that_is_none_costs_nothing() {
    let images: String = (0..20_000).map(|number| format!("<img src=?{number}>")).collect();
    for scheme in ["foo", "http"] {
        let page = page(format!("<base href='{scheme}://x/{}'>{images}", "x".repeat(6 << 20)));
        assert_eq!(page.images[0], "http://example.org/dir/page.html?0");
    }
    let refresh = format!("<meta http-equiv=refresh content='0; url={}'>", "x".repeat(BASE_BYTES_MAX + 1));
    assert_eq!(page(refresh).refresh, None);
}

#[test]
fn links_of_the_head_come_first_and_know_no_base() {
    let links = [
        "<a.png>; rel=preload; as=image; imagesrcset=\"b.png 1x\", <c.css>; rel=stylesheet",
        "<d.ico>; rel=icon",
    ];
    let page = with_head("<base href=/x/><img src=e.png>", None, &links, None);
    let expected =
        ["dir/a.png", "dir/b.png", "dir/d.ico", "x/e.png"].map(|it| format!("http://example.org/{it}"));
    assert_eq!(page.images, expected);
}

#[test]
fn text_is_read_in_the_pages_encoding_and_queries_are_written_in_it() {
    let html = b"<meta charset=windows-1251><img src='\xfe.png?\xfe'>";
    assert_eq!(page(html).images, ["http://example.org/dir/%D1%8E.png?%FE"]);
    let utf_16: Vec<u8> = "\u{feff}<img src=ю.png?ю>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(page(utf_16).images, ["http://example.org/dir/%D1%8E.png?%D1%8E"]);
    let page = with_head(b"<img src=\x93\xfa.png>", Some("text/html; charset=Shift_JIS"), &[], None);
    assert_eq!(page.images, ["http://example.org/dir/%E6%97%A5.png"]);
}

#[test]
fn a_page_says_where_it_sends_a_browser() {
    let to = |html: &str, field: Option<&str>| {
        with_head(html, None, &[], field).refresh.map(|(url, s)| (url.to_string(), s))
    };
    let other = |seconds| Some(("http://example.org/dir/other".to_owned(), seconds));
    for (html, field, expected) in [
        ("<meta http-equiv=Refresh content='0; url=other'>", None, other(0)),
        ("<meta http-equiv=refresh content='x'><meta http-equiv=refresh content='3;other'>", None, other(3)),
        (
            "<meta http-equiv=refresh content='1;other'><meta http-equiv=refresh content='0;no'>",
            None,
            other(1),
        ),
        ("<meta name=refresh content='0;other'>", None, None),
        ("<noscript><meta http-equiv=refresh content='0;other'></noscript>", None, None),
        ("<noscript></noscript><meta http-equiv=refresh content='0;other'>", None, other(0)),
        ("<!-- <meta http-equiv=refresh content='0;other'> -->", None, None),
        ("", Some("0; url=other"), other(0)),
        // Itself, again.
        ("<meta http-equiv=refresh content='60'>", None, None),
        ("<meta http-equiv=refresh content='0;url=page.html?q#x'>", None, None),
        ("<base href=/dir/x/><meta http-equiv=refresh content='0;url=../other'>", None, other(0)),
    ] {
        assert_eq!(to(html, field), expected, "{html} {field:?}");
    }
}

#[test]
fn a_page_of_too_many_bytes_is_cut_and_says_so() {
    let mut html = b"<img src=a.png><!--".to_vec();
    html.resize(usize::try_from(PAGE_BYTES_MAX).unwrap(), b' ');
    assert_eq!(page(&html).cut, None);
    html.extend(b"--><img src=b.png>");
    let page = page(&html);
    assert_eq!((page.images.len(), page.cut), (1, Some(Cut::Bytes)));
}

#[test]
fn names_that_would_be_too_long_together_are_cut_and_it_says_so() {
    let long: String = (0..3_000).map(|at| format!("<img src='{at}{}\"'>", "x".repeat(100))).collect();
    let page_of_long = page(long);
    assert_eq!(page_of_long.cut, Some(Cut::Names));
    let length: usize = page_of_long.images.iter().map(|it| it.len() + 3).sum();
    assert!(length <= NAMES_BYTES_MAX && length > NAMES_BYTES_MAX - 200, "{length}");
    let very_long = page(format!("<img src='{}'><img src=a.png>", "x".repeat(20_000)));
    assert_eq!((very_long.images.len(), very_long.cut), (1, Some(Cut::Names)));
    let many: String = (0..30_000).map(|at| format!("<img src=//a/{at}>")).collect();
    assert_eq!(page(many).cut, Some(Cut::Images));
}

#[test]
fn a_source_that_fails_leaves_what_was_found() {
    struct Fails<'a>(&'a [u8]);
    impl Read for Fails<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.is_empty() {
                true => Err(io::Error::other("broken")),
                false => self.0.read(out),
            }
        }
    }
    let long = format!("<img src=a.png>{}", " ".repeat(200_000));
    let url = Url::parse(PAGE).unwrap();
    let head = Head { url: &url, content_type: None, links: Vec::new(), refresh: None };
    let page = extract(Fails(long.as_bytes()), &head);
    assert_eq!(page.images.len(), 1);
    assert_eq!(page.error.unwrap().to_string(), "broken");
}

#[test]
fn a_tag_without_end_is_read_in_a_time_that_grows_with_its_bytes() {
    let many: String = (0..200_000).map(|at| format!(" src{at}=x data-src=y")).collect();
    assert_eq!(images(&format!("<img{many}>")), ["y"]);
}
