//! The same of unicast peers, with a mesh that lags and breaks, and one who forges whatever he likes in
//! their names, all the time: nothing of that may be heeded that its sender does not say of itself, but
//! where the mesh has been silent for the down interval.

use super::super::super::confirm::{At, Due, Peer, Word};
use super::*;

/// What was said late has come by then.
const SETTLED: Duration = Duration::from_millis(20);
/// What a router has said of itself is known to all by then.
const HISTORY: Duration = Duration::from_secs(3);
/// Longest break of the mesh: longer than who is asked may owe his word.
const BREAK_MS_MAX: u64 = 2000;

/// The mesh between two routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    /// Nothing passes.
    Broken(Instant),
    /// What is said passes when it is mended.
    Lagging(Instant),
}

/// What is beside the machines where advertisements are confirmed.
pub struct Confirming {
    /// Of each router, what it knows of each other.
    peers: Vec<Vec<Peer>>,
    lines: Vec<Vec<Line>>,
    mended: Vec<Vec<Instant>>,
    /// When each had its last answer from each other.
    answered: Vec<Vec<Instant>>,
    /// When each looks next.
    looks: Vec<Instant>,
    /// What each has said of itself before, and until when that was so.
    history: Vec<Vec<(Word, Instant)>>,
    words: Vec<Word>,
    forged: u64,
    refused: u64,
    heeded_alone: u64,
}

impl Confirming {
    pub fn new(now: Instant) -> Self {
        Self {
            peers: vec![vec![Peer::new(false); ROUTERS]; ROUTERS],
            lines: vec![vec![Line::Whole; ROUTERS]; ROUTERS],
            mended: vec![vec![now; ROUTERS]; ROUTERS],
            answered: vec![vec![now; ROUTERS]; ROUTERS],
            looks: vec![now; ROUTERS],
            history: vec![Vec::new(); ROUTERS],
            words: vec![Word { active: false, priority: 0, interval: INTERVAL }; ROUTERS],
            forged: 0,
            refused: 0,
            heeded_alone: 0,
        }
    }
}

impl World {
    fn at(&self, router: usize) -> At {
        let machine = &self.routers[router];
        At { now: self.now, patience: machine.patience(), gives_way: machine.state() == State::Active }
    }

    /// Whether the machine is to see it. The judge of what is forged.
    pub fn confirmed(&mut self, from: usize, to: usize, heard: Heard, forged: bool) -> bool {
        let (now, at) = (self.now, self.at(to));
        let Some(it) = &mut self.confirming else { return true };
        if !self.routers[to].heeds(&heard, address(to)) {
            return true;
        }
        it.forged += u64::from(forged);
        it.history[from].retain(|(_, until)| now - *until <= HISTORY);
        let verdict = it.peers[to][from].heard(heard, at);
        it.refused += u64::from(verdict.refused);
        if let Some(question) = verdict.ask {
            self.send(to, from, Event::Asked(to, from, question));
        }
        let Some(it) = self.confirming.as_mut().filter(|_| verdict.believed) else { return false };
        if forged {
            let silent = match it.lines[to][from] {
                // A question may have been open when it broke, and the patience another.
                Line::Broken(since) | Line::Lagging(since) => {
                    // It may have been mended for a moment that was too short for an answer.
                    now - since.min(it.answered[to][from]) + INTERVAL >= at.patience
                }
                Line::Whole => now.saturating_duration_since(it.mended[to][from]) <= SETTLED,
            };
            let stood = |router: usize| now.saturating_duration_since(self.stalled_until[router]) <= SETTLED;
            let fits = match heard.priority {
                // Whoever hears of the end late, believes in it late.
                PRIORITY_STOPS => it.history[from].iter().any(|(word, _)| word.active),
                priority => {
                    let said = Word { active: true, priority, interval: heard.interval };
                    let near = now - 2 * at.patience;
                    let before = |(word, until): &(Word, Instant)| *until >= near && *word == said;
                    it.words[from] == said || it.history[from].iter().any(before)
                }
            };
            // Its own stall is not the silence of another: what it then believes is old at most, or that one
            // was silent when the stall began.
            let overdue = it.peers[to][from].is_overdue(at.patience);
            let heard_of = it.mended[to][from].max(self.stalled_until[from]);
            let silent_before = heard_of + SETTLED >= self.stalled_from[to];
            assert!(
                fits || silent || stood(from) || stood(to) && (!overdue || silent_before),
                "{heard:?} in the name of {from} is heeded by {to}: {verdict:?}"
            );
            it.heeded_alone += u64::from(!fits);
        }
        true
    }

    pub fn said(&mut self, from: usize, to: usize, word: Word, answers: u64) -> Option<Heard> {
        let at = self.at(to);
        let it = self.confirming.as_mut()?;
        let outcome = it.peers[to][from].said(word, answers, at);
        it.refused += outcome.refused;
        if answers != 0 && it.peers[to][from].is_confirmed() {
            it.answered[to][from] = at.now;
        }
        if let Some(question) = outcome.ask {
            self.send(to, from, Event::Asked(to, from, question));
        }
        outcome.believed
    }

    /// To all others, where something has changed.
    pub fn tell(&mut self, router: usize) {
        let word = self.word(router);
        let Some(it) = self.confirming.as_mut().filter(|it| it.words[router] != word) else { return };
        let before = std::mem::replace(&mut it.words[router], word);
        it.history[router].push((before, self.now));
        for to in (0..ROUTERS).filter(|to| *to != router) {
            self.say(router, to, 0);
        }
    }

