//! Circles among the modules of one crate.
//!
//! Two modules side by side are two rooms, each with all that lies below it: where each names something
//! of the other, in however many steps, neither can be read, tested or moved without the other. Parent
//! and child may name each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::modules::{Arrow, Crate, ModulePath};

/// Rooms below one parent that cannot be put in an order.
#[derive(Debug)]
pub struct Circle {
    pub parent: ModulePath,
    pub rooms: BTreeSet<String>,
    /// Between two rooms, where one names the other.
    arrows: BTreeMap<(String, String), Vec<String>>,
}

impl Circle {
    /// As the list of exceptions has it.
    pub fn name(&self, package: &str) -> String {
        let rooms: Vec<&str> = self.rooms.iter().map(String::as_str).collect();
        format!(
            "{package}{}: {}",
            self.parent.iter().map(|name| format!("::{name}")).collect::<String>(),
            rooms.join(" ")
        )
    }

    /// Each arrow within it, the thinnest first: those are the ones to turn.
    pub fn describe(&self) -> String {
        let mut arrows: Vec<_> = self.arrows.iter().collect();
        arrows.sort_by_key(|(rooms, places)| (places.len(), rooms.to_owned()));
        let mut text = String::new();
        for ((from, to), places) in arrows {
            let more =
                if places.len() > 2 { format!(" and {} more", places.len() - 2) } else { String::new() };
            let shown = places.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "    {from} -> {to}: {shown}{more}");
        }
        text
    }
}

pub fn circles(of: &Crate) -> Vec<Circle> {
    let mut floors: BTreeMap<ModulePath, BTreeMap<(String, String), Vec<String>>> = BTreeMap::new();
    for Arrow { from, to, at } in of.arrows() {
        let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        // One of them is above the other.
        let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) else { continue };
        let arrows = floors.entry(from[..shared].to_vec()).or_default();
        let places = arrows.entry((a.clone(), b.clone())).or_default();
        if !places.contains(&at) {
            places.push(at);
        }
    }
    let mut found = Vec::new();
    for (parent, arrows) in floors {
        for rooms in knots(&arrows) {
            let within = |(rooms_of, _): &(&(String, String), _)| {
                rooms.contains(&rooms_of.0) && rooms.contains(&rooms_of.1)
            };
            let arrows = arrows.iter().filter(within).map(|(a, b)| (a.clone(), b.clone())).collect();
            found.push(Circle { parent: parent.clone(), rooms, arrows });
        }
    }
    found
}

/// Sets of more than one, each of which reaches each other.
fn knots<T>(arrows: &BTreeMap<(String, String), T>) -> Vec<BTreeSet<String>> {
    let names: BTreeSet<&String> = arrows.keys().flat_map(|(a, b)| [a, b]).collect();
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![from];
        while let Some(at) = waiting.pop() {
            for (_, to) in arrows.keys().filter(|(a, _)| a == at) {
                if seen.insert(to) {
                    waiting.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        names.iter().map(|name| (*name, reach(name))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for name in &names {
        if found.iter().any(|knot| knot.contains(*name)) {
            continue;
        }
        let knot: BTreeSet<String> = reached[name]
            .iter()
            .filter(|other| reached[**other].contains(name))
            .map(|other| (*other).clone())
            .collect();
        if knot.len() > 1 {
            found.push(knot);
        }
    }
    found
}

/// Circles that the list of exceptions does not have, and exceptions that are none any more.
pub fn complaints(package: &str, found: &[Circle], exceptions: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let names: Vec<String> = found.iter().map(|circle| circle.name(package)).collect();
    for (circle, name) in found.iter().zip(&names) {
        if !exceptions.contains(&name.as_str()) {
            complaints.push(format!(
                "circle in {name}\n  turn one of these arrows: move down what both need, or hand it in as an argument, \
                 a channel or a closure\n{}",
                circle.describe()
            ));
        }
    }
    let own = |exception: &&&str| exception.split([':']).next() == Some(package);
    for gone in
        exceptions.iter().filter(own).filter(|exception| !names.iter().any(|name| name == **exception))
    {
        complaints.push(format!("no circle any more, take it out of tests/tidy/src/exceptions.rs: {gone}"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crates::packages;
    use crate::exceptions::CIRCLES;
    use crate::tree::{files, sample};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        circles(&Crate::read(&sample(files), "src/lib.rs")).iter().map(|circle| circle.name("x")).collect()
    }

    #[test]
    fn rooms_that_name_each_other_are_a_circle() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", "use crate::b::X;"),
            ("src/b.rs", "use crate::c::X; use crate::d;"),
            ("src/c.rs", "fn f() { crate::a::g() }"),
            ("src/d.rs", ""),
        ];
        assert_eq!(found(&files), ["x: a b c"]);
    }

    #[test]
    fn rooms_are_judged_with_all_that_lies_below_them() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "mod one; mod two;"),
            ("src/a/one.rs", "use crate::b;"),
            ("src/a/two.rs", ""),
            ("src/b.rs", "use crate::a::two::X;"),
        ];
        assert_eq!(found(&files), ["x: a b"]);
    }

    #[test]
    fn a_circle_deeper_down_names_its_parent() {
        let files = [
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod one; mod two;"),
            ("src/a/one.rs", "use super::two::X;"),
            ("src/a/two.rs", "use crate::a::one::X;"),
        ];
        assert_eq!(found(&files), ["x::a: one two"]);
    }

    #[test]
    fn parent_and_child_may_name_each_other() {
        let files = [
            ("src/lib.rs", "mod a; use a::b::X; pub struct Y;"),
            ("src/a.rs", "mod b; use b::X; pub struct Z; use crate::Y;"),
            ("src/a/b.rs", "use super::Z; use crate::Y;"),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn a_detour_through_the_parents_names_is_a_circle_all_the_same() {
        let files = [
            ("src/lib.rs", "mod a; mod b; pub use a::X; pub use b::Y;"),
            ("src/a.rs", "use crate::Y;"),
            ("src/b.rs", "use super::X;"),
        ];
        assert_eq!(found(&files), ["x: a b"]);
    }

    #[test]
    fn an_exception_holds_for_its_very_circle_and_must_go_with_it() {
        let files =
            [("src/lib.rs", "mod a; mod b;"), ("src/a.rs", "use crate::b;"), ("src/b.rs", "use crate::a;")];
        let found = circles(&Crate::read(&sample(&files), "src/lib.rs"));
        assert_eq!(complaints("x", &found, &["x: a b"]), Vec::<String>::new());
        let wider = complaints("x", &found, &["x: a b c"]);
        assert!(wider.len() == 2 && wider[1].contains("no circle any more"), "{wider:?}");
        assert!(complaints("x", &[], &["y: a b"]).is_empty(), "another crate's");
    }

    #[test]
    fn no_crate_has_circles_among_its_modules() {
        let files = files();
        let mut all = Vec::new();
        for package in packages(&files) {
            let roots = ["lib", "main"].map(|root| format!("{}/src/{root}.rs", package.folder));
            let roots = roots.into_iter().filter(|root| files.contains_key(root));
            let found: Vec<Circle> = roots.flat_map(|root| circles(&Crate::read(&files, &root))).collect();
            for circle in &found {
                println!("{}\n{}", circle.name(&package.name), circle.describe());
            }
            all.extend(complaints(&package.name, &found, CIRCLES));
        }
        assert!(all.is_empty(), "\n{}", all.join("\n"));
    }
}
