//! The table of the module, line by line.

use super::*;

const PATIENCE: Duration = Duration::from_millis(341);
const INTERVAL: Duration = Duration::from_millis(100);
const ACTIVE: Word = Word { active: true, priority: 200, interval: INTERVAL };
const BACKUP: Word = Word { active: false, priority: 200, interval: INTERVAL };
const MOMENT: Duration = Duration::from_millis(1);
/// Longer than anything here.
const LONG: Duration = Duration::from_secs(3600);

struct Seen {
    peer: Peer,
    now: Instant,
    gives_way: bool,
    /// What it answers where it is asked because its word is old.
    answers: Option<Word>,
    /// How often another connection was to be made.
    reached: u32,
}

impl Seen {
    fn never(strict: bool) -> Self {
        Self { peer: Peer::new(strict), now: Instant::now(), gives_way: true, answers: None, reached: 0 }
    }

    /// It has said this on a connection that stands, and answers nothing from now on.
    fn said(word: Word) -> Self {
        Self::never(false).and_says(word)
    }

    /// The same, where this one only waits for it.
    fn followed(word: Word) -> Self {
        Self { gives_way: false, ..Self::said(word) }
    }

    fn and_says(mut self, word: Word) -> Self {
        let question = self.peer.connected(self.now);
        assert_eq!(self.says(word, question), NOTHING);
        self.answers = Some(word);
        self.passes(LONG);
        self.answers = None;
        // Its last answer is as new as one can be that another question may follow.
        let question = self.peer.question(false, self.now);
        assert_eq!(self.says(word, question), NOTHING);
        self.passes(ASK_INTERVAL_MIN);
        self
    }

    fn at(&self) -> At {
        At { now: self.now, patience: PATIENCE, gives_way: self.gives_way }
    }

    /// As the driver does at the end of each turn, and as often as it is to.
    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.peer.deadline(PATIENCE).filter(|next| *next < end) {
            self.now = self.now.max(next);
            self.looks();
        }
        self.now = end;
        self.looks();
    }

    fn looks(&mut self) {
        match (self.peer.tick(self.at()), self.answers) {
            (Some(Due::Ask(question)), Some(word)) => {
                self.says(word, question);
            }
            (Some(Due::Reach), _) => self.reached += 1,
            (Some(Due::Ask(_)), None) | (None, _) => {}
        }
    }

    /// This process does not run.
    fn stands_still(&mut self, time: Duration) {
        self.now += time;
    }

    fn hear(&mut self, priority: u8) -> Verdict {
        self.peer.heard(heard(priority), self.at())
    }

    /// What it is asked for what it is said to have said.
    fn asks(&mut self, priority: u8) -> u64 {
        let verdict = self.hear(priority);
        assert!(!verdict.believed);
        verdict.ask.expect("it is asked")
    }

    fn says(&mut self, word: Word, answers: u64) -> Outcome {
        self.peer.said(word, answers, self.at())
    }

    fn is_lost(&mut self) {
        self.peer.lost(self.now);
    }

    /// The connection is made again, and its first word comes.
    fn is_back(&mut self, word: Word) -> u64 {
        let question = self.peer.connected(self.now);
        assert_eq!(self.says(word, 0).believed, None);
        question
    }
}

fn heard(priority: u8) -> Heard {
    Heard { priority, interval: INTERVAL, source: "192.0.2.7".parse().unwrap() }
}

const NOTHING: Outcome = Outcome { believed: None, refused: 0, ask: None };
const REFUSED: Outcome = Outcome { believed: None, refused: 1, ask: None };
const BELIEVED: Verdict = Verdict { believed: true, alone: false, ask: None, refused: false };

fn believes(priority: u8) -> Outcome {
    Outcome { believed: Some(heard(priority)), ..NOTHING }
}

