//! The table of the module, line by line.

use super::*;

const PATIENCE: Duration = Duration::from_millis(341);
const ACTIVE: Word = Word { active: true, priority: 200 };
const BACKUP: Word = Word { active: false, priority: 200 };
const MOMENT: Duration = Duration::from_millis(1);

struct Seen {
    peer: Peer,
    now: Instant,
}

impl Seen {
    fn never(strict: bool) -> Self {
        Self { peer: Peer::new(strict), now: Instant::now() }
    }

    /// It has said this on a connection that stands.
    fn said(word: Word) -> Self {
        let mut seen = Self::never(false);
        assert_eq!(seen.says(word, 0), Outcome::Nothing);
        seen.now += 2 * REPLACED_AFTER;
        seen
    }

    /// As the driver does at the end of each turn.
    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.peer.tick(self.now, PATIENCE);
    }

    fn hear(&mut self, priority: u8) -> Verdict {
        self.peer.heard(heard(priority), self.now, PATIENCE)
    }

    fn says(&mut self, word: Word, answers: u64) -> Outcome {
        self.peer.said(word, answers, self.now, PATIENCE)
    }

    fn is_lost(&mut self, closed: bool) -> Outcome {
        self.peer.lost(closed, self.now, PATIENCE)
    }
}

fn heard(priority: u8) -> Heard {
    let source = "192.0.2.7".parse().unwrap();
    Heard { priority, interval: Duration::from_millis(100), source }
}

/// Not believed, nor is one that was held before refused.
fn held(ask: Option<u64>) -> Verdict {
    Verdict { ask, ..Verdict::default() }
}

fn believed() -> Verdict {
    Verdict { believed: true, ..Verdict::default() }
}

#[test]
fn one_that_was_never_in_the_mesh_is_believed_and_where_all_are_in_it_nobody_is() {
    let mut seen = Seen::never(false);
    // Its end of a connection without a word, as of a version before, changes nothing.
    seen.is_lost(true);
    for priority in [0, 100, 255] {
        assert_eq!(seen.hear(priority), believed());
    }
    let mut seen = Seen::never(true);
    assert_eq!(seen.hear(255), held(Some(1)));
    seen.now += REPLACED_AFTER;
    let verdict = seen.hear(255);
    assert!(verdict.refused && !verdict.believed);
}

#[test]
fn what_its_word_confirms_is_believed_at_once() {
    let mut seen = Seen::said(ACTIVE);
    assert_eq!(seen.hear(200), believed());
    seen.says(BACKUP, 0);
    assert_eq!(seen.hear(0), believed());
}

#[test]
fn what_its_answer_denies_is_refused_and_what_it_confirms_is_believed_at_that_moment() {
    for (word, priority, answer, believed) in [
        (BACKUP, 200, BACKUP, false),
        (BACKUP, 200, ACTIVE, true),
        (BACKUP, 255, ACTIVE, false),
        (ACTIVE, 255, ACTIVE, false),
        (ACTIVE, 0, ACTIVE, false),
        (ACTIVE, 0, BACKUP, true),
        // Who is no Active has nothing to give up.
        (BACKUP, 0, BACKUP, false),
    ] {
        let mut seen = Seen::said(word);
        assert_eq!(seen.hear(priority), held(Some(1)), "{word:?} {priority}");
        seen.now += MOMENT;
        // What was on its way is no answer.
        assert_eq!(seen.says(word, 0), Outcome::Nothing);
        let expected = if believed { Outcome::Believed(heard(priority)) } else { Outcome::Refused };
        assert_eq!(seen.says(answer, 1), expected, "{word:?} {priority} {answer:?}");
    }
}

