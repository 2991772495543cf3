use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use super::*;
use crate::log::LogFormat;

const NO_ENV: &[(&str, &str)] = &[];

const HTTP: Setting = Setting::serving("http", "IP:PORT", "127.0.0.1:8080", "");
const ADMIN: Setting = Setting::everywhere("admin", "IP:PORT", "127.0.0.1:9400", "");
const EXPECT: Setting = Setting::serving("expect", "N", "1", "");
const MAX_BODY: Setting = Setting::serving("max-body", "SIZE", "1MiB", "");
const TIMEOUT: Setting = Setting::serving("request-timeout", "DURATION", "10s", "");
const PEERS: Setting = Setting::serving("peers", "HOST:PORT,...", "none", "");
const TOKEN: Setting = Setting { name: "token", kind: Kind::Secret, value: "", default: "none", help: "" };
const TOKEN_FILE: Setting = Setting::serving("token-file", "FILE", "none", "or SKEP_TOKEN itself");
const SWITCH: Setting = Setting::serving("switch", "BOOL", "false", "");

const SETTINGS: &[&Setting] = &[
    &HTTP,
    &ADMIN,
    &EXPECT,
    &MAX_BODY,
    &TIMEOUT,
    &SWITCH,
    &PEERS,
    &TOKEN,
    &TOKEN_FILE,
    &LOG,
    &LOG_FORMAT,
    &CONFIG,
];

#[derive(Debug, Subcommand)]
enum Verb {
    /// Ask
    Ask(Output),
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<(Layers, Option<Verb>), ConfigError> {
    let env: HashMap<String, OsString> =
        env.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    let args = ["program"].iter().chain(args);
    parse(Command::new("program"), SETTINGS, args, &|name| env.get(name).cloned())
}

fn layers(args: &[&str], env: &[(&str, &str)]) -> Layers {
    let (layers, verb) = run(args, env).unwrap();
    assert!(verb.is_none());
    layers
}

fn said<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let toml = file("expect = 3\nmax_body = 3\nrequest_timeout = \"3s\"\npeers = [\"a:1\", \"b:2\"]\n");
    let path = toml.path().to_str().unwrap();
    let env = [("SKEP_EXPECT", "4"), ("SKEP_MAX_BODY", "4"), ("SKEP_CONFIG", path)];
    let layers = layers(&["--expect", "5"], &env);
    assert_eq!(layers.count(&EXPECT, 9).unwrap(), 5);
    assert_eq!(layers.size(&MAX_BODY, 9).unwrap(), 4);
    assert_eq!(layers.duration(&TIMEOUT).unwrap(), Duration::from_secs(3));
    assert_eq!(layers.get(&PEERS).unwrap().text, "a:1,b:2");
    assert_eq!(layers.address(&HTTP).unwrap(), "127.0.0.1:8080".parse().unwrap());
}

#[test]
fn an_error_names_the_layer_that_counted() {
    let toml = file("expect = 0");
    let path = toml.path().to_str().unwrap();
    let expect = |args: &[&str], env: &[(&str, &str)]| said(layers(args, env).count(&EXPECT, 9));
    assert!(expect(&["--expect=0"], NO_ENV).starts_with("--expect: "));
    assert!(expect(&[], &[("SKEP_EXPECT", "ten")]).starts_with("SKEP_EXPECT: "));
    assert!(expect(&["--config", path], NO_ENV).starts_with(&format!("expect in {path}: ")));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert!(layers(&[], &[("SKEP_EXPECT", "")]).get(&EXPECT).is_none());
}

#[test]
fn the_help_has_each_settings_flag_variable_and_default() {
    let help = command::<Verb>(Command::new("program"), SETTINGS).render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        let (env, default) = (setting.env(), format!("[default: {}]", setting.default));
        assert!(help.contains(&env), "{env} is not in the help");
        if setting.has_flag() {
            assert!(help.contains(&setting.flag()) && help.contains(&default), "{}: {help}", setting.name);
        }
    }
    assert!(!help.contains("--token "), "a secret has a flag");
}

#[test]
fn a_bad_file_is_refused_naming_file_and_key() {
    for (text, expected) in [
        ("htttp = \"127.0.0.1:1\"", "htttp"),
        ("expect = 1.5", "expect"),
        ("peers = [1]", "peers"),
        ("= 1", "TOML"),
        ("token = \"x\"", "token_file"),
        ("config = \"x\"", "config"),
        ("\"\" = \"x\"", "no such setting"),
    ] {
        let toml = file(text);
        let path = toml.path().to_str().unwrap();
        let said = said(run(&["--config", path], NO_ENV));
        assert!(said.starts_with("--config") && said.contains(expected) && said.contains(path), "{said}");
    }
    let large = file(&"#".repeat(65 * 1024));
    assert!(said(run(&["--config", large.path().to_str().unwrap()], NO_ENV)).contains("larger"));
    assert!(said(run(&[], &[("SKEP_CONFIG", "/no/such/file")])).starts_with("SKEP_CONFIG"));
}

