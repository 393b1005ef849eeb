//! The whole program: what is started, in which order, and how it ends. The only file that knows
//! all parts.
//!
//! Start: store, service, relays, HTTP, questions over NATS. A store that others serve may be away for a
//! while, so there HTTP comes first and says what it waits for (see [`Door`]). A stop goes the other way:
//! no new requests, the answers that are owed, the last commit, its events. A second signal does not wait.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use actix_web::HttpServer;
use actix_web::dev::Server;
use anyhow::{Context, bail};
use futures_util::future::join_all;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::api::door::Door;
use crate::api::{self, Api, Baseline};
use crate::bus::amqp::{AmqpAsk, AmqpBus};
use crate::bus::nats::{NatsAsk, NatsBus};
use crate::bus::{Ask, Bus, BusKind};
use crate::clock::Clock;
use crate::config::{Config, StoreAt};
use crate::hooks::Hooks;
use crate::limits::{
    CONNECTIONS_MAX, DISCONNECT_WAIT_MAX, DRAIN_WAIT_MAX, KEEP_ALIVE, LISTEN_BACKLOG,
    REQUEST_HEAD_WAIT_MAX,
};
use crate::micro::Micro;
use crate::relay::{self, Relay};
use crate::service::{Ipam, Settings};
use crate::store::Store;
use crate::store::error::Fault;
use crate::store::mongo::{self, MongoOpenError};
use crate::store::sqlite::SqliteStore;
use crate::telemetry::Metrics;

/// The first and the longest pause between two attempts to start on a store that is away.
const START_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

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

/// Opens the embedded store in `data`, or makes it.
///
/// # Errors
/// A sentence for the operator: why not.
pub fn open_embedded(data: &Path) -> anyhow::Result<Arc<dyn Store>> {
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
    let door = Arc::new(Door::default());
    let relays = RefCell::new(Vec::new());
    let hooks = Hooks::new(config.hooks.clone(), |kind| asked_over(config, kind), &metrics)?;
    let hooks = Arc::new(hooks);
    let start = async |store: Arc<dyn Store>| {
        let buses = buses(config);
        let settings = Settings {
            idempotency_kept: config.idempotency_kept,
            audit_retention: config.audit_retention,
            commit_timeout: config.commit_timeout,
            actor_threads: config.workers,
            relays: buses.iter().map(|(kind, _)| kind.as_str()).collect(),
        };
        let (of_ipam, hooks) = (Arc::clone(&metrics), Arc::clone(&hooks));
        let ipam = Ipam::start(Arc::clone(&store), Clock::System, of_ipam, hooks, settings);
        let ipam = ipam.await?;
        match start_relays(config, &store, buses, &ipam, &metrics) {
            Ok(started) => relays.replace(started),
            Err(error) => {
                ipam.stop().await;
                return Err(Fault::new("starting a relay", error));
            }
        };
        Ok(ipam)
    };
    if let StoreAt::Directory(data) = &config.store {
        let store = open_embedded(data)?;
        door.open(start(store).await.context("cannot start on what is stored")?);
    }

    let (server, address) = bind(config, &door, &metrics)
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    listening(address).context("cannot say where it listens")?;
    info!(http.address = %address, store.at = %config.store, "listening");

    let nats = config.nats.clone().filter(|_| config.nats_api);
    let micro = nats.map(|nats| Micro::start(nats, Arc::clone(&door)));
    let handle = server.handle();
    let mut served = tokio::spawn(server);
    let opened = async {
        if let StoreAt::Mongo(settings) = &config.store {
            start_when_there(&door, async || mongo::open(settings).await, start).await?;
        }
        // From here on there is nothing to wait for but an end.
        std::future::pending().await
    };
    let signal = tokio::select! {
        signal = signals.next() => signal,
        unsuitable = opened => return unsuitable,
        ended = &mut served => {
            ended??;
            bail!("HTTP is no longer served");
        }
    };
    info!(signal = signal.name(), "stopping: answering what was asked");
    tokio::spawn(end_at_next(signals));
    if let Some(ipam) = door.ipam() {
        ipam.end_following();
    }
    let micro_stopped = async {
        if let Some(micro) = micro {
            micro.stop().await;
        }
    };
    tokio::join!(handle.stop(true), micro_stopped);
    if let Some(ipam) = door.ipam() {
        info!("stopping: waiting for the last commit");
        timeout(DRAIN_WAIT_MAX, ipam.stop())
            .await
            .with_context(|| format!("the last commit took longer than {DRAIN_WAIT_MAX:?}"))?;
        // They have the last events to publish.
        join_all(relays.take().into_iter().map(Relay::stop)).await;
    }
    info!("stopped");
    Ok(())
}

/// The buses that are configured.
fn buses(config: &Config) -> Vec<(BusKind, Box<dyn Bus>)> {
    let mut buses: Vec<(BusKind, Box<dyn Bus>)> = Vec::new();
    if let Some(settings) = &config.nats {
        buses.push((BusKind::Nats, Box::new(NatsBus::new(settings.clone()))));
    }
    if let Some(settings) = &config.amqp {
        buses.push((BusKind::Amqp, Box::new(AmqpBus::new(settings.clone()))));
    }
    buses
}

/// Where a hook is asked, over a bus that is configured.
fn asked_over(config: &Config, kind: BusKind) -> Option<Arc<dyn Ask>> {
    match kind {
        BusKind::Nats => Some(Arc::new(NatsAsk::new(config.nats.clone()?))),
        BusKind::Amqp => Some(Arc::new(AmqpAsk::new(config.amqp.clone()?))),
    }
}

