//! The service on its store: started when the store is there, and started anew when it has moved.
//!
//! A replica set is followed by the driver, whatever the catalogue says of it. Only when the catalogue
//! names servers that the driver was not told of at its start, and the store does not answer for longer than
//! an election takes, is it taken for moved: as a whole, so that no server is left that could say where the
//! others are. Then all that knows the old store is ended, and the same is started on the new servers. That
//! is safe for the reason for which two instances on one database are: what the old one had sent may still be
//! committed, and whoever waited for it was told that the outcome is unknown. It must be the same database
//! there, with a log that ends no earlier than what was seen of it: another one, an empty or an older one, is
//! refused. An older copy that others have written to since is not told apart.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::api::door::Door;
use crate::bus::amqp::{AmqpBus, AmqpSettings};
use crate::bus::nats::{NatsBus, NatsSettings};
use crate::bus::servers::{Followed, Moment};
use crate::bus::{Bus, BusKind};
use crate::clock::Clock;
use crate::config::{Config, Lookup};
use crate::hooks::Hooks;
use crate::limits::{
    DRAIN_WAIT_MAX, STORE_LEAVE_WAIT_MAX, STORE_MOVED_FAILURES, STORE_MOVED_LOOK_EVERY,
};
use crate::relay::{self, Relay};
use crate::service::{Ipam, Settings};
use crate::store::Store;
use crate::store::error::Fault;
use crate::store::mongo::{self, Identity, MongoOpenError, MongoSettings};
use crate::telemetry::Metrics;

/// The first and the longest pause between two attempts to start on a store that is away.
const START_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What a service is started with, each time.
pub struct Plan {
    settings: Settings,
    publishing: relay::Settings,
    nats: Option<NatsSettings>,
    amqp: Option<AmqpSettings>,
    hooks: Arc<Hooks>,
    metrics: Arc<Metrics>,
}

/// A service that runs, and its relays.
pub struct Running {
    pub ipam: Ipam,
    relays: Vec<Relay>,
}

impl Plan {
    pub fn new(
        config: &Config,
        (nats, amqp): (Option<NatsSettings>, Option<AmqpSettings>),
        hooks: Arc<Hooks>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut relays = Vec::new();
        relays.extend(nats.as_ref().map(|_| BusKind::Nats.as_str()));
        relays.extend(amqp.as_ref().map(|_| BusKind::Amqp.as_str()));
        let settings = Settings {
            idempotency_kept: config.idempotency_kept,
            audit_retention: config.audit_retention,
            commit_timeout: config.commit_timeout,
            actor_threads: config.workers,
            relays,
        };
        let publishing = relay::Settings {
            kinds: config.published,
            delay_max: config.publish_delay_max,
            ..relay::Settings::default()
        };
        Self { settings, publishing, nats, amqp, hooks, metrics }
    }

    /// Starts the service on a store. Dropped before it is done, it leaves nothing behind.
    ///
    /// # Errors
    /// When the store cannot be read, or the system gives no thread.
    pub async fn start(&self, store: Arc<dyn Store>) -> Result<Running, Fault> {
        let (metrics, hooks) = (Arc::clone(&self.metrics), Arc::clone(&self.hooks));
        let settings = self.settings.clone();
        let ipam = Ipam::start(Arc::clone(&store), Clock::System, metrics, hooks, settings);
        let ipam = ipam.await?;
        match self.start_relays(&store, &ipam) {
            Ok(relays) => Ok(Running { ipam, relays }),
            Err(error) => {
                ipam.stop().await;
                Err(Fault::new("starting a relay", error))
            }
        }
    }

    /// Starts a relay for each bus. When one cannot be, those before it end by themselves.
    fn start_relays(&self, store: &Arc<dyn Store>, ipam: &Ipam) -> std::io::Result<Vec<Relay>> {
        let relays = self.buses().into_iter().map(|(kind, bus)| {
            let (store, metrics) = (Arc::clone(store), Arc::clone(&self.metrics));
            Relay::start(store, bus, kind, ipam.wake(), Clock::System, metrics, self.publishing)
        });
        relays.collect()
    }

    /// The buses that are configured.
    fn buses(&self) -> Vec<(BusKind, Box<dyn Bus>)> {
        let mut buses: Vec<(BusKind, Box<dyn Bus>)> = Vec::new();
        if let Some(settings) = &self.nats {
            buses.push((BusKind::Nats, Box::new(NatsBus::new(settings.clone()))));
        }
        if let Some(settings) = &self.amqp {
            buses.push((BusKind::Amqp, Box::new(AmqpBus::new(settings.clone()))));
        }
        buses
    }
}

