//! A network that falls apart and heals: one holder, and every client reaches it.

use std::time::Duration;

use skep_kit::effort::{count, expect_under, machine_alone, measured};
use skep_kit::hosts::attempts::{Client, failures};
use skep_kit::hosts::lan::Lan;
use skep_kit::hosts::lan::possible;
use skep_kit::hosts::program::{Ours, start_backend};
use skep_kit::wait::{PATIENCE, pause, wait_for};

#[test]
fn after_a_partition_there_is_one_holder_within_an_interval_and_clients_reach_it() {
    if !possible("a partition", &[]) {
        return;
    }
    let _machine = machine_alone();
    let interval = Duration::from_millis(100);
    let lan = Lan::new(3);
    let programs: Vec<_> = (0..3)
        .map(|at| {
            start_backend(&lan.host(at), &format!("host {at}"));
            let priority = 200 - 10 * at as u8;
            Ours { lan: &lan, at, vip: "10.78.0.100/24", priority, interval: "100ms", mesh: true, more: &[] }
                .start()
        })
        .collect();
    wait_for("one holds and two wait", PATIENCE, || {
        programs.iter().filter(|it| it.state() == "active").count() == 1
            && programs.iter().filter(|it| it.state() == "backup").count() == 2
    });
    let mut healed = Vec::new();
    for _ in 0..count(2, 20) {
        let holder = (0..3).find(|at| lan.has(*at, "10.78.0.100")).unwrap();
        lan.set_isolated(holder, true);
        wait_for("another holds", PATIENCE, || (0..3).any(|at| at != holder && lan.has(at, "10.78.0.100")));
        pause(Duration::from_secs(count(1, 10)));
        lan.set_isolated(holder, false);
        healed.push(wait_for("one holder", PATIENCE, || {
            (0..3).filter(|at| lan.has(*at, "10.78.0.100")).count() == 1
        }));
        let client = Client::start(&lan, "10.78.0.100", Duration::from_millis(2));
        pause(Duration::from_millis(400));
        let attempts = client.finish();
        assert_eq!(failures(&attempts), 0, "{:?}", attempts.iter().find(|it| it.result.is_err()));
    }
    measured("one holder again after a partition", &healed);
    // Looking takes 3 namespaces some milliseconds each.
    let bar = interval + Duration::from_millis(30);
    expect_under("healed", *healed.iter().max().unwrap(), bar);
}
