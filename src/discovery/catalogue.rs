//! Following one service in Consul's catalogue.

use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep, sleep_until};

use crate::bus::servers::{Place, Seen};
use crate::limits::{CONSUL_ASK_PAUSE, CONSUL_PAUSE_MAX, CONSUL_PAUSE_MIN};

use super::answers::next_index;
use super::consul::{Consul, ConsulError, Passing};

/// Follows a service; ends when it is dropped.
pub struct Catalogue {
    seen: watch::Receiver<Seen>,
    running: JoinHandle<()>,
}

impl Catalogue {
    /// Begins to follow a service. Must be called on the runtime that is to outlive the requests.
    pub fn follow(consul: Consul, service: String) -> Self {
        let waits = format!("Consul at {} has not been asked yet", consul.url());
        let (say, seen) = watch::channel(Seen { places: Vec::new(), trouble: Some(waits) });
        let running =
            tokio::spawn(Loop { consul, service, say, failing: false, odd: Vec::new() }.run());
        Self { seen, running }
    }

    /// The passing instances as they are, and as they change.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.running.abort();
    }
}

struct Loop {
    consul: Consul,
    service: String,
    say: watch::Sender<Seen>,
    /// The last question failed: said once, and again when one succeeds.
    failing: bool,
    /// Addresses that are none, of the last answer.
    odd: Vec<String>,
}

impl Loop {
    async fn run(mut self) {
        let (mut index, mut pause) = (0, CONSUL_PAUSE_MIN);
        loop {
            let asked = Instant::now();
            match self.consul.passing(&self.service, index).await {
                Ok(Passing { places, odd, index: answered }) => {
                    (index, pause) = (next_index(index, answered), CONSUL_PAUSE_MIN);
                    self.leave_out(odd);
                    self.hear(places);
                    // Whatever the index does, it is not asked more often than this.
                    sleep_until((asked + CONSUL_ASK_PAUSE).into()).await;
                }
                Err(error) => {
                    self.fail(&error);
                    // What is there when the agent is back is news, whatever its index.
                    index = 0;
                    sleep(pause).await;
                    pause = longer(pause);
                }
            }
        }
    }

    /// Says once which addresses do not count.
    fn leave_out(&mut self, odd: Vec<String>) {
        if !odd.is_empty() && odd != self.odd {
            let (service, addresses) = (&self.service, odd.join(","));
            tracing::warn!(
                consul.service = service,
                addresses,
                "Consul names addresses that are none; they are left out"
            );
        }
        self.odd = odd;
    }

    fn hear(&mut self, places: Vec<Place>) {
        let service = &self.service;
        if std::mem::take(&mut self.failing) {
            tracing::info!(consul.service = service, "Consul answers again");
        }
        let (mut is_news, mut was) = (false, 0);
        self.say.send_if_modified(|seen| {
            was = seen.places.len();
            let heard = hear(service, seen, places);
            is_news = heard != *seen;
            *seen = heard;
            is_news
        });
        if !is_news {
            return;
        }
        let Seen { places, trouble } = &*self.say.borrow();
        match trouble {
            None => {
                let places: Vec<_> = places.iter().map(Place::to_string).collect();
                tracing::info!(consul.service = service, servers = places.join(","), "found");
            }
            Some(trouble) if was > 0 => {
                tracing::warn!("{trouble}; going on with those that were there last");
            }
            Some(trouble) => tracing::warn!("{trouble}; waiting for one"),
        }
    }

    fn fail(&mut self, error: &ConsulError) {
        if !std::mem::replace(&mut self.failing, true) {
            let service = &self.service;
            if self.say.borrow().places.is_empty() {
                tracing::warn!("{error}; waiting for it to say where {service} is");
            } else {
                tracing::warn!("{error}; going on with what it said of {service} last");
            }
        }
        let trouble = Some(error.to_string());
        self.say.send_if_modified(|seen| {
            let is_news = seen.trouble != trouble;
            seen.trouble = trouble;
            is_news
        });
    }
}

/// What is known now. That nothing passes takes nothing away.
fn hear(service: &str, before: &Seen, places: Vec<Place>) -> Seen {
    if places.is_empty() {
        let trouble = format!("no passing instance of the Consul service {service}");
        return Seen { places: before.places.clone(), trouble: Some(trouble) };
    }
    Seen { places, trouble: None }
}

/// The pause after a further failure.
pub fn longer(pause: Duration) -> Duration {
    (pause * 2).min(CONSUL_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nothing_passes_takes_nothing_away() {
        let place = |port| Place { host: "db".into(), port };
        let never = hear("mongodb", &Seen::default(), vec![]);
        let trouble = Some("no passing instance of the Consul service mongodb".to_owned());
        assert_eq!(never, Seen { places: vec![], trouble: trouble.clone() });
        let there = hear("mongodb", &never, vec![place(1)]);
        assert_eq!(there, Seen { places: vec![place(1)], trouble: None });
        let gone = hear("mongodb", &there, vec![]);
        assert_eq!(gone, Seen { places: vec![place(1)], trouble });
        assert_eq!(hear("mongodb", &gone, vec![place(2)]).places, [place(2)]);
    }
}