/// Starts a relay for each bus. When one cannot be, those before it end by themselves.
fn start_relays(
    config: &Config,
    store: &Arc<dyn Store>,
    buses: Vec<(BusKind, Box<dyn Bus>)>,
    ipam: &Ipam,
    metrics: &Arc<Metrics>,
) -> std::io::Result<Vec<Relay>> {
    let relays = buses.into_iter().map(|(kind, bus)| {
        let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
        let settings = relay::Settings { kinds: config.published, ..relay::Settings::default() };
        Relay::start(store, bus, kind, ipam.wake(), Clock::System, metrics, settings)
    });
    relays.collect()
}

/// Opens a store and starts the service on it, however long the store is away; then lets requests
/// in.
///
/// # Errors
/// When the store is there and will not do.
async fn start_when_there(
    door: &Door,
    open: impl AsyncFn() -> Result<Arc<dyn Store>, MongoOpenError>,
    start: impl AsyncFn(Arc<dyn Store>) -> Result<Ipam, Fault>,
) -> anyhow::Result<()> {
    let mut opened = None;
    let (mut pause, pause_max) = START_PAUSE;
    let mut waited = false;
    loop {
        let attempt = async {
            let store = match opened.take() {
                Some(store) => store,
                None => open().await?,
            };
            // Opened once: a store that fails to be read may recover by itself.
            let started = start(Arc::clone(&store)).await;
            opened = Some(store);
            started.map_err(|fault| MongoOpenError::Unavailable(fault.to_string()))
        };
        match attempt.await {
            Ok(ipam) => {
                door.open(ipam);
                if waited {
                    info!("the store is there; requests are served");
                }
                return Ok(());
            }
            Err(unsuitable @ MongoOpenError::Unsuitable(_)) => return Err(unsuitable.into()),
            Err(away @ MongoOpenError::Unavailable(_)) => {
                if !std::mem::replace(&mut waited, true) {
                    warn!(error = %away, "waiting for the store; requests are refused meanwhile");
                }
                door.waits_for(away.to_string());
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(pause_max);
    }
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
        .on_connect(|connection, _| api::stall::bound(connection))
        // What a client that went away waits for ends with it.
        .h1_allow_half_closed(false)
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

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use serde_json::Value;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    async fn ipam_on(store: Arc<dyn Store>) -> Result<Ipam, Fault> {
        let settings = Settings {
            idempotency_kept: DAY,
            audit_retention: DAY,
            commit_timeout: Duration::from_secs(5),
            actor_threads: 1,
            relays: Vec::new(),
        };
        Ipam::start(store, Clock::System, Arc::default(), Arc::default(), settings).await
    }

    fn away(why: &str) -> MongoOpenError {
        MongoOpenError::Unavailable(why.to_owned())
    }

    /// The status of `/health/ready`, and why it is not 200.
    async fn ready(door: &Arc<Door>) -> (u16, String) {
        let api = Api { door: Arc::clone(door), metrics: Arc::default(), baseline: None };
        let app = init_service(api::app(api)).await;
        let request = TestRequest::with_uri("/health/ready").to_request();
        let response = call_service(&app, request).await;
        let status = response.status().as_u16();
        let body: Value = read_body_json(response).await;
        (status, body["detail"].as_str().unwrap_or_default().to_owned())
    }

    #[actix_web::test]
    async fn a_store_that_is_away_is_waited_for_and_opened_once() {
        let data = tempfile::tempdir().unwrap();
        let door = Arc::new(Door::default());
        let opened = RefCell::new(Vec::new());
        let open = async || {
            let (status, why) = ready(&door).await;
            opened.borrow_mut().push((status, why));
            match opened.borrow().len() {
                1 => Err(away("nobody is there")),
                _ => Ok(open_embedded(data.path()).unwrap()),
            }
        };
        let started = RefCell::new(Vec::new());
        let start = async |store| {
            let (_, why) = ready(&door).await;
            started.borrow_mut().push(why);
            if started.borrow().len() == 1 {
                return Err(Fault::new("reading", "it fell over"));
            }
            ipam_on(store).await
        };
        start_when_there(&door, open, start).await.unwrap();
        assert_eq!(ready(&door).await, (200, String::new()));
        let mut attempts = opened.into_inner().into_iter();
        let (status, why) = attempts.next().unwrap();
        assert!(status == 503 && why.ends_with("the store has not been asked yet"), "{why}");
        let (status, why) = attempts.next().unwrap();
        assert!(status == 503 && why.ends_with("not available: nobody is there"), "{why}");
        assert!(attempts.next().is_none(), "a store that is open is not opened again");
        let [_, why] = &started.into_inner()[..] else { panic!("it starts at the second attempt") };
        assert!(why.ends_with("not available: reading: it fell over"), "{why}");
        door.ipam().unwrap().stop().await;
    }

    #[actix_web::test]
    async fn a_store_that_will_not_do_ends_the_wait() {
        let door = Arc::new(Door::default());
        let attempts = RefCell::new(0);
        let open = async || {
            *attempts.borrow_mut() += 1;
            Err(match *attempts.borrow() {
                1 => away("nobody is there"),
                _ => MongoOpenError::Unsuitable("it is too old; use a newer one".to_owned()),
            })
        };
        let ended = start_when_there(&door, open, ipam_on).await.unwrap_err();
        assert_eq!(format!("{ended:#}"), "it is too old; use a newer one");
        assert!(door.ipam().is_none());
    }
}
