//! Where the buses are, as it is configured. Most of it may hold a secret, which no error repeats.

use std::convert::Infallible;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lapin::uri::AMQPUri;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::period::Period;
use crate::bus::amqp::AmqpSettings;
use crate::bus::nats::{NatsLogin, NatsSettings};
use crate::bus::servers::is_server;
use crate::limits::{NATS_MAX_AGE_MAX, NATS_MAX_AGE_MIN, NATS_REPLICAS_MAX};

/// What may have a password in it, as it was written; shown by nothing.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What nothing may show.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Anything goes here, so that the command line never has to quote what is wrong with it.
impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// A key, and what is wrong with it; quotes nothing of a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct BusError {
    key: &'static str,
    why: String,
}

impl BusError {
    /// The same of another key that says it.
    pub fn of(self, key: &'static str) -> Self {
        let is_its_own = ["nats", "amqp"].contains(&self.key);
        Self { key: if is_its_own { key } else { self.key }, ..self }
    }
}

fn wrong<T>(key: &'static str, why: impl Into<String>) -> Result<T, BusError> {
    Err(BusError { key, why: why.into() })
}

/// The keys of NATS, as they were written.
pub struct NatsKeys {
    pub servers: Secret,
    pub token: Option<Secret>,
    pub creds: Option<PathBuf>,
    pub nkey: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub stream: String,
    pub replicas: usize,
    pub max_age: Period,
}