#[test]
fn one_that_owes_its_word_for_the_patience_is_believed_without_and_not_a_moment_sooner() {
    for lost in [false, true] {
        let mut seen = Seen::said(BACKUP);
        if lost {
            seen.is_lost(false);
        }
        seen.hear(255);
        seen.passes(PATIENCE - MOMENT);
        let verdict = seen.hear(255);
        assert!(verdict.refused && !verdict.believed);
        // Overdue: it is looked once more at what the mesh has brought.
        seen.passes(MOMENT);
        assert!(!seen.hear(255).believed);
        seen.passes(LOOK_AGAIN);
        let (first, second) = (seen.hear(255), seen.hear(255));
        assert!(first.believed && first.alone && second.believed && !second.alone);
        // Its word is wanted all the same.
        assert!(seen.peer.asked == Some(2));
        // It is heard of again: its word counts.
        assert_eq!(seen.says(BACKUP, 2), Outcome::Nothing);
        assert!(!seen.hear(255).believed, "{lost}");
    }
}

#[test]
fn an_attacker_who_breaks_the_connection_again_and_again_wins_nothing_where_it_is_made_again() {
    let mut seen = Seen::said(BACKUP);
    for _ in 0..100 {
        seen.is_lost(false);
        for _ in 0..3 {
            assert!(!seen.hear(255).believed);
            seen.passes(PATIENCE / 4);
        }
        assert_eq!(seen.says(BACKUP, 0), Outcome::Refused);
    }
}

#[test]
fn an_active_that_lost_the_mesh_goes_on_being_believed() {
    let mut seen = Seen::said(ACTIVE);
    seen.is_lost(false);
    for _ in 0..100 {
        assert!(seen.hear(200).believed);
        seen.passes(PATIENCE / 30);
    }
}

#[test]
fn of_a_process_that_is_gone_priority_0_is_believed_and_nothing_else_for_a_minute() {
    let mut seen = Seen::said(ACTIVE);
    assert_eq!(seen.hear(0), held(Some(1)));
    assert_eq!(seen.is_lost(false), Outcome::Nothing);
    assert_eq!(seen.is_lost(true), Outcome::Believed(heard(0)));
    assert!(!seen.hear(200).believed);
    seen.passes(REPLACED_AFTER - LOOK_AGAIN);
    assert!(!seen.hear(200).believed);
    seen.passes(LOOK_AGAIN);
    let verdict = seen.hear(200);
    assert!(verdict.believed && verdict.alone);
    let mut seen = Seen::said(BACKUP);
    seen.is_lost(true);
    assert!(!seen.hear(0).believed, "it was no Active");
}

#[test]
fn a_flood_of_forged_advertisements_makes_a_hundred_questions_a_second_at_most() {
    let mut seen = Seen::said(BACKUP);
    let mut questions = 0;
    for _ in 0..10_000 {
        if let Some(number) = seen.hear(255).ask {
            questions += 1;
            assert_eq!(seen.says(BACKUP, number), Outcome::Refused);
        }
        seen.now += Duration::from_micros(100);
    }
    assert!((90..=101).contains(&questions), "{questions}");
}

#[test]
fn what_was_held_for_longer_than_the_patience_is_not_believed_any_more() {
    let mut seen = Seen::said(BACKUP);
    seen.hear(200);
    seen.now += PATIENCE + MOMENT;
    assert_eq!(seen.says(ACTIVE, 1), Outcome::Refused);
}

#[test]
fn a_process_that_stood_still_sees_what_the_mesh_brought_before_it_believes_without() {
    let mut seen = Seen::said(BACKUP);
    assert_eq!(seen.hear(255), held(Some(1)));
    // It does not run, and then reads packets first.
    seen.now += 10 * PATIENCE;
    assert!(!seen.hear(255).believed);
    seen.passes(MOMENT);
    // The answer to the question before shows that it is there, and the next decides.
    assert_eq!(seen.says(BACKUP, 1), Outcome::Nothing);
    seen.passes(PATIENCE / 2);
    assert!(!seen.hear(255).believed);
    assert_eq!(seen.says(BACKUP, 2), Outcome::Refused);
}