#[test]
fn one_that_was_never_in_the_mesh_is_believed_and_where_all_are_in_it_nobody_is() {
    let mut seen = Seen::never(false);
    // A connection that it ends without a word, as a version before does, changes nothing.
    seen.peer.connected(seen.now);
    seen.is_lost();
    seen.passes(LONG);
    for priority in [0, 100, 255] {
        assert_eq!(seen.hear(priority), BELIEVED);
    }
    let mut seen = Seen::never(true);
    seen.asks(255);
    seen.passes(LONG);
    let verdict = seen.hear(255);
    assert!(verdict.refused && !verdict.believed);
}

#[test]
fn what_its_word_confirms_is_believed_at_once() {
    let mut seen = Seen::said(ACTIVE);
    assert_eq!(seen.hear(200), BELIEVED);
    seen.says(BACKUP, 0);
    assert_eq!(seen.hear(0), BELIEVED);
    // It is said once: who repeats it starts no timer again.
    assert!(!seen.hear(0).believed);
    // Nor is it said long after: another has the address by then.
    let mut seen = Seen::said(ACTIVE);
    seen.says(BACKUP, 0);
    seen.passes(STOPS_INTERVALS * INTERVAL + MOMENT);
    assert!(!seen.hear(0).believed);
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
        let question = seen.asks(priority);
        seen.passes(MOMENT);
        // What was on its way is no answer.
        assert_eq!(seen.says(word, 0), NOTHING);
        let expected = if believed { believes(priority) } else { REFUSED };
        assert_eq!(seen.says(answer, question), expected, "{word:?} {priority} {answer:?}");
    }
}

#[test]
fn an_interval_that_is_not_its_own_is_not_believed() {
    let forged = Heard { interval: 400 * INTERVAL, ..heard(200) };
    let mut seen = Seen::followed(ACTIVE);
    let verdict = seen.peer.heard(forged, seen.at());
    assert!(!verdict.believed);
    assert_eq!(seen.says(ACTIVE, verdict.ask.unwrap()), REFUSED);
    assert_eq!(seen.hear(200), BELIEVED);
    // Of an Active that is lost neither.
    seen.is_lost();
    assert!(!seen.peer.heard(forged, seen.at()).believed);
    assert!(seen.hear(200).believed);
}

#[test]
fn one_that_owes_its_word_for_the_patience_is_believed_without_and_not_a_moment_sooner() {
    for lost in [false, true] {
        let mut seen = Seen::said(BACKUP);
        if lost {
            seen.is_lost();
        }
        seen.asks(255);
        seen.passes(PATIENCE - MOMENT);
        let verdict = seen.hear(255);
        assert!(verdict.refused && !verdict.believed);
        seen.passes(MOMENT);
        let (first, second) = (seen.hear(255), seen.hear(255));
        assert!(first.believed && first.alone && second.believed && !second.alone);
        // Its word is wanted all the same, and counts again once it is had.
        let question = seen.is_back(BACKUP);
        assert_eq!(seen.says(BACKUP, question), NOTHING);
        assert!(!seen.hear(255).believed, "{lost}");
    }
}

#[test]
fn one_is_believed_as_before_until_it_has_answered_once() {
    let mut seen = Seen::never(false);
    let question = seen.peer.connected(seen.now);
    // Unasked: the answer may be long in coming, and what was believed a moment ago is followed on.
    assert_eq!(seen.says(BACKUP, 0), NOTHING);
    for gives_way in [true, false] {
        seen.gives_way = gives_way;
        assert_eq!(seen.hear(200), BELIEVED);
    }
    assert_eq!(seen.says(BACKUP, question), NOTHING);
    assert!(seen.peer.is_confirmed() && !seen.hear(200).believed);
}

#[test]
fn an_answer_that_comes_too_late_proves_nothing_and_is_the_last_word_of_one_that_is_followed() {
    for follows in [false, true] {
        let mut seen = Seen::said(BACKUP);
        seen.gives_way = !follows;
        let question = seen.asks(200);
        // Whether this process ran meanwhile or not.
        seen.stands_still(PATIENCE + MOMENT);
        let late = seen.says(ACTIVE, question);
        // It is there, and asked anew.
        let next = late.ask.expect("it is asked");
        assert_eq!(late, Outcome { ask: Some(next), ..REFUSED });
        // Whether it was late or this process stood still: the address is not given up for it.
        assert_eq!(seen.hear(200).believed, follows);
        // The second time it is no answer either.
        assert_eq!(seen.says(ACTIVE, question), NOTHING);
        assert!(!seen.peer.is_confirmed());
        assert_eq!(seen.says(BACKUP, next), if follows { NOTHING } else { REFUSED });
        assert!(seen.peer.is_confirmed());
    }
}

