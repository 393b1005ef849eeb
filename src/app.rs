//! The whole program: what is started, in which order, and how it ends. The only file that knows
//! all parts.
//!
//! Start: store, service, HTTP. A stop goes the other way: no new connections, the answers that are
//! owed, the last commit. A second signal does not wait.

use std::net::SocketAddr;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use actix_web::HttpServer;
use actix_web::dev::Server;
use anyhow::{Context, bail};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::api::door::Door;
use crate::api::{self, Api, Baseline};
use crate::clock::Clock;
use crate::config::Config;
use crate::limits::{
    CONNECTIONS_MAX, DISCONNECT_WAIT_MAX, DRAIN_WAIT_MAX, KEEP_ALIVE, LISTEN_BACKLOG,
    REQUEST_HEAD_WAIT_MAX,
};
use crate::service::{Ipam, Settings};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::Metrics;

/// Runs the service until a signal ends it. Calls `listening` once it can be reached.
///
/// # Errors
/// When it cannot be started, or cannot be stopped in time; a sentence for the operator.
pub fn serve(
    config: &Config,
    listening: impl FnOnce(SocketAddr) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    // What outlives a request runs here, and not on a worker or an actor's thread, which end first.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .thread_name("ipam-main")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    System::with_tokio_rt(|| runtime).block_on(run(config, listening))
}

/// Opens the store that `data` holds, or makes it.
///
/// # Errors
/// A sentence for the operator: why not.
pub fn open_store(data: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let store = SqliteStore::open(data)
        .with_context(|| format!("cannot open the store in {}", data.display()))?;
    Ok(Arc::new(store))
}

async fn run(
    config: &Config,
    listening: impl FnOnce(SocketAddr) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let metrics = Arc::new(Metrics::default());
    let store = open_store(&config.data)?;
    let settings = Settings {
        idempotency_kept: config.idempotency_kept,
        audit_retention: Duration::from_secs(400 * 24 * 60 * 60),
        commit_timeout: Duration::from_secs(5),
        actor_threads: config.workers,
    };
    let ipam = Ipam::start(store, Clock::System, Arc::clone(&metrics), settings)
        .await
        .context("cannot start on what is stored")?;
    let door = Arc::new(Door::default());
    door.open(ipam.clone());

    let (server, address) = bind(config, &door, &metrics)
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    listening(address).context("cannot say where it listens")?;
    info!(http.address = %address, store.directory = %config.data.display(), "listening");

    let handle = server.handle();
    let mut served = tokio::spawn(server);
    let signal = tokio::select! {
        signal = signals.next() => signal,
        ended = &mut served => {
            ended??;
            bail!("HTTP is no longer served");
        }
    };
    info!(signal = signal.name(), "stopping: answering what was asked");
    tokio::spawn(end_at_next(signals));
    handle.stop(true).await;
    info!("stopping: waiting for the last commit");
    timeout(DRAIN_WAIT_MAX, ipam.stop())
        .await
        .with_context(|| format!("the last commit took longer than {DRAIN_WAIT_MAX:?}"))?;
    info!("stopped");
    Ok(())
}

fn bind(
    config: &Config,
    door: &Arc<Door>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Server, SocketAddr)> {
    let baseline = config.bench_route.then(|| Baseline::new(Clock::System)).transpose()?;
    let api = Api {
        door: Arc::clone(door),
        metrics: Arc::clone(metrics),
        baseline: baseline.map(Arc::new),
    };
    let server = HttpServer::new(move || api::app(api.clone()))
        .workers(config.workers)
        .max_connections(CONNECTIONS_MAX / config.workers)
        .backlog(LISTEN_BACKLOG)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_WAIT_MAX)
        .client_disconnect_timeout(DISCONNECT_WAIT_MAX)
        .shutdown_timeout(DRAIN_WAIT_MAX.as_secs())
        .tcp_nodelay(true)
        .disable_signals()
        .bind(config.listen)?;
    let address = server.addrs().first().copied().unwrap_or(config.listen);
    Ok((server.run(), address))
}

/// The signals that end the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

#[derive(Clone, Copy)]
enum End {
    Interrupt,
    Terminate,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.interrupt.recv() => End::Interrupt,
            _ = self.terminate.recv() => End::Terminate,
        }
    }
}

impl End {
    fn name(self) -> &'static str {
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

async fn end_at_next(mut signals: Signals) {
    let signal = signals.next().await;
    warn!(signal = signal.name(), "ending at once");
    process::exit(signal.exit_code());
}
