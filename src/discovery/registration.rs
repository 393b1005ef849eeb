//! This instance in Consul's catalogue: registered, kept there, and taken out of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::bus::servers::Place;
use crate::limits::{
    CONSUL_CHECK_WAIT_MAX, CONSUL_LEAVE_WAIT_MAX, CONSUL_LOOK_EVERY, CONSUL_PAUSE_MIN,
};

use super::answers::{Check, Registered};
use super::catalogue::longer;
use super::consul::{Consul, ConsulError, seconds};

/// How long a stop waits for what was sent to the agent before.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(1);
/// What is checked.
const CHECKED: &str = "/health/ready";

/// How this instance is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub service: String,
    /// Made of the service, the host and the port, when it is not given.
    pub id: Option<String>,
    /// Where others reach it, when that is not where it listens. Without a port: that it listens on.
    pub address: Option<(String, Option<u16>)>,
    pub tags: Vec<String>,
    pub check_interval: Duration,
    /// How long it may be critical until Consul removes it.
    pub deregister_after: Duration,
}

impl Entry {
    /// As it is sent to the agent, of an instance that listens there on a host of that name.
    pub fn registered(
        &self,
        listens: SocketAddr,
        host: &str,
        meta: BTreeMap<String, String>,
    ) -> Registered {
        let port = self.address.as_ref().and_then(|(_, port)| *port).unwrap_or(listens.port());
        let is_specific = !listens.ip().is_unspecified();
        let (address, checked) = match &self.address {
            Some((address, _)) => (address.clone(), address.clone()),
            None if is_specific => (listens.ip().to_string(), listens.ip().to_string()),
            // The agent's own, by which others reach what runs beside it.
            None => (String::new(), loopback(listens.ip()).to_owned()),
        };
        let service = &self.service;
        let id = self.id.clone().unwrap_or_else(|| format!("{service}-{host}-{port}"));
        let check = Check {
            id: format!("service:{id}"),
            name: "the service can do its work".to_owned(),
            http: format!("http://{}{CHECKED}", Place { host: checked, port }),
            interval: seconds(self.check_interval),
            timeout: seconds(CONSUL_CHECK_WAIT_MAX),
            deregister_critical_service_after: seconds(self.deregister_after),
        };
        let (name, tags) = (service.clone(), self.tags.clone());
        Registered { id, name, address, port, tags, meta, check }
    }
}

fn loopback(listens: IpAddr) -> &'static str {
    match listens {
        IpAddr::V4(_) => "127.0.0.1",
        IpAddr::V6(_) => "::1",
    }
}

/// The name of this machine, as others may know it.
pub fn host_name() -> String {
    let of_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = of_kernel.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Keeps this instance registered until it ends.
pub struct Registration {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Registration {
    /// Begins to register. Must be called on the runtime that is to outlive the requests.
    pub fn start(consul: Consul, registered: Registered) -> Self {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(keep(consul, registered, stopped));
        Self { stop, running }
    }

    /// Takes this instance out of the catalogue, unless the agent is away for too long.
    pub async fn end(self) {
        self.stop.send_replace(true);
        // Whoever ran may have ended by a panic, which is told already.
        drop(self.running.await);
    }
}

async fn keep(consul: Consul, registered: Registered, mut stopped: watch::Receiver<bool>) {
    let id = registered.id.as_str();
    let mut also_stopped = stopped.clone();
    // What is on its way to the agent would else come there after what follows.
    let in_flight = async {
        until(&mut also_stopped).await;
        sleep(IN_FLIGHT_MAX).await;
    };
    tokio::select! {
        () = keep_registered(&consul, &registered, &mut stopped) => {}
        () = in_flight => {}
    }
    match timeout(CONSUL_LEAVE_WAIT_MAX, consul.deregister(id)).await {
        Ok(Ok(())) => tracing::info!(consul.id = id, "deregistered"),
        Ok(Err(error)) => tracing::warn!(consul.id = id, "{error}; it stays registered"),
        Err(_) => {
            let url = consul.url();
            tracing::warn!(consul.id = id, "Consul at {url} does not answer; it stays registered");
        }
    }
}

async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to say so.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Looks again and again whether the agent knows it, until it is to end: one that was started anew has
/// forgotten it.
async fn keep_registered(
    consul: &Consul,
    registered: &Registered,
    stopped: &mut watch::Receiver<bool>,
) {
    let (mut is_known, mut is_failing) = (false, false);
    let mut next_pause = CONSUL_PAUSE_MIN;
    let id = registered.id.as_str();
    loop {
        let looked = async {
            // What an earlier run left there may be checked in another way, which the agent does not tell.
            if is_known && consul.knows(registered).await? {
                return Ok(false);
            }
            consul.register(registered).await.map(|()| true)
        };
        let looked: Result<bool, ConsulError> = looked.await;
        let pause = match looked {
            Ok(is_new) => {
                if is_new && is_known {
                    tracing::warn!(
                        consul.id = id,
                        "the agent did not know this instance; registered again"
                    );
                } else if is_new {
                    tracing::info!(consul.id = id, "registered");
                } else if is_failing {
                    tracing::info!(consul.id = id, "Consul answers again");
                }
                (is_known, is_failing, next_pause) = (true, false, CONSUL_PAUSE_MIN);
                CONSUL_LOOK_EVERY
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(
                        consul.id = id,
                        "{error}; this instance is registered when it does"
                    );
                }
                let longer = longer(next_pause).min(CONSUL_LOOK_EVERY);
                std::mem::replace(&mut next_pause, longer)
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = until(stopped) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: Option<(&str, Option<u16>)>) -> Entry {
        Entry {
            service: "ipam".into(),
            id: None,
            address: address.map(|(host, port)| (host.to_owned(), port)),
            tags: vec![],
            check_interval: Duration::from_secs(5),
            deregister_after: Duration::from_secs(600),
        }
    }

    #[test]
    fn the_address_is_the_one_given_or_listened_on_or_the_agents() {
        for (given, listens, address, port, checked) in [
            (None, "10.0.0.1:8000", "10.0.0.1", 8000, "10.0.0.1:8000"),
            (None, "[fd00::1]:8000", "fd00::1", 8000, "[fd00::1]:8000"),
            (None, "0.0.0.0:8000", "", 8000, "127.0.0.1:8000"),
            (None, "[::]:8000", "", 8000, "[::1]:8000"),
            (Some(("ipam-1", None)), "0.0.0.0:8000", "ipam-1", 8000, "ipam-1:8000"),
            (Some(("fd00::2", Some(80))), "0.0.0.0:8000", "fd00::2", 80, "[fd00::2]:80"),
        ] {
            let made = entry(given).registered(listens.parse().unwrap(), "h", BTreeMap::new());
            assert_eq!((made.address.as_str(), made.port), (address, port), "{listens}");
            assert_eq!(made.check.http, format!("http://{checked}/health/ready"));
            assert_eq!(made.id, format!("ipam-h-{port}"));
        }
        let named = Entry { id: Some("one".into()), ..entry(None) };
        let made = named.registered("127.0.0.1:1".parse().unwrap(), "h", BTreeMap::new());
        assert_eq!((made.id.as_str(), made.check.id.as_str()), ("one", "service:one"));
    }
}
