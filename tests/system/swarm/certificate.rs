//! A certificate of one's own, as secrets of the Swarm.

use skep_kit::effort::long;
use skep_kit::swarm::lab::{ADDRESS, Lab};
use skep_kit::swarm::traffic::under_traffic;

const NAME: &str = "skep.example";
const SECRETS: [&str; 2] = ["skep_certificate", "skep_certificate_key"];

#[test]
fn balancers_take_a_certificate_that_is_a_secret_without_a_failed_request() {
    let Some(lab) = Lab::take("a certificate of one's own") else { return };
    lab.with_stack();
    forget_certificates(&lab);
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("a certificate can be made");
    let texts = [made.cert.pem(), made.signing_key.serialize_pem()];
    let folder = lab.folder();
    for (secret, text) in SECRETS.into_iter().zip(texts) {
        let file = folder.join(secret);
        std::fs::write(&file, text).expect("the lab's folder is writable");
        lab.must_docker(lab.manager(), &["secret", "create", secret, file.to_str().expect("text")]);
    }
    // One that knows no certificate but this.
    let ask = || {
        let chain = folder.join(SECRETS[0]);
        let chain = chain.to_str().expect("text");
        let (to, url) = (format!("{NAME}:443:{ADDRESS}"), format!("https://{NAME}/-/ready"));
        lab.run(&["client", "curl", "-fsS", "-m", "5", "--cacert", chain, "--resolve", &to, &url])
    };
    let refused = ask().expect_err("a certificate that signs itself is none that was asked for");
    assert!(refused.contains("certificate"), "{refused}");

    let ledger = under_traffic(&lab, "a certificate given", |_| lab.deploy());
    ask().unwrap_or_else(|error| panic!("{error}"));
    ledger.expect_no_failure("a certificate given");
    if !long() {
        return;
    }

    let ledger = under_traffic(&lab, "a certificate taken away", |_| forget_certificates(&lab));
    ask().expect_err("the balancers have a certificate of their own again");
    ledger.expect_no_failure("a certificate taken away");
}

/// Deploys without them, and takes them out of the Swarm, if they are there.
fn forget_certificates(lab: &Lab) {
    let manager = lab.manager();
    let is_there = |secret: &&str| lab.docker(manager, &["secret", "inspect", secret]).is_ok();
    let there: Vec<_> = SECRETS.into_iter().filter(is_there).collect();
    if !there.is_empty() {
        lab.deploy_with(&[("SKEP_CERT_SECRET", "")]);
        lab.must_docker(manager, &[&["secret", "rm"], &there[..]].concat());
    }
}
