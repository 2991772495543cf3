//! A table of situations, each with the step that is due; and histories in [`histories`].

use super::*;

mod gone_back;
mod histories;

/// A situation, written as one line: who is a voter, a learner, or neither, and what else is so.
struct Case {
    facts: Facts,
    settings: Settings,
    now: Instant,
}

const GRACE: Duration = Duration::from_secs(30);

/// Nodes by number; node 1 leads. All are live, answer and have caught up long ago.
fn case(voters: impl IntoIterator<Item = u64>, learners: impl IntoIterator<Item = u64>) -> Case {
    let now = Instant::now() + Duration::from_secs(1000);
    let voters = set(voters);
    let learners = set(learners);
    let all: Vec<_> = voters.union(&learners).copied().collect();
    let progress =
        Progress { lag: Some(0), close_since: Some(now - GRACE * 2), answers: true, answers_now: true };
    let facts = Facts {
        me: NodeId(1),
        trusted: true,
        nodes: all.iter().map(|id| (*id, Presence::Live)).collect(),
        membership: Membership { configs: vec![voters], learners, committed: true },
        progress: all.iter().map(|id| (*id, progress)).collect(),
        ready: all.iter().copied().collect(),
        granted: BTreeSet::new(),
        gone_back: BTreeSet::new(),
        all_ask: true,
        settled: true,
    };
    Case { facts, settings: Settings { dead_grace: GRACE, ..Settings::default() }, now }
}

fn set(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

impl Case {
    fn presence(mut self, ids: impl IntoIterator<Item = u64>, presence: Presence) -> Self {
        self.facts.nodes.extend(ids.into_iter().map(|id| (NodeId(id), presence)));
        self
    }
    fn newcomers(self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.presence(ids, Presence::Live)
    }
    fn dead_for(mut self, ids: impl IntoIterator<Item = u64> + Clone, time: Duration) -> Self {
        for id in ids.clone() {
            let silent = |progress: &mut Progress| (progress.answers, progress.answers_now) = (false, false);
            self.facts.progress.entry(NodeId(id)).and_modify(silent);
        }
        let since = self.now - time;
        self.presence(ids, Presence::Dead { since })
    }
    fn dead(self, ids: impl IntoIterator<Item = u64> + Clone) -> Self {
        self.dead_for(ids, GRACE)
    }
    fn away_for(self, ids: impl IntoIterator<Item = u64>, time: Duration) -> Self {
        let since = self.now - time;
        self.presence(ids, Presence::Away { since })
    }
    fn away(self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.away_for(ids, Duration::from_secs(1))
    }
    /// As the version before plans, while one of it lives.
    fn mixed(self) -> Self {
        self.facts(|facts| facts.all_ask = false)
    }
    fn may_stop(&self, id: u64) -> bool {
        may_stop(&self.facts, &self.settings, NodeId(id), self.now)
    }
    fn leaving_for(self, ids: impl IntoIterator<Item = u64>, time: Duration) -> Self {
        let since = self.now - time;
        self.presence(ids, Presence::Leaving { since })
    }
    fn leaving(self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.leaving_for(ids, Duration::from_secs(1))
    }
    fn progress(mut self, id: u64, change: impl FnOnce(&mut Progress)) -> Self {
        change(self.facts.progress.entry(NodeId(id)).or_default());
        self
    }
    fn lag(self, id: u64, lag: u64) -> Self {
        self.progress(id, |progress| {
            progress.lag = Some(lag);
            progress.close_since = None;
        })
    }
    fn facts(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.facts);
        self
    }
    fn max(mut self, voters: usize) -> Self {
        self.settings.voters_max = voters;
        self
    }
    fn step(&self) -> Option<Step> {
        next_step(&self.facts, &self.settings, self.now)
    }
    #[track_caller]
    fn gives(&self, step: Step) {
        assert_eq!(self.step(), Some(step), "{:#?}", self.facts);
    }
    #[track_caller]
    fn gives_voters(&self, voters: impl IntoIterator<Item = u64>) {
        self.gives(Step::ChangeVoters(set(voters)));
    }
    #[track_caller]
    fn gives_nothing(&self) {
        assert_eq!(self.step(), None, "{:#?}", self.facts);
    }
}

#[test]
fn a_healthy_cluster_is_left_alone() {
    case([1], []).gives_nothing();
    case([1, 2], []).gives_nothing();
    case([1, 2, 3], []).gives_nothing();
    case([1, 2, 3], [4]).gives_nothing();
    case(1..=5, 6..=9).gives_nothing();
}

