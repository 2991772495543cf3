//! Log lines: for eyes on a terminal, else one JSON object a line. They go to stderr, so that a
//! verb's stdout stays its answer. None ever holds a secret: keys have no `Display`, and their
//! `Debug` form shows nothing.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level or `target=level,...`; known to be a filter.
    pub filter: String,
    /// `None`: human on a terminal, else JSON.
    pub format: Option<LogFormat>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("the process logs already")]
    Twice,
    #[error("the process has no log")]
    None,
}

/// The process's own, for it may be changed.
static LOGGING: OnceLock<Logging> = OnceLock::new();

struct Logging {
    libraries: String,
    configured: String,
    now: Mutex<String>,
    handle: reload::Handle<Targets, Registry>,
}

fn targets(libraries: &str, filter: &str) -> Result<Targets, LogError> {
    Ok(format!("{libraries},{filter}").parse()?)
}

/// What is logged from now on; with `None`, what was configured. A library's own filter stays, unless this names it.
pub fn change(filter: Option<&str>) -> Result<(), LogError> {
    let logging = LOGGING.get().ok_or(LogError::None)?;
    let filter = filter.unwrap_or(&logging.configured);
    let targets = targets(&logging.libraries, filter)?;
    let mut now = logging.now.lock().unwrap_or_else(PoisonError::into_inner);
    logging.handle.reload(targets).map_err(|_| LogError::None)?;
    filter.clone_into(&mut now);
    Ok(())
}

/// What is logged now, and what was configured.
pub fn filters() -> (String, String) {
    let Some(logging) = LOGGING.get() else { return (String::new(), String::new()) };
    let now = logging.now.lock().unwrap_or_else(PoisonError::into_inner);
    (now.clone(), logging.configured.clone())
}

/// Starts logging, panics included; once in a process. `libraries` is a filter for libraries that
/// tell each step at `info`; a `config.filter` that names one overrides it.
pub fn init(config: &LogConfig, libraries: &str) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(targets(libraries, &config.filter)?);
    let terminal = std::io::stderr().is_terminal();
    let format = config.format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => registry.with(lines.with_ansi(terminal)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|_| LogError::Twice)?;
    let logging = Logging {
        libraries: libraries.to_owned(),
        configured: config.filter.clone(),
        now: Mutex::new(config.filter.clone()),
        handle,
    };
    LOGGING.set(logging).map_err(|_| LogError::Twice)?;
    log_panics();
    Ok(())
}

/// A panic ends the process: tokio would otherwise live on without the task, in a state that
/// nobody has thought through. The log is then the one place that says where.
fn log_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("");
        tracing::error!(location, "panic: {message}");
        default(panic);
        std::process::abort();
    }));
}
