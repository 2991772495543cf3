//! A user's own web app behind the balancers, as `docker-stack.web.yml` and `examples/web` have it.

use std::collections::BTreeSet;
use std::path::Path;

use skep_kit::effort::{count, figure};
use skep_kit::folders::root;
use skep_kit::swarm::lab::{Lab, PATIENCE};
use skep_kit::swarm::visits::{Tally, Visit, Visits};
use skep_kit::wait::wait_for;

pub const STACK: &str = "docker-stack.web.yml";
pub const APP: &str = "examples/web/app.py";
/// As the example's own image has it, but for the words that this machine's has.
pub const LINES: &str = "HEALTHCHECK --interval=1s --timeout=2s --start-period=20s \
    CMD [\"/bin/curl\", \"-fsS\", \"-m\", \"1\", \"-o\", \"/dev/null\", \"http://127.0.0.1:8080/healthz\"]\n\
    CMD [\"/bin/python3\", \"-u\", \"/app.py\"]\n";

/// Requests a second, and how many GETs there are at least; an app in Python has a core to itself at some hundreds.
const GETS: (u32, u32) = (100, 400);
const GETS_MIN: (u64, u64) = (10_000, 100_000);
const POSTS: u32 = 10;

pub fn document() -> String {
    std::fs::read_to_string(root().join("examples/web/gateway.toml")).expect("it is there")
}

/// Until the service that puts the document has done so, and ends.
pub fn wait_for_route(lab: &Lab, visit: Visit, says: &str) {
    let mut last = (0, String::new());
    wait_for("the document is in force", PATIENCE, || {
        last = Visits::once(lab, visit.clone());
        // Before, the nodes have nothing there.
        assert!([200, 404].contains(&last.0), "{last:?}");
        last.0 == 200
    });
    assert!(last.1.contains(says), "{last:?}");
    let states = || {
        let args = ["service", "ps", "skep_gateway", "--format", "{{.CurrentState}}"];
        lab.must_docker(lab.manager(), &args)
    };
    wait_for("what puts the document has ended", PATIENCE, || states().starts_with("Complete"));
}

/// The tasks that have answered.
fn tasks(tally: &Tally) -> usize {
    let names = tally.bodies.iter().filter_map(|body| body.split_once(' ').map(|(name, _)| name));
    names.collect::<BTreeSet<_>>().len()
}

#[test]
fn an_app_is_replaced_under_load_and_no_get_fails_whether_it_ends_well_or_not() {
    let test = "a web app replaced under load";
    let Some(lab) = Lab::take(test) else { return };
    let Some(image) = lab.app_image(test, "web", &[APP], LINES) else { return };
    let next =
        lab.app_image(test, "web-next", &[APP], &format!("{LINES}LABEL next=1\n")).expect("as that one");
    let settings = [("SKEP_WEB_IMAGE", &*image)];
    let _more = lab.with_more(&[Path::new(STACK)], Some(&document()), &settings);
    wait_for_route(&lab, Visit::get("/app/page?x=1"), " has GET /page?x=1");

    let holders = lab.holders();
    let gets = Visits::start(&lab, Visit::get("/app/page"), count(GETS.0, GETS.1));
    let post = Visit::post("/app/order", "{\"n\":1}");
    let posts = Visits::start(&lab, post.clone(), POSTS);
    let to_next = ["--update-order", "start-first", "--image", &next];
    assert_eq!(lab.update("skep_web", &to_next), "completed");
    figure("an app that ends well, start-first", format!("{} GETs by then", gets.requests()));
    // Those that come now end at once, whatever they have in hand.
    let to_rude = ["--update-order", "stop-first", "--env-add", "LEAVING_SECONDS=0"];
    assert_eq!(lab.update("skep_web", &to_rude), "completed");
    figure("an app that ends well, stop-first", format!("{} GETs by then", gets.requests()));
    let posts = posts.stop();

    let rude = Visits::start(&lab, post, POSTS);
    assert_eq!(lab.update("skep_web", &["--force"]), "completed");
    let rude = rude.stop();
    wait_for("enough was asked", PATIENCE * 5, || gets.requests() >= count(GETS_MIN.0, GETS_MIN.1));
    let gets = gets.stop();
    figure("GETs of an app that was replaced three times", gets.summary());
    figure("POSTs of it while it ended well", posts.summary());
    figure("POSTs of it while it ended at once", rude.summary());
    let at = format!("{test}, the address at {holders:?} and then {:?}", lab.holders());
    gets.expect_all(200, &at);
    posts.expect_all(200, "POSTs of an app that ends well");
    assert!(tasks(&gets) >= 12, "each task was asked: {}", tasks(&gets));
}
