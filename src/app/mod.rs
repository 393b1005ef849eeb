//! The whole program: what is started, in which order, and how it ends. The only part that knows all
//! others.
//!
//! Start: store, service, relays, HTTP, Consul, questions over NATS. A store that others serve may be away
//! for a while, so there HTTP comes first and says what it waits for (see [`Door`]). A stop goes the other
//! way: nobody is sent here any more, no new requests, the answers that are owed, the last commit, its
//! events. A second signal does not wait.

mod found;
mod life;
mod signals;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use actix::System;
use actix_web::HttpServer;
use actix_web::dev::Server;
use anyhow::{Context, anyhow};
use tokio::runtime;
use tokio::sync::watch;
use tracing::info;

use crate::api::door::Door;
use crate::api::{self, Api, Baseline};
use crate::bus::amqp::{AmqpAsk, AmqpSettings};
use crate::bus::nats::{NatsAsk, NatsSettings};
use crate::bus::{Ask, BusKind};
use crate::clock::Clock;
use crate::config::{Config, StoreAt};
use crate::hooks::Hooks;
use crate::limits::{
    CONNECTIONS_MAX, DISCONNECT_WAIT_MAX, DRAIN_WAIT_MAX, KEEP_ALIVE, LISTEN_BACKLOG,
    REQUEST_HEAD_WAIT_MAX,
};
use crate::micro::Micro;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::Metrics;
use found::Found;
use life::{Plan, Running};
use signals::{Signals, end_at_next};

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
    let found = Found::follow(config).context("Consul cannot be used")?;
    let buses = (found.nats(config), found.amqp(config));
    let hooks = Hooks::new(config.hooks.clone(), |kind| asked_over(&buses, kind), &metrics)?;
    let nats = buses.0.clone().filter(|_| config.nats_api);
    let plan = Plan::new(config, buses, Arc::new(hooks), Arc::clone(&metrics));
    let embedded = match &config.store {
        StoreAt::Directory(data) => {
            let started = plan.start(open_embedded(data)?).await;
            let running = started.context("cannot start on what is stored")?;
            door.open(running.ipam.clone());
            Some(running)
        }
        StoreAt::Mongo(_) | StoreAt::Consul { .. } => None,
    };

    let (server, address) = bind(config, &door, &metrics)
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    listening(address).context("cannot say where it listens")?;
    info!(http.address = %address, store.at = %config.store, "listening");
    // Also while the store is away: Consul's check says so.
    let registration = found.register(config, address);

    let micro = nats.map(|nats| Micro::start(nats, Arc::clone(&door)));
    let handle = server.handle();
    let mut served = tokio::spawn(server);
    let (stop, stopping) = watch::channel(false);
    let mut life = pin!(live(config, embedded, &found, &plan, &door, stopping));
    let ended = tokio::select! {
        signal = signals.next() => Ok(signal),
        ended = &mut life => Err(ended.err().unwrap_or_else(|| anyhow!("the service has ended"))),
        ended = &mut served => {
            let ended = ended.map_err(anyhow::Error::from).and_then(|ended| Ok(ended?));
            Err(ended.err().unwrap_or_else(|| anyhow!("HTTP is no longer served")))
        }
    };
    if let Ok(signal) = ended {
        info!(signal = signal.name(), "stopping: answering what was asked");
    }
    tokio::spawn(end_at_next(signals));
    // Before the door closes, so that nobody is sent to it.
    if let Some(registration) = registration {
        registration.end().await;
    }
    ended?;
    stop.send_replace(true);
    if let Some(ipam) = door.ipam() {
        ipam.end_following();
    }
    let micro_stopped = async {
        if let Some(micro) = micro {
            micro.stop().await;
        }
    };
    let (running, (), ()) = tokio::join!(life, handle.stop(true), micro_stopped);
    if let Some(running) = running? {
        running.stop().await?;
    }
    info!("stopped");
    Ok(())
}

/// Serves the store that is configured until it is to stop; answers what runs then.
async fn live(
    config: &Config,
    embedded: Option<Running>,
    found: &Found,
    plan: &Plan,
    door: &Door,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<Option<Running>> {
    if let Some(running) = embedded {
        return Ok(Some(life::on_given(running, stopping).await));
    }
    match (&config.store, found.mongo()) {
        (StoreAt::Consul { lookup, database }, Some(followed)) => {
            life::on_found((lookup, database, followed), plan, door, stopping).await
        }
        (StoreAt::Mongo(settings), _) => life::on_mongo(settings, plan, door, stopping).await,
        (StoreAt::Directory(_) | StoreAt::Consul { .. }, _) => Err(anyhow!("there is no store")),
    }
}

/// Where a hook is asked, over a bus that is configured.
fn asked_over(
    (nats, amqp): &(Option<NatsSettings>, Option<AmqpSettings>),
    kind: BusKind,
) -> Option<Arc<dyn Ask>> {
    match kind {
        BusKind::Nats => Some(Arc::new(NatsAsk::new(nats.clone()?))),
        BusKind::Amqp => Some(Arc::new(AmqpAsk::new(amqp.clone()?))),
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
