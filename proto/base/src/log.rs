//! Log lines: for eyes on a terminal, else one JSON object a line. They go to stderr, so that a
//! verb's stdout stays its answer. None ever holds a secret: keys have no `Display`, and their
//! `Debug` form shows nothing.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
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
}

/// Starts logging, panics included; once in a process. `libraries` is a filter for libraries that
/// tell each step at `info`; a `config.filter` that names one overrides it.
pub fn init(config: &LogConfig, libraries: &str) -> Result<(), LogError> {
    let filter: Targets = format!("{libraries},{}", config.filter).parse()?;
    let terminal = std::io::stderr().is_terminal();
    let format = config.format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => registry.with(lines.with_ansi(terminal)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|_| LogError::Twice)?;
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
