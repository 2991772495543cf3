//! What the command line, the environment and a file come to, and what is refused.

use std::collections::HashMap;
use std::time::Duration;

use skep_vrrp::Handover;

use super::*;
use crate::core::access_log::Destination;
use crate::kong;
use skep_members::key::KeyRing;

const KEY: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
    let env: HashMap<String, OsString> =
        env.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    parse(["skep-balancer"].iter().chain(args), |name| env.get(name).cloned())
}

fn serve(args: &[&str], env: &[(&str, &str)]) -> ServeConfig {
    match run(args, env) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("no serving configuration: {other:?}"),
    }
}

fn refusal(args: &[&str], env: &[(&str, &str)]) -> String {
    match run(args, env) {
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
        Ok(invocation) => panic!("{args:?} {env:?} was accepted: {invocation:?}"),
    }
}

#[test]
fn with_nothing_given_the_defaults_are_those_of_the_contract() {
    let config = serve(&[], &[]);
    assert_eq!(config.http, "127.0.0.1:8000".parse().unwrap());
    assert_eq!(config.peer, "127.0.0.1:7401".parse().unwrap());
    assert_eq!(config.admin, "127.0.0.1:9401".parse().unwrap());
    assert_eq!((config.https, config.drain), (None, Duration::from_secs(20)));
    assert_eq!(config.access_log, Destination::Stdout);
    assert_eq!(config.settings, crate::core::settings::Settings::default());
}

#[test]
fn every_setting_stands_in_the_help() {
    let help = run(&["--help"], &[]).unwrap_err().to_string();
    for setting in settings::SETTINGS {
        assert!(help.contains(&setting.env()), "{} is not in the help", setting.env());
    }
}

#[test]
fn a_bad_value_is_refused_naming_where_it_came_from() {
    for (flag, env, value) in [
        ("--http", "SKEP_HTTP", "localhost:80"),
        ("--https", "SKEP_HTTPS", "x"),
        ("--seeds", "SKEP_SEEDS", "a b:1"),
        ("--backends", "SKEP_BACKENDS", "host:1"),
        ("--check", "SKEP_CHECK", "healthz"),
        ("--check", "SKEP_CHECK", "/a b"),
        ("--check", "SKEP_CHECK", "/healthz"),
        ("--failure-statuses", "SKEP_FAILURE_STATUSES", "503,200"),
        ("--failure-statuses", "SKEP_FAILURE_STATUSES", "600"),
        ("--cores", "SKEP_CORES", "0"),
        ("--drain", "SKEP_DRAIN", "soon"),
        ("--trusted-proxies", "SKEP_TRUSTED_PROXIES", "10.0.0.0/40"),
        ("--proxy-protocol", "SKEP_PROXY_PROTOCOL", "perhaps"),
        ("--proxy-protocol", "SKEP_PROXY_PROTOCOL", "true"),
        ("--max-body", "SKEP_MAX_BODY", "0"),
        ("--request-memory", "SKEP_REQUEST_MEMORY", "1MiB"),
        ("--cache", "SKEP_CACHE", "0"),
        ("--min-rate", "SKEP_MIN_RATE", "0"),
        ("--upload-timeout", "SKEP_UPLOAD_TIMEOUT", "2h"),
        ("--max-uploads-per-client", "SKEP_MAX_UPLOADS_PER_CLIENT", "0"),
        ("--log-format", "SKEP_LOG_FORMAT", "xml"),
    ] {
        let by_flag = refusal(&[&format!("{flag}={value}")], &[]);
        assert!(by_flag.starts_with(flag), "{by_flag}");
        let by_env = refusal(&[], &[(env, value)]);
        assert!(by_env.starts_with(env), "{by_env}");
    }
    assert!(refusal(&["--cert", "a.pem"], &[]).contains("1 certificates and 0 keys"));
    assert!(refusal(&["--backends=127.0.0.1:1", "--seeds=127.0.0.1:2"], &[]).starts_with("--backends"));
    assert!(refusal(&["--http=127.0.0.1:1", "--admin=127.0.0.1:1"], &[]).contains("both 127.0.0.1:1"));
}

#[test]
fn named_backends_are_asked_for_a_path_and_the_statuses_that_count_are_ones_own() {
    let config =
        serve(&["--backends=127.0.0.1:1", "--check=/healthz?deep", "--failure-statuses=500,503"], &[]);
    assert_eq!(config.check.as_deref(), Some("/healthz?deep"));
    assert_eq!(config.settings.failure_statuses, [500, 503]);
}

