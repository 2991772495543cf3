//! What passwords are looked at by that are nobody's: it costs what somebody's might. Pure.
//!
//! Who presents a name over and over, to this balancer, to another, to one that starts anew or after the document has
//! changed, sees it cost the same each time, as that of a user who is there does; and of many names that are nobody's as
//! many cost this or that as of those that are somebody's. So a name draws one of the costs that are there, each by as
//! many lots as it has users (weighted rendezvous hashing), by what is kept of one of them, which no client knows. What
//! changes of one user moves few names.

use std::collections::BTreeMap;

use super::digest_begin;
use super::password::PasswordHash;

/// Most costs that are drawn from: those that most users have.
const COSTS_MAX: usize = 64;

/// One for each cost.
#[derive(Debug, Default)]
pub(super) struct Decoys(Vec<Decoy>);

#[derive(Debug)]
struct Decoy {
    /// Of those that cost it the one of the least id: with few changes it is another.
    hash: PasswordHash,
    users: u32,
}

impl Decoys {
    /// Of what is kept of all users' passwords.
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a PasswordHash>) -> Self {
        let mut by_cost: BTreeMap<_, (&PasswordHash, u32)> = BTreeMap::new();
        for hash in all {
            let (least, users) = by_cost.entry(hash.cost()).or_insert((hash, 0));
            *users = users.saturating_add(1);
            if hash.id() < least.id() {
                *least = hash;
            }
        }
        let mut all: Vec<_> = by_cost.into_values().collect();
        // Those that as many have stay in the order of their costs.
        all.sort_by_key(|(_, users)| std::cmp::Reverse(*users));
        all.truncate(COSTS_MAX);
        Self(all.into_iter().map(|(hash, users)| Decoy { hash: hash.clone(), users }).collect())
    }

    /// For a name that is nobody's: the same each time.
    pub(super) fn draw(&self, user: &str) -> PasswordHash {
        let drawn = self.0.iter().max_by(|a, b| a.lot(user).total_cmp(&b.lot(user)));
        drawn.map_or_else(PasswordHash::default, |it| it.hash.clone())
    }
}

impl Decoy {
    /// What a name drew: among others the highest is this one's as often as it has users.
    fn lot(&self, user: &str) -> f64 {
        let drawn = digest_begin(&[&self.hash.id().0, user.as_bytes()].concat());
        // Between 0 and 1, and neither.
        let drawn = ((drawn >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        f64::from(self.users) / -drawn.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cost: &str, salt: u32) -> PasswordHash {
        let salt = crate::auth::jwt::encode(format!("somesalt{salt:08}").as_bytes());
        let hash = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        PasswordHash::read(&format!("$argon2id$v=19${cost}${salt}${hash}")).unwrap()
    }

    const USUAL: &str = "m=19456,t=2,p=1";
    const DEAR: &str = "m=65536,t=4,p=1";

    /// Names that are nobody's, of which the decoy costs much.
    fn dear(all: &[PasswordHash]) -> Vec<bool> {
        let decoys = Decoys::of(all.iter());
        let cost = kept(DEAR, 0).cost();
        (0..2000).map(|at| decoys.draw(&format!("nobody {at}")).cost() == cost).collect()
    }

    #[test]
    fn a_name_that_is_nobodys_costs_what_somebodys_does_as_often_as_somebodys_does_and_the_same_each_time() {
        let mut all: Vec<_> = (0..300).map(|at| kept(if at % 4 == 0 { DEAR } else { USUAL }, at)).collect();
        let first = dear(&all);
        let count = first.iter().filter(|it| **it).count();
        assert!((400..600).contains(&count), "a quarter of 2000: {count}");
        // Elsewhere they may come in another order.
        all.reverse();
        assert_eq!(dear(&all), first);
        // As the document changes, hardly any name is another.
        let moved =
            |all: &[PasswordHash]| dear(all).iter().zip(&first).filter(|(now, before)| now != before).count();
        all.extend([kept(USUAL, 1000), kept(DEAR, 1001)]);
        assert!(moved(&all) < 40, "{}", moved(&all));
        // What is kept of others draws otherwise: who does not know it cannot say.
        let others: Vec<_> =
            (2000..2300).map(|at| kept(if at % 4 == 0 { DEAR } else { USUAL }, at)).collect();
        assert!(moved(&others) > 400, "{}", moved(&others));
    }

    #[test]
    fn where_there_is_nobody_it_costs_what_is_usual_and_of_many_costs_the_most_used_are_drawn_from() {
        assert_eq!(Decoys::default().draw("nobody"), PasswordHash::default());
        let many = (0..2 * COSTS_MAX).flat_map(|at| {
            let cost = format!("m={},t=2,p=1", 20_000 + at);
            (0..2 + at as u32 % 2).map(move |user| kept(&cost, user)).collect::<Vec<_>>()
        });
        let many: Vec<_> = many.collect();
        let decoys = Decoys::of(many.iter());
        assert_eq!(decoys.0.len(), COSTS_MAX);
        assert!(decoys.0.iter().all(|it| it.users == 3));
    }
}
