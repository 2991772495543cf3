//! A crate's modules and the arrows between them: who names what of whom.
//!
//! A name that a module only passes on (`pub use`) is its origin's, too: an arrow leads to both.

use std::collections::BTreeMap;

use crate::items::{Import, Items, Path, items};
use crate::tree::Files;

/// Names from the crate's root; the root itself is empty.
pub type ModulePath = Vec<String>;

/// How many names may be followed from one to the next; more are a circle of names.
const HOPS_MAX: u32 = 20;

/// One module names something of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrow {
    pub from: ModulePath,
    pub to: ModulePath,
    /// `file:line`.
    pub at: String,
}

struct Module {
    file: String,
    items: Items,
}

/// What is compiled from one root file, but for tests.
pub struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

impl Crate {
    pub fn read(files: &Files, root: &str) -> Self {
        let mut modules = BTreeMap::new();
        let mut waiting: Vec<(ModulePath, String)> = vec![(Vec::new(), root.to_owned())];
        while let Some((path, file)) = waiting.pop() {
            let items = items(&files[&file]);
            let folder = match path.last() {
                Some(name) if !file.ends_with("/mod.rs") => {
                    format!("{}/{name}", file.rsplit_once('/').expect("a module's file lies in a folder").0)
                }
                _ => file.rsplit_once('/').expect("a root lies in a folder").0.to_owned(),
            };
            for module in items.modules.iter().filter(|module| !module.for_tests) {
                let name = &module.name;
                let names = [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")];
                if let Some(file) = names.into_iter().find(|file| files.contains_key(file)) {
                    waiting.push(([path.as_slice(), std::slice::from_ref(name)].concat(), file));
                }
            }
            modules.insert(path, Module { file, items });
        }
        Self { modules }
    }

    /// The files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(|module| module.file.as_str())
    }

