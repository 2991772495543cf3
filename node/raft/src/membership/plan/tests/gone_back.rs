//! What becomes of voters whose logs went back.

use super::*;

#[test]
fn a_voter_whose_log_went_back_is_demoted_and_promoted_again_as_any_learner() {
    let mut back = case([1, 2, 3], []);
    back.facts.gone_back = set([3]);
    assert_eq!(back.step(), Some(Step::ChangeVoters(set([1, 2]))));
    // Known no more as one that went back, ready and close.
    assert_eq!(case([1, 2], [3]).step(), Some(Step::ChangeVoters(set([1, 2, 3]))));

    let mut with_a_spare = case([1, 2, 3], [4]);
    with_a_spare.facts.gone_back = set([3]);
    assert_eq!(with_a_spare.step(), Some(Step::ChangeVoters(set([1, 2, 4]))));

    let mut bare = case([1, 2, 3], []).dead([2]);
    bare.facts.gone_back = set([3]);
    assert_eq!(bare.step(), None, "no quorum would be left");

    let mut of_two = case([1, 2], []);
    of_two.facts.gone_back = set([2]);
    assert_eq!(of_two.step(), Some(Step::ChangeVoters(set([1]))));
}
