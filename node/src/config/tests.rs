use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use skep_base::log::LogConfig;
use skep_members::key::KeyRing;

use super::*;
use crate::http::HttpTls;

const KEY: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const NO_ENV: &[(&str, &str)] = &[];

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
    let env: HashMap<String, OsString> =
        env.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    parse(["skep-node"].iter().chain(args), |name| env.get(name).cloned())
}

fn serve(args: &[&str], env: &[(&str, &str)]) -> ServeConfig {
    match run(args, env) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("no serving configuration: {other:?}"),
    }
}

fn verb(args: &[&str], env: &[(&str, &str)]) -> Verb {
    match run(args, env) {
        Ok(Invocation::Verb(verb)) => verb,
        other => panic!("no verb: {other:?}"),
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

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn with_nothing_given_the_defaults_are_those_of_the_contract() {
    let config = serve(&[], NO_ENV);
    assert_eq!(config.http, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.peer, "127.0.0.1:7400".parse().unwrap());
    assert_eq!(config.admin, "127.0.0.1:9400".parse().unwrap());
    assert_eq!(config.advertise, None);
    assert_eq!(config.data, std::path::Path::new("./data"));
    assert!(config.seeds.is_empty());
    assert_eq!((config.expect, config.voters), (1, 5));
    assert_eq!(config.cluster_key, None);
    assert_eq!(config.log, LogConfig { filter: "info".into(), format: None });
    assert_eq!(config.max_body_bytes, 1 << 20);
    assert_eq!(config.request_timeout, Duration::from_secs(10));
    assert_eq!(config.http_threads, None, "by the number of cores");
    assert_eq!(serve(&["--http-threads=0"], NO_ENV).http_threads, Some(0));
    assert_eq!(
        (config.http_tls, config.warnings.len()),
        (HttpTls::Also, 0),
        "balancers are told of the gateway"
    );
}

#[test]
fn a_node_that_takes_no_tls_warns_that_balancers_are_told_nothing() {
    let config = serve(&["--http-tls=off"], NO_ENV);
    assert!(
        matches!(&*config.warnings, [warning] if warning.contains("--http-tls")),
        "{:?}",
        config.warnings
    );
    assert!(serve(&["--http-tls=only"], NO_ENV).warnings.is_empty());
}

#[test]
fn a_document_is_checked_whatever_is_said_of_where_to_ask() {
    let env = [("SKEP_ADMIN", "nowhere"), ("SKEP_OPERATOR_TOKEN", "short")];
    assert!(matches!(verb(&["config", "check", "a.toml"], &env), Verb::CheckConfig { .. }));
    assert_eq!(
        verb(&["config", "key", "alice"], &env),
        Verb::MakeKey { consumer: "alice".into(), json: false }
    );
    assert_eq!(
        verb(&["config", "password", "alice", "--user", "a"], &env),
        Verb::KeepPassword { consumer: "alice".into(), user: Some("a".into()), json: false }
    );
    refusal(&["config", "diff", "a.toml"], &env);
}

#[test]
fn a_document_is_asked_for_at_a_name_as_well() {
    let at = |admin: &str| match verb(&["config", "export", "--admin", admin], NO_ENV) {
        Verb::Config { admin, .. } => admin.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(at("tasks.node:9400"), "tasks.node:9400");
    assert_eq!(at("0.0.0.0:9400"), "127.0.0.1:9400", "an address that binds all is at loopback");
    for nowhere in ["tasks.node", "tasks.node:0", "http://tasks.node:9400"] {
        let refused = refusal(&["config", "export", "--admin", nowhere], NO_ENV);
        assert!(refused.contains("--admin"), "{refused}");
    }
}

#[test]
fn every_setting_and_verb_stands_in_the_help() {
    let help = command_for_docs().render_long_help().to_string();
    for setting in settings::SETTINGS {
        assert!(help.contains(&setting.env()), "{} is not in the help", setting.env());
    }
    for text in ["127.0.0.1:8080", "127.0.0.1:7400", "127.0.0.1:9400", "./data", "keygen", "recover"] {
        assert!(help.contains(text), "{text} is not in the help");
    }
}

#[test]
fn a_bad_value_is_refused_by_the_name_it_came_under() {
    let cases: &[(&str, &str, &str)] = &[
        ("--http", "SKEP_HTTP", "8080"),
        ("--http", "SKEP_HTTP", "127.0.0.1:99999"),
        ("--peer", "SKEP_PEER", "localhost:7400"),
        ("--admin", "SKEP_ADMIN", "::1:9400"),
        ("--advertise", "SKEP_ADVERTISE", "0.0.0.0:7400"),
        ("--advertise", "SKEP_ADVERTISE", "node-1"),
        ("--seeds", "SKEP_SEEDS", "node-1"),
        ("--seeds", "SKEP_SEEDS", "a:1,b:0"),
        ("--seeds", "SKEP_SEEDS", "a b:1"),
        ("--expect", "SKEP_EXPECT", "0"),
        ("--expect", "SKEP_EXPECT", "-1"),
        ("--expect", "SKEP_EXPECT", "three"),
        ("--voters", "SKEP_VOTERS", "32"),
        ("--log", "SKEP_LOG", "a=b=c"),
        ("--log-format", "SKEP_LOG_FORMAT", "xml"),
        ("--max-body", "SKEP_MAX_BODY", "0"),
        ("--max-body", "SKEP_MAX_BODY", "9MiB"),
        ("--max-body", "SKEP_MAX_BODY", "18446744073709551615MiB"),
        ("--max-body", "SKEP_MAX_BODY", "1 é"),
        ("--request-timeout", "SKEP_REQUEST_TIMEOUT", "0"),
        ("--dead-grace", "SKEP_DEAD_GRACE", "soon"),
        ("--http-threads", "SKEP_HTTP_THREADS", "257"),
        ("--http-threads", "SKEP_HTTP_THREADS", "-1"),
        ("--config", "SKEP_CONFIG", "/no/such/file.toml"),
        ("--cluster-key-file", "SKEP_CLUSTER_KEY_FILE", "/no/such/key"),
    ];
    for (flag, env, value) in cases {
        let by_flag = refusal(&[&format!("{flag}={value}")], NO_ENV);
        assert!(by_flag.starts_with(flag), "{by_flag}");
        let by_env = refusal(&[], &[(env, value)]);
        assert!(by_env.starts_with(env), "{by_env}");
    }
    assert!(refusal(&["--no-such-flag"], NO_ENV).contains("--no-such-flag"));
    assert!(refusal(&["no-such-verb"], NO_ENV).contains("no-such-verb"));
}

#[test]
fn a_bind_beyond_loopback_without_a_key_is_refused_with_what_to_do() {
    for args in [
        ["--peer", "0.0.0.0:7400"],
        ["--http", "[::]:8080"],
        ["--admin", "10.0.0.7:9400"],
        ["--advertise", "10.0.0.7"],
    ] {
        let said = refusal(&args, NO_ENV);
        assert!(said.starts_with(args[0]) && said.contains("keygen"), "{said}");
    }
    serve(&["--http", "[::1]:8080", "--peer", "127.0.0.2:7400"], NO_ENV);
    let config = serve(&["--peer", "0.0.0.0:7400"], &[("SKEP_CLUSTER_KEY", KEY)]);
    assert_eq!(config.cluster_key, Some(KeyRing::parse(KEY).unwrap().into()));
}

#[test]
fn a_key_file_that_everyone_reads_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let key = file(KEY);
    let args = ["--cluster-key-file", key.path().to_str().unwrap()];
    std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(serve(&args, NO_ENV).warnings.is_empty());
    std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(serve(&args, NO_ENV).warnings.len(), 1);
}

#[test]
fn two_listeners_on_one_address_are_refused_but_port_zero_is_free() {
    let said = refusal(&["--http", "127.0.0.1:9400"], NO_ENV);
    assert!(said.contains("--http") && said.contains("--admin"), "{said}");
    serve(&["--http=127.0.0.1:0", "--peer=127.0.0.1:0", "--admin=127.0.0.1:0"], NO_ENV);
}

#[test]
fn sizes_and_durations_are_read_with_their_units() {
    let config = serve(&["--max-body", "512KiB", "--request-timeout", "1m 30s", "--dead-grace", "2"], NO_ENV);
    assert_eq!(config.max_body_bytes, 512 * 1024);
    assert_eq!(config.request_timeout, Duration::from_secs(90));
    assert_eq!(config.dead_grace, Duration::from_secs(2));
}

#[test]
fn a_verb_takes_the_admin_address_before_it_behind_it_or_from_the_environment() {
    let expected = Verb::Members { admin: "127.0.0.1:9401".parse().unwrap(), json: true };
    assert_eq!(verb(&["--admin", "127.0.0.1:9401", "members", "--json"], NO_ENV), expected);
    assert_eq!(verb(&["members", "--json", "--admin", "127.0.0.1:9401"], NO_ENV), expected);
    assert_eq!(verb(&["members", "--json"], &[("SKEP_ADMIN", "0.0.0.0:9401")]), expected);
}

#[test]
fn every_verb_is_understood() {
    let admin = "127.0.0.1:9400".parse().unwrap();
    let id = "00000000000000ff".parse().unwrap();
    assert_eq!(verb(&["keygen"], NO_ENV), Verb::Keygen { json: false });
    let keys = || KeyRing::parse(KEY).unwrap();
    let key = file(KEY);
    let path = key.path().to_str().unwrap();
    let env = &[("SKEP_CLUSTER_KEY", KEY)][..];
    assert_eq!(verb(&["edge-key", path], NO_ENV), Verb::EdgeKey { keys: keys(), json: false });
    assert_eq!(verb(&["edge-key", "--json"], env), Verb::EdgeKey { keys: keys(), json: true });
    assert_eq!(verb(&["worker-token", path], NO_ENV), Verb::WorkerToken { keys: keys(), json: false });
    assert_eq!(verb(&["worker-token", "--json"], env), Verb::WorkerToken { keys: keys(), json: true });
    assert_eq!(verb(&["health"], NO_ENV), Verb::Health { admin, of: HealthOf::Ready, json: false });
    assert_eq!(verb(&["peers"], NO_ENV), Verb::Peers { admin, json: false });
    let mend = |shown_ms, json| Verb::MendTime { admin, shown_ms, json };
    assert_eq!(verb(&["clock", "mend"], NO_ENV), mend(None, false));
    for time in ["2023-11-14T22:13:20.007Z", "2023-11-14T23:13:20.007+01:00", "1700000000007"] {
        let set = ["clock", "mend", "--yes", "--agreed", time, "--json"];
        assert_eq!(verb(&set, NO_ENV), mend(Some(1_700_000_000_007), true), "{time}");
    }
    assert!(refusal(&["clock", "mend", "--yes"], NO_ENV).contains("--agreed"));
    assert!(refusal(&["clock", "mend", "--yes", "--agreed", "yesterday"], NO_ENV).contains("yesterday"));
    assert!(refusal(&["clock", "mend", "--agreed", "1700000000007"], NO_ENV).contains("--yes"));
    let tasks = |verb, json| Verb::Tasks { admin, verb, json };
    assert_eq!(verb(&["queues"], NO_ENV), tasks(TasksVerb::Queues, false));
    assert_eq!(verb(&["workers", "--json"], NO_ENV), tasks(TasksVerb::Workers, true));
    let (queue, state) = ("q".to_owned(), Some("dead".to_owned()));
    let of = TasksVerb::Tasks { queue, state, limit: 7, after: None };
    assert_eq!(verb(&["tasks", "q", "--state", "dead", "--limit", "7"], NO_ENV), tasks(of, false));
    assert!(refusal(&["tasks", "a b"], NO_ENV).contains("QUEUE"));
    assert!(refusal(&["tasks", "q", "--state", "lost"], NO_ENV).contains("lost"));
    assert_eq!(verb(&["transfer-leader"], NO_ENV), Verb::TransferLeader { admin, to: None, json: false });
    assert_eq!(
        verb(&["transfer-leader", "00000000000000ff"], NO_ENV),
        Verb::TransferLeader { admin, to: Some(id), json: false }
    );
    assert_eq!(
        verb(&["force-leave", "00000000000000ff", "--json"], NO_ENV),
        Verb::ForceLeave { admin, id, json: true }
    );
    assert_eq!(
        verb(&["snapshot", "save", "x.snap"], NO_ENV),
        Verb::Snapshot(SnapshotVerb::Save { admin, file: "x.snap".into(), json: false })
    );
    assert_eq!(
        verb(&["snapshot", "inspect", "x.snap", "--json"], NO_ENV),
        Verb::Snapshot(SnapshotVerb::Inspect { file: "x.snap".into(), json: true })
    );
    assert_eq!(
        verb(&["snapshot", "restore", "x.snap"], NO_ENV),
        Verb::Snapshot(SnapshotVerb::Restore { admin, file: "x.snap".into(), json: false })
    );
    assert_eq!(
        verb(&["recover", "--data", "d", "--yes"], NO_ENV),
        Verb::Recover { data: "d".into(), yes: true, json: false }
    );
}

#[test]
fn a_verb_with_a_bad_id_or_a_flag_of_serving_is_refused() {
    assert!(refusal(&["force-leave", "7"], NO_ENV).starts_with("ID: \"7\""));
    assert!(refusal(&["force-leave"], NO_ENV).contains("<ID>"));
    assert!(refusal(&["edge-key"], NO_ENV).contains("name the file"));
    assert!(refusal(&["edge-key", "/no/such/key"], NO_ENV).starts_with("FILE: /no/such/key"));
    let edge = KeyRing::parse(KEY).unwrap().edge_lines().remove(0);
    assert!(refusal(&["edge-key", file(&edge).path().to_str().unwrap()], NO_ENV).contains("itself"));
    assert!(refusal(&[], &[("SKEP_CLUSTER_KEY", &edge)]).contains("itself"));
    assert!(refusal(&["--http", "127.0.0.1:1", "members"], NO_ENV).starts_with("--http"));
}

#[test]
fn help_and_version_end_with_status_0() {
    for args in [&["--help"][..], &["--version"], &["-h"], &["snapshot", "save", "--help"]] {
        assert_eq!(run(args, NO_ENV).unwrap_err().exit_code(), 0, "{args:?}");
    }
    let version = run(&["--version"], NO_ENV).unwrap_err().to_string();
    assert_eq!(version.trim(), concat!("skep-node ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_kept_and_who_operates_is_read_and_bounded() {
    let none = serve(&[], NO_ENV);
    assert_eq!((none.retention.age, none.retention.bytes), (None, None));
    let config = serve(&["--retain-age", "30days", "--retain-bytes", "50GiB"], NO_ENV);
    assert_eq!(config.retention.age, Some(Duration::from_secs(30 * 24 * 3600)));
    assert_eq!(config.retention.bytes, Some(50 << 30));
    for (flag, wrong) in
        [("--retain-age", "0s"), ("--retain-age", "old"), ("--retain-bytes", "1"), ("--retain-bytes", "5XB")]
    {
        assert!(refusal(&[flag, wrong], NO_ENV).contains(flag));
    }
    let token = "0123456789abcdef-token";
    let shown = format!("{:?}", serve(&[], &[("SKEP_OPERATOR_TOKEN", token)]));
    assert!(shown.contains("OperatorToken(set)") && !shown.contains(token), "{shown}");
    let short = refusal(&[], &[("SKEP_OPERATOR_TOKEN", "short")]);
    assert!(
        short.contains("SKEP_OPERATOR_TOKEN") && short.contains("16") && !short.contains("short"),
        "{short}"
    );
    let both = [("SKEP_OPERATOR_TOKEN", token), ("SKEP_OPERATOR_TOKEN_FILE", "x")];
    assert!(refusal(&[], &both).contains("SKEP_OPERATOR_TOKEN_FILE"));
    let gateway = "0123456789abcdef-gateway";
    let shown = format!("{:?}", serve(&[], &[("SKEP_GATEWAY_TOKEN", gateway)]));
    assert!(shown.contains("GatewayToken(set)") && !shown.contains(gateway), "{shown}");
    let same = refusal(&[], &[("SKEP_OPERATOR_TOKEN", token), ("SKEP_GATEWAY_TOKEN", token)]);
    assert!(same.contains("it is the operators' token") && !same.contains(token), "{same}");
}

#[test]
fn how_long_a_key_is_remembered_is_bounded_below_and_above() {
    assert_eq!(serve(&[], NO_ENV).idempotency_for, Duration::from_secs(24 * 3600));
    let config = serve(&["--idempotency-for", "7days"], NO_ENV);
    assert_eq!(config.idempotency_for, Duration::from_secs(7 * 24 * 3600));
    for wrong in ["14m", "31days", "long"] {
        assert!(refusal(&["--idempotency-for", wrong], NO_ENV).contains("--idempotency-for"));
    }
}
