//! Seeds that are names, and name servers that answer some questions and no others.

use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::effort::{expect_under, machine_alone, measured};
use skep_kit::hosts::lan::{Lan, possible};
use skep_kit::hosts::nodes::{Hosts, on};

/// Until a cluster is ready whose seeds have to be looked up.
const BAR: Duration = Duration::from_secs(5);

fn forms(what: &'static str, seeds: &str) {
    let seeds = Some(seeds.to_owned());
    on(Hosts { count: 3, seeds, ..Hosts::default() }, async move |_: &Lan, cluster: &mut Cluster| {
        let begun = Instant::now();
        cluster.wait_all_ready().await;
        measured(what, &[begun.elapsed()]);
        expect_under(what, begun.elapsed(), BAR);
        cluster.node(1).http.put(what).await;
    });
}

#[test]
fn a_name_server_that_is_silent_on_ipv6_addresses_holds_up_nothing() {
    if !possible("a silent name server", &[]) {
        return;
    }
    let _machine = machine_alone();
    forms("silent on AAAA", "node-1.test:7400,node-2.test:7400,node-3.test:7400");
}

#[test]
fn names_that_hang_or_are_unknown_hold_up_nobody_where_one_answers() {
    if !possible("names that hang", &[]) {
        return;
    }
    let _machine = machine_alone();
    forms("two of three names hang", "silent-1.test:7400,silent-2.test:7400,node-2.test:7400");
    forms("one unknown, one hangs", "nobody.test:7400,silent.test:7400,node-1.test:7400");
}
