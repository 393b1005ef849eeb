//! What is looked up at Consul, of all that is configured, and at which agent.

use super::bus::Secret;
use super::consul;
use super::error::ConfigError;
use super::given::{required, within};
use super::lookup::{self, Lookup};
use super::options::Options;
use crate::discovery::ConsulSettings;
use crate::discovery::registration::Entry;
use crate::limits::{
    CONSUL_CHECK_INTERVAL_MAX, CONSUL_CHECK_INTERVAL_MIN, CONSUL_DEREGISTER_AFTER_MAX,
    CONSUL_DEREGISTER_AFTER_MIN,
};

/// Whether what is looked up is looked up at an agent, where nothing stands beside it that counts without one.
/// What is as by default says nothing: the default file names a service for the case that there is one.
///
/// # Errors
/// [`ConfigError::Needs`]
pub fn needs_consul(given: &Options, defaults: &Options) -> Result<(), ConfigError> {
    let is_given =
        |key: &Option<Secret>| key.as_ref().is_some_and(|key| !key.text().trim().is_empty());
    if is_given(&given.consul) {
        return Ok(());
    }
    let lookups = [
        (
            "consul_mongo",
            &given.consul_mongo,
            given.mongo.is_some() || given.consul_mongo == defaults.consul_mongo,
        ),
        ("consul_nats", &given.consul_nats, is_given(&given.nats)),
        ("consul_amqp", &given.consul_amqp, is_given(&given.amqp)),
    ];
    match lookups.into_iter().find(|(_, lookup, beside)| is_given(lookup) && !beside) {
        Some((key, ..)) => Err(ConfigError::Needs { key, needed: "consul" }),
        None => Ok(()),
    }
}

/// Consul's agent, and what is looked up there.
pub struct LookedUp {
    pub agent: ConsulSettings,
    pub entry: Entry,
    pub mongo: Option<Lookup>,
    pub nats: Option<Lookup>,
    pub amqp: Option<Lookup>,
}

/// Takes the keys of Consul, if it is asked for.
///
/// # Errors
/// [`ConfigError`]
pub fn looked_up(options: &mut Options) -> Result<Option<LookedUp>, ConfigError> {
    let is_given = |text: &String| !text.trim().is_empty();
    let given = options.consul.take().filter(|url| !url.text().trim().is_empty());
    let Some(url) = given else { return Ok(None) };
    let keys = consul::AgentKeys {
        url,
        token: options.consul_token.take(),
        token_file: options.consul_token_file.take(),
        datacenter: options.consul_datacenter.take(),
        ca: options.consul_ca.take(),
        cert: options.consul_cert.take(),
        key: options.consul_key.take(),
    };
    let agent = consul::agent(keys, |name| std::env::var(name).ok())?;
    let tags = options.consul_tags.take().unwrap_or_default();
    let entry = consul::entry(consul::EntryKeys {
        service: required("consul_service", options.consul_service.take())?,
        id: options.consul_service_id.take().filter(is_given),
        address: options.consul_address.take().filter(is_given),
        tags: tags.into_iter().filter(is_given).collect(),
        check_interval: within(
            "consul_check_interval",
            options.consul_check_interval,
            CONSUL_CHECK_INTERVAL_MIN..=CONSUL_CHECK_INTERVAL_MAX,
            "a second to an hour",
        )?,
        deregister_after: within(
            "consul_deregister_after",
            options.consul_deregister_after,
            CONSUL_DEREGISTER_AFTER_MIN..=CONSUL_DEREGISTER_AFTER_MAX,
            "a minute to 366 days",
        )?,
    })?;
    let lookup = |key, given: Option<Secret>, schemes: &[&str]| {
        lookup::lookup(key, &given.unwrap_or_default(), schemes)
    };
    Ok(Some(LookedUp {
        agent,
        entry,
        mongo: lookup("consul_mongo", options.consul_mongo.take(), &["mongodb"])?,
        nats: lookup("consul_nats", options.consul_nats.take(), &["nats", "tls"])?,
        amqp: lookup("consul_amqp", options.consul_amqp.take(), &["amqp", "amqps"])?,
    }))
}
