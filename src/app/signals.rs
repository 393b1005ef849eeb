//! The signals that end the program.

use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// Both of them.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Which of them came.
#[derive(Clone, Copy)]
pub enum End {
    Interrupt,
    Terminate,
}

impl Signals {
    /// # Errors
    /// The system's.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.interrupt.recv() => End::Interrupt,
            _ = self.terminate.recv() => End::Terminate,
        }
    }
}

impl End {
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// As a shell says it: 128 and the number of the signal.
    fn exit_code(self) -> i32 {
        128 + match self {
            Self::Interrupt => SignalKind::interrupt().as_raw_value(),
            Self::Terminate => SignalKind::terminate().as_raw_value(),
        }
    }
}

/// Ends the program at the next signal, whatever it is about.
pub async fn end_at_next(mut signals: Signals) {
    let signal = signals.next().await;
    warn!(signal = signal.name(), "ending at once");
    process::exit(signal.exit_code());
}
