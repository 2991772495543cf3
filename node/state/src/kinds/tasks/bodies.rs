//! What of tasks never changes: those that are alike share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::task::Policy;

/// What of a task never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Body {
    pub kind: String,
    pub unique: Option<String>,
    pub key: Option<String>,
    pub policy: Policy,
}

/// The bodies of all tasks but those with a unique key, which are like no other: each once.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// With how many tasks have it.
    all: BTreeMap<Arc<Body>, u32>,
    memory: usize,
}

impl Bodies {
    /// A task has such a body: the same that others have, where there is one.
    pub fn hold(&mut self, body: Arc<Body>) -> Arc<Body> {
        if body.unique.is_some() {
            return body;
        }
        if let Some(count) = self.all.get_mut(&body) {
            *count += 1;
            return self.all.get_key_value(&body).map_or(body, |(known, _)| known.clone());
        }
        self.memory += body.memory();
        self.all.insert(body.clone(), 1);
        body
    }

    /// A task has it no more.
    pub fn let_go(&mut self, body: &Arc<Body>) {
        let Some(count) = self.all.get_mut(body) else { return };
        *count -= 1;
        if *count == 0 {
            self.all.remove(body);
            self.memory -= body.memory();
        }
    }

    /// What they hold in memory.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, unique: Option<&str>) -> Arc<Body> {
        let unique = unique.map(str::to_owned);
        Arc::new(Body { kind: kind.into(), unique, key: None, policy: Policy::default() })
    }

    #[test]
    fn what_is_alike_is_there_once_and_for_as_long_as_a_task_has_it() {
        let mut bodies = Bodies::default();
        let first = bodies.hold(body("a", None));
        let held = bodies.memory();
        assert!(held > 0 && Arc::ptr_eq(&first, &bodies.hold(body("a", None))));
        bodies.hold(body("b", None));
        assert_eq!(bodies.memory(), 2 * held);
        bodies.let_go(&body("b", None));
        bodies.let_go(&first);
        assert_eq!(bodies.memory(), held, "one task has it still");
        bodies.let_go(&first);
        bodies.hold(body("a", Some("u")));
        bodies.let_go(&body("a", Some("u")));
        assert_eq!(bodies.memory(), 0, "one with a unique key is its task's alone");
    }
}