#[test]
fn an_address_that_others_reach_is_refused_by_the_name_it_came_under() {
    let layers = layers(&["--http", "[::]:8080"], NO_ENV);
    let of = |text: &str| Some(text.parse().unwrap());
    require_key(&layers, &[(&HTTP, of("::1")), (&ADMIN, of("127.9.9.9")), (&EXPECT, None)]).unwrap();
    require_key(&layers, &[(&HTTP, of("::ffff:127.0.0.1"))]).unwrap();
    let said = said(require_key(&layers, &[(&ADMIN, of("127.0.0.1")), (&HTTP, of("::"))]));
    assert!(said.starts_with("--http: ::") && said.contains("keygen"), "{said}");
}

#[test]
fn two_listeners_on_one_address_are_refused_but_port_zero_is_free() {
    let layers = layers(&[], &[("SKEP_HTTP", "127.0.0.1:9400")]);
    let (http, admin) = (layers.address(&HTTP).ok(), layers.address(&ADMIN).ok());
    let said = said(require_distinct(&layers, &[(&HTTP, http), (&TIMEOUT, None), (&ADMIN, admin)]));
    assert!(said.contains("SKEP_HTTP and --admin are both 127.0.0.1:9400"), "{said}");
    let any = Some("127.0.0.1:0".parse().unwrap());
    require_distinct(&layers, &[(&HTTP, any), (&ADMIN, any)]).unwrap();
}

#[test]
fn values_are_read_with_their_units_and_within_their_bounds() {
    assert_eq!(values::size("512KiB", 1 << 20), Ok(512 * 1024));
    assert_eq!(values::size("1MiB", 1 << 20), Ok(1 << 20));
    for text in ["0", "2MiB", "18446744073709551615MiB", "1 é", "", "-1", "1kib"] {
        assert!(values::size(text, 1 << 20).is_err(), "{text}");
    }
    assert_eq!(values::duration("1m 30s"), Ok(Duration::from_secs(90)));
    assert_eq!(values::duration("2"), Ok(Duration::from_secs(2)));
    for text in ["0", "99ms", "2h", "soon", "-1s"] {
        assert!(values::duration(text).is_err(), "{text}");
    }
    assert_eq!(values::count("9", 9), Ok(9));
    assert!(values::count("10", 9).is_err() && values::count("0", 9).is_err());
    assert!(values::list(&"a,".repeat(257), |item| Ok(item.to_owned())).is_err());
}

#[test]
fn a_switch_is_on_where_it_stands_by_itself() {
    for (args, expected) in
        [(&["--switch"][..], true), (&["--switch", "true"], true), (&["--switch", "off"], false)]
    {
        let layers = layers(args, NO_ENV);
        assert_eq!(layers.value(&SWITCH, values::switch).unwrap(), expected, "{args:?}");
    }
}

#[test]
fn a_files_switch_may_be_a_boolean() {
    let toml = file("switch = true");
    let layers = layers(&["--config", toml.path().to_str().unwrap()], NO_ENV);
    assert!(layers.value(&SWITCH, values::switch).unwrap());
}

#[test]
fn what_is_logged_is_checked_before_there_is_a_log() {
    let given = layers(&["--log", "debug,a=trace", "--log-format", "json"], NO_ENV);
    let expected = LogConfig { filter: "debug,a=trace".into(), format: Some(LogFormat::Json) };
    assert_eq!(log(&given).unwrap(), expected);
    assert!(said(log(&layers(&["--log", "a=b=c"], NO_ENV))).starts_with("--log: "));
    assert!(said(log(&layers(&[], &[("SKEP_LOG_FORMAT", "xml")]))).starts_with("SKEP_LOG_FORMAT: "));
}

#[test]
fn a_verb_takes_shared_settings_before_it_and_behind_it_and_no_others() {
    for args in [["--admin=0.0.0.0:9", "ask", "--json"], ["ask", "--json", "--admin=0.0.0.0:9"]] {
        let (layers, verb) = run(&args, &[("SKEP_HTTP", "127.0.0.1:1")]).unwrap();
        assert!(matches!(verb, Some(Verb::Ask(Output { json: true }))));
        assert_eq!(layers.address_to_ask(&ADMIN).unwrap(), "127.0.0.1:9".parse().unwrap());
    }
    assert!(said(run(&["--http", "127.0.0.1:1", "ask"], NO_ENV)).starts_with("--http: "));
    assert!(said(run(&["--no-such-flag"], NO_ENV)).contains("--no-such-flag"));
    assert_eq!(run(&["--help"], NO_ENV).unwrap_err().exit_code(), 0);
}
