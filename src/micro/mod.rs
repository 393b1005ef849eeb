//! Reservations over NATS: a micro service named `ipam`, asked by request and reply. The bodies,
//! problems, ids and keys are those of HTTP; this translates, and asks [`Ipam`](crate::service::Ipam).
//!
//! Every request is worked on by a task of its own, which runs its course whoever goes away. There are
//! so many of them at most; further requests are refused at once.

mod ask;
mod body;
mod desk;
mod operation;
mod reply;
mod serve;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::api::door::Door;
use crate::bus::nats::NatsSettings;
use crate::limits::{DRAIN_WAIT_MAX, NATS_API_PAUSE_MAX, NATS_API_PAUSE_MIN};
use desk::Desk;
use serve::{Ended, Session, until_stopped};

/// Answers over NATS until it is stopped.
pub struct Micro {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Micro {
    /// Starts answering. Must be called on the runtime that is to outlive the requests. However long NATS
    /// is away, it is tried again; while the door is closed, requests are refused.
    pub fn start(settings: NatsSettings, door: Arc<Door>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(run(settings, Arc::new(Desk::new(door)), stopped));
        Self { stop, running }
    }

    /// Takes no more requests, and waits until those under way are answered.
    pub async fn stop(self) {
        // Whoever ran may have ended by a panic, which is told already.
        self.stop.send_replace(true);
        drop(self.running.await);
    }
}

async fn run(settings: NatsSettings, desk: Arc<Desk>, mut stopped: watch::Receiver<bool>) {
    let mut pause = NATS_API_PAUSE_MIN;
    let mut is_told = false;
    // Of sessions that others have followed.
    let mut closing = JoinSet::new();
    let mut next = None;
    let last = loop {
        let opened = match next.take() {
            Some(session) => Ok(session),
            None => tokio::select! {
                () = until_stopped(&mut stopped) => break None,
                opened = Session::open(&settings) => opened,
            },
        };
        let failed = match opened {
            Ok(mut session) => match session.serve(&desk, &settings, &mut stopped).await {
                Ended::Stopped => break Some(session),
                Ended::Moved(successor) => {
                    info!("NATS is asked on other servers now");
                    let desk = Arc::clone(&desk);
                    while closing.try_join_next().is_some() {}
                    closing.spawn(async move { session.close(&desk).await });
                    next = Some(*successor);
                    continue;
                }
                Ended::Lost => {
                    (pause, is_told) = (NATS_API_PAUSE_MIN, false);
                    "the connection is lost for good".to_owned()
                }
            },
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut is_told, true) {
            warn!(error = failed, "nothing is answered over NATS; trying again");
        }
        tokio::select! {
            () = until_stopped(&mut stopped) => break None,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(NATS_API_PAUSE_MAX);
    };
    if let Some(session) = last {
        session.close(&desk).await;
    }
    closing.join_all().await;
    if timeout(DRAIN_WAIT_MAX, desk.is_idle()).await.is_err() {
        warn!("requests over NATS took longer than {DRAIN_WAIT_MAX:?}");
    }
    info!("nothing is answered over NATS any more");
}