#[test]
fn new_nodes_become_learners_and_learners_voters_up_to_the_largest_odd_number() {
    case([1], []).newcomers([2, 3]).gives(Step::AddLearners(set([2, 3])));
    case([1], [2, 3]).gives_voters(1..=3);
    case([1], [2, 3, 4]).gives_voters(1..=3);
    case([1, 2, 3], 4..=9).gives_voters(1..=5);
    case([1, 2, 3], 4..=9).max(4).gives_nothing();
    case([1, 2, 3], 4..=9).max(9).gives_voters(1..=9);
    case([1, 2], [3]).gives_voters(1..=3);
    case([1], [2, 3]).max(2).gives_voters([1, 2]);
    case([1], [2, 3]).max(2).mixed().gives_nothing();
}

#[test]
fn of_two_nodes_both_vote_once_the_second_has_shown_that_it_lasts() {
    case([1], [2]).gives_voters([1, 2]);
    let now = case([1], []).now;
    let since =
        |ms| move |progress: &mut Progress| progress.close_since = Some(now - Duration::from_millis(ms));
    case([1], [2]).progress(2, since(4_999)).gives_nothing();
    case([1], [2]).progress(2, since(5_000)).gives_voters([1, 2]);
    // Two at once can spare one.
    case([1], [2, 3]).progress(2, since(500)).progress(3, since(500)).gives_voters(1..=3);
    case([1], [2]).mixed().gives_nothing();
    case([1, 2], []).mixed().gives_voters([1]);
}

#[test]
fn more_voters_than_there_may_be_or_an_even_number_shrinks() {
    case(1..=9, []).gives_voters(1..=5);
    case(1..=4, []).gives_voters(1..=3);
    // Those that are furthest behind go, but never the leader.
    case(1..=4, []).lag(2, 5).gives_voters([1, 3, 4]);
    case(7..=10, []).facts(|facts| facts.me = NodeId(10)).gives_voters([7, 8, 10]);
}

#[test]
fn a_learner_is_promoted_when_it_is_close_for_long_enough_and_answers() {
    case([1, 2], [3]).lag(3, 257).gives_nothing();
    case([1, 2], [3]).lag(3, 256).gives_nothing();
    let now = case([1], []).now;
    let just = |progress: &mut Progress| progress.close_since = Some(now);
    case([1, 2], [3]).progress(3, just).gives_nothing();
    case([1, 2], [3]).progress(3, |progress| progress.answers = false).gives_nothing();
    case([1, 2], [3]).progress(3, |progress| *progress = Progress::default()).gives_nothing();
    case([1], [2, 3, 4]).lag(3, 257).gives_voters([1, 2, 4]);
}

#[test]
fn a_learner_that_is_not_ready_is_not_promoted_in_haste_either() {
    let joining = |facts: &mut Facts| {
        facts.ready.remove(&NodeId(4));
    };
    case([1, 3], [4]).facts(joining).gives_nothing();
    case([1, 2, 3], [4]).leaving([2, 3]).facts(joining).gives_voters([1]);
}

#[test]
fn a_joint_configuration_is_finished_before_all_else() {
    let joint = |facts: &mut Facts| facts.membership.configs = vec![set([1, 2, 3]), set([3, 4, 5])];
    let is_joint = || case(1..=5, []).newcomers([6]).leaving([1]).facts(joint);
    is_joint().gives(Step::FinishJoint(set([3, 4, 5])));
    is_joint().dead([4, 5]).gives(Step::FinishJoint(set([1, 2, 3])));
    is_joint().dead([2, 4, 5]).leaving([3]).gives(Step::FinishJoint(set([1, 2, 3])));
    is_joint().dead([2, 3, 4, 5]).gives_nothing();
}

#[test]
fn nothing_is_changed_while_a_change_is_not_committed() {
    let open = |facts: &mut Facts| facts.membership.committed = false;
    case([1], [2, 3]).facts(open).gives_nothing();
    case([1, 2, 3], []).leaving([1]).facts(open).gives_nothing();
}

#[test]
fn a_voter_that_leaves_is_replaced_at_once_where_a_learner_is_ready() {
    case([1, 2, 3], [4]).leaving([3]).gives_voters([1, 2, 4]);
    case([1, 2, 3], []).mixed().leaving([3]).gives_voters([1]);
    case(1..=5, []).mixed().leaving([5]).gives_voters([1, 2, 3]);
    case([1, 2, 3], [4]).away([3]).gives_voters([1, 2, 4]);
    case([1, 2, 3], []).mixed().away([3]).gives_voters([1]);
    // In haste it does not matter for how long the learner has been close.
    let now = case([1], []).now;
    let just = |progress: &mut Progress| progress.close_since = Some(now);
    case([1, 2, 3], [4]).leaving([3]).progress(4, just).gives_voters([1, 2, 4]);
}