impl Running {
    /// Waits for the last commit, and until its events are published, if that can be soon.
    ///
    /// # Errors
    /// When the commit takes too long.
    pub async fn stop(self) -> anyhow::Result<()> {
        info!("stopping: waiting for the last commit");
        timeout(DRAIN_WAIT_MAX, self.ipam.stop())
            .await
            .with_context(|| format!("the last commit took longer than {DRAIN_WAIT_MAX:?}"))?;
        join_all(self.relays.into_iter().map(Relay::stop)).await;
        Ok(())
    }

    /// Ends what runs on a store that may be gone for good, in bounded time.
    async fn leave(self) {
        let relays = join_all(self.relays.into_iter().map(Relay::stop));
        let relays = timeout(STORE_LEAVE_WAIT_MAX, relays);
        let (is_done, _) = tokio::join!(self.ipam.leave(STORE_LEAVE_WAIT_MAX), relays);
        if !is_done {
            warn!("what was under way on the old servers is given up; its outcome is unknown");
        }
    }
}

/// What is done about a store that will not do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsuitable {
    Ends,
    /// It is waited for like one that is away: somebody will put it right.
    IsWaitedFor,
}

/// Goes on with a service that is let in to, until it is to stop.
pub async fn on_given(running: Running, mut stopping: watch::Receiver<bool>) -> Running {
    until(&mut stopping).await;
    running
}

