//! Logs on stderr: one line a fact, for people on a terminal and as JSON everywhere else.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::error;
use tracing_subscriber::EnvFilter;

/// Which events are logged: a level (`info`), or levels by module (`info,ipam::store=debug`).
#[derive(Debug)]
pub struct Filter(EnvFilter);

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a log filter such as `info` or `warn,ipam::store=debug`: {cause}")]
pub struct FilterError {
    text: String,
    cause: tracing_subscriber::filter::ParseError,
}

impl Filter {
    /// # Errors
    /// [`FilterError`] when `text` is not a list of levels.
    pub fn new(text: &str) -> Result<Self, FilterError> {
        EnvFilter::try_new(text)
            .map(Self)
            .map_err(|cause| FilterError { text: text.to_owned(), cause })
    }
}

/// Sends the events that pass `filter`, and every panic, to stderr. Does nothing the second time.
pub fn init_logs(filter: Filter) {
    let to_stderr =
        tracing_subscriber::fmt().with_env_filter(filter.0).with_writer(std::io::stderr);
    let first = if std::io::stderr().is_terminal() {
        to_stderr.try_init()
    } else {
        to_stderr.with_ansi(false).json().flatten_event(true).try_init()
    };
    if first.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Keeps the log one line a fact: the default hook writes several, in a format of its own.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    error!(
        panic.place = place,
        panic.thread = std::thread::current().name().unwrap_or_default(),
        panic.backtrace = %backtrace,
        "a thread panicked: {}",
        panic.payload_as_str().unwrap_or("without a message"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for text in ["info", "warn,ipam::store=debug", "off", ""] {
            assert!(Filter::new(text).is_ok(), "{text}");
        }
        let error = Filter::new("ipam=loud").unwrap_err();
        assert!(error.to_string().starts_with("`ipam=loud` is not a log filter"), "{error}");
    }
}