#[test]
fn a_voter_may_stop_and_stay_one_where_a_quorum_stays() {
    case([1, 2, 3], []).leaving([3]).gives_nothing();
    assert!(case([1, 2, 3], []).leaving([3]).may_stop(3));
    assert!(!case([1, 2, 3], []).leaving_for([3], Duration::from_millis(299)).may_stop(3), "it gathers");
    assert!(case(1..=5, []).leaving([4, 5]).may_stop(5));
    // Nothing else may be due: a learner takes its place, the leader hands over first.
    assert!(!case([1, 2, 3], [4]).leaving([3]).may_stop(3));
    assert!(!case([1, 2, 3], []).leaving([1]).may_stop(1));
    assert!(!case(1..=5, []).leaving([1, 5]).may_stop(5));
    assert!(!case([1, 2, 3], []).may_stop(3), "it does not leave");
    assert!(!case([1, 2, 3], [4]).leaving([4]).may_stop(4), "it is no voter");
    assert!(!case([1, 2, 3], []).leaving([3]).facts(|facts| facts.membership.committed = false).may_stop(3));
    assert!(!case([1, 2, 3], []).mixed().leaving([3]).may_stop(3));
}

#[test]
fn who_stays_must_be_able_to_go_on_at_once() {
    let leaves = || case([1, 2, 3], []).leaving([3]);
    assert!(!leaves().lag(2, 257).may_stop(3));
    assert!(!leaves().progress(2, |progress| progress.answers_now = false).may_stop(3));
    assert!(!leaves().facts(|facts| _ = facts.ready.remove(&NodeId(2))).may_stop(3));
    // It waits for them: to vote alone would leave one disk.
    leaves().lag(2, 257).gives_nothing();
    // Of five, one may lag.
    assert!(case(1..=5, []).leaving([5]).lag(2, 257).may_stop(5));
    assert!(!case(1..=5, []).leaving([5]).lag(2, 257).lag(3, 257).may_stop(5));
}

#[test]
fn whoever_may_stop_is_counted_on_no_more() {
    let granted = |facts: &mut Facts| _ = facts.granted.insert(NodeId(3));
    // Not even where gossip shows it as it was.
    let both = case([1, 2, 3], []).leaving([2, 3]).facts(granted);
    assert!(!both.may_stop(2));
    both.gives_voters([1]);
    case([1, 2, 3], []).leaving([3]).facts(granted).gives_nothing();
}

#[test]
fn a_voter_that_is_away_keeps_its_place_until_it_is_taken_or_the_grace_is_over() {
    let grace = Settings::default().away_grace;
    let almost = grace - Duration::from_millis(1);
    case([1, 2, 3], []).away([3]).gives_nothing();
    case([1, 2, 3], [4]).away([3]).gives_voters([1, 2, 4]);
    case(1..=5, []).away_for([5], almost).gives_nothing();
    case(1..=5, []).away_for([5], grace).gives_voters([1, 2, 3]);
    case(1..=5, []).away_for([4, 5], grace).gives_voters([1, 2, 3]);
    case(1..=5, [6]).away([4, 5]).gives_voters([1, 2, 3, 4, 6]);
    // An even number goes back to an odd one, and a healthy voter is not exchanged for that.
    case(1..=6, [7]).max(7).away([6]).lag(5, 1).gives_voters(1..=5);
    // Absence alone never leaves fewer than three.
    case([1, 2, 3], []).away_for([3], grace).gives_nothing();
    case([1, 2, 3], []).away_for([3], grace).facts(|facts| facts.trusted = false).gives_nothing();
}

#[test]
fn where_three_stay_and_none_is_to_spare_the_away_are_waited_for_no_longer_than_the_dead() {
    let almost = GRACE - Duration::from_millis(1);
    case(1..=5, []).away_for([4, 5], almost).gives_nothing();
    case(1..=5, []).away_for([4, 5], GRACE).gives_voters([1, 2, 3]);
    case(1..=5, []).away_for([5], GRACE).gives_nothing();
    case([1, 2, 3], []).away_for([3], GRACE).gives_nothing();
}

