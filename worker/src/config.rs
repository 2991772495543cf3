//! Configuration: what the command line, the environment and a TOML file ask for. How they are read, and
//! which layer counts, is `skep_base::settings`'.

mod settings;

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Command, Subcommand};
use http::Uri;
use skep_base::log::LogConfig;
use skep_base::settings::{ConfigError, Layers, Output, Secret, Setting, log, secret, secret_again, values};
use skep_console::verbs::HealthOf;
use skep_crawl::address::{Allow, NoAllow};

use crate::client::{Token, Trust};
use settings::{
    ADMIN, CA, CRAWL, CRAWL_ALLOW, CRAWL_PACE, DRAIN, EXEC, FORWARD, NAME, QUEUES, SETTINGS, SLOTS,
    SLOTS_MAX, TOKEN, TOKEN_FILE, URL,
};

/// Most queues that one claim names.
pub const QUEUES_MAX: usize = 32;
/// Longest name of a queue, and of a worker with its random part.
const QUEUE_BYTES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 40;
/// Largest file of certificates.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// Whose tasks the crawler does, where no queue is named.
const CRAWL_QUEUE: &str = "crawl";

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// No verb: work.
    Work(Box<WorkConfig>),
    Health {
        admin: SocketAddr,
        of: HealthOf,
        json: bool,
    },
}

/// How tasks are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// A program, with its arguments.
    Exec(Vec<String>),
    /// A server.
    Forward(Uri),
    /// The crawler that is built in.
    Crawl(CrawlConfig),
}

/// What the crawler may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawlConfig {
    pub pace: Duration,
    pub allowed: Vec<Allow>,
}

/// Digits of a workers' token as a node prints it.
const TOKEN_DIGITS: usize = 64;

/// The file of the workers' token.
#[derive(Debug)]
pub struct TokenFile {
    pub path: PathBuf,
    /// How it was named.
    origin: String,
}

impl TokenFile {
    /// The token that it has now. Only as `skep-node worker-token` prints it: half of one, in a file that is being
    /// written, would end all tasks that are here.
    pub fn read_again(&self) -> Result<Token, ConfigError> {
        let secret = secret_again(&self.path, self.origin.clone())?;
        let line = secret.text.trim();
        let is_one = line.len() == TOKEN_DIGITS && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_one.then(|| Token(line.to_owned())).ok_or_else(|| ConfigError::Invalid {
            origin: secret.origin.clone(),
            reason: format!(
                "expected {TOKEN_DIGITS} hex digits, as `skep-node worker-token KEY_FILE` prints them"
            ),
        })
    }
}

/// What to work with.
#[derive(Debug)]
pub struct WorkConfig {
    pub urls: Vec<Uri>,
    pub queues: Vec<String>,
    pub slots: usize,
    pub how: How,
    /// Without its random part.
    pub name: String,
    pub token: Option<Token>,
    /// Where the token stands that may be read again; None where it came by the environment.
    pub token_file: Option<TokenFile>,
    /// Who signs the certificates of https URLs.
    pub trust: Option<Trust>,
    pub drain: Duration,
    pub admin: SocketAddr,
    pub log: LogConfig,
    /// What is to be said of the configuration once there is a log.
    pub warnings: Vec<String>,
}

fn program() -> Command {
    Command::new("skep-worker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Does the tasks of a skep cluster: by a program, by a server beside it, or by its crawler")
        .long_about(
            "Does the tasks of a skep cluster: by a program (--exec), by a server beside it (--forward), or by the \
             crawler that is built in (--crawl).\n\n\
             With no verb it works. Start as many as are wanted, anywhere: each takes tasks as it has room. Each setting is taken from its flag, else from the environment \
             variable, else from the file given with --config, else it has the default.",
        )
        .after_help(
            "A program has the payload on stdin and SKEP_TASK_ID, _QUEUE, _KIND, _TRY, _LOST and _FENCE in its \
             environment.\nIts status: 0 the task is done, 65 no try will help, 75 come back later, else another try.\n\
             SIGTERM finishes what is begun (--drain), gives back the rest, then ends; SIGHUP reads the token again.\n\
             Exit status: 0 done, 1 failed, 2 a bad flag or configuration.",
        )
}

