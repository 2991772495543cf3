//! What is looked at, for whom, how often, and what is known then.

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn login(user: &str, password: &str) -> Login {
    Login { user: user.to_owned(), password: password.as_bytes().to_vec() }
}

fn hash(password: &str) -> PasswordHash {
    PasswordHash::of(password.as_bytes(), [1; 16]).unwrap()
}

fn look(
    all: &Passwords,
    login: Login,
    against: Option<&PasswordHash>,
    client: IpAddr,
) -> Result<Waiting, Turned> {
    all.look(Check { login, against: against.cloned() }, |_| PasswordHash::default(), client)
}

#[tokio::test]
async fn what_is_right_is_known_by_what_is_kept_of_it_alone_and_what_is_wrong_is_not() {
    let all = Passwords::default();
    let (kept, other) = (hash("right password"), hash("other password"));
    let right = login("alice", "right password");
    let wrong = login("alice", "wrong password");
    for (login, known, expected) in [
        (&right, Some(&kept), true),
        (&wrong, Some(&kept), false),
        (&right, None, false),
        (&right, Some(&other), false),
    ] {
        let mut waiting = look(&all, login.clone(), known, CLIENT).unwrap();
        let answer = waiting.answer().await;
        assert_eq!(answer, Some(expected));
        let outcome = waiting.outcome(answer);
        let expected = if expected { Checked::Right } else { Checked::Wrong };
        assert_eq!(all.checked(login, known, Some(&outcome), CLIENT), expected);
    }
    assert_eq!(all.checked(&right, Some(&kept), None, CLIENT), Checked::Right);
    let elsewhere = all.checked(&right, Some(&kept), None, OTHER);
    assert_eq!(elsewhere, Checked::NotYet, "who guesses is told nothing of what others have proved");
    // What came of one says nothing of another.
    let outcome = Outcome {
        of: (all.0.seal(&right).unwrap(), Some(kept.id()), Neighbours::of(CLIENT)),
        right: Some(true),
    };
    for (login, known) in [
        (&wrong, Some(&kept)),
        (&right, Some(&other)),
        (&right, None),
        (&login("bob", "right password"), Some(&kept)),
    ] {
        assert_eq!(all.checked(login, known, Some(&outcome), CLIENT), Checked::NotYet, "{login:?}");
    }
    let counts = all.counts();
    assert_eq!((counts.right.load(Relaxed), counts.wrong.load(Relaxed), all.kept()), (1, 3, 1));
}

#[tokio::test]
async fn an_address_presents_so_many_wrong_ones_and_then_waits_whoever_they_are_of() {
    let all = Passwords::default();
    let kept = hash("right password");
    for at in 0..WRONG.burst {
        let known = (at % 2 == 0).then_some(&kept);
        let mut waiting = look(&all, login("alice", &format!("wrong {at}")), known, CLIENT).unwrap();
        assert_eq!(waiting.answer().await, Some(false));
        // Right ones count for nothing.
        let mut waiting = look(&all, login("alice", "right password"), Some(&kept), OTHER).unwrap();
        assert_eq!(waiting.answer().await, Some(true));
        let mut waiting = look(&all, login("alice", "right password"), Some(&kept), OTHER).unwrap();
        assert_eq!(waiting.answer().await, Some(true));
    }
    // Some may have come in again meanwhile: each look takes its time.
    let mut turned = None;
    for at in 0..WRONG.burst {
        match look(&all, login("alice", &format!("again {at}")), Some(&kept), CLIENT) {
            Ok(mut waiting) => assert_eq!(waiting.answer().await, Some(false)),
            Err(why) => turned = turned.or(Some(why)),
        }
    }
    assert!(matches!(turned, Some(Turned::TooOften(1..))), "{turned:?}");
    assert!(look(&all, login("alice", "right password"), Some(&kept), OTHER).is_ok());
    assert!(all.counts().limited.load(Relaxed) >= 1);
}

