//! Kong's lines in the stack, `docker-stack.r1.yml`, at services that have the names that stand there.

use std::path::Path;
use std::time::Instant;

use skep_kit::effort::figure;
use skep_kit::folders::root;
use skep_kit::swarm::lab::{ADDRESS, HOSTS, Lab, PATIENCE};
use skep_kit::wait::wait_for;

/// The lines of Kong's guides, where the door is called `kong`.
const LINES: [&str; 2] = [
    "curl -s -i -X POST --url http://kong:8001/apis/ --data name=reader --data target_url=http://reader:5000 \
     --data path=/read",
    "curl -s -i -X POST --url http://kong:8001/apis/ --data name=writer --data target_url=http://writer:3000 \
     --data path=/write",
];

/// By a container in the door's network.
fn at_the_door(lab: &Lab, image: &str, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    lab.must_docker(lab.manager(), &[&["run", "--rm", "--network", "skep_kong", image], &words[..]].concat())
}

/// By a client on the LAN, as users do it.
fn client(lab: &Lab, args: &[&str], path: &str) -> Result<String, String> {
    let url = format!("http://{ADDRESS}{path}");
    lab.run(&[&["client", "curl", "-fsS", "-m", "5"], args, &[&url]].concat())
}

fn write_and_read(lab: &Lab, what: &str) {
    client(lab, &["-X", "POST", "--data", what], "/write").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(client(lab, &[], "/read").as_deref(), Ok(what));
}

#[test]
fn kongs_lines_lead_to_a_reader_and_a_writer_also_after_everything_was_started_anew() {
    let test = "Kong's lines in the stack";
    let Some(lab) = Lab::take(test) else { return };
    let Some(image) = lab.app_image(test, "parts", &["tests/system/swarm/parts.py"], "") else { return };
    let files = [Path::new("docker-stack.r1.yml"), &root().join("tests/system/swarm/parts.yml")];
    let _more = lab.with_more(&files, None, &[("SKEP_WEB_IMAGE", &image), ("SKEP_KONG_ALIAS", "")]);
    // A document is kept once the members have agreed to that.
    wait_for("the first line makes an API", PATIENCE, || {
        let said = at_the_door(&lab, &image, LINES[0]);
        assert!(
            ["201", "503"].iter().any(|status| said.starts_with(&format!("HTTP/1.1 {status}"))),
            "{said}"
        );
        said.starts_with("HTTP/1.1 201")
    });
    let said = at_the_door(&lab, &image, LINES[1]);
    assert!(said.starts_with("HTTP/1.1 201") && said.contains("\"name\":\"writer\""), "{said}");
    write_and_read(&lab, "hello");
    write_and_read(&lab, "hello again");

    let begun = Instant::now();
    std::thread::scope(|scope| {
        for host in 1..=HOSTS {
            let lab = &lab;
            scope.spawn(move || {
                let ids = lab.must_docker(host, &["ps", "-q", "-f", "name=skep_"]);
                let ids: Vec<&str> = ids.split_whitespace().collect();
                lab.must_docker(host, &[&["kill", "-s", "KILL"], &ids[..]].concat());
            });
        }
    });
    lab.settle(3);
    wait_for("the writer and the reader are back", PATIENCE, || {
        client(&lab, &["-X", "POST", "--data", "back"], "/write").is_ok()
    });
    figure("Kong's routes after everything was killed", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    write_and_read(&lab, "hello");
    write_and_read(&lab, "hello again");
    let said = at_the_door(&lab, &image, "curl -fsS http://kong:8001/apis/");
    assert!(["reader", "writer"].iter().all(|name| said.contains(&format!("\"name\":\"{name}\""))), "{said}");
}
