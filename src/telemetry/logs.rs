//! Logs on stderr: one line a fact, for people on a terminal and as JSON everywhere else.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

/// Which events are logged: a level (`info`), or levels by module (`info,ipam::store=debug`).
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Targets);

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a log filter such as `info` or `warn,ipam::store=debug`")]
pub struct FilterError(String);

impl Filter {
    /// # Errors
    /// [`FilterError`] when `text` is not a level or a list of levels by module.
    pub fn new(text: &str) -> Result<Self, FilterError> {
        // `Targets` takes a misspelt level for a module, and logs nothing else.
        let is_level_or_pair =
            |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
        match text.parse() {
            Ok(targets) if text.split(',').all(is_level_or_pair) => Ok(Self(targets)),
            _ => Err(FilterError(text.to_owned())),
        }
    }
}

/// Sends the events that pass `filter`, and every panic, to stderr. Does nothing the second time.
pub fn init_logs(filter: &Filter) {
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.with_ansi(false).json().flatten_event(true).boxed()
    };
    if registry().with(lines.with_filter(filter.0.clone())).try_init().is_ok() {
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
        message_of(panic),
    );
}

fn message_of<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for text in ["info", "warn,ipam::store=debug", "off"] {
            assert!(Filter::new(text).is_ok(), "{text}");
        }
        for text in ["loud", "ipam=loud", "info,loud", "info;debug"] {
            assert!(Filter::new(text).is_err(), "{text}");
        }
    }
}
