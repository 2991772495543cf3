//! The page at `/`, in a real browser: two windows, through the balancer.
//!
//! Screenshots are left in `target/tmp/page-*.png`, to be looked at.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use skep_kit::clients::browser::{self, Browser, Window};
use skep_kit::cluster::balancer::Balancer;
use skep_kit::effort::{figure, left_out, machine_shared};
use skep_kit::folders::scratch;
use skep_kit::{Cluster, Load, LoadOptions, Targets};

pub const TOKEN: &str = "an-operators-token-for-tests";
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a window a second, while messages come: five changes of the list, and what else it shows.
const LAYOUTS_MAX: f64 = 15.0;

/// The seqs that a window shows, the newest first.
const SEQS: &str =
    "[...document.querySelectorAll('#messages li[data-seq]')].map(li => Number(li.dataset.seq))";
pub const LIVE: &str = "document.querySelector('#connection')?.dataset.state === 'live'";

/// Everything with text, or to type into, whose contrast is below that of WCAG AA; and whatever
/// has no name for who does not see it.
const SHORTCOMINGS: &str = r#"(() => {
    const parse = (color) => color.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
        const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const e of document.querySelectorAll("body *")) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !e.getClientRects().length || e.classList.contains("skip")) continue;
        const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(behind(e))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) found.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 20)}: ${contrast.toFixed(2)}`);
    }
    for (const e of document.querySelectorAll("input, textarea, select")) {
        if (!e.labels?.length && !e.ariaLabel) found.push(`no label: ${e.id || e.name}`);
    }
    for (const e of document.querySelectorAll("button, a")) if (!e.textContent.trim()) found.push("no name");
    if (!document.title || !document.documentElement.lang) found.push("no title or language");
    if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
    if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the window: ${document.documentElement.scrollWidth}`);
    return found;
})()"#;

pub fn picture(name: &str) -> PathBuf {
    scratch().join(format!("page-{name}.png"))
}

/// Pictures of a page in each form, none of which may have shortcomings.
pub async fn look_at(window: &Window, name: &str) {
    for (form, scheme, width, height) in [
        ("light", "light", 1280, 1100),
        ("dark", "dark", 1280, 1100),
        ("phone-light", "light", 390, 844),
        ("phone-dark", "dark", 390, 844),
    ] {
        window.prefer(scheme).await;
        window.resize(width, height).await;
        window.screenshot(&picture(&format!("{name}-{form}"))).await;
        let shortcomings: Value = window.value(SHORTCOMINGS).await;
        assert_eq!(shortcomings, Value::Array(Vec::new()), "{name} {form}");
    }
    window.resize(1280, 1100).await;
}

async fn send(window: &Window, text: &str) {
    window.value("document.querySelector('#text').focus()").await;
    window.type_text(text).await;
    window.press("Enter", 13, 2).await;
}

async fn shows(window: &Window, text: &str) {
    let expression = format!(
        "[...document.querySelectorAll('#messages .body')].filter(e => e.textContent === {text:?}).length === 1"
    );
    window.wait(&format!("a window shows {text:?} once"), &expression).await;
}

