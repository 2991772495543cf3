//! Who reads at a leader that was deposed, and does not know it: never what was there before.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use skep_kit::effort::{count, figure, machine_shared};
use skep_kit::history::clients::{read, write};
use skep_kit::history::recorder::Recorder;
use skep_kit::history::register::{self, Access};
use skep_kit::hosts::lan::{Lan, possible};
use skep_kit::hosts::nodes::{Hosts, on};
use skep_kit::wait::{PATIENCE, until};
use skep_kit::{Client, Cluster};

/// Requests are given up after this: soon, so that who reads in vain is soon told.
const REQUEST_TIMEOUT: &str = "3s";
/// Reads that are sent at a time to a frozen leader: before another leads, and after each text that the heir took.
const WAITING: usize = 8;
/// Who reads at the leader that was deposed.
const READER: usize = 1;
/// Who writes, and reads before.
const WRITER: usize = 0;

fn peers(node: u8) -> [u8; 2] {
    [node % 3 + 1, (node + 1) % 3 + 1]
}

/// Who leads by its own word, among the peers of one that led.
async fn heir(cluster: &Cluster, deposed: u8) -> u8 {
    until("a peer leads", PATIENCE, async || {
        for peer in peers(deposed) {
            let leads = cluster.node(peer).status().await;
            if leads.is_some_and(|view| view.leader.as_ref() == Some(&view.node_id)) {
                return Some(peer);
            }
        }
        None
    })
    .await
}

/// A client's place: its number, and that of the node among the clients of all.
fn who(client: usize, node: u8) -> (usize, usize) {
    (client, usize::from(node) - 1)
}

/// Writes a new text at a node, as often as it takes.
async fn written(history: &Recorder<Access>, nodes: &[Client], node: u8) {
    until("a leader takes a text", PATIENCE, async || {
        write(history, nodes, who(WRITER, node), 1).await.then_some(())
    })
    .await;
}

fn judge(what: &str, history: &Recorder<Access>) {
    let operations = history.take();
    let answered = operations.iter().filter(|one| one.client == READER).count();
    figure(what, format!("{answered} reads at the deposed were answered, {} were not", history.refused()));
    if let Err(contradiction) = register::check(&operations) {
        panic!("{what}: {contradiction}");
    }
}

/// Each in its turn: a text at the leader, its deposition, another text at the heir, and then a read at who led.
async fn depose(what: &str, cluster: &mut Cluster, set_apart: impl Fn(usize, bool)) {
    let history = Recorder::new(Instant::now());
    let nodes = cluster.clients();
    for _ in 0..count(3, 20) {
        let leader = cluster.leader().await;
        let at = usize::from(leader) - 1;
        written(&history, &nodes, leader).await;
        set_apart(at, true);
        let heir = heir(cluster, leader).await;
        written(&history, &nodes, heir).await;
        read(&history, &nodes[at], who(READER, leader)).await;
        set_apart(at, false);
        cluster.wait_all_ready().await;
    }
    judge(what, &history);
}

fn on_three<T: Send + 'static>(test: impl AsyncFnOnce(&Lan, &mut Cluster) -> T + Send + 'static) -> T {
    let args = ["--request-timeout", REQUEST_TIMEOUT].map(str::to_owned).to_vec();
    on(Hosts { count: 3, args, ..Hosts::default() }, async |lan: &Lan, cluster: &mut Cluster| {
        cluster.wait_all_ready().await;
        test(lan, cluster).await
    })
}

#[test]
fn a_leader_that_is_cut_off_and_deposed_answers_no_read_from_before() {
    if !possible("a reader at a deposed leader", &[]) {
        return;
    }
    let _machine = machine_shared();
    on_three(async |lan: &Lan, cluster: &mut Cluster| {
        let cut = |at, cut| {
            lan.set_deaf(at, cut);
            lan.set_mute(at, cut);
        };
        depose("cut off", cluster, cut).await;
    });
}

#[test]
fn a_leader_that_hears_nobody_or_is_heard_by_nobody_answers_no_read_from_before() {
    if !possible("a reader at a leader that is half cut off", &[]) {
        return;
    }
    let _machine = machine_shared();
    on_three(async |lan: &Lan, cluster: &mut Cluster| {
        depose("hears nobody", cluster, |at, deaf| lan.set_deaf(at, deaf)).await;
        depose("heard by nobody", cluster, |at, mute| lan.set_mute(at, mute)).await;
    });
}

/// The requests wait in its sockets while it is frozen: what it does first when it goes on is answer them.
#[test]
fn a_leader_that_was_frozen_and_deposed_answers_no_read_from_before() {
    if !possible("a reader at a frozen leader", &[]) {
        return;
    }
    let _machine = machine_shared();
    on_three(async |_: &Lan, cluster: &mut Cluster| {
        let history = Arc::new(Recorder::new(Instant::now()));
        let nodes = cluster.clients();
        for _ in 0..count(4, 40) {
            let leader = cluster.leader().await;
            let deposed = nodes[usize::from(leader) - 1].clone();
            let begin = |reads: &mut JoinSet<bool>, client| {
                for _ in 0..WAITING {
                    let (history, deposed) = (history.clone(), deposed.clone());
                    reads.spawn(async move { read(&history, &deposed, who(client, leader)).await });
                }
            };
            written(&history, &nodes, leader).await;
            // Connections for all of them are open before it is frozen.
            let mut reads = JoinSet::new();
            (0..3).for_each(|_| begin(&mut reads, WRITER));
            while reads.join_next().await.is_some() {}

            cluster.node(leader).pause();
            begin(&mut reads, READER);
            let heir = heir(cluster, leader).await;
            written(&history, &nodes, heir).await;
            begin(&mut reads, READER);
            // While this is answered, the others are sent.
            written(&history, &nodes, heir).await;
            begin(&mut reads, READER);
            written(&history, &nodes, heir).await;
            cluster.node(leader).resume();
            while let Some(ended) = reads.join_next().await {
                ended.expect("a reader does not panic");
            }
            cluster.wait_all_ready().await;
        }
        judge("frozen", &history);
    });
}
