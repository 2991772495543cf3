use skep_base::id::NodeId;
use skep_members::gossip::RaftRole;

use super::*;

const LINEAGE: u128 = 0xab;

fn balancer(id: u64, gateway: Option<GatewayAt>) -> PeerRecord {
    PeerRecord {
        id: NodeId(id),
        program: Program::Balancer,
        state: NodeState::Ready,
        cluster: None,
        peer: ([192, 0, 2, 1], 7401).into(),
        http: None,
        admin: None,
        version: "0.2.0".into(),
        protocol: (1, 1),
        expect: 0,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway,
        generation: 1,
    }
}

fn at(revision: u64, refused: Option<u64>) -> Option<GatewayAt> {
    Some(GatewayAt { lineage: LINEAGE, revision, refused })
}

fn view(live: Vec<PeerRecord>) -> Arc<View> {
    let me = PeerRecord { program: Program::Node, ..balancer(99, None) };
    let settled_since = std::time::Instant::now();
    Arc::new(View { me, live, dead: Vec::new(), settled_since, trusted: true })
}

/// What a wait for revision 7 comes to, that sees one view after another and then a long time; the clock stands still.
async fn waited(views: Vec<Vec<PeerRecord>>) -> (usize, usize, Vec<(String, u64, bool)>) {
    let mut views = views.into_iter().map(view);
    let (sender, receiver) = watch::channel(views.next().unwrap());
    let now = Revision { lineage: LINEAGE, number: 7 };
    let mut waiting = Box::pin(wait(receiver, now, Duration::from_secs(10)));
    let mut followed = futures_util::poll!(&mut waiting);
    for view in views {
        assert!(followed.is_pending(), "{followed:?}");
        sender.send_replace(view);
        followed = futures_util::poll!(&mut waiting);
    }
    let followed = match followed {
        std::task::Poll::Ready(followed) => followed,
        std::task::Poll::Pending => waiting.await,
    };
    let behind = followed.behind.into_iter().map(|it| (it.id, it.revision, it.refuses)).collect();
    (followed.seen_by, followed.of, behind)
}

#[tokio::test(start_paused = true)]
async fn all_that_obey_are_waited_for_and_nobody_else() {
    let left = PeerRecord { state: NodeState::Draining, ..balancer(3, at(6, None)) };
    let node = PeerRecord { program: Program::Node, ..balancer(4, at(6, None)) };
    let others = [left, node, balancer(5, None)];
    let views = |first: u64, second: u64| {
        [vec![balancer(1, at(first, None)), balancer(2, at(second, None))], others.to_vec()].concat()
    };
    assert_eq!(waited(vec![views(7, 8)]).await, (2, 2, vec![]), "at once");
    assert_eq!(waited(vec![views(6, 6), views(7, 6), views(7, 7)]).await, (2, 2, vec![]));
    assert_eq!(waited(vec![Vec::new()]).await, (0, 0, vec![]), "there is none");
}

#[tokio::test(start_paused = true)]
async fn who_goes_meanwhile_is_not_waited_for_and_who_comes_is_not_counted() {
    let here = balancer(1, at(7, None));
    let views = vec![vec![here.clone(), balancer(2, at(6, None))], vec![here.clone()]];
    assert_eq!(waited(views).await, (1, 1, vec![]));
    let again = PeerRecord { generation: 2, ..balancer(2, at(6, None)) };
    let views = vec![vec![here.clone(), balancer(2, at(6, None))], vec![here.clone(), again]];
    assert_eq!(waited(views).await, (1, 1, vec![]), "a later run is another");
    let views = vec![
        vec![balancer(1, at(6, None))],
        vec![balancer(1, at(6, None)), balancer(3, at(6, None))],
        vec![here, balancer(3, at(6, None))],
    ];
    assert_eq!(waited(views).await, (1, 1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_or_does_not_follow_is_named() {
    let here = balancer(1, at(7, None));
    let behind = |id: u64, revision, refuses| (NodeId(id).to_string(), revision, refuses);
    let refuses = vec![here.clone(), balancer(2, at(5, Some(7)))];
    assert_eq!(waited(vec![refuses]).await, (1, 2, vec![behind(2, 5, true)]), "at once");
    let slow = vec![here.clone(), balancer(2, at(5, Some(6)))];
    assert_eq!(waited(vec![slow]).await, (1, 2, vec![behind(2, 5, false)]), "when the time is over");
    let elsewhere = Some(GatewayAt { lineage: 1, revision: 70, refused: None });
    let other = vec![here, balancer(2, elsewhere)];
    assert_eq!(waited(vec![other]).await, (1, 2, vec![behind(2, 70, false)]), "another history");
}

#[test]
fn a_wish_is_the_first_wait_that_says_how_long() {
    let wish_of = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|it| {
            headers.append(PREFER, it.parse().unwrap());
        });
        wish(&headers)
    };
    for (values, seconds) in [
        (&["wait=5"][..], Some(5)),
        (&["respond-async, Wait = \"7\"; x=y, wait=9"], Some(7)),
        (&["return=minimal", "wait=0"], Some(0)),
        (&["wait=31"], Some(WAIT_MAX_S)),
        (&["wait=99999999999999999999"], Some(WAIT_MAX_S)),
        (&["wait=soon"], None),
        (&["wait=-1"], None),
        (&["wait"], None),
        (&["wait="], None),
        (&["waiting=5"], None),
        (&[], None),
    ] {
        assert_eq!(wish_of(values), seconds, "{values:?}");
    }
}