#[test]
fn a_bind_beyond_loopback_needs_the_cluster_key_where_there_is_gossip() {
    assert!(refusal(&["--http", "0.0.0.0:80"], &[]).contains("keygen"));
    assert!(refusal(&["--peer", "10.0.0.7:7401"], &[]).contains("keygen"));
    serve(&["--http", "0.0.0.0:80"], &[("SKEP_CLUSTER_KEY", KEY)]);
    serve(&["--http", "0.0.0.0:80", "--backends", "127.0.0.1:1"], &[]);
}

#[test]
fn verbs_ask_the_admin_address_and_take_no_flag_of_serving() {
    let asked = run(&["backends", "--json", "--admin", "0.0.0.0:9"], &[]);
    let Ok(Invocation::Backends { admin, json: true }) = asked else { panic!("{asked:?}") };
    assert_eq!(admin, "127.0.0.1:9".parse().unwrap());
    for (args, expected) in [
        (&["health"][..], HealthOf::Ready),
        (&["health", "--started"], HealthOf::Started),
        (&["health", "--live"], HealthOf::Live),
    ] {
        assert!(matches!(run(args, &[]), Ok(Invocation::Health { of, .. }) if of == expected), "{args:?}");
    }
    assert_eq!(run(&["health", "--live", "--started"], &[]).unwrap_err().exit_code(), 2);
    assert!(refusal(&["--http", "127.0.0.1:1", "health"], &[]).starts_with("--http"));
    for args in [&["--help"][..], &["--version"], &["backends", "--help"]] {
        assert_eq!(run(args, &[]).unwrap_err().exit_code(), 0, "{args:?}");
    }
}

#[test]
fn virtual_addresses_are_settings_of_serving_too_and_their_verb_has_its_own() {
    let vip = ["--vip", "10.0.0.100/24", "--vrrp-interface", "eth0"];
    let config = serve(&vip, &[("SKEP_VRID", "7")]).vrrp.unwrap();
    assert_eq!((config.routers[0].vrid, config.handover), (7, Handover::Socket));
    assert!(serve(&[], &[]).vrrp.is_none());
    let vrid = refusal(&["--vrid=5"], &[]);
    assert!(vrid.starts_with("--vrid") && vrid.contains("--vip"), "{vrid}");
    assert!(refusal(&["--vip=10.0.0.1", "backends"], &[]).starts_with("--vip"));
    assert!(refusal(&["vrrp"], &[]).contains("--vip"));
    let alone = run(&[&["vrrp"], &vip[..]].concat(), &[]);
    assert!(matches!(alone, Ok(Invocation::Vrrp(_))), "{alone:?}");
}

