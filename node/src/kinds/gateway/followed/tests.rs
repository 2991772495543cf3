use skep_base::id::NodeId;

use super::*;
use crate::service::peers;

const LINEAGE: u128 = 0xab;

fn balancer(id: u64, gateway: Option<GatewayAt>) -> PeerRecord {
    PeerRecord { gateway, ..peers::member(id, Program::Balancer) }
}

fn revision(number: u64) -> Option<GatewayRevision> {
    Some(GatewayRevision { lineage: LINEAGE, number })
}

fn at(number: u64, refused: Option<u64>) -> Option<GatewayAt> {
    Some(GatewayAt { in_force: revision(number), refused: refused.and_then(revision), purged: None })
}

/// Those that are there, and those that have been.
type Seen = (Vec<PeerRecord>, Vec<PeerRecord>);

fn live(live: Vec<PeerRecord>) -> Seen {
    (live, Vec::new())
}

fn view((live, dead): Seen) -> Arc<View> {
    Arc::new(View { dead, ..peers::view(peers::member(99, Program::Node), live) })
}

/// What a wait for revision 7 comes to, that sees one view after another and then a long time; the clock stands still.
async fn waited(views: Vec<Seen>) -> (usize, usize, Vec<(String, Option<u64>, Why)>) {
    waited_for(Revision { lineage: LINEAGE, number: 7 }.into(), views).await
}

async fn waited_for(now: Wanted, views: Vec<Seen>) -> (usize, usize, Vec<(String, Option<u64>, Why)>) {
    let mut views = views.into_iter().map(view);
    let (sender, receiver) = watch::channel(views.next().unwrap());
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
    let number = |has| match has {
        Has::Revision(number) | Has::Purge(number) => number,
    };
    let behind = followed.behind.into_iter().map(|it| (it.id, number(it.has), it.why)).collect();
    (followed.seen_by, followed.of, behind)
}

#[tokio::test(start_paused = true)]
async fn all_that_obey_are_waited_for_and_nobody_else() {
    let left = PeerRecord { state: NodeState::Draining, ..balancer(3, at(6, None)) };
    let node = PeerRecord { program: Program::Node, ..balancer(4, at(6, None)) };
    let others = [left, node, balancer(5, None)];
    let views = |first: u64, second: u64| {
        live([vec![balancer(1, at(first, None)), balancer(2, at(second, None))], others.to_vec()].concat())
    };
    assert_eq!(waited(vec![views(7, 8)]).await, (2, 2, vec![]), "at once");
    assert_eq!(waited(vec![views(6, 6), views(7, 6), views(7, 7)]).await, (2, 2, vec![]));
    assert_eq!(waited(vec![live(Vec::new())]).await, (0, 0, vec![]), "there is none");
}

#[tokio::test(start_paused = true)]
async fn who_goes_meanwhile_is_not_waited_for_and_who_comes_is_not_counted() {
    let (here, other) = (balancer(1, at(7, None)), balancer(2, at(6, None)));
    let both = || live(vec![here.clone(), other.clone()]);
    for goes in [
        vec![here.clone()],
        vec![here.clone(), PeerRecord { state: NodeState::Draining, ..other.clone() }],
        vec![here.clone(), PeerRecord { generation: 2, ..other.clone() }],
    ] {
        assert_eq!(waited(vec![both(), live(goes)]).await, (1, 1, vec![]));
    }
    let silent = (vec![here.clone()], vec![other.clone()]);
    let named = vec![(other.id.to_string(), Some(6), Why::Silent)];
    assert_eq!(waited(vec![both(), silent]).await, (1, 2, named));
    let views = vec![
        live(vec![balancer(1, at(6, None))]),
        live(vec![balancer(1, at(6, None)), balancer(3, at(6, None))]),
        live(vec![here, balancer(3, at(6, None))]),
    ];
    assert_eq!(waited(views).await, (1, 1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_or_does_not_follow_is_named() {
    let here = balancer(1, at(7, None));
    let other = |gateway| vec![live(vec![here.clone(), balancer(2, Some(gateway))])];
    let elsewhere = |number| Some(GatewayRevision { lineage: 1, number });
    for (in_force, refused, why) in [
        // At once, and the last three when the time is over.
        (revision(5), revision(7), Why::Refuses),
        (None, revision(8), Why::Refuses),
        (revision(5), revision(6), Why::Late),
        (elsewhere(70), None, Why::Late),
        (elsewhere(5), elsewhere(70), Why::Late),
    ] {
        let behind = vec![(NodeId(2).to_string(), in_force.map(|it| it.number), why)];
        assert_eq!(waited(other(GatewayAt { in_force, refused, purged: None })).await, (1, 2, behind));
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_waited_for_by_what_balancers_say_of_purges_alone() {
    let of = |id: u64, purged: Option<GatewayRevision>| {
        let at = GatewayAt { in_force: revision(9), refused: revision(9), purged };
        balancer(id, Some(at))
    };
    let now = || Wanted::Purge(revision(7).unwrap());
    let views = |first, second| live(vec![of(1, revision(first)), of(2, revision(second))]);
    assert_eq!(waited_for(now(), vec![views(7, 6), views(7, 8)]).await, (2, 2, vec![]));
    let elsewhere = Some(GatewayRevision { lineage: 1, number: 70 });
    for (purged, number, why) in
        [(revision(6), Some(6), Why::Late), (elsewhere, Some(70), Why::Late), (None, None, Why::Unheard)]
    {
        let behind = vec![(NodeId(2).to_string(), number, why)];
        assert_eq!(
            waited_for(now(), vec![live(vec![of(1, revision(7)), of(2, purged)])]).await,
            (1, 2, behind)
        );
    }
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