    /// As the driver does at the end of each turn.
    pub fn look(&mut self, router: usize) {
        let at = self.at(router);
        for peer in 0..ROUTERS {
            let Some(it) = &mut self.confirming else { return };
            match it.peers[router][peer].tick(at) {
                Some(Due::Ask(question)) => self.send(router, peer, Event::Asked(router, peer, question)),
                Some(Due::Reach) if it.lines[router][peer] == Line::Whole => self.connect(peer, router),
                // Another is made once that is mended.
                Some(Due::Reach) | None => {}
            }
        }
        let Some(it) = &mut self.confirming else { return };
        let next = it.peers[router].iter().filter_map(|peer| peer.deadline(at.patience)).min();
        // One at a time, but where another is due before.
        if let Some(next) = next.filter(|next| it.looks[router] <= at.now || *next < it.looks[router]) {
            it.looks[router] = next;
            self.push(next, Event::Look(router));
        }
    }

    fn word(&self, router: usize) -> Word {
        let machine = &self.routers[router];
        Word {
            active: machine.state() == State::Active,
            priority: machine.claim().unwrap_or(0),
            interval: INTERVAL,
        }
    }

    pub fn say(&mut self, from: usize, to: usize, answers: u64) {
        let Word { active, priority, .. } = self.word(from);
        self.send(from, to, Event::Said(from, to, active, priority, answers));
    }

    /// Each stands with all others.
    pub fn connect_all(&mut self) {
        for from in 0..ROUTERS {
            (0..ROUTERS).filter(|to| *to != from).for_each(|to| self.connect(from, to));
        }
    }

    /// A new connection stands: what it says, and the answer to what it is asked.
    fn connect(&mut self, from: usize, to: usize) {
        let now = self.now;
        let Some(it) = &mut self.confirming else { return };
        let question = it.peers[to][from].connected(now);
        self.say(from, to, 0);
        self.send(to, from, Event::Asked(to, from, question));
    }

    fn send(&mut self, from: usize, to: usize, event: Event) {
        let delay = Duration::from_micros(50 + self.below(50));
        let line = self.confirming.as_ref().map(|it| it.lines[from][to]);
        match line {
            Some(Line::Whole) => self.push(self.now + delay, event),
            // TCP has it in the end; here it is said anew when the line is mended.
            Some(Line::Broken(_) | Line::Lagging(_)) | None => {}
        }
    }

    pub fn break_line(&mut self, one: usize, other: usize, lags: bool) -> bool {
        let now = self.now;
        let Some(it) = self.confirming.as_mut().filter(|it| it.lines[one][other] == Line::Whole) else {
            return true;
        };
        for (a, b) in [(one, other), (other, one)] {
            it.lines[a][b] = if lags { Line::Lagging(now) } else { Line::Broken(now) };
            if !lags {
                it.peers[a][b].lost(now);
            }
        }
        let length = Duration::from_millis(self.below(BREAK_MS_MAX));
        self.push(now + length, Event::Mend(one, other));
        true
    }

    pub fn mend_line(&mut self, one: usize, other: usize) -> bool {
        let now = self.now;
        for (a, b) in [(one, other), (other, one)] {
            if let Some(it) = &mut self.confirming {
                // What was on its way in one that lagged is lost with it: that ends, and another begins.
                it.peers[a][b].lost(now);
                (it.lines[a][b], it.mended[a][b]) = (Line::Whole, now);
            }
        }
        self.connect(one, other);
        self.connect(other, one);
        true
    }

    /// In whoever's name, to whomever, whatever.
    pub fn forge(&mut self, length: Duration) {
        let mut at = Duration::ZERO;
        while at < length {
            at += Duration::from_micros(self.below(10_000));
            let from = self.below(ROUTERS as u64) as usize;
            let to = (from + 1 + self.below(ROUTERS as u64 - 1) as usize) % ROUTERS;
            let priority = [0, 1, 150, 200, 254, 255][self.below(6) as usize];
            let centiseconds = [1, 1, 2][self.below(3) as usize];
            self.push(self.now + at, Event::Forged(from, to, priority, centiseconds));
        }
    }

    /// Of some pairs, for a while each.
    pub fn break_lines(&mut self) {
        for _ in 0..self.below(30) {
            let one = self.below(ROUTERS as u64) as usize;
            let (other, at) = ((one + 1) % ROUTERS, self.below(TROUBLE.as_millis() as u64 - BREAK_MS_MAX));
            let lags = self.below(2) == 0;
            self.push(self.now + Duration::from_millis(at), Event::Break(one, other, lags));
        }
    }
}

#[test]
fn what_is_forged_is_heeded_where_the_mesh_is_silent_alone_and_true_take_overs_are_seen() {
    for (seed, preempt) in [(9, true), (10, false)] {
        let world = run(seed, length() / 4, preempt, true);
        let it = world.confirming.unwrap();
        eprintln!(
            "measure: {} forged, {} refused, {} heeded for want of the mesh, {} transitions",
            it.forged, it.refused, it.heeded_alone, world.transitions
        );
        assert!(
            world.transitions > 10 && it.refused > 1000 && it.heeded_alone > 10,
            "too calm to show anything"
        );
    }
}
