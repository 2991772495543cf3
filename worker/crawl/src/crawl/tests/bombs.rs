//! Bodies that are small, and 1 GiB once they are decoded. Each test is a process of its own, so that what
//! it has resident is its own, too.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const GIB: usize = 1 << 30;
const RESIDENT_MAX_KIB: u64 = 64 * 1024;

/// Most that this process ever had resident.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn is_defused(coding: &'static str, bomb: Vec<u8>) {
    let site =
        site(move |_| answer(200, &[("Content-Type", "text/html"), ("Content-Encoding", coding)], &bomb))
            .await;
    let found = found(&crawler(), &site.url("/")).await;
    assert_eq!((found.images.len(), found.cut), (1, Some(Cut::Bytes)));
    let resident = resident_kib();
    assert!(resident < RESIDENT_MAX_KIB, "{resident} KiB");
}

fn spaces(encoder: &mut impl Write) {
    let chunk = vec![b' '; 1 << 20];
    for _ in 0..GIB / chunk.len() {
        encoder.write_all(&chunk).unwrap();
    }
}

#[tokio::test]
async fn a_bomb_of_gzip_is_defused() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"<img src=a.png>").unwrap();
    spaces(&mut encoder);
    is_defused("gzip", encoder.finish().unwrap()).await;
}

/// Of two codings what lies between them would have no bound.
#[tokio::test]
async fn a_bomb_inside_another_is_not_touched_neither_as_a_page_nor_as_robots() {
    let bomb = || {
        answer(
            200,
            &[("Content-Type", "text/html"), ("Content-Encoding", "gzip, br")],
            include_bytes!("bomb.br"),
        )
    };
    let page = site(move |_| bomb()).await;
    let failed = failure(&crawler(), &page.url("/")).await;
    assert!(failed.is_final && failed.reason.contains("codings"), "{failed}");
    let robots = Site::start(move |_| bomb()).await;
    let failed = failure(&crawler(), &robots.url("/")).await;
    assert!(failed.reason.contains("robots.txt") && failed.reason.contains("codings"), "{failed}");
}

/// Names without end, in each place that has many.
#[tokio::test]
async fn a_page_of_names_alone_takes_no_more() {
    let most = 8 << 20;
    for (before, name, after) in [
        ("<img srcset='", "a, ", "'>"),
        ("<style>", "url(a)", "</style>"),
        ("<p style='", "url(a)", "'>"),
        ("<img data-bg='", "url(a)", "'>"),
    ] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(before.as_bytes()).unwrap();
        encoder.write_all(name.repeat((most - 100) / name.len()).as_bytes()).unwrap();
        encoder.write_all(after.as_bytes()).unwrap();
        let bytes = encoder.finish().unwrap();
        let fields = [("Content-Type", "text/html"), ("Content-Encoding", "gzip")];
        let page = site(move |_| answer(200, &fields, &bytes)).await;
        assert_eq!(found(&crawler(), &page.url("/")).await.images, [page.url("/a")]);
        let resident = resident_kib();
        assert!(resident < RESIDENT_MAX_KIB, "{resident} KiB by {before}");
    }
}

#[tokio::test]
async fn a_bomb_of_brotli_is_defused() {
    // By Google's encoder, of the same text.
    is_defused("br", include_bytes!("bomb.br").to_vec()).await;
}

#[tokio::test]
async fn a_bomb_of_zstd_is_defused() {
    // A frame with a window of 8 MiB, a raw block with the image, and blocks that are one byte repeated.
    let block = |kind: u32, length: u32| (length << 3 | kind << 1).to_le_bytes()[..3].to_vec();
    let page = b"<img src=a.png>";
    let mut bomb = b"\x28\xb5\x2f\xfd\x00\x68".to_vec();
    bomb.extend(block(0, 15));
    bomb.extend(page);
    for _ in 0..GIB / (128 * 1024) {
        bomb.extend(block(1, 128 * 1024));
        bomb.push(b' ');
    }
    is_defused("zstd", bomb).await;
}

#[tokio::test]
async fn a_page_without_end_is_left_at_its_bound() {
    let site = site(|_| {
        let mut page = b"<img src=a.png>".to_vec();
        page.resize(24 << 20, b' ');
        html(page)
    })
    .await;
    let found = found(&crawler(), &site.url("/")).await;
    assert_eq!((found.images.len(), found.cut), (1, Some(Cut::Bytes)));
}
