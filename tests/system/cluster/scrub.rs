//! Bits that a disk has lost.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_kit::Cluster;
use skep_kit::clients::load::unique_text;
use skep_kit::effort::machine_shared;
use skep_kit::programs;
use skep_kit::wait::until;

const PATIENCE: Duration = Duration::from_secs(60);
/// More than a segment.
const MESSAGES: u64 = 75;

/// The oldest segment of messages.
fn oldest_segment(data: &Path) -> PathBuf {
    let entries = std::fs::read_dir(data.join("messages")).expect("the folder has messages");
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().expect("there is a segment")
}

fn change_a_byte(path: &Path) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    let at = file.metadata().expect("it is there").len() / 2;
    file.read_exact_at(&mut byte, at).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("it can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_a_disk_has_lost_is_found_by_a_running_node_and_by_verify() {
    let _machine = machine_shared();
    let mut cluster = Cluster::new(1, &[]);
    cluster.args = vec!["--scrub-interval".into(), "100ms".into()];
    cluster.start(1).wait_ready().await;
    for _ in 0..MESSAGES {
        cluster.node(1).http.put(&format!("{}{}", unique_text(20), "x".repeat(1_000_000))).await;
    }
    let figure = async |cluster: &Cluster, name: &str| -> Option<f64> {
        let text = cluster.node(1).admin.get("/metrics").await.ok()?.text();
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    until("all of it is read again, and well", PATIENCE, async || {
        (figure(&cluster, "skep_store_segments_checked").await? >= 2.0).then_some(())
    })
    .await;
    assert_eq!(figure(&cluster, "skep_store_rotten_segments").await, Some(0.0));

    // What a stopped node's folder has is what its last checkpoint says; a snapshot makes one.
    let saved = cluster.node(1).admin.with_timeout(PATIENCE).get("/snapshot").await;
    assert!(saved.is_ok_and(|answer| answer.status == 200));
    let data = cluster.node(1).settings.data.clone();
    change_a_byte(&oldest_segment(&data));
    until("the bit is missed", PATIENCE, async || {
        (figure(&cluster, "skep_store_rotten_segments").await? == 1.0).then_some(())
    })
    .await;
    until("it says so", PATIENCE, async || {
        cluster.node(1).log_text().contains("not as it was written").then_some(())
    })
    .await;

    cluster.node_mut(1).stop().await;
    let verify = || {
        let mut command = programs::node();
        command.args(["verify", "--data"]).arg(&data);
        programs::output(&mut command)
    };
    let said = verify().expect_err("a folder that is rotten is not well");
    assert!(said.contains("1 of 2 files") && said.contains(".seg is corrupt at byte"), "{said}");
    change_a_byte(&oldest_segment(&data));
    let said = verify().expect("the byte is as it was");
    assert!(said.contains("segments") && said.contains(&(MESSAGES).to_string()), "{said}");
}