/// Serves a MongoDB, when it is there, until it is to stop. Answers what runs then.
///
/// # Errors
/// When it will not do.
pub async fn on_mongo(
    settings: &MongoSettings,
    plan: &Plan,
    door: &Door,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<Option<Running>> {
    let open = async || mongo::open(settings).await;
    let start = async |store| plan.start(store).await;
    let running = tokio::select! {
        biased;
        () = until(&mut stopping) => return Ok(None),
        started = start_when_there(door, open, start, Unsuitable::Ends) => started?,
    };
    door.open(running.ipam.clone());
    Ok(Some(on_given(running, stopping).await))
}

/// Serves the MongoDB whose servers a catalogue names, and goes with it when it moves, until it is to stop.
/// Answers what runs then.
///
/// # Errors
/// When the first one that is found will not do.
pub async fn on_found(
    (lookup, database, followed): (&Lookup, &str, Followed),
    plan: &Plan,
    door: &Door,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<Option<Running>> {
    let mut unsuitable = Unsuitable::Ends;
    let mut served: Option<Identity> = None;
    loop {
        let moment = tokio::select! {
            biased;
            () = until(&mut stopping) => return Ok(None),
            moment = followed.first(|trouble| door.waits_for(trouble.to_owned())) => moment,
        };
        let (uri, database) = (lookup.uri(moment.places()), database.to_owned());
        let settings = MongoSettings { uri, database };
        let opened = RefCell::new(None);
        let open = async || {
            let found = mongo::open_same(&settings, served.as_ref()).await;
            let (store, identity) = found.map_err(|error| misnamed(error, &lookup.service))?;
            opened.replace(Some(identity));
            Ok(store)
        };
        let start = async |store| plan.start(store).await;
        let running = tokio::select! {
            biased;
            () = until(&mut stopping) => return Ok(None),
            () = moment.past() => continue,
            started = start_when_there(door, open, start, unsuitable) => started?,
        };
        unsuitable = Unsuitable::IsWaitedFor;
        // What runs is served from now on, so nothing else will do later.
        served = opened.take().or(served);
        door.open(running.ipam.clone());
        let fault = tokio::select! {
            biased;
            () = until(&mut stopping) => return Ok(Some(running)),
            fault = moved(&running.ipam, &moment) => fault,
        };
        warn!(
            error = %fault,
            "the store does not answer and Consul names other servers: starting anew on those"
        );
        door.close("it has moved to other servers".to_owned());
        // A stop waits for that: it is bounded, and nobody else would answer what is under way.
        running.leave().await;
    }
}

/// What is said of another database than the one that was served, where a service of Consul's names it.
fn misnamed(error: MongoOpenError, service: &str) -> MongoOpenError {
    match error {
        MongoOpenError::Another(why) => MongoOpenError::Unsuitable(format!(
            "the Consul service {service} names another database than the one that was served: {why}"
        )),
        other => other,
    }
}

async fn until(stopping: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to say so.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Waits until the store has moved: servers are named that it was not opened with, and it does not answer
/// time and again. Answers why not.
async fn moved(ipam: &Ipam, moment: &Moment) -> Fault {
    loop {
        moment.names_others().await;
        let mut failures = 0;
        while moment.is_outgrown() {
            match ipam.store_answers().await {
                Ok(()) => failures = 0,
                Err(fault) => {
                    failures += 1;
                    if failures >= STORE_MOVED_FAILURES {
                        return fault;
                    }
                }
            }
            sleep(STORE_MOVED_LOOK_EVERY).await;
        }
    }
}

/// Opens a store and starts the service on it, however long the store is away.
///
/// # Errors
/// When the store is there and will not do, if that is to end it.
async fn start_when_there<T>(
    door: &Door,
    open: impl AsyncFn() -> Result<Arc<dyn Store>, MongoOpenError>,
    start: impl AsyncFn(Arc<dyn Store>) -> Result<T, Fault>,
    unsuitable: Unsuitable,
) -> anyhow::Result<T> {
    let mut opened = None;
    let (mut pause, pause_max) = START_PAUSE;
    let (mut waited, mut told) = (false, false);
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
        let why = match attempt.await {
            Ok(started) => {
                if waited || told {
                    info!("the store is there; requests are served");
                }
                return Ok(started);
            }
            Err(why) => why,
        };
        match why {
            MongoOpenError::Unsuitable(_) | MongoOpenError::Another(_)
                if unsuitable == Unsuitable::Ends =>
            {
                return Err(why.into());
            }
            MongoOpenError::Unsuitable(_) | MongoOpenError::Another(_) => {
                if !std::mem::replace(&mut told, true) {
                    error!(error = %why, "the store cannot be used as it is; trying again");
                }
            }
            MongoOpenError::Unavailable(_) => {
                if !std::mem::replace(&mut waited, true) {
                    warn!(error = %why, "waiting for the store; requests are refused meanwhile");
                }
            }
        }
        door.waits_for(why.to_string());
        sleep(pause).await;
        pause = (pause * 2).min(pause_max);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use serde_json::Value;
    use std::path::Path;

    use crate::actors::failure::Failure;
    use crate::api::{self, Api};
    use crate::store::sqlite::SqliteStore;

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

    fn embedded(data: &Path) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(data).unwrap())
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
                _ => Ok(embedded(data.path())),
            }
        };
        let starts = RefCell::new(Vec::new());
        let start = async |store| {
            let (_, why) = ready(&door).await;
            starts.borrow_mut().push(why);
            if starts.borrow().len() == 1 {
                return Err(Fault::new("reading", "it fell over"));
            }
            ipam_on(store).await
        };
        let started = start_when_there(&door, open, start, Unsuitable::Ends).await.unwrap();
        door.open(started);
        assert_eq!(ready(&door).await, (200, String::new()));
        let mut attempts = opened.into_inner().into_iter();
        let (status, why) = attempts.next().unwrap();
        assert!(status == 503 && why.ends_with("the store has not been asked yet"), "{why}");
        let (status, why) = attempts.next().unwrap();
        assert!(status == 503 && why.ends_with("not available: nobody is there"), "{why}");
        assert!(attempts.next().is_none(), "a store that is open is not opened again");
        let [_, why] = &starts.into_inner()[..] else { panic!("it starts at the second attempt") };
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
        let ended = start_when_there(&door, open, ipam_on, Unsuitable::Ends);
        let ended = ended.await.err().unwrap();
        assert_eq!(format!("{ended:#}"), "it is too old; use a newer one");
        assert!(door.ipam().is_none());
    }

    #[actix_web::test]
    async fn one_that_will_not_do_after_a_move_is_waited_for() {
        let data = tempfile::tempdir().unwrap();
        let door = Door::default();
        let attempts = RefCell::new(0);
        let open = async || {
            *attempts.borrow_mut() += 1;
            match *attempts.borrow() {
                1 => Err(MongoOpenError::Unsuitable("it is too old; use a newer one".to_owned())),
                _ => Ok(embedded(data.path())),
            }
        };
        let started = start_when_there(&door, open, ipam_on, Unsuitable::IsWaitedFor);
        let ipam = started.await.unwrap();
        assert_eq!(attempts.into_inner(), 2);
        ipam.stop().await;
    }

    #[actix_web::test]
    async fn nothing_of_a_service_that_left_its_store_stays_behind() {
        let data = tempfile::tempdir().unwrap();
        let store = embedded(data.path());
        let known = Arc::downgrade(&store);
        let door = Door::default();
        let ipam = ipam_on(store).await.unwrap();
        door.open(ipam.clone());
        let guest = door.ipam().unwrap();
        door.close("it has moved".to_owned());
        assert!(door.ipam().is_none() && guest.store_answers().await.is_ok());
        Running { ipam, relays: Vec::new() }.leave().await;
        assert!(matches!(guest.ready().await, Err(Failure::StoreUnavailable(_))));
        drop(guest);
        let gone = async {
            while known.upgrade().is_some() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.expect("nobody has the store any more");
    }
}
