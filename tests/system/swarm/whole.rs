//! All of the stack is replaced while it works: tasks flow through it, and it guards a route.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use skep_kit::cluster::handler::Handler;
use skep_kit::effort::figure;
use skep_kit::swarm::lab::{ADDRESS, Lab, PATIENCE};
use skep_kit::swarm::stack::IMAGE;
use skep_kit::swarm::visits::{Visit, Visits};
use skep_kit::wait::{pause, wait_for};

use crate::apps::{APP, LINES, STACK, document, wait_for_route};

/// The client's host, where the tasks are done.
const CLIENT: &str = "10.77.0.250";
/// Tasks a second.
const TASKS: u32 = 200;
const TASK: &str = "{\"queue\":\"rolling\",\"payload\":{\"n\":1},\"keep\":\"1h\"}";
/// A route that is guarded.
const KEY: (&str, &str) = ("x-api-key", "a-key-that-the-lab-made-up");
const RATE: u32 = 20;
/// What comes together after a moment in which nobody was let in is within it.
const BURST: u32 = 100;
const GUARDED: &str = "
[consumers.shop]
keys = [\"a-key-that-the-lab-made-up\"]

[routes.guarded]
match.path = \"/guarded\"
service = \"web\"
strip_prefix = true
auth.keys = true
limits = [{rate = 20, per = \"second\", by = \"consumer\", burst = 100}]
";

/// What does the tasks, until it is told to end; then it says how often it did each.
struct Doing {
    url: String,
    end: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<HashMap<String, u32>>,
}

impl Doing {
    fn start(lab: &Lab) -> Self {
        let (say, said) = mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = lab.spawn_at(0, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let handler = Handler::start(CLIENT.parse().expect("an address")).await;
                say.send(handler.url()).expect("the test waits for it");
                let _ = ended.await;
                handler.runs()
            })
        });
        Self { url: said.recv().expect("it is bound"), end, thread }
    }

    fn stop(self) -> HashMap<String, u32> {
        let _ = self.end.send(());
        self.thread.join().expect("it ended well")
    }
}

/// What the nodes say of the queue.
fn queue(lab: &Lab) -> Value {
    let url = format!("http://{ADDRESS}/queues");
    let said = lab.run(&["client", "curl", "-fsS", "-m", "5", &url]).unwrap_or_default();
    let queues: Value = serde_json::from_str(&said).unwrap_or_default();
    let queues = queues["queues"].as_array().cloned().unwrap_or_default();
    queues.into_iter().find(|queue| queue["queue"] == "rolling").unwrap_or_default()
}

/// Two services at the same time, each to another image.
fn upgrade(lab: &Lab, services: [&str; 2], next: &str) {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for service in services {
            scope
                .spawn(move || assert_eq!(lab.update(service, &["--image", next]), "completed", "{service}"));
        }
    });
    figure(&format!("the upgrade of {services:?}"), format!("{:.1} s", begun.elapsed().as_secs_f64()));
}

#[test]
fn the_whole_stack_is_upgraded_while_200_tasks_a_second_flow_and_routes_are_guarded() {
    let test = "the whole stack upgraded while tasks flow";
    let Some(lab) = Lab::take_for_long(test) else { return };
    let Some(image) = lab.app_image(test, "web", &[APP], LINES) else { return };
    let next = lab.image_like("whole", "LABEL whole=1");
    let doing = Doing::start(&lab);
    let settings = [
        ("SKEP_WEB_IMAGE", &*image),
        ("SKEP_WORKERS", "3"),
        ("SKEP_WORKER_IMAGE", IMAGE),
        ("SKEP_QUEUES", "rolling"),
        ("SKEP_FORWARD", &doing.url),
        ("SKEP_WORKER_DRAIN", "5s"),
    ];
    let _more = lab.with_more(&[Path::new(STACK)], Some(&(document() + GUARDED)), &settings);
    let guarded = || Visit::get("/guarded/page").with(&[KEY]);
    wait_for_route(&lab, guarded(), " has GET /page");

    let puts = Visits::start(&lab, Visit::post("/tasks", TASK), TASKS);
    // Nine tenths of what the limit lets in.
    let within = Visits::start(&lab, guarded(), RATE * 9 / 10);
    let gets = Visits::start(&lab, Visit::get("/app/page"), TASKS / 2);
    pause(Duration::from_secs(2));
    upgrade(&lab, ["skep_node", "skep_worker"], &next);
    upgrade(&lab, ["skep_balancer", "skep_vip"], &next);
    lab.settle(3);
    let (puts, within, gets) = (puts.stop(), within.stop(), gets.stop());
    figure("tasks put", puts.summary());
    figure("what is left of them", queue(&lab));
    wait_for("all tasks are done", PATIENCE * 2, || {
        let queue = queue(&lab);
        queue["ready"] == 0 && queue["active"] == 0 && queue["due"] == 0
    });
    let queue = queue(&lab);
    let runs = doing.stop();
    figure("what became of them", &queue);
    figure("requests with a key, within the limit", within.summary());
    figure("requests of a web app", gets.summary());

    puts.expect_all(201, "tasks put");
    let id = |body: &String| {
        let said: Value = serde_json::from_str(body).expect("JSON");
        said["id"].as_str().expect("an id").to_owned()
    };
    let put: Vec<String> = puts.bodies.iter().map(id).collect();
    let lost: Vec<_> = put.iter().filter(|id| !runs.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} tasks were never run: {:?}", lost.len(), put.len(), lost.first());
    let twice = runs.values().filter(|runs| **runs > 1).count();
    assert_eq!((twice, runs.len()), (0, put.len()), "each was run once, and nothing else was");
    for (what, count) in [("done", put.len()), ("lost", 0), ("failed", 0), ("died", 0)] {
        assert_eq!(queue[what], count, "{what}: {queue}");
    }
    within.expect_all(200, "requests with a key, within the limit");
    gets.expect_all(200, "requests of a web app");

    // It is guarded as before.
    assert_eq!(Visits::once(&lab, Visit::get("/guarded/page")).0, 401);
    let begun = Instant::now();
    let beyond = Visits::start(&lab, guarded(), RATE * 4);
    pause(Duration::from_secs(8));
    let beyond = beyond.stop();
    let most = f64::from(BURST) + f64::from(RATE) * begun.elapsed().as_secs_f64();
    figure("four times the limit", format!("{}, at most {most:.0} may get through", beyond.summary()));
    let through = beyond.with_status(200);
    assert!(
        through as f64 <= most && beyond.with_status(429) == beyond.requests() - through,
        "{}",
        beyond.summary()
    );
    assert!(through > u64::from(RATE) * 8, "what may get through does: {}", beyond.summary());
}
