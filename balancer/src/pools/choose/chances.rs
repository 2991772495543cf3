//! Draws by weight. Pure.

use skep_base::random::Random;

/// How often each of a set is drawn. Where all weigh alike, a draw costs the same however many they are; else it
/// looks at a few of them.
#[derive(Debug, Clone, Default)]
pub struct Chances {
    /// Of each the weights up to its own, that included; empty where all weigh alike.
    sums: Vec<f64>,
}

impl Chances {
    pub fn of(weights: impl Iterator<Item = f64> + Clone) -> Self {
        let mut alike = weights.clone().zip(weights.clone().skip(1));
        if alike.all(|(one, next)| one == next) {
            return Self::default();
        }
        let sum_up = |sum: &mut f64, weight: f64| {
            *sum += weight;
            Some(*sum)
        };
        Self { sums: weights.scan(0.0, sum_up).collect() }
    }

    /// One of `count`.
    pub(super) fn one(&self, count: usize, random: &mut Random) -> usize {
        match self.sums.last() {
            Some(all) if self.sums.len() == count => self.at(random.unit() * all),
            _ => random.below(count),
        }
    }

    /// One of `count` that is not this one; there are two at least.
    pub(super) fn another(&self, this: usize, count: usize, random: &mut Random) -> usize {
        if let (Some(all), Some(end)) = (self.sums.last(), self.sums.get(this))
            && self.sums.len() == count
        {
            let begin = this.checked_sub(1).map_or(0.0, |before| self.sums[before]);
            let point = random.unit() * (all - (end - begin));
            let at = self.at(if point < begin { point } else { point + (end - begin) });
            // It may be by rounding.
            if at != this {
                return at;
            }
        }
        (this + 1 + random.below(count - 1)) % count
    }

    fn at(&self, point: f64) -> usize {
        self.sums.partition_point(|sum| *sum <= point).min(self.sums.len().saturating_sub(1))
    }
}

/// What of a weight counts as one where the choice holds it against requests in flight. Of weights that are all above
/// one only their ratios are meant: of 70 and 30, thirty requests in flight are not little.
pub fn unit(weights: impl Iterator<Item = f64>) -> f64 {
    weights.min_by(f64::total_cmp).map_or(1.0, |least| least.max(1.0))
}

/// One of those of `count` that have a weight, by that, but `without` this one.
pub(super) fn draw(
    count: usize,
    weight: impl Fn(usize) -> Option<f64>,
    without: Option<usize>,
    random: &mut Random,
) -> Option<usize> {
    let left = || (0..count).filter(|at| Some(*at) != without).filter_map(|at| Some((at, weight(at)?)));
    let mut point = random.unit() * left().map(|(_, weight)| weight).sum::<f64>();
    let mut drawn = None;
    for (at, weight) in left() {
        drawn = Some(at);
        point -= weight;
        if point < 0.0 {
            break;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 20_000;

    #[test]
    fn each_is_drawn_by_its_weight_and_another_by_that_among_the_rest() {
        let weights = [0.5, 100.0, 1.0, 2.0, 0.01, 1.0];
        let (chances, mut random) = (Chances::of(weights.into_iter()), Random::new(11));
        let fits = |at: usize| Some(weights[at]);
        for without in [None, Some(0), Some(1), Some(4), Some(5)] {
            let mut counts = [[0; 6]; 2];
            for _ in 0..DRAWS {
                let drawn = match without {
                    None => chances.one(6, &mut random),
                    Some(this) => chances.another(this, 6, &mut random),
                };
                counts[0][drawn] += 1;
                counts[1][draw(6, fits, without, &mut random).unwrap()] += 1;
            }
            let all: f64 = (0..6).filter(|at| Some(*at) != without).map(|at| weights[at]).sum();
            for (counts, at) in counts.iter().flat_map(|counts| (0..6).map(move |at| (counts, at))) {
                let part = if Some(at) == without { 0.0 } else { weights[at] / all };
                let drawn = f64::from(counts[at]) / DRAWS as f64;
                assert!((drawn - part).abs() < 0.02, "{without:?} {at}: {drawn} {part}");
            }
        }
    }

    #[test]
    fn where_all_weigh_alike_nothing_is_kept_and_all_are_drawn_alike() {
        let (chances, mut random) = (Chances::of([0.1; 3].into_iter()), Random::new(5));
        assert!(chances.sums.is_empty() && chances.sums.capacity() == 0);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            let first = chances.one(3, &mut random);
            counts[first] += 1;
            assert_ne!(chances.another(first, 3, &mut random), first);
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        assert!(Chances::of(std::iter::empty()).sums.is_empty());
        let none = |_| None;
        assert_eq!(draw(3, none, None, &mut random), None);
    }
}
