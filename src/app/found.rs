//! What Consul is for here: which servers are looked up, and that this instance is registered.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tracing::warn;

use crate::bus::amqp::AmqpSettings;
use crate::bus::nats::NatsSettings;
use crate::bus::servers::Followed;
use crate::config::{Config, StoreAt};
use crate::discovery::catalogue::Catalogue;
use crate::discovery::consul::{Consul, ConsulError};
use crate::discovery::registration::{Registration, host_name};

/// The services that are looked up; without Consul none is.
#[derive(Default)]
pub struct Found {
    consul: Option<Consul>,
    mongo: Option<Catalogue>,
    nats: Option<Catalogue>,
    amqp: Option<Catalogue>,
}

impl Found {
    /// Begins to look up what is configured. Must be called on the runtime that is to outlive the
    /// requests.
    ///
    /// # Errors
    /// When a file with certificates cannot be used.
    pub fn follow(config: &Config) -> Result<Self, ConsulError> {
        let Some(asked) = &config.consul else { return Ok(Self::default()) };
        for key in &asked.ignored {
            warn!("`{key}` is set and does not count: it is looked up at Consul");
        }
        let consul = Consul::new(asked.settings.clone())?;
        let follow = |service: &str| Catalogue::follow(consul.clone(), service.to_owned());
        let mongo = match &config.store {
            StoreAt::Consul { lookup, .. } => Some(follow(&lookup.service)),
            StoreAt::Directory(_) | StoreAt::Mongo(_) => None,
        };
        let (nats, amqp) = (asked.nats.as_deref().map(follow), asked.amqp.as_deref().map(follow));
        Ok(Self { mongo, nats, amqp, consul: Some(consul) })
    }

    /// The servers of MongoDB, when they are looked up.
    pub fn mongo(&self) -> Option<Followed> {
        self.mongo.as_ref().map(followed)
    }

    /// How NATS is reached, on the servers that are looked up, if they are.
    pub fn nats(&self, config: &Config) -> Option<NatsSettings> {
        let followed = self.nats.as_ref().map(followed);
        config.nats.clone().map(|settings| NatsSettings { followed, ..settings })
    }

    /// How RabbitMQ is reached, on the servers that are looked up, if they are.
    pub fn amqp(&self, config: &Config) -> Option<AmqpSettings> {
        let followed = self.amqp.as_ref().map(followed);
        config.amqp.clone().map(|settings| AmqpSettings { followed, ..settings })
    }

    /// Begins to register this instance, which listens there.
    pub fn register(&self, config: &Config, listens: SocketAddr) -> Option<Registration> {
        let (consul, asked) = (self.consul.clone()?, config.consul.as_ref()?);
        let registered = asked.entry.registered(listens, &host_name(), meta(config));
        Some(Registration::start(consul, registered))
    }
}

fn followed(catalogue: &Catalogue) -> Followed {
    Followed::new(catalogue.seen())
}

/// What others may want to know of an instance before they ask it.
fn meta(config: &Config) -> BTreeMap<String, String> {
    let store = match config.store {
        StoreAt::Directory(_) => "embedded",
        StoreAt::Mongo(_) | StoreAt::Consul { .. } => "mongodb",
    };
    let mut meta = BTreeMap::new();
    let mut say = |key: &str, value: &str| meta.insert(key.to_owned(), value.to_owned());
    say("version", env!("CARGO_PKG_VERSION"));
    say("store", store);
    say("nats_api", if config.nats_api { "true" } else { "false" });
    meta
}
