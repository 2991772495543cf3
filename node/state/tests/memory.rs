//! What tasks are counted with in memory is what they hold there: an allocator that counts says it.
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use skep_state::Kinds;
use skep_state::command::{Command, Op, OpOutcome};
use skep_state::heap::Heap;
use skep_state::kind::Stopped;
use skep_state::kinds::KindsRecord;
use skep_state::kinds::claims::records::InMemory;
use skep_state::level::{Level, Limits};
use skep_state::message::{Digest, StoredMessage};
use skep_state::records::{NewRecord, Records};
use skep_state::task::{NewTask, Policy, TaskClaim, TaskId, TaskOp, TaskOutcome, When};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// What a common allocator takes for so much.
fn taken(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(taken(layout.size()), Relaxed);
        // SAFETY: as it came.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(taken(layout.size()), Relaxed);
        // SAFETY: as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// No messages.
#[derive(Debug, Default)]
struct NoMessages;

impl Records for NoMessages {
    fn last_seq(&self) -> u64 {
        0
    }
    fn find(&self, _digest: &Digest) -> Result<Option<u64>, Stopped> {
        Ok(None)
    }
    fn digest_at(&self, _seq: u64) -> Result<Digest, Stopped> {
        Ok(Digest::of(b""))
    }
    fn page(&self, _after: u64, _count_max: usize, _bytes_max: usize) -> Result<Vec<StoredMessage>, Stopped> {
        Ok(Vec::new())
    }
    fn push(&mut self, _record: NewRecord<'_>) -> Result<(), Stopped> {
        Ok(())
    }
    fn let_go(&mut self, _floor: u64) {}
}

struct World {
    kinds: Kinds<NoMessages, InMemory>,
    time_ms: u64,
    number: u64,
}

impl World {
    fn new() -> World {
        let kinds = Kinds::open(KindsRecord::default(), NoMessages, InMemory::default(), Heap::default());
        let mut world = World { kinds: kinds.unwrap(), time_ms: 1_000, number: 0 };
        world.kinds.apply(0, &Command::new(vec![Op::Level { level: Level::NEWEST }])).unwrap();
        world
    }

    fn apply(&mut self, op: TaskOp) -> TaskOutcome {
        let op = Op::Tasks { time_ms: self.time_ms, op };
        let outcomes = self.kinds.apply(1, &Command::new(vec![op])).unwrap().outcomes;
        match <[OpOutcome; 1]>::try_from(outcomes) {
            Ok([OpOutcome::Tasks(outcome)]) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// A number that none had.
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn put(&mut self, tasks: Vec<NewTask>) -> Vec<TaskId> {
        let nonce = self.next();
        match self.apply(TaskOp::Put { nonce, tasks }) {
            TaskOutcome::Put { first, count, nonce } => {
                (0..count).map(|number| TaskId::nth(first, nonce, number)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn put_batch(&mut self, tasks: Vec<NewTask>) {
        let nonce = self.next();
        let outcome = self.apply(TaskOp::PutBatch { nonce, keep_ms: 1, tasks });
        assert!(matches!(outcome, TaskOutcome::Batch { .. }), "{outcome:?}");
    }
}

fn new() -> NewTask {
    NewTask {
        queue: "q".into(),
        kind: "k".into(),
        payload: Bytes::new(),
        priority: 5,
        when: When::After { delay_ms: 0 },
        policy: Policy { retries: 1, backoff_ms: 1_000, timeout_ms: 60_000, keep_ms: 1 },
        unique: None,
        key: None,
    }
}

fn later() -> NewTask {
    NewTask { when: When::After { delay_ms: 86_400_000 }, ..new() }
}

/// A shape of tasks: many more of them.
type More = fn(&mut World);

const ONE_BY_ONE: &str = "waits for its time with a unique key";

const SHAPES: [(&str, More); 8] = [
    ("ready", |world| drop(world.put(vec![new(); 1_000]))),
    ("waits for its time", |world| drop(world.put(vec![later(); 1_000]))),
    (ONE_BY_ONE, |world| {
        one_by_one(world, |number| {
            // In no order.
            let unique = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string();
            NewTask { unique: Some(unique), ..later() }
        });
    }),
    ("of a batch, each with two keys and a kind that no other has", |world| {
        let one = |world: &mut World| {
            let number = world.next();
            let (unique, key) = (Some(format!("u{number}")), Some(format!("k{number}")));
            NewTask { unique, key, kind: number.to_string(), ..later() }
        };
        let tasks = (0..1_000).map(|_| one(world)).collect();
        world.put_batch(tasks);
    }),
    ("of a batch", |world| world.put_batch(vec![new(); 1_000])),
    ("with a kind of its own", |world| {
        let tasks = (0..1_000).map(|_| NewTask { kind: world.next().to_string(), ..new() });
        let tasks = tasks.collect();
        world.put(tasks);
    }),
    ("one of 32 whose numbers follow each other", |world| {
        for id in world.put(vec![new(); 992]).into_iter().filter(|id| id.seq % 32 > 0) {
            world.apply(TaskOp::Cancel { id });
        }
        world.time_ms += 10;
        world.apply(TaskOp::Due { max: 1_000 });
    }),
    ("in a worker's hands", |world| {
        world.put(vec![new(); 992]);
        for _ in 0..31 {
            let worker = format!("w{}", world.next());
            let (number, max) = (1, 32);
            let queues = vec!["q".to_owned()];
            let claim = TaskClaim { queues, worker, number, max, holds: Vec::new(), closes: true };
            world.apply(TaskOp::Claim(claim));
        }
    }),
];

/// What a task of a shape holds, and what it is counted with.
fn measured(more: More) -> (usize, usize, World) {
    const MORE: usize = 3;
    let mut world = World::new();
    more(&mut world);
    let seen = |world: &World| (HELD.load(Relaxed), world.kinds.tasks.memory(), world.kinds.tasks.len());
    let before = seen(&world);
    (0..MORE).for_each(|_| more(&mut world));
    let after = seen(&world);
    let count = (after.2 - before.2) as usize;
    ((after.0 - before.0) / count, (after.1 - before.1) / count, world)
}

fn one_by_one(world: &mut World, task: fn(u64) -> NewTask) {
    for _ in 0..1_000 {
        let number = world.next();
        world.put(vec![task(number)]);
    }
}

#[test]
fn tasks_are_counted_with_what_they_hold_in_memory() {
    // A put is remembered, which is none of its task's.
    let remembered = measured(|world| one_by_one(world, |_| new())).0 - measured(SHAPES[0].1).0;
    for (shape, more) in SHAPES {
        let (mut held, counted, world) = measured(more);
        if shape == ONE_BY_ONE {
            held -= remembered;
        }
        println!("{shape}: {held} held, {counted} counted");
        assert!(held <= counted, "a task that is {shape} holds {held} bytes and is counted with {counted}");
        assert!(
            counted <= 2 * held,
            "a task that is {shape} holds {held} bytes and is counted with {counted}"
        );
        // Below the level of files the bound of all bytes is the one that counts.
        let (memory, bytes) = (world.kinds.tasks.memory(), world.kinds.tasks.bytes());
        let before = Limits::of(Level::TASKS);
        assert!(memory / bytes < before.task_memory_max / before.task_bytes_max, "{shape}");
    }
}

#[test]
fn a_million_plain_tasks_have_room() {
    let mut world = World::new();
    world.put(vec![NewTask { payload: vec![7; 256].into(), ..new() }; 1_000]);
    let limits = Limits::of(Level::NEWEST);
    let taken = (1_000 * world.kinds.tasks.memory(), 1_000 * world.kinds.tasks.bytes());
    assert!(taken.0 < limits.task_memory_max / 8 * 7, "{} bytes in memory", taken.0);
    assert!(taken.1 < limits.task_bytes_max / 8 * 7, "{} bytes", taken.1);
}