/// What can be told of NATS without asking anybody.
///
/// # Errors
/// [`BusError`]
pub fn nats(keys: NatsKeys) -> Result<NatsSettings, BusError> {
    let (servers, user) = nats_servers(&keys.servers.0)?;
    let logins = [
        user,
        keys.token.map(|token| NatsLogin::Token(token.0)),
        keys.creds.map(NatsLogin::Creds),
        keys.nkey.map(NatsLogin::Nkey),
    ];
    let mut logins = logins.into_iter().flatten();
    let login = logins.next().unwrap_or(NatsLogin::Nobody);
    if logins.next().is_some() {
        let why = "one is let in by a user, by nats_token, by nats_creds or by nats_nkey: give one of them";
        return wrong("nats", why);
    }
    let identity = match (keys.cert, keys.key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return wrong("nats_cert", "it needs nats_key"),
        (None, Some(_)) => return wrong("nats_key", "it needs nats_cert"),
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    if keys.stream.is_empty() || keys.stream.contains(is_odd) {
        return wrong("nats_stream", "a stream has a name without spaces and none of . * > / \\");
    }
    if !(1..=NATS_REPLICAS_MAX).contains(&keys.replicas) {
        return wrong("nats_replicas", format!("not within 1 to {NATS_REPLICAS_MAX}"));
    }
    let bounds: RangeInclusive<Duration> = NATS_MAX_AGE_MIN..=NATS_MAX_AGE_MAX;
    let Some(max_age) = keys.max_age.to_duration().filter(|age| bounds.contains(age)) else {
        return wrong("nats_max_age", "not within a minute to 36500 days");
    };
    Ok(NatsSettings {
        servers,
        followed: None,
        login,
        ca: keys.ca,
        identity,
        stream: keys.stream,
        replicas: keys.replicas,
        max_age,
    })
}

/// The servers without user and password, and those.
fn nats_servers(text: &str) -> Result<(Vec<String>, Option<NatsLogin>), BusError> {
    let mut servers = Vec::new();
    let mut user: Option<&str> = None;
    for (index, server) in text.split(',').map(str::trim).enumerate() {
        let number = index + 1;
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        if !["nats", "tls"].contains(&scheme) {
            return wrong(
                "nats",
                format!("server {number} begins with neither nats:// nor tls://"),
            );
        }
        let (own, place) = match rest.rsplit_once('@') {
            Some((own, place)) => (Some(own), place),
            None => (None, rest),
        };
        if user.is_some() && own.is_some() && own != user {
            return wrong("nats", format!("server {number} has another user than those before it"));
        }
        user = user.or(own);
        let place = place.strip_suffix('/').unwrap_or(place);
        if !is_server(place) {
            let why = format!("server {number} is not nats://HOST:PORT with a port of 1 to 65535");
            return wrong("nats", why);
        }
        servers.push(format!("{scheme}://{place}"));
    }
    let decoded = |text| percent_decode_str(text).decode_utf8().map(String::from);
    let login = user.map(|user| match user.split_once(':') {
        Some((name, password)) => {
            Ok(NatsLogin::User { name: decoded(name)?, password: decoded(password)? })
        }
        None => Ok(NatsLogin::Token(decoded(user)?)),
    });
    match login.transpose() {
        Ok(login) => Ok((servers, login)),
        Err(std::str::Utf8Error { .. }) => wrong("nats", "user or password is not UTF-8"),
    }
}

/// What can be told of RabbitMQ without asking anybody.
///
/// # Errors
/// [`BusError`]
pub fn amqp(uri: &Secret, ca: Option<PathBuf>) -> Result<AmqpSettings, BusError> {
    let text = uri.0.trim();
    let rest = text.strip_prefix("amqps://").or_else(|| text.strip_prefix("amqp://"));
    let Some(rest) = rest else {
        return wrong("amqp", "a URL begins with amqp:// or amqps://");
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    if !is_server(place) {
        return wrong("amqp", "it names no server HOST or HOST:PORT with a port of 1 to 65535");
    }
    // What it says when it fails may repeat the URL.
    let Ok(mut uri) = text.parse::<AMQPUri>() else {
        return wrong("amqp", "not amqp://USER:PASSWORD@HOST:PORT/VHOST");
    };
    // It takes no IPv6 address from a URL.
    if let Some((address, _)) = place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        address.clone_into(&mut uri.authority.host);
    }
    if uri.vhost.is_empty() {
        uri.vhost.push('/');
    }
    Ok(AmqpSettings { uri, ca, followed: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(servers: &str) -> NatsKeys {
        NatsKeys {
            servers: servers.parse().unwrap(),
            token: None,
            creds: None,
            nkey: None,
            ca: None,
            cert: None,
            key: None,
            stream: "IPAM".into(),
            replicas: 1,
            max_age: "1h".parse().unwrap(),
        }
    }

    fn is_wrong(settings: Result<NatsSettings, BusError>, expected: &str) {
        let error = settings.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{expected}: {error}");
    }

    #[test]
    fn servers_are_parted_from_their_user() {
        let user = NatsLogin::User { name: "u".into(), password: "p@:/".into() };
        for (given, servers, login) in [
            ("a", vec!["nats://a"], NatsLogin::Nobody),
            ("a:1, tls://b:2/ ", vec!["nats://a:1", "tls://b:2"], NatsLogin::Nobody),
            ("nats://u:p%40%3A%2F@a,nats://b", vec!["nats://a", "nats://b"], user),
            (
                "nats://t@[fd00::1]:4222",
                vec!["nats://[fd00::1]:4222"],
                NatsLogin::Token("t".into()),
            ),
        ] {
            let settings = nats(keys(given)).unwrap();
            assert_eq!(
                (settings.servers, settings.login),
                (servers.iter().map(ToString::to_string).collect(), login)
            );
        }
    }

    #[test]
    fn what_is_wrong_with_nats_is_said_without_a_secret() {
        for (given, expected) in [
            ("", "server 1 is not nats://HOST:PORT"),
            ("a,,b", "server 2 is not"),
            ("http://u:secret@a", "begins with neither nats:// nor tls://"),
            ("nats://u:secret@a:0", "server 1 is not"),
            ("nats://u:secret@a,nats://u:secret2@b", "server 2 has another user"),
            ("nats://secret%FF@a", "not UTF-8"),
        ] {
            is_wrong(nats(keys(given)), expected);
        }
        let token = Some("secret".parse().unwrap());
        is_wrong(nats(NatsKeys { token, ..keys("secret@a") }), "nats: one is let in by");
        let creds = Some("a".into());
        is_wrong(nats(NatsKeys { creds, ..keys("u:secret@a") }), "nats: one is let in by");
        is_wrong(nats(NatsKeys { cert: Some("a".into()), ..keys("a") }), "nats_cert: it needs");
        is_wrong(nats(NatsKeys { key: Some("a".into()), ..keys("a") }), "nats_key: it needs");
        for stream in ["", "a.b", "a b", ">"] {
            is_wrong(
                nats(NatsKeys { stream: stream.into(), ..keys("a") }),
                "nats_stream: a stream",
            );
        }
        is_wrong(nats(NatsKeys { replicas: 0, ..keys("a") }), "nats_replicas: not within 1 to 5");
        let max_age = "59s".parse().unwrap();
        is_wrong(nats(NatsKeys { max_age, ..keys("a") }), "nats_max_age: not within a minute");
    }

    #[test]
    fn what_is_wrong_with_amqp_is_said_without_a_secret() {
        for (given, expected) in [
            ("", "begins with amqp:// or amqps://"),
            ("u:secret@a", "begins with amqp:// or amqps://"),
            ("amqp://", "it names no server"),
            ("amqp://u:secret@", "it names no server"),
            ("amqp://u:secret@a:0", "it names no server"),
            ("amqp://u:secret@a/?heartbeat=secret", "not amqp://USER:PASSWORD@HOST"),
        ] {
            let error = amqp(&given.parse().unwrap(), None).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{given}: {error}");
        }
        for (given, host, vhost) in [
            ("amqp://a", "a", "/"),
            ("amqp://u:p@a:1/", "a", "/"),
            ("amqps://u:p@10.0.0.1/%2f", "10.0.0.1", "/"),
            ("amqp://u:p@[fd00::1]:5672/v", "fd00::1", "v"),
        ] {
            let uri = amqp(&given.parse().unwrap(), None).unwrap().uri;
            assert_eq!((uri.authority.host.as_str(), uri.vhost.as_str()), (host, vhost), "{given}");
        }
    }

    #[test]
    fn it_is_not_shown_when_it_is_debugged() {
        let secret: Secret = "amqp://u:secret@a".parse().unwrap();
        let nats = nats(keys("nats://u:secret@a")).unwrap();
        let amqp = amqp(&secret, None).unwrap();
        assert!(!format!("{secret:?} {nats:?} {amqp:?}").contains("secret"));
    }
}
