//! What is kept of what the mesh brings.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::mesh::Message;
use crate::packet::{Checksum, Version};
use crate::{RouterConfig, VirtualAddress};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn router() -> Router {
    let ip = IpAddr::from([10, 0, 0, 100]);
    let mut router = Router::new(RouterConfig {
        vrid: 51,
        interface: "eth0".into(),
        addresses: vec![VirtualAddress { ip, prefix: 24 }],
        priority: 200,
        interval: Duration::from_millis(100),
        preempt: false,
        preempt_delay: Duration::ZERO,
        version: Version::V3,
        checksum: Checksum::PseudoHeader,
        vmac: false,
        peers: vec![PEER],
        peers_proven: false,
    });
    seat(&mut router, 7402);
    router
}

fn connected() -> What {
    What::Connected { address: PEER, priority: 0, sender: mpsc::channel(1).0 }
}

fn state(answers: u64) -> What {
    What::Said(Message::State { active: true, priority: 200, interval: 100, answers })
}

#[test]
fn what_the_mesh_brings_is_kept_while_this_host_has_no_address_to_send_from() {
    let mut router = router();
    assert_eq!(router.source, None);
    let question = router.learn(PEER, &connected()).ask.expect("it is asked");
    router.learn(PEER, &state(question));
    assert!(router.peers[&PEER].is_confirmed());
    // Nor does one that is lost meanwhile keep its word.
    router.learn(PEER, &What::Gone { orderly: false });
    assert!(!router.peers[&PEER].is_confirmed());
}
