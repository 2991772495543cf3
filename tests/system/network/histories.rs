//! Histories of clients at three nodes that are killed, frozen, cut off, heard by half and set to wrong times:
//! an object that does one thing after the other could have answered so, nothing acknowledged is lost, and each task
//! ends once.

use std::time::{Duration, Instant};

use skep_kit::Cluster;
use skep_kit::effort::{count, figure, machine_shared};
use skep_kit::faults;
use skep_kit::folders::scratch;
use skep_kit::history::clients::{Clients, Histories};
use skep_kit::history::nemesis::Nemesis;
use skep_kit::history::workers::{Seen, Workers};
use skep_kit::history::{log, register, tasks};
use skep_kit::hosts::lan::{Lan, possible};
use skep_kit::hosts::nodes::{Hosts, faults_of, on};
use skep_kit::programs::worker_token;
use skep_kit::random::Random;
use skep_kit::wait::until;

/// How long faults go on: in the short form, in the long one.
const LENGTHS: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(30 * 60));

/// Fails with what contradicts, and keeps the whole for who looks for the cause.
fn judge(histories: &Histories, queue: &Seen) {
    let begun = Instant::now();
    let verdicts = [
        register::check(&histories.register),
        log::check(&histories.log),
        tasks::check(&queue.history, &queue.became),
    ];
    figure("histories: judged in", format!("{:.1?}", begun.elapsed()));
    let contradictions: Vec<String> =
        verdicts.into_iter().filter_map(Result::err).map(|contradiction| contradiction.to_string()).collect();
    if contradictions.is_empty() {
        return;
    }
    let kept = scratch().join(format!("histories-{}.txt", std::process::id()));
    let texts = histories.register.iter().map(|one| format!("text: {one}"));
    let messages = histories.log.iter().map(|one| format!("message: {one}"));
    let tasks = queue.history.iter().map(|one| format!("task: {one}"));
    let lines: Vec<String> = texts.chain(messages).chain(tasks).collect();
    std::fs::write(&kept, lines.join("\n")).expect("the target folder is writable");
    panic!("not linearizable ({} has all):\n{}", kept.display(), contradictions.join("\n"));
}

fn tell_of_tasks(queue: &Seen) {
    figure("histories: operations at the queue", queue.operations());
    let (done, given_up) = (queue.completed(), queue.given_up());
    figure("histories: tasks", format!("{done} done, {given_up} given up"));
    figure("histories: claims of tasks that were claimed before", queue.claimed_again());
}

fn tell(histories: &Histories) {
    figure("histories: operations", histories.operations());
    let showed = histories.unknown_that_showed();
    figure("histories: changes of unknown end", format!("{}, {showed} of them seen", histories.unknown()));
    figure("histories: beside them without effect", histories.refused);
    let acknowledged = histories.acknowledged();
    let stretch = acknowledged.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    figure("histories: acknowledged changes", acknowledged.len());
    figure("histories: longest stretch without one", format!("{stretch:.1?}"));
}

#[test]
fn what_clients_see_while_nodes_fail_is_linearizable_and_nothing_acknowledged_is_lost() {
    if !possible("histories under faults", &[]) {
        return;
    }
    let _machine = machine_shared();
    let clocks = faults::possible("clock steps in histories");
    let args = ["--level-after", "200ms"].map(str::to_owned).to_vec();
    let hosts = Hosts { count: 3, args, faults: clocks, ..Hosts::default() };
    on(hosts, async move |lan: &Lan, cluster: &mut Cluster| {
        cluster.wait_all_ready().await;
        let mut random = Random::announced();
        let faults: Vec<_> = (1..=3).filter(|_| clocks).map(|index| faults_of(cluster, index)).collect();
        let nodes = cluster.clients();
        until("the members agree to tasks", Duration::from_secs(30), async || {
            (nodes[0].get("/queues").await.ok()?.status == 200).then_some(())
        })
        .await;
        let token = worker_token(cluster.key_file.as_deref().expect("nodes on hosts have a key"));
        let begun = Instant::now();
        let length = count(LENGTHS.0, LENGTHS.1);
        let clients = Clients::start(&nodes, begun, &mut random);
        let workers = Workers::start(&nodes, token, begun, &mut random);
        let nemesis = Nemesis::new(lan, cluster, &faults, random);
        let struck = nemesis.strike_until(begun, begun + length).await;
        cluster.wait_all_ready().await;
        let histories = clients.finish(&nodes).await;
        let queue = workers.finish(&nodes).await;
        let struck: Vec<String> = struck.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
        figure("histories: faults", struck.join(", "));
        tell(&histories);
        tell_of_tasks(&queue);
        judge(&histories, &queue);
        assert!(histories.acknowledged().len() as u64 > length.as_secs(), "clients were hardly served");
    });
}
