//! Operations whose places in an object's order are known, each from one number to another: whether these
//! agree with the order in which the operations were called and returned.

/// Where an operation may be in the object's order, and when it was under way.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    pub called: u64,
    pub returned: u64,
    /// Its place is `lowest` at the least, `highest` at the most.
    pub lowest: u64,
    pub highest: u64,
}

/// Two operations, by their positions: the first was over before the second was called, and yet must come after
/// it in the object's order. Where there are none, each operation has a place: the highest of its own least one
/// and of those of all that were over before it.
pub fn contradiction(placed: &[Placed]) -> Option<(usize, usize)> {
    let order = |key: fn(&Placed) -> u64| {
        let mut order: Vec<usize> = (0..placed.len()).collect();
        order.sort_by_key(|at| key(&placed[*at]));
        order
    };
    let mut over = order(|one| one.returned).into_iter().peekable();
    let mut furthest: Option<usize> = None;
    for at in order(|one| one.called) {
        while let Some(before) = over.next_if(|before| placed[*before].returned < placed[at].called) {
            if furthest.is_none_or(|furthest| placed[before].lowest > placed[furthest].lowest) {
                furthest = Some(before);
            }
        }
        if let Some(before) = furthest.filter(|before| placed[*before].lowest > placed[at].highest) {
            return Some((before, at));
        }
    }
    None
}