/// Every message since the first one that is shown, once and in order, up to `last`.
async fn shows_all_upto(window: &Window, last: u64) {
    window.wait("a window is up to date", &format!("Math.max(0, ...{SEQS}) >= {last}")).await;
    let seqs: Vec<u64> = serde_json::from_value(window.value(SEQS).await).expect("numbers");
    let first = *seqs.last().expect("something is shown");
    let expected: Vec<u64> = (first..=last.max(seqs[0])).rev().collect();
    assert_eq!(seqs, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_windows_show_every_message_once_while_each_node_dies_in_turn() {
    if !browser::is_there() {
        left_out("the page in a browser", "no /usr/bin/chromium: apt-get install chromium");
        return;
    }
    let _machine = machine_shared();
    let mut cluster = Cluster::new(3, &[1, 2, 3]);
    let file = cluster.folder().join("token");
    std::fs::write(&file, TOKEN).expect("the token can be written");
    cluster.args = vec!["--operator-token-file".into(), file.to_str().expect("a plain path").into()];
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.wait_all_ready().await;
    let balancer = Balancer::start(&cluster, &[]).await;
    let leader = cluster.leader().await;
    let survivors: Vec<u8> = (1..=3).filter(|node| *node != leader).collect();
    let url = format!("http://{}/", balancer.http);
    let browser = Browser::start().await;
    let first = browser.open(&url, 1280, 900).await;
    let second = browser.open(&url, 1280, 900).await;
    first.wait("the first window is live", LIVE).await;
    second.wait("the second window is live", LIVE).await;

    send(&first, "from the first window").await;
    shows(&second, "from the first window").await;
    shows(&first, "from the first window").await;
    send(&second, "and <b>back</b>").await;
    shows(&first, "and <b>back</b>").await;
    first
        .wait("three members are ready", "document.querySelectorAll('[data-state=ready]').length === 3")
        .await;
    assert_eq!(browser.take_complaints(), Vec::<String>::new());
    let weight = "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))\
        .filter(e => !/messages|members/.test(e.name)).reduce((sum, e) => sum + e.transferSize, 0)";
    let weight = first.value(weight).await.as_u64().unwrap_or(u64::MAX);
    figure("the page's first load", format!("{weight} bytes"));
    assert!(weight > 10_000 && weight < 60_000, "{weight}");

    let targets = Targets::new(cluster.clients());
    let load = Load::start(
        &targets,
        LoadOptions { writers: 1, pace: Some(Duration::from_millis(20)), ..Default::default() },
    );
    let (begun, layouts) = (Instant::now(), second.layouts().await);
    for victim in [leader, survivors[0], survivors[1]] {
        targets.remove(&cluster.node(victim).http);
        cluster.node_mut(victim).kill();
        load.wait_acked(30, PATIENCE).await;
        let text = format!("while node {victim} is dead");
        send(&first, &text).await;
        shows(&second, &text).await;
        cluster.start(victim).wait_ready().await;
        targets.add(&cluster.node(victim).http);
        load.wait_acked(10, PATIENCE).await;
    }
    let layouts = (second.layouts().await - layouts) / begun.elapsed().as_secs_f64();
    figure("layouts of the page under 50 messages a second", format!("{layouts:.1} a second"));
    // Each message laid out by itself keeps a slow machine from everything else.
    assert!(layouts < LAYOUTS_MAX, "{layouts:.1} a second");
    let ledger = load.stop().await;
    let last = ledger.acked.iter().map(|acked| acked.seq).max().expect("something was acknowledged");
    for window in [&first, &second] {
        shows_all_upto(window, last).await;
        let noted = "document.querySelector('#resumed').textContent.includes('resumed after')";
        window.wait("it says that it resumed", noted).await;
    }
    // Connections to dead nodes are complained of by the browser itself.
    browser.take_complaints();

    first.value("document.querySelector('#digest').focus()").await;
    first.type_text("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae").await;
    cluster.node(1).http.put("foo").await;
    first.press("Enter", 13, 0).await;
    // A form is sent by Enter's character.
    first.value("document.querySelector('#find').requestSubmit()").await;
    first.wait("it finds by digest", "document.querySelector('#found').textContent === 'foo'").await;

    first.value("document.querySelector('#token').value = 'wrong'; document.querySelector('#unlock').requestSubmit()").await;
    first
        .wait(
            "a wrong token opens nothing",
            "document.querySelector('#unlocked').textContent.includes('token')",
        )
        .await;
    assert_eq!(first.value("document.querySelector('#data').hidden").await, true);
    first.value(&format!("document.querySelector('#token').value = '{TOKEN}'; document.querySelector('#unlock').requestSubmit()")).await;
    first.wait("the stored data is shown", "document.querySelectorAll('#rows tr').length === 100").await;
    first.value("document.querySelector('#export').click()").await;
    first.wait("all is exported", "document.querySelector('#exported').textContent === 'exported'").await;

    for (name, window, scheme, width, height) in [
        ("light", &second, "light", 1280, 900),
        ("dark", &second, "dark", 1280, 900),
        ("phone-light", &second, "light", 390, 844),
        ("phone-dark", &second, "dark", 390, 844),
        ("stored-light", &first, "light", 1280, 1400),
        ("stored-dark", &first, "dark", 1280, 1400),
        ("stored-phone", &first, "light", 390, 844),
    ] {
        window.prefer(scheme).await;
        window.resize(width, height).await;
        window.value("scrollTo(0, document.querySelector('#data').hidden ? 0 : 1e6)").await;
        // Animations of what has just arrived are over by then.
        window.wait("all is still", "document.getAnimations().every(a => a.playState === 'finished')").await;
        window.screenshot(&picture(name)).await;
        let shortcomings: Value = window.value(SHORTCOMINGS).await;
        assert_eq!(shortcomings, Value::Array(Vec::new()), "{name}");
    }
    let complaints: Vec<String> =
        browser.take_complaints().into_iter().filter(|text| !text.contains("401")).collect();
    assert_eq!(complaints, Vec::<String>::new());

    let docs = browser.open(&format!("{url}docs"), 1280, 900).await;
    docs.wait("the documentation is shown", "document.querySelectorAll('.opblock').length === 42").await;
    docs.screenshot(&picture("docs")).await;
    assert_eq!(browser.take_complaints(), Vec::<String>::new());
}
