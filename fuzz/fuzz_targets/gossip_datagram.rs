//! Datagrams: from strangers, from holders of either key, the records inside them, and files of keys.
#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

use chitchat::ChitchatId;
use libfuzzer_sys::fuzz_target;
use skep_fuzz::bounded::bounded;
use skep_fuzz::library::Library;
use skep_fuzz::seeds;
use skep_members::gossip::PeerRecord;
use skep_members::gossip::admission::{Admission, Proved};
use skep_members::gossip::envelope::Translation;
use skep_members::gossip::record::{KEY_CLUSTER, KEY_RAFT, KEY_STATE, KEY_STATIC};
use skep_members::gossip::wire::{self, Body, Message};
use skep_members::key::{Form, KeyRing};
use skep_members::seal::{Opener, Sealer};
use tokio::runtime::Runtime;

struct Receiver {
    runtime: Runtime,
    translation: Translation,
    admission: Admission,
    library: Library,
    sealer: Sealer,
    opener: Opener,
    edge: Opener,
}

impl Receiver {
    fn new() -> Self {
        let ring = KeyRing::insecure_loopback();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let translation = runtime.block_on(Translation::open()).expect("sockets on loopback");
        let edges = KeyRing::parse(&ring.edge_lines().join("\n")).expect("a ring");
        let opener = |ring: &KeyRing| Opener::new(ring).expect("an opener");
        let sealer = Sealer::new(&ring).expect("a sealer");
        let me = ChitchatId::new("00000000000000ab", 9, ([127, 0, 0, 1], 7400).into());
        let library = runtime.block_on(Library::start(me.clone(), "skep"));
        let admission = Admission::new(me, "skep", true, []);
        let (opener, edge) = (opener(&ring), opener(&edges));
        Self { runtime, translation, admission, library, sealer, opener, edge }
    }

    /// What was opened: it is read within bounds, and what is left of it does the library no harm.
    fn hear(&mut self, form: Form, plain: &[u8]) {
        let Self { runtime, translation, admission, library, .. } = self;
        let Ok(message) = bounded(plain.len(), || wire::read(plain)) else { return };
        let Ok((message, _)) = admission.admit(source(&message), form, message, Instant::now()) else { return };
        let written = wire::write(&message);
        assert_eq!(wire::read(&written).expect("what is written is read"), message);
        runtime.block_on(async {
            // None where it is too large for a datagram.
            let Ok(envelope) = translation.decode(&written).await else { return };
            library.hear(envelope).await;
            let members = library.members().await;
            admission.tell(members.iter(), Proved::default(), Instant::now());
        });
    }
}

/// Where the first whom it tells of is: an edge speaks for itself.
fn source(message: &Message) -> SocketAddr {
    let id = match &message.body {
        Body::Syn { digest, .. } | Body::SynAck { digest, .. } => digest.first().map(|digest| &digest.id),
        Body::Ack { delta } => delta.first().map(|delta| &delta.id),
    };
    id.map_or(([127, 0, 0, 1], 1).into(), |id| id.gossip_advertise_addr)
}

thread_local! {
    static RECEIVER: RefCell<Receiver> = RefCell::new(Receiver::new());
}

fuzz_target!(init: seeds::write(seeds::gossip), |bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    RECEIVER.with_borrow_mut(|receiver| match choice % 5 {
        // A stranger's datagram never opens.
        0 => {
            assert!(bounded(rest.len(), || receiver.opener.open(rest)).is_err());
            assert!(bounded(rest.len(), || receiver.edge.open(rest)).is_err());
        }
        // A member's does, whatever is in it.
        1 => {
            let datagram = receiver.sealer.seal(Form::Root, rest).expect("a datagram can be sealed");
            let plain = bounded(datagram.len(), || receiver.opener.open(&datagram)).expect("it opens");
            assert_eq!(plain, rest);
            receiver.hear(Form::Root, &plain);
        }
        // An edge's, at a member and at another edge.
        3 => {
            let datagram = receiver.sealer.seal(Form::Edge, rest).expect("a datagram can be sealed");
            for opener in [&mut receiver.opener, &mut receiver.edge] {
                assert_eq!(opener.open_telling_form(&datagram).expect("it opens"), (Form::Edge, rest.to_vec()));
            }
            receiver.hear(Form::Edge, rest);
        }
        4 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let Ok(ring) = KeyRing::parse(text) else { return };
            let lines = ring.edge_lines();
            assert_eq!(KeyRing::parse(&lines.join("\n")).expect("edge keys are keys").edge_lines(), lines);
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let mut lines = text.split('\n');
            let id = lines.next().unwrap_or_default();
            let values: Vec<_> = [KEY_STATIC, KEY_STATE, KEY_CLUSTER, KEY_RAFT].into_iter().zip(lines).collect();
            let peer = ([127, 0, 0, 1], 7400).into();
            let decode = |id: &str, values: &[(&'static str, &str)]| {
                PeerRecord::decode(id, 9, peer, |key| {
                    values.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
                })
            };
            let Ok(record) = bounded(rest.len(), || decode(id, &values)) else { return };
            let keys = record.encode();
            let again: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
            assert_eq!(decode(&record.id.to_string(), &again), Ok(record));
        }
    });
});