/// It has heard from nobody: those who live look silent to it.
#[test]
fn a_leader_that_was_just_elected_changes_no_voters() {
    let fresh = |facts: &mut Facts| facts.settled = false;
    let silent = |progress: &mut Progress| (progress.answers, progress.answers_now) = (false, false);
    let just = || case([1, 2, 3], []).leaving([3]).progress(2, silent).facts(fresh);
    just().gives_nothing();
    assert!(!just().may_stop(3));
    assert!(!case([1, 2, 3], []).leaving([3]).facts(fresh).may_stop(3));
    case(1..=5, []).leaving([5]).progress(2, silent).progress(3, silent).facts(fresh).gives_nothing();
    // What costs nobody a vote is done.
    case([1, 2, 3], []).newcomers([4]).facts(fresh).gives(Step::AddLearners(set([4])));
}

#[test]
fn where_those_who_stay_are_no_quorum_the_leavers_are_demoted_before_they_stop() {
    case([1, 2, 3], []).away([3]).leaving([2]).gives_voters([1]);
    case([1, 2, 3], []).leaving([2, 3]).gives_voters([1]);
    case([1, 2], []).leaving([2]).gives_voters([1]);
    case([1, 2], [3]).leaving([2]).gives_voters([1, 3]);
    case(1..=5, []).leaving([3, 4, 5]).gives_voters([1, 2]);
    case(1..=5, []).away([5]).leaving([3, 4]).gives_voters([1, 2]);
}

#[test]
fn leavers_are_gathered_into_one_change() {
    let ms = Duration::from_millis;
    case([1, 2, 3], [4]).leaving_for([3], ms(299)).gives_nothing();
    case([1, 2, 3], [4]).leaving_for([3], ms(300)).gives_voters([1, 2, 4]);
    case(1..=5, []).leaving_for([3, 4], ms(700)).leaving_for([5], ms(100)).gives_nothing();
    // Not for ever.
    case(1..=5, []).leaving_for([3, 4], ms(1200)).leaving_for([5], ms(100)).gives_voters([1, 2]);
    case(1..=5, 6..=9).leaving(2..=9).gives_voters([1]);
    case(1..=5, 6..=9).leaving(1..=8).gives_voters([9]);
}

#[test]
fn a_leader_that_leaves_hands_over_to_the_closest_voter_that_stays() {
    let ms = Duration::from_millis;
    case([1, 2, 3], []).leaving([1]).gives(Step::TransferLeader(NodeId(2)));
    case([1, 2, 3], []).leaving([1]).lag(2, 1).gives(Step::TransferLeader(NodeId(3)));
    case([1, 2, 3], []).leaving([1, 2]).gives(Step::TransferLeader(NodeId(3)));
    case([1, 2, 3], []).leaving_for([1], ms(100)).gives_nothing();
    case([1, 2, 3], []).leaving([1]).dead([2]).gives(Step::TransferLeader(NodeId(3)));
    case([1, 2, 3], []).leaving([1]).lag(2, 1000).lag(3, 1000).gives_nothing();
    case([2, 3], [1]).gives(Step::TransferLeader(NodeId(2)));
    case([2, 3], [1]).leaving([1]).gives(Step::TransferLeader(NodeId(2)));
}

#[test]
fn a_leader_without_a_voter_that_stays_removes_itself_for_a_learner() {
    case([1], [2]).leaving([1]).gives_voters([2]);
    case([1], [2, 3, 4]).leaving([1]).gives_voters([2, 3, 4]);
    case([1, 2, 3], [4]).leaving([1, 2, 3]).gives_voters([4]);
    case([1], [2]).leaving([1]).lag(2, 1000).gives_nothing();
    // The same for a leader that an interrupted change left as a learner.
    case([2], [1, 3]).leaving([2]).gives_voters([1, 3]);
    case([2], [1, 3]).mixed().leaving([2]).gives_voters([1]);
    case([2], [1, 3]).leaving([1, 2]).gives_voters([3]);
}

#[test]
fn where_all_leave_nothing_is_changed() {
    case([1], []).leaving([1]).gives_nothing();
    case([1, 2, 3], [4]).leaving(1..=4).gives_nothing();
}

#[test]
fn a_dead_voter_is_replaced_after_the_grace_in_one_change() {
    let almost = GRACE - Duration::from_millis(1);
    case([1, 2, 3], [4]).dead_for([3], almost).gives_nothing();
    case([1, 2, 3], [4]).dead([3]).gives_voters([1, 2, 4]);
    case(1..=5, [6, 7]).dead([4, 5]).gives_voters([1, 2, 3, 6, 7]);
    case(1..=5, []).dead([5]).gives_voters([1, 2, 3]);
    case(1..=5, []).dead([4, 5]).gives_voters([1, 2, 3]);
}