#[test]
fn backends_prove_themselves_in_one_way() {
    let key = &[("SKEP_CLUSTER_KEY", KEY)][..];
    assert_eq!(serve(&[], key).backend_tls, BackendTlsConfig::Off);
    assert_eq!(serve(&["--backend-tls", "cluster"], key).backend_tls, BackendTlsConfig::Cluster);
    serve(&["--backends", "127.0.0.1:1", "--backend-tls", "cluster"], &[]);
    serve(&["--backends", "10.0.0.1:1", "--backend-tls", "cluster"], key);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&file, made.cert.pem()).unwrap();
    let fixed = ["--backends", "127.0.0.1:1", "--backend-ca", file.to_str().unwrap()];
    assert_eq!(serve(&fixed, &[]).backend_tls, BackendTlsConfig::Authorities(file.clone()));
    std::fs::write(&file, "no certificate").unwrap();
    assert!(refusal(&fixed, &[]).contains("has no certificate"));
    for (args, named) in [
        (&["--backend-tls", "on"][..], "--backend-tls"),
        (&["--backend-ca", "ca.pem"], "--backend-ca"),
        (&["--backends", "127.0.0.1:1", "--backend-ca", "/does/not/exist"], "--backend-ca"),
        (&["--backends", "10.0.0.1:1", "--backend-tls", "cluster"], "--cluster-key-file"),
        (
            &["--backends", "127.0.0.1:1", "--backend-ca", "ca.pem", "--backend-tls", "cluster"],
            "--backend-ca",
        ),
    ] {
        let said = refusal(args, &[]);
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn a_verb_that_changes_something_takes_the_operators_token_and_one_that_shows_something_does_not() {
    let token = &[("SKEP_OPERATOR_TOKEN", "a-token-of-operators")][..];
    let operate = |args: &[&str]| match run(args, token) {
        Ok(Invocation::Operate { verb, token, .. }) => (verb, token),
        other => panic!("{args:?}: {other:?}"),
    };
    let backend = || "a".to_owned();
    let (verb, given) = operate(&["weigh", "a", "0.5"]);
    assert_eq!(verb, OperatorVerb::Weigh { backend: backend(), weight: 0.5 });
    assert_eq!(given.as_ref().unwrap(), "Bearer a-token-of-operators");
    assert!(!format!("{given:?}").contains("a-token"), "it is not shown");
    let length = Some(Duration::from_secs(7200));
    assert_eq!(operate(&["eject", "a", "--for", "2h"]).0, OperatorVerb::Eject { backend: backend(), length });
    assert_eq!(operate(&["log-level", "--reset"]).0, OperatorVerb::SetLevel { filter: None });
    for (args, verb) in
        [(["log-level"], OperatorVerb::ShowLevel), (["retry-budget"], OperatorVerb::RetryBudget)]
    {
        assert_eq!(operate(&args), (verb, None));
    }
    let short = run(&["drain", "a"], &[("SKEP_OPERATOR_TOKEN", "short")]).unwrap_err().to_string();
    assert!(short.contains("SKEP_OPERATOR_TOKEN") && !short.contains("short"), "{short}");
}

#[test]
fn a_gateway_without_nodes_has_no_gossip_and_needs_no_key() {
    let far = ["--http", "0.0.0.0:80", "--gateway", "gateway.toml"];
    let alone = serve(&far, &[]);
    assert!(!alone.has_nodes() && !alone.has_gossip());
    let fixed = serve(&[&far[..], &["--backends", "10.0.0.1:80"]].concat(), &[]);
    assert!(fixed.has_nodes() && !fixed.has_gossip());
    let key = ("SKEP_CLUSTER_KEY", KEY);
    let seeded = serve(&[&far[..], &["--seeds", "a:1"]].concat(), &[key]);
    assert!(seeded.has_nodes() && seeded.has_gossip());
    refusal(&[&far[..], &["--seeds", "a:1"]].concat(), &[]);
}

#[test]
fn the_door_for_kongs_clients_has_a_token_a_cluster_and_names_beyond_loopback() {
    let token = [("SKEP_KONG_TOKEN", "a-gateway-token-for-tests")];
    let seeds = ["--seeds", "127.0.0.1:7400"];
    let with = |more: &[&'static str]| [&["--kong", "127.0.0.1:8001"][..], &seeds, more].concat();
    assert!(serve(&seeds, &token).kong.is_none());
    let config = serve(&with(&["--kong-alias", "Reader:5000=skep,writer:80=skep"]), &token);
    let kong = config.kong.clone().unwrap();
    assert_eq!(kong.aliases, kong::Aliases::of(&["reader:5000=skep".into(), "writer=skep".into()]).unwrap());
    assert!(!format!("{config:?}").contains("a-gateway-token-for-tests"));
    assert!(refusal(&with(&[]), &[]).contains("--kong-token-file"));
    assert!(refusal(&["--kong", "127.0.0.1:8001", "--backends", "127.0.0.1:1"], &token).contains("--seeds"));
    assert!(refusal(&with(&["--gateway", "x.toml"]), &token).contains("--gateway"));
    for alias in ["reader:5000", "reader:5000=web", "=skep", "http://reader=skep"] {
        assert!(refusal(&with(&["--kong-alias", alias]), &token).contains("--kong-alias"), "{alias}");
    }
    assert!(refusal(&with(&["--kong-names", "a b"]), &token).contains("--kong-names"));
    let key = [token[0], ("SKEP_CLUSTER_KEY", KEY)];
    let far = ["--kong", "0.0.0.0:8001", "--seeds", "127.0.0.1:7400"];
    assert!(refusal(&far, &key).contains("--kong-names"));
    assert_eq!(serve(&[&far[..], &["--kong-names", "Kong"]].concat(), &key).kong.unwrap().names, ["kong"]);
    assert!(refusal(&[&far[..], &["--kong-names", "kong"]].concat(), &token).contains("--kong"));
    assert!(refusal(&with(&["--http", "127.0.0.1:8001"]), &token).contains("--kong"));
    // With an edge key nodes cannot be told from who says to be one.
    let edge = KeyRing::parse(KEY).unwrap().edge_lines().remove(0);
    for keys in [edge.clone(), format!("{KEY}\n{edge}")] {
        let env = [token[0], ("SKEP_CLUSTER_KEY", &keys)];
        assert!(refusal(&with(&[]), &env).contains("cluster key"));
    }
    assert!(serve(&with(&[]), &key).kong.is_some());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token[0].1).unwrap();
    let warnings = |mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(file.path(), mode).unwrap();
        let file = [("SKEP_KONG_TOKEN_FILE", file.path().to_str().unwrap())];
        serve(&with(&[]), &file).warnings
    };
    assert_eq!(warnings(0o600), [""; 0]);
    assert!(matches!(&*warnings(0o644), [one] if one.contains("readable by every user")));
}
