//! Raw paths: sent as they came, where what is encoded in them opens nothing that another path does not.

use crate::harness::*;

/// A service of raw paths, below a path that is cut and as it is; what has been taken out of it; and the rest.
const RAW: &str = r#"
    services.git.urls = ["http://127.0.0.1:1"]
    services.web.urls = ["http://127.0.0.1:2"]
    consumers.alice = {keys = ["alice-has-this-key-0001"]}
    [routes]
    git = {match = {path = "/git", raw = true}, service = "git"}
    cut = {match = {path = "/cut", raw = true}, service = "git", strip_prefix = true}
    shut = {match.path = "/git/admin", service = "git", maintenance = true}
    one = {match = {exact_path = "/one", raw = true}, service = "git"}
    web = {match.path = "/web", service = "web", auth.keys = true}
"#;

fn routed() -> (Scripted, Scripted, Scripted, Balancer) {
    let (nodes, git, web) = (Scripted::plain("n"), Scripted::plain("g"), Scripted::plain("w"));
    let balancer = Balancer::start(&[nodes.address]);
    balancer.route(RAW, &[("git", &[git.address]), ("web", &[web.address])]);
    (nodes, git, web, balancer)
}

#[test]
fn a_raw_path_is_sent_as_it_came() {
    let (_nodes, git, _web, balancer) = routed();
    for (target, sent) in [
        ("/git/group%2fproject/%7ex?a=%2f..", "/git/group%2fproject/%7ex?a=%2f.."),
        ("/git/%2Gone", ""),
        ("/git/@a%2Fb", "/git/@a%2Fb"),
        ("/git/a%2f", "/git/a%2f"),
        ("/git", "/git"),
        ("/cut/a%2fb/%63", "/a%2fb/%63"),
        ("/cut", "/"),
        ("/one", "/one"),
    ] {
        let answer = balancer.ask(&get_and_close(target));
        match sent {
            "" => assert_eq!(&answer[9..12], "400", "{target}"),
            sent => assert!(answer.ends_with(&format!("g {sent}")), "{target}: {answer}"),
        }
    }
    assert_eq!(git.heads().len(), 7);
}

#[test]
fn what_a_server_may_make_of_a_raw_path_leads_where_no_other_reading_does() {
    let (nodes, git, web, balancer) = routed();
    for target in [
        // Out of its prefix, as a server reads it.
        "/git/..%2fweb",
        "/git/x%2f..%2f..%2fweb/x",
        "/git/%2e%2e%2fweb",
        "/cut/..%2fadmin",
        "/cut/..;%2fadmin",
        // To another host.
        "/cut/%2fhost/x",
        "/cut/%2f%2fhost",
        // Past a route below it.
        "/git%2fadmin",
        "/git/admin%2fx",
        "/git/%61dmin%2fx",
        // Into it by another reading than to the letter.
        "/%67it/x",
        "/git;x/y",
        "/git%2fx",
        "/one%2f",
        // What is not raw has one reading as before.
        "/web%2fx",
        "/web/a%2fb",
        "/other/a%2fb",
        "/git/a%5cb",
        "/git/a%00",
        "/git//a",
    ] {
        let answer = balancer.ask(&get_and_close(target));
        assert_eq!(&answer[9..12], "400", "{target}: {answer}");
        assert!(answer.contains("urn:skep:problem:ambiguous-path"), "{answer}");
    }
    for target in ["/git/admin", "/git/%61dmin/x", "/git/admin;x"] {
        assert_eq!(&balancer.ask(&get_and_close(target))[9..12], "503", "{target}");
    }
    assert_eq!((nodes.heads().len(), git.heads().len(), web.heads().len()), (0, 0, 0));
}