#[test]
fn a_process_that_stood_still_asks_anew_and_does_not_take_its_own_silence_for_the_peers() {
    let mut seen = Seen::said(BACKUP);
    seen.asks(255);
    for _ in 0..3 {
        seen.stands_still(10 * PATIENCE);
        seen.passes(MOMENT);
        assert!(!seen.hear(255).believed);
    }
    let question = seen.is_back(BACKUP);
    assert_eq!(seen.says(BACKUP, question), REFUSED);
    // One that runs by starts alone comes to an end, too.
    seen.passes(ASK_INTERVAL_MIN);
    seen.asks(255);
    for _ in 0..2 * LOOKS {
        seen.stands_still(PATIENCE);
        seen.passes(MOMENT);
    }
    assert!(seen.hear(255).alone);
}

#[test]
fn an_attacker_who_breaks_the_connection_again_and_again_wins_nothing_where_it_is_made_again() {
    let mut seen = Seen::said(BACKUP);
    for _ in 0..100 {
        seen.is_lost();
        for _ in 0..3 {
            assert!(!seen.hear(255).believed);
            seen.passes(PATIENCE / 4);
        }
        let question = seen.is_back(BACKUP);
        assert_eq!(seen.says(BACKUP, question), REFUSED);
    }
}

#[test]
fn an_active_that_lost_the_mesh_goes_on_being_followed_and_takes_nothing() {
    let mut seen = Seen::followed(ACTIVE);
    seen.is_lost();
    for _ in 0..100 {
        assert!(seen.hear(200).believed);
        seen.passes(PATIENCE / 30);
    }
    // Nor does a connection that is new, and slow.
    let mut seen = Seen::followed(ACTIVE);
    seen.is_lost();
    seen.is_back(ACTIVE);
    assert_eq!(seen.hear(200), BELIEVED);
    // Whoever took over from one that is gone does not give the address to who forges it.
    let mut seen = Seen::said(ACTIVE);
    seen.is_lost();
    assert!(!seen.hear(200).believed);
    seen.is_back(ACTIVE);
    assert!(!seen.hear(200).believed);
}

#[test]
fn a_flood_of_forged_advertisements_makes_a_hundred_questions_a_second_at_most() {
    let mut seen = Seen::said(BACKUP);
    let mut questions = 0;
    for _ in 0..10_000 {
        if let Some(number) = seen.hear(255).ask {
            questions += 1;
            assert_eq!(seen.says(BACKUP, number), REFUSED);
        }
        seen.passes(Duration::from_micros(100));
    }
    assert!((90..=101).contains(&questions), "{questions}");
}

#[test]
fn the_word_of_one_that_is_connected_and_answers_nothing_holds_for_no_longer_than_twice_the_patience() {
    let mut seen = Seen { gives_way: false, ..Seen::never(true).and_says(ACTIVE) };
    let since = seen.now;
    // Whoever repeats what it said last asks for nothing: it fits.
    while seen.hear(200).believed {
        seen.passes(MOMENT);
        assert!(seen.now - since <= 2 * PATIENCE);
    }
    assert!(seen.now - since >= PATIENCE && !seen.peer.is_confirmed());
    let question = seen.is_back(ACTIVE);
    assert_eq!(seen.says(ACTIVE, question), believes(200));
    assert_eq!(seen.hear(200), BELIEVED);
}

