//! What is not yet as it should be. These lists may only shrink: what is gone from the tree must go here too.

/// Crates that use what is not below them.
pub const ARROWS: &[(&str, &str)] = &[];

/// Circles among modules, as `circles` names them.
pub const CIRCLES: &[&str] = &[];

/// Files that are longer than a file should be, and how long they may be.
pub const LONG_FILES: &[(&str, usize)] = &[("node/raft/src/formation/bootstrap/driver/tests/world.rs", 465)];

/// Files of the replicated state whose hash maps are looked up and never walked: their order decides nothing.
pub const LOOKED_UP: &[&str] = &[
    "node/state/src/kinds/claims/early.rs",
    "node/state/src/kinds/messages/removed.rs",
    "node/state/src/kinds/text.rs",
];

/// Documents that name a path that is not there.
pub const DEAD_PATHS: &[(&str, &str)] = &[];

/// Sleeps in tests that are no synchronisation: how many in a file, and why.
pub const SLEEPS: &[(&str, usize, &str)] = &[
    (
        "node/raft/src/formation/bootstrap/driver/tests/world.rs",
        8,
        "the beat of its world, and starts that are apart",
    ),
    ("node/raft/src/membership/reconciler/tests/nodes.rs", 2, "looks again: openraft has no event for it"),
    ("proto/console/src/admin/tests.rs", 1, "a client that is slow is what is tested"),
    ("proto/members/tests/gossip.rs", 1, "a process that is stalled is what is tested"),
    ("scripts/bench/load/tests/load/fake_skep.rs", 1, "a server that is slow is what is tested"),
    ("tests/kit/src/clients/load.rs", 1, "a writer's pace"),
    ("tests/kit/src/wait.rs", 2, "where all other waiting goes through"),
];
