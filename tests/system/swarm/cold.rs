//! From nothing to a service, and what it takes.

use std::time::{Duration, Instant};

use skep_kit::effort::{figure, left_out};
use skep_kit::swarm::lab::{HOSTS, Lab, PATIENCE};
use skep_kit::swarm::stack::{Container, IMAGE};
use skep_kit::swarm::traffic::{Traffic, messages};
use skep_kit::wait::wait_for;

/// Written and acknowledged within this after `docker stack deploy`, the images being there.
const FIRST_WRITE: Duration = Duration::from_secs(20);
const IMAGE_BYTES_MAX: u64 = 36_000_000;
/// Resident, idle, in MB.
const MEMORY_MAX: [(&str, u64); 3] = [("skep_node", 40), ("skep_balancer", 20), ("skep_vip", 8)];

#[test]
fn an_empty_swarm_acknowledges_a_write_within_20_s_of_the_deploy() {
    let Some(lab) = Lab::take("a first deploy") else { return };
    lab.remove_stack();
    (1..=HOSTS).for_each(|host| lab.lose_volumes(host));
    let begun = Instant::now();
    let traffic = Traffic::start(&lab);
    let deploy = std::thread::scope(|scope| {
        let deployed = scope.spawn(|| lab.deploy());
        wait_for("a write is acknowledged", PATIENCE, || traffic.acked() > 0);
        let first = begun.elapsed();
        deployed.join().expect("the deployment ended well");
        first
    });
    figure("deploy to the first acknowledged write", format!("{:.1} s", deploy.as_secs_f64()));
    let ledger = traffic.stop();
    assert!(deploy < FIRST_WRITE, "the first write was acknowledged after {deploy:?}");
    ledger.expect_nothing_lost(&messages(&lab).unwrap());
}

#[test]
fn the_image_is_small_and_idle_programs_take_little_memory() {
    let Some(lab) = Lab::take("sizes") else { return };
    lab.with_stack();
    let bytes = lab.must_docker(1, &["image", "inspect", "--format", "{{.Size}}", IMAGE]);
    let bytes: u64 = bytes.trim().parse().unwrap();
    figure("image", format!("{:.1} MB", bytes as f64 / 1e6));
    let is_shipped = !std::env::var("SKEP_IMAGE_PROFILE").is_ok_and(|profile| profile != "release");
    // Of programs that are not as they are shipped, what they have written; their code is larger.
    let of_what = if is_shipped { "Rss:" } else { "Anonymous:" };
    for (service, most_mb) in MEMORY_MAX {
        let sum = |container: &Container, name: &str| -> f64 {
            let format = ["inspect", "--format", "{{.State.Pid}}", &container.id];
            let pid = lab.must_docker(container.host, &format);
            let sums = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.trim())).unwrap();
            let line = sums.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
        };
        let most_of =
            |name| lab.containers(service).iter().map(|container| sum(container, name)).fold(0.0, f64::max);
        let most = most_of(of_what);
        figure(&format!("{of_what} idle {service}"), format!("{most:.1} MB"));
        assert!(most < most_mb as f64, "{service} has {of_what} {most:.1} MB, the bar is {most_mb}");
    }
    if is_shipped {
        assert!(bytes < IMAGE_BYTES_MAX, "the image has {bytes} bytes");
    } else {
        left_out("the image's size", "it is of another profile than the release");
    }
}