#[derive(Debug, Subcommand)]
enum VerbArgs {
    /// Ask whether the worker hears of the cluster: exit status 0 or 1, for a container's healthcheck
    Health {
        /// Ask only whether the process is alive
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// Reads the command line (program name first) and what stands behind it.
pub fn parse<I, A>(args: I, env: impl Fn(&str) -> Option<OsString>) -> Result<Invocation, ConfigError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let (layers, verb) = skep_base::settings::parse::<VerbArgs, _, _>(program(), SETTINGS, args, &env)?;
    match verb {
        None => resolve(&layers).map(Box::new).map(Invocation::Work),
        Some(VerbArgs::Health { live, output }) => {
            let of = if live { HealthOf::Live } else { HealthOf::Ready };
            Ok(Invocation::Health { admin: layers.address_to_ask(&ADMIN)?, of, json: output.json })
        }
    }
}

fn resolve(layers: &Layers) -> Result<WorkConfig, ConfigError> {
    let invalid = |setting: &Setting, reason: &str| ConfigError::Invalid {
        origin: layers.origin(setting),
        reason: reason.to_owned(),
    };
    let urls = layers.value(&URL, |text| values::list(text, url))?;
    if urls.is_empty() {
        return Err(invalid(&URL, "it names no node, as in http://127.0.0.1:8080"));
    }
    let trust = layers.read(&CA, trust)?;
    if trust.is_none() && urls.iter().any(|url| url.scheme_str() == Some("https")) {
        return Err(invalid(&CA, "an https URL needs the certificate of who signed the server's: --ca FILE"));
    }
    let crawl = crawl(layers)?;
    let queues = layers.read(&QUEUES, |text| values::list(text, queue))?;
    let queues = queues.unwrap_or_else(|| crawl.iter().map(|_| CRAWL_QUEUE.to_owned()).collect());
    if queues.is_empty() || queues.len() > QUEUES_MAX {
        let reason = format!("name the queues to work on, 1 to {QUEUES_MAX}, as in --queues mail");
        return Err(invalid(&QUEUES, &reason));
    }
    let ways = [
        layers.read(&EXEC, command)?.map(How::Exec),
        layers.read(&FORWARD, server_beside)?.map(How::Forward),
        crawl.map(How::Crawl),
    ];
    let mut ways = ways.into_iter().flatten();
    let Some(how) = ways.next() else {
        return Err(invalid(&EXEC, "say how tasks are done: --exec PROGRAM, --forward URL or --crawl"));
    };
    if ways.next().is_some() {
        let at = if matches!(how, How::Forward(_)) { &CRAWL } else { &FORWARD };
        return Err(invalid(at, "a task is done in one way: by --exec, by --forward or by --crawl"));
    }
    let secret = secret(layers, &TOKEN, &TOKEN_FILE)?;
    let admin = layers.address(&ADMIN)?;
    if secret.is_none() && !admin.ip().is_loopback() {
        let reason = format!(
            "{admin} is reached by others: without the workers' token (--worker-token-file) bind to loopback"
        );
        return Err(invalid(&ADMIN, &reason));
    }
    let warnings = secret.iter().filter_map(|secret| secret.warning.clone()).collect();
    Ok(WorkConfig {
        urls,
        queues,
        slots: layers.value(&SLOTS, |text| values::count(text, SLOTS_MAX))? as usize,
        how,
        name: layers.read(&NAME, name)?.unwrap_or_else(of_host),
        token: secret.map(token).transpose()?,
        token_file: layers
            .get(&TOKEN_FILE)
            .map(|file| TokenFile { path: file.text.into(), origin: file.origin }),
        trust,
        drain: layers.duration(&DRAIN)?,
        admin,
        log: log(layers)?,
        warnings,
    })
}

/// What the crawler may do, where it is to do tasks.
fn crawl(layers: &Layers) -> Result<Option<CrawlConfig>, ConfigError> {
    let allowed = layers.read(&CRAWL_ALLOW, |text| values::list(text, allow))?;
    let pace = layers.value(&CRAWL_PACE, pace)?;
    match layers.value(&CRAWL, values::switch)? {
        true => Ok(Some(CrawlConfig { pace, allowed: allowed.unwrap_or_default() })),
        false if allowed.is_some() => Err(ConfigError::Invalid {
            origin: layers.origin(&CRAWL_ALLOW),
            reason: "it is of the crawler alone: --crawl".to_owned(),
        }),
        false => Ok(None),
    }
}

fn allow(text: &str) -> Result<Allow, String> {
    text.parse().map_err(|error: NoAllow| error.to_string())
}

fn pace(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => values::duration(text),
    }
}

fn token(secret: Secret) -> Result<Token, ConfigError> {
    let line = secret.text.lines().next().unwrap_or_default().trim();
    let is_one = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then(|| Token(line.to_owned())).ok_or_else(|| ConfigError::Invalid {
        origin: secret.origin.clone(),
        reason: "expected a line of visible ASCII, as `skep-node worker-token KEY_FILE` prints it".to_owned(),
    })
}

fn trust(path: &str) -> Result<Trust, String> {
    let refused = |reason: String| format!("{path:?}: {reason}");
    let file = std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
    let mut pem = Vec::new();
    file.take(CA_BYTES_MAX + 1).read_to_end(&mut pem).map_err(|error| refused(error.to_string()))?;
    if pem.len() as u64 > CA_BYTES_MAX {
        return Err(refused(format!("it is larger than {CA_BYTES_MAX} bytes")));
    }
    Trust::of(&pem).map_err(refused)
}

fn url(text: &str) -> Result<Uri, String> {
    let expected = || format!("{text:?} is no URL of a server: expected http://HOST[:PORT][/PATH]");
    let uri: Uri = text.parse().map_err(|_| expected())?;
    let is_one = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && uri.query().is_none();
    if is_one { Ok(uri) } else { Err(expected()) }
}