    pub fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (from, module) in &self.modules {
            let imported = module.items.imports.iter().map(|import| &import.path);
            for path in imported.chain(&module.items.paths) {
                for to in self.resolve(from, path, 0).into_iter().filter(|to| to != from) {
                    arrows.push(Arrow {
                        from: from.clone(),
                        to,
                        at: format!("{}:{}", module.file, path.line),
                    });
                }
            }
        }
        arrows
    }

    /// The modules that a path leads to, its origin last: none for another crate's and for the file's own names.
    fn resolve(&self, from: &ModulePath, path: &Path, hops: u32) -> Vec<ModulePath> {
        let Some(first) = path.segments.first().filter(|_| hops < HOPS_MAX) else { return Vec::new() };
        let mut at: ModulePath = [from.as_slice(), &path.within].concat();
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop();
            }
            name => return self.resolve_name(from, name, path, hops),
        }
        let mut rest = &path.segments[1..];
        while rest.first().is_some_and(|segment| segment == "super") {
            at.pop();
            rest = &rest[1..];
        }
        // A module within a file is its file's.
        while !self.modules.contains_key(&at) {
            at.pop();
        }
        self.walk(from, at, rest, hops)
    }

    /// A path whose first word is an import of the file, a module below it, or what a `*` brought.
    fn resolve_name(&self, from: &ModulePath, name: &str, path: &Path, hops: u32) -> Vec<ModulePath> {
        let below = [from.as_slice(), &[name.to_owned()]].concat();
        if path.within.is_empty() && self.modules.contains_key(&below) {
            return self.walk(from, below, &path.segments[1..], hops);
        }
        let imports = &self.modules[from].items.imports;
        let seen: Vec<&Import> = imports.iter().filter(|import| import.path.within == path.within).collect();
        if let Some(import) = seen.iter().find(|import| import.name == name) {
            // An import that begins with its own name is another crate: `use tokio;`.
            if import.path.segments.first().is_none_or(|first| first == name) {
                return Vec::new();
            }
            let mut way = self.resolve(from, &import.path, hops + 1);
            if let Some(at) = way.last().cloned() {
                way.extend(self.walk(from, at, &path.segments[1..], hops));
            }
            return way;
        }
        let all = seen.iter().filter(|import| import.name == "*" && import.path.segments != path.segments);
        let mut ways = all.filter_map(|import| {
            let at = self.resolve(from, &import.path, hops + 1).pop()?;
            let way = self.walk(from, at.clone(), &path.segments, hops + 1);
            (way.last() != Some(&at)).then_some(way)
        });
        ways.next().unwrap_or_default()
    }

    /// From a module along the rest of a path: through modules, and through names that are passed on.
    fn walk(&self, from: &ModulePath, mut at: ModulePath, rest: &[String], hops: u32) -> Vec<ModulePath> {
        for (position, segment) in rest.iter().enumerate() {
            let below = [at.as_slice(), std::slice::from_ref(segment)].concat();
            if self.modules.contains_key(&below) {
                at = below;
                continue;
            }
            let passed_on = self.modules[&at].items.imports.iter().find(|import| {
                let seen = import.public || from.starts_with(&at);
                seen && import.name == *segment && import.path.within.is_empty()
            });
            if let Some(import) = passed_on {
                let origin = self.resolve(&at, &import.path, hops + 1);
                if let Some(last) = origin.last().cloned() {
                    let rest = self.walk(from, last, &rest[position + 1..], hops + 1);
                    return [vec![at], origin, rest].concat();
                }
            }
            break;
        }
        vec![at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    fn arrows(files: &[(&str, &str)]) -> Vec<String> {
        let show =
            |arrow: Arrow| format!("{} -> {} at {}", arrow.from.join("::"), arrow.to.join("::"), arrow.at);
        Crate::read(&sample(files), "src/lib.rs").arrows().into_iter().map(show).collect()
    }

    #[test]
    fn modules_are_found_by_their_declarations() {
        let files = [
            ("src/lib.rs", "mod a; #[cfg(test)] mod tests;"),
            ("src/a.rs", "mod b;"),
            ("src/a/b.rs", "use crate::a::X;"),
            ("src/tests.rs", "use crate::a;"),
            ("src/stray.rs", "use crate::a;"),
        ];
        assert_eq!(arrows(&files), ["a::b -> a at src/a/b.rs:1"]);
    }

    #[test]
    fn imports_and_written_paths_are_arrows() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use super::b::{B};\n\nfn f() { crate::c::g() }"),
            ("src/b.rs", "mod inner { use super::super::c; }"),
            ("src/c.rs", "use std::a; fn h(x: tokio::b::C) {}"),
        ];
        assert_eq!(arrows(&files), ["a -> b at src/a.rs:1", "a -> c at src/a.rs:3", "b -> c at src/b.rs:1"]);
    }

    #[test]
    fn a_name_that_is_passed_on_leads_to_its_origin() {
        let files = [
            ("src/lib.rs", "mod a; mod b; pub use a::A;"),
            ("src/a.rs", "mod deep; pub use deep::A; pub use deep::*;"),
            ("src/a/deep.rs", "pub struct A;"),
            ("src/b.rs", "use crate::A;\nuse super::*;\nfn f() -> a::A {}"),
        ];
        let found = arrows(&files);
        assert!(found.contains(&"b -> a::deep at src/b.rs:1".to_owned()), "{found:?}");
        assert!(found.contains(&"b -> a::deep at src/b.rs:3".to_owned()), "{found:?}");
    }

    #[test]
    fn a_module_that_was_imported_begins_paths() {
        let files = [
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod b; mod c;"),
            ("src/a/b.rs", "use crate::a;\nfn f() { a::c::g() }"),
            ("src/a/c.rs", ""),
        ];
        assert!(arrows(&files).contains(&"a::b -> a::c at src/a/b.rs:2".to_owned()));
    }

    #[test]
    fn names_that_lead_to_themselves_end() {
        let files =
            [("src/lib.rs", "mod a; use a::X;"), ("src/a.rs", "use crate::X; use y; fn f() { y::z() }")];
        arrows(&files);
    }
}