#[test]
fn a_connection_on_which_no_answer_comes_is_given_up_for_another_which_gets_the_whole_patience() {
    for (gives_way, part) in [(true, REACH_ACTIVE), (false, REACH_BACKUP)] {
        let mut seen = Seen { gives_way, ..Seen::said(BACKUP) };
        seen.asks(255);
        seen.passes(PATIENCE / part - MOMENT);
        assert_eq!(seen.reached, 0);
        seen.passes(MOMENT);
        assert_eq!(seen.reached, 1);
        // No answer to the old one counts any more.
        assert!(!seen.peer.is_confirmed() && seen.hear(255).ask == Some(NO_QUESTION));
        seen.is_back(BACKUP);
        seen.passes(PATIENCE - MOMENT);
        assert_eq!(seen.reached, 1);
        seen.passes(MOMENT);
        assert_eq!(seen.reached, 2);
    }
    // A process that stood still looks for what has come before it gives anything up.
    let mut seen = Seen::said(BACKUP);
    seen.asks(255);
    seen.stands_still(LONG);
    seen.looks();
    assert_eq!(seen.reached, 0);
}

#[test]
fn one_that_answers_is_asked_once_in_the_patience() {
    let mut seen = Seen::followed(ACTIVE);
    let before = seen.peer.questions;
    seen.answers = Some(ACTIVE);
    for _ in 0..10 * PATIENCE.as_millis() {
        assert_eq!(seen.hear(200), BELIEVED);
        seen.passes(MOMENT);
    }
    assert_eq!(seen.peer.questions - before, 10);
}

#[test]
fn an_answer_is_as_old_as_its_question() {
    let mut seen = Seen::followed(ACTIVE);
    let question = seen.asks(255);
    // It is on its way for long, as after a partition.
    seen.passes(PATIENCE / 3);
    assert_eq!(seen.says(ACTIVE, question), REFUSED);
    let before = seen.peer.questions;
    seen.passes(2 * PATIENCE / 3 + MOMENT);
    assert_eq!(seen.peer.questions - before, 1);
}

#[test]
fn one_that_was_not_asked_owes_nothing() {
    let mut seen = Seen::said(BACKUP);
    let question = seen.asks(255);
    assert_eq!(seen.says(BACKUP, question), REFUSED);
    // Too soon after the one before.
    assert_eq!(seen.hear(255).ask, None);
    // It is then asked because its answer is old, and owes from that moment on.
    seen.passes(PATIENCE + MOMENT);
    assert!(!seen.hear(255).believed);
}

#[test]
fn a_flood_of_other_claims_does_not_take_the_place_of_priority_0() {
    let mut seen = Seen::followed(ACTIVE);
    let before = seen.asks(255);
    let stops = seen.asks(0);
    for _ in 0..1000 {
        assert!(!seen.hear(255).believed);
    }
    // The answer to another question, which was asked before it stopped.
    assert_eq!(seen.says(ACTIVE, before), REFUSED);
    assert_eq!(seen.says(BACKUP, stops), believes(0));
    // An answer to the one is no answer to the other, which is open.
    let mut seen = Seen::followed(ACTIVE);
    let claim = seen.asks(255);
    seen.asks(0);
    assert_eq!(seen.says(ACTIVE, claim), REFUSED);
    seen.passes(PATIENCE);
    assert!(seen.peer.is_overdue(PATIENCE));
    // As many as are forged of it: it is one and the same.
    let mut seen = Seen::followed(ACTIVE);
    let forged = seen.asks(0);
    seen.passes(MOMENT);
    seen.hear(0);
    // Said before the last of them came.
    assert_eq!(seen.says(ACTIVE, forged), NOTHING);
    assert_eq!(seen.says(BACKUP, 0), believes(0));
}

#[test]
fn what_was_held_for_longer_than_the_patience_is_not_believed_any_more() {
    let mut seen = Seen::followed(ACTIVE);
    let question = seen.asks(0);
    seen.passes(MOMENT);
    seen.hear(0);
    assert_eq!(seen.says(ACTIVE, question), NOTHING);
    seen.passes(PATIENCE + MOMENT);
    assert_eq!(seen.says(BACKUP, 0), REFUSED);
}