#[test]
fn death_alone_never_leaves_fewer_than_three_voters() {
    case([1, 2, 3], []).dead([3]).gives_nothing();
    case([1, 2, 3], []).dead([3]).max(1).gives_voters([1]);
    case([1, 2, 3], []).dead([2, 3]).gives_nothing();
}

#[test]
fn nobody_is_demoted_for_an_odd_number_while_someone_may_be_dead() {
    case(1..=4, []).dead_for([4], GRACE / 2).gives_nothing();
    case(1..=4, []).progress(4, |progress| progress.answers = false).gives_nothing();
    case(1..=4, []).dead([4]).gives_voters([1, 2, 3]);
}

#[test]
fn the_dead_go_with_the_leavers_where_they_would_take_the_quorum() {
    case([1, 2, 3], []).dead_for([2], GRACE / 2).leaving([3]).gives_voters([1]);
    case(1..=5, []).dead_for([2], GRACE / 2).leaving([5]).gives_nothing();
    case(1..=5, []).mixed().dead_for([2], GRACE / 2).leaving([5]).gives_voters([1, 2, 3, 4]);
    let stalled = |facts: &mut Facts| facts.trusted = false;
    case([1, 2, 3], []).dead_for([2], GRACE / 2).leaving([3]).facts(stalled).gives_nothing();
}

#[test]
fn without_a_living_majority_nothing_is_changed() {
    case([1, 2, 3], [4, 5]).dead([2, 3]).gives_nothing();
    case([1, 2, 3], []).dead([2]).away([3]).gives_nothing();
    let silent = |progress: &mut Progress| progress.answers = false;
    case([1, 2, 3], [4]).progress(2, silent).dead([3]).gives_nothing();
}

#[test]
fn a_stalled_leader_buries_nobody() {
    let stalled = |facts: &mut Facts| facts.trusted = false;
    case([1, 2, 3], [4]).dead([3]).facts(stalled).gives_nothing();
    case([1, 2, 3], [4]).dead([4]).facts(stalled).gives_nothing();
}

#[test]
fn learners_that_left_or_are_long_dead_are_removed() {
    case([1, 3], [2]).away([2]).gives(Step::RemoveLearners(set([2])));
    case([1, 3], [2]).dead([2]).gives(Step::RemoveLearners(set([2])));
    case([1, 3], [2]).dead_for([2], GRACE / 2).gives_nothing();
    // It must hear from Raft that it is no voter, so it stays until it is gone.
    case([1, 3], [2]).leaving([2]).gives_nothing();
}

#[test]
fn who_leaves_is_not_made_a_member() {
    case([1], []).leaving([2]).away([3]).gives_nothing();
}

#[test]
fn membership_without_voters_gives_nothing() {
    case([], []).facts(|facts| facts.membership.configs.clear()).gives_nothing();
}

#[test]
fn a_member_may_be_removed_only_where_a_majority_lives_before_and_after() {
    let lost = |case: Case, id| case.facts.may_remove(NodeId(id)).err();
    assert_eq!(lost(case(1..=3, []).dead([3]), 3), None);
    assert_eq!(lost(case(1..=5, []).dead([4, 5]), 5), None);
    assert_eq!(lost(case(1..=3, []).dead([2, 3]), 3), Some(QuorumLost { living: 1, voters: 3 }));
    // A learner's removal is a change too, and needs the voters' word.
    assert_eq!(lost(case(1..=3, [4]).dead([2, 3, 4]), 4), Some(QuorumLost { living: 1, voters: 3 }));
    // Gossip sees it, but it does not answer.
    let silent = case(1..=3, []).dead([3]).progress(2, |progress| progress.answers = false);
    assert_eq!(lost(silent, 3), Some(QuorumLost { living: 1, voters: 3 }));
    // It lives, and two of the four do: without it one of three would.
    let half = case(1..=5, []).dead([4, 5]);
    assert_eq!(lost(half, 3), Some(QuorumLost { living: 2, voters: 4 }));
    // In a joint configuration either set counts.
    let joint = case(1..=3, []).dead([3]).facts(|facts| facts.membership.configs.push(set([1, 3])));
    assert_eq!(lost(joint, 2), Some(QuorumLost { living: 1, voters: 2 }));
}