fn server_beside(text: &str) -> Result<Uri, String> {
    let uri = url(text)?;
    match uri.scheme_str() {
        Some("http") => Ok(uri),
        _ => Err(format!("{text:?}: a server beside the worker is meant, which is asked by http://")),
    }
}

fn is_word(text: &str, most: usize) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=most).contains(&text.len()) && text.bytes().all(letter)
}

fn queue(text: &str) -> Result<String, String> {
    match is_word(text, QUEUE_BYTES_MAX) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("{text:?} is no queue: 1 to {QUEUE_BYTES_MAX} letters, digits, '.', '_' and '-'"))
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    match is_word(text, NAME_BYTES_MAX) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is no worker's name: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-'"
        )),
    }
}

fn command(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    match words.is_empty() {
        true => Err("it names no program".to_owned()),
        false => Ok(words),
    }
}

fn of_host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().take(NAME_BYTES_MAX).collect();
    if is_word(&name, NAME_BYTES_MAX) { name } else { "worker".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(args: &[&str]) -> Result<WorkConfig, String> {
        match parse([&["skep-worker"], args].concat(), |_| None) {
            Ok(Invocation::Work(config)) => Ok(*config),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_worker_needs_queues_and_one_way_to_do_their_tasks() {
        let config =
            work(&["--queues", "mail,crawl", "--exec", "python3 work.py -v", "--name", "a"]).unwrap();
        assert_eq!(config.queues, ["mail", "crawl"]);
        assert_eq!(config.how, How::Exec(["python3", "work.py", "-v"].map(str::to_owned).to_vec()));
        assert_eq!((config.urls, config.slots), (vec![Uri::from_static("http://127.0.0.1:8080")], 8));
        let forward = work(&["--queues", "m", "--forward", "http://127.0.0.1:3000/do"]).unwrap();
        assert_eq!(forward.how, How::Forward("http://127.0.0.1:3000/do".parse().unwrap()));
        for (args, named) in [
            (&["--exec", "x"][..], "--queues"),
            (&["--queues", "m"], "--exec"),
            (&["--queues", "m", "--exec", "x", "--forward", "http://a"], "--forward"),
            (&["--queues", "m", "--exec", "x", "--crawl"], "one way"),
            (&["--forward", "http://a", "--crawl"], "--crawl"),
            (&["--crawl", "perhaps"], "--crawl"),
            (&["--crawl", "--crawl-pace", "soon"], "--crawl-pace"),
            (&["--crawl", "--crawl-allow", "10.0.0.0/33"], "--crawl-allow"),
            (&["--queues", "m", "--exec", "x", "--crawl-allow", "10.0.0.0/8"], "--crawl"),
            (&["--queues", "a b", "--exec", "x"], "--queues"),
            (&["--queues", "m", "--exec", " "], "--exec"),
            (&["--queues", "m", "--exec", "x", "--url", "https://a"], "--ca FILE"),
            (&["--queues", "m", "--exec", "x", "--url", "https://a", "--ca", "/does/not/exist"], "--ca"),
            (&["--queues", "m", "--forward", "https://a"], "http://"),
            (&["--queues", "m", "--exec", "x", "--url", "http://a:b@c"], "--url"),
            (&["--queues", "m", "--exec", "x", "--slots", "129"], "--slots"),
            (&["--queues", "m", "--exec", "x", "--url", "ftp://a"], "--url"),
            (&["--queues", "m", "--exec", "x", "--slots", "0"], "--slots"),
            (&["--queues", "m", "--exec", "x", "--name", "a/b"], "--name"),
            (&["--queues", "m", "--exec", "x", "--admin", "0.0.0.0:9403"], "--worker-token-file"),
        ] {
            let error = work(args).unwrap_err();
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }

    #[test]
    fn the_crawler_has_a_queue_and_a_pace_and_is_let_nowhere_by_itself() {
        let how = |args: &[&str]| work(args).map(|config| (config.queues, config.how)).unwrap();
        let crawl = |pace, allowed: &[&str]| {
            let allowed = allowed.iter().map(|it| it.parse().unwrap()).collect();
            How::Crawl(CrawlConfig { pace, allowed })
        };
        let (one, none) = (Duration::from_secs(1), Duration::ZERO);
        assert_eq!(how(&["--crawl"]), (vec!["crawl".to_owned()], crawl(one, &[])));
        let args = [
            "--crawl",
            "true",
            "--queues",
            "a",
            "--crawl-pace",
            "0",
            "--crawl-allow",
            "10.0.0.0/8:*,[::1]:80",
        ];
        assert_eq!(how(&args), (vec!["a".to_owned()], crawl(none, &["10.0.0.0/8:*", "[::1]:80"])));
    }

    #[test]
    fn the_token_is_never_shown() {
        let env = |name: &str| (name == "SKEP_WORKER_TOKEN").then(|| OsString::from("hunter2"));
        let args = ["skep-worker", "--queues", "m", "--exec", "x"];
        let Ok(Invocation::Work(config)) = parse(args, env) else { panic!() };
        assert_eq!(config.token, Some(Token("hunter2".into())));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