#[tokio::test]
async fn there_is_room_for_so_many_and_who_leaves_makes_some() {
    let all = Passwords::default();
    // Nobody looks at anything.
    all.0.state().threads = LOOKS_MAX;
    let client = |at: usize| IpAddr::from([198, 51, 100, at as u8]);
    let ask = |at: usize| look(&all, login("alice", &format!("wrong {at}")), None, client(at));
    let mut waiting: Vec<Waiting> = (0..WAITING_MAX).map(|at| ask(at).unwrap()).collect();
    assert_eq!(ask(200).unwrap_err(), Turned::Full);
    // Who presents the same waits with it.
    let again = ask(3).unwrap();
    assert_eq!(all.waiting(), WAITING_MAX);
    drop(waiting.remove(3));
    assert_eq!(ask(200).unwrap_err(), Turned::Full, "the other one waits for it still");
    drop(again);
    assert!(ask(200).is_ok());
    assert_eq!((all.counts().left.load(Relaxed), all.counts().full.load(Relaxed)), (1, 2));
    // Who left has presented nothing.
    drop(waiting);
    for _ in 0..3 * WRONG.burst {
        drop(ask(7).unwrap());
        all.0.leave(&mut all.0.state());
    }
    let others: Vec<_> = (0..WAITERS_OF_ONE_MAX).map(|_| ask(200).unwrap()).collect();
    assert_eq!(ask(200).unwrap_err(), Turned::Full);
    let other = ask(201).unwrap();
    drop(others);
    assert!(ask(200).is_ok());
    drop(other);
    // A network has its share, in whichever of its addresses it asks.
    let of_one = |at: usize| {
        let client = IpAddr::from([0x2001, 0xdb8, 0, at as u16, 0, 0, 0, 1]);
        look(&all, login("alice", &format!("of one {at}")), None, client)
    };
    let its: Vec<_> = (0..WAITING_OF_ONE_MAX).map(|at| of_one(at).unwrap()).collect();
    assert_eq!(of_one(WAITING_OF_ONE_MAX).unwrap_err(), Turned::Full);
    assert!(ask(202).is_ok(), "others have theirs");
    drop(its);
    all.0.state().threads = 0;
}

#[tokio::test]
async fn right_passwords_count_for_nothing_however_many_are_looked_at_at_a_time() {
    let all = Passwords::default();
    let kept = hash("right password");
    let mut waiting: Vec<Waiting> = (0..2 * WRONG.burst)
        .map(|at| look(&all, login(&format!("user {at}"), "right password"), Some(&kept), CLIENT).unwrap())
        .collect();
    for it in &mut waiting {
        assert_eq!(it.answer().await, Some(true));
    }
}

#[tokio::test]
async fn what_was_right_before_is_looked_at_again_however_many_guesses_wait() {
    let all = Passwords::default();
    let kept = hash("right password");
    let right = login("alice", "right password");
    let was_right = |client: IpAddr, ago: Duration| {
        let of = (all.0.seal(&right).unwrap(), Some(kept.id()), Neighbours::of(client));
        all.0.kept.write().unwrap().keep(of, Instant::now() - ago);
    };
    let (late, last) = (KEPT_FOR + RENEWED_FOR, KEPT_FOR + RENEWED_FOR - Duration::from_secs(60));
    was_right(OTHER, late);
    was_right(CLIENT, last);
    assert_eq!((all.checked(&right, Some(&kept), None, CLIENT), all.kept()), (Checked::NotYet, 0));
    // Nobody looks at anything.
    all.0.state().threads = LOOKS_MAX;
    let guess = |at: usize| {
        let client = IpAddr::from([198, 51, 100, (at % WAITING_MAX) as u8]);
        look(&all, login("alice", &format!("wrong {}", at % WAITING_MAX)), Some(&kept), client)
    };
    let guesses: Vec<_> = (0..WAITERS_MAX).map(|at| guess(at).unwrap()).collect();
    assert_eq!(all.waiting(), WAITING_MAX);
    assert_eq!(guess(0).unwrap_err(), Turned::Full);
    for (login, known, client) in [
        // It was right too long ago; of another address; by what is kept now it may be wrong; another password.
        (&right, kept.clone(), OTHER),
        (&right, kept.clone(), IpAddr::from([192, 0, 2, 3])),
        (&right, hash("other password"), CLIENT),
        (&self::login("alice", "wrong"), kept.clone(), CLIENT),
    ] {
        assert_eq!(look(&all, login.clone(), Some(&known), client).unwrap_err(), Turned::Full);
    }
    all.0.state().threads = 0;
    let mut waiting = look(&all, right.clone(), Some(&kept), CLIENT).unwrap();
    assert_eq!(waiting.answer().await, Some(true));
    assert!(all.waiting() + 2 * LOOKS_MAX > WAITING_MAX, "it was not behind them: {}", all.waiting());
    assert_eq!(all.checked(&right, Some(&kept), None, CLIENT), Checked::Right);
    // Who guesses from there is refused, whatever was right.
    drop(guesses);
    all.0.wrong.owe(&all.0.limit, Who::Client(Neighbours::of(OTHER)), WRONG.burst, all.0.wrong.now());
    was_right(OTHER, KEPT_FOR);
    assert!(matches!(look(&all, right, Some(&kept), OTHER).unwrap_err(), Turned::TooOften(_)));
}
