//! Where Consul is, as it is configured, and what is looked up there. Where our own keys are silent, the
//! variables of Consul's own tools count, once Consul is asked for. No error repeats a secret.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::bus::Secret;
use crate::bus::servers::is_server;
use crate::discovery::registration::Entry;
use crate::discovery::{ConsulSettings, Login, Token};
use crate::limits::CONSUL_TAGS_MAX;

/// What a flag without a value means: the agent that Consul's own tools would ask.
pub const AUTO: &str = "auto";
const AGENT: &str = "127.0.0.1:8500";
/// The longest name of a service; it is a label in DNS.
const SERVICE_BYTES_MAX: usize = 63;
const TAG_BYTES_MAX: usize = 255;
const ID_BYTES_MAX: usize = 255;

/// A key, and what is wrong with it; quotes nothing of a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct ConsulKeyError {
    key: &'static str,
    why: String,
}

pub fn wrong<T>(key: &'static str, why: impl Into<String>) -> Result<T, ConsulKeyError> {
    Err(ConsulKeyError { key, why: why.into() })
}

/// Consul, and what it is for.
#[derive(Clone, Debug)]
pub struct ConsulConfig {
    pub settings: ConsulSettings,
    /// How this instance is registered.
    pub entry: Entry,
    /// The service that NATS is looked up as, if it is.
    pub nats: Option<String>,
    /// The service that RabbitMQ is looked up as, if it is.
    pub amqp: Option<String>,
    /// The keys that are set and do not count, because what they say is looked up.
    pub ignored: Vec<&'static str>,
}

/// The keys of the agent, as they were written.
#[derive(Default)]
pub struct AgentKeys {
    /// A URL, or [`AUTO`].
    pub url: Secret,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    pub datacenter: Option<String>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// How the agent is reached. `env` is the environment.
///
/// # Errors
/// [`ConsulKeyError`]
pub fn agent(
    keys: AgentKeys,
    env: impl Fn(&str) -> Option<String>,
) -> Result<ConsulSettings, ConsulKeyError> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let given = keys.url.text().trim();
    let (key, text) = if given == AUTO {
        ("CONSUL_HTTP_ADDR", env("CONSUL_HTTP_ADDR").unwrap_or_else(|| AGENT.to_owned()))
    } else {
        ("consul", given.to_owned())
    };
    let tls = flag("CONSUL_HTTP_SSL", env)?.unwrap_or(false);
    let At { url, socket, login } = at(key, &text, tls)?;
    let login = login.or_else(|| env("CONSUL_HTTP_AUTH").map(|text| login_of(&text)));
    let token = match (keys.token, keys.token_file) {
        (Some(_), Some(_)) => {
            return wrong("consul_token", "give either it or consul_token_file");
        }
        (Some(token), None) => Token::Given(token.text().trim().to_owned()),
        (None, Some(file)) => Token::File(file),
        (None, None) => match (env("CONSUL_HTTP_TOKEN_FILE"), env("CONSUL_HTTP_TOKEN")) {
            (Some(file), _) => Token::File(file.into()),
            (None, Some(token)) => Token::Given(token),
            (None, None) => Token::None,
        },
    };
    let path = |key: Option<PathBuf>, name| key.or_else(|| env(name).map(PathBuf::from));
    let certificate = path(keys.cert, "CONSUL_CLIENT_CERT");
    let identity = match (certificate, path(keys.key, "CONSUL_CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return wrong("consul_cert", "it needs consul_key"),
        (None, Some(_)) => return wrong("consul_key", "it needs consul_cert"),
    };
    Ok(ConsulSettings {
        url,
        socket,
        token,
        login,
        datacenter: keys.datacenter.filter(|datacenter| !datacenter.is_empty()),
        ca: path(keys.ca, "CONSUL_CACERT"),
        identity,
        server_name: env("CONSUL_TLS_SERVER_NAME"),
        verify: flag("CONSUL_HTTP_SSL_VERIFY", env)?.unwrap_or(true),
    })
}

struct At {
    url: String,
    socket: Option<PathBuf>,
    login: Option<Login>,
}

/// Takes a URL apart; `tls` is whether one that need not say so is meant with TLS.
fn at(key: &'static str, text: &str, tls: bool) -> Result<At, ConsulKeyError> {
    let has_scheme = text.contains("://");
    let (scheme, rest) =
        text.split_once("://").unwrap_or((if tls { "https" } else { "http" }, text));
    if scheme == "unix" && !rest.is_empty() {
        let url = "http://localhost".to_owned();
        return Ok(At { url, socket: Some(rest.into()), login: None });
    }
    if !["http", "https"].contains(&scheme) {
        return wrong(key, "a URL begins with http:// or https://");
    }
    // As Consul's own tools have it: what asks for TLS is not talked out of it.
    let is_theirs = key != "consul";
    let scheme = if tls && is_theirs { "https" } else { scheme };
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(decoded(key, login_of(login))?), place),
        None => (None, rest),
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    if !is_server(place) {
        return wrong(key, "it is not http://HOST:PORT with a port of 1 to 65535");
    }
    // The port of the scheme counts where one is given, and in what Consul's own tools read.
    let port = if has_port(place) || has_scheme || is_theirs { "" } else { ":8500" };
    Ok(At { url: format!("{scheme}://{place}{port}"), socket: None, login })
}

fn has_port(place: &str) -> bool {
    let after_address = place.rsplit_once(']').map_or(place, |(_, rest)| rest);
    after_address.contains(':')
}

fn login_of(text: &str) -> Login {
    match text.split_once(':') {
        Some((user, password)) => Login { user: user.into(), password: Some(password.into()) },
        None => Login { user: text.into(), password: None },
    }
}

/// What stands in a URL without the escapes that it needs there.
fn decoded(key: &'static str, login: Login) -> Result<Login, ConsulKeyError> {
    let decoded = |text: String| percent_decode_str(&text).decode_utf8().map(String::from);
    match (decoded(login.user), login.password.map(decoded).transpose()) {
        (Ok(user), Ok(password)) => Ok(Login { user, password }),
        _ => wrong(key, "the user or the password is no text when it is decoded"),
    }
}

/// As Go reads such a variable.
fn flag(
    name: &'static str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<bool>, ConsulKeyError> {
    match env(name).as_deref() {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(_) => wrong(name, "it is neither true nor false"),
    }
}

/// The keys of this instance, as they were written.
pub struct EntryKeys {
    pub service: String,
    pub id: Option<String>,
    pub address: Option<String>,
    pub tags: Vec<String>,
    pub check_interval: Duration,
    pub deregister_after: Duration,
}

/// How this instance is registered.
///
/// # Errors
/// [`ConsulKeyError`]
pub fn entry(keys: EntryKeys) -> Result<Entry, ConsulKeyError> {
    check_service("consul_service", &keys.service)?;
    let is_odd = |text: &str| text.is_empty() || text.contains(char::is_control);
    let id = keys.id;
    if id.as_deref().is_some_and(|id| is_odd(id) || id.len() > ID_BYTES_MAX) {
        return wrong("consul_service_id", format!("an id has 1 to {ID_BYTES_MAX} bytes"));
    }
    if keys.tags.len() > CONSUL_TAGS_MAX {
        return wrong("consul_tags", format!("there are {CONSUL_TAGS_MAX} at most"));
    }
    if keys.tags.iter().any(|tag| is_odd(tag) || tag.len() > TAG_BYTES_MAX) {
        return wrong("consul_tags", format!("a tag has 1 to {TAG_BYTES_MAX} bytes"));
    }
    let address = keys.address.map(|text| own_address(&text)).transpose()?;
    Ok(Entry {
        service: keys.service,
        id,
        address,
        tags: keys.tags,
        check_interval: keys.check_interval,
        deregister_after: keys.deregister_after,
    })
}

fn own_address(text: &str) -> Result<(String, Option<u16>), ConsulKeyError> {
    const KEY: &str = "consul_address";
    let text = text.trim();
    // An IPv6 address without a port needs no brackets.
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_string(), None));
    }
    if !is_server(text) {
        return wrong(KEY, "it is not HOST or HOST:PORT with a port of 1 to 65535");
    }
    let (host, port) = if has_port(text) { text.rsplit_once(':') } else { None }
        .map_or((text, None), |(host, port)| (host, port.parse().ok()));
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// Whether it can be the name of a service.
///
/// # Errors
/// [`ConsulKeyError`]
pub fn check_service(key: &'static str, name: &str) -> Result<(), ConsulKeyError> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || name.len() > SERVICE_BYTES_MAX || !name.chars().all(is_known) {
        let why = "the name of a service has 1 to 63 letters, digits, - and _, and no port";
        return wrong(key, why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    fn agent_of(keys: AgentKeys, env: &[(&str, &str)]) -> Result<ConsulSettings, String> {
        let value = |name: &str| {
            let pair = env.iter().find(|(known, _)| *known == name)?;
            Some(pair.1.to_owned())
        };
        agent(keys, value).map_err(|error| error.to_string())
    }

    fn url_of(url: &str, env: &[(&str, &str)]) -> Result<String, String> {
        let keys = AgentKeys { url: secret(url), ..AgentKeys::default() };
        agent_of(keys, env).map(|settings| settings.url)
    }

    #[test]
    fn the_agent_is_where_our_key_says_or_where_consuls_tools_would_look() {
        let addr = |at| vec![("CONSUL_HTTP_ADDR", at)];
        let tls = |at| vec![("CONSUL_HTTP_ADDR", at), ("CONSUL_HTTP_SSL", "true")];
        for (given, env, expected) in [
            ("http://c:8500", addr("other:1"), "http://c:8500"),
            ("https://c/", vec![], "https://c"),
            ("http://c", vec![], "http://c"),
            ("c", vec![], "http://c:8500"),
            ("c", tls("x"), "https://c:8500"),
            (AUTO, addr("c"), "http://c"),
            (AUTO, tls("c"), "https://c"),
            ("c:1", vec![], "http://c:1"),
            ("[fd00::1]", vec![], "http://[fd00::1]:8500"),
            ("c:1", tls("x"), "https://c:1"),
            ("http://c:1", tls("x"), "http://c:1"),
            (AUTO, vec![], "http://127.0.0.1:8500"),
            (AUTO, addr(""), "http://127.0.0.1:8500"),
            (AUTO, addr("c:1"), "http://c:1"),
            (AUTO, addr("https://c:1"), "https://c:1"),
            (AUTO, tls("http://c:1"), "https://c:1"),
            ("http://u:p@c:1", vec![], "http://c:1"),
        ] {
            assert_eq!(url_of(given, &env).as_deref(), Ok(expected), "{given} {env:?}");
        }
        let keys = AgentKeys { url: secret(AUTO), ..AgentKeys::default() };
        let settings = agent_of(keys, &addr("unix:///run/consul.sock")).unwrap();
        assert_eq!(settings.socket, Some("/run/consul.sock".into()));
        for (given, env, expected) in [
            ("ftp://u:secret@c", vec![], "consul: a URL begins with http:// or https://"),
            ("http://u:secret%ff@c", vec![], "consul: the user or the password is no text"),
            ("http://u:secret@", vec![], "consul: it is not http://HOST:PORT"),
            ("http://secret:0", vec![], "consul: it is not http://HOST:PORT"),
            ("http://c/secret", vec![], "consul: it is not http://HOST:PORT"),
            (AUTO, addr("secret:x"), "CONSUL_HTTP_ADDR: it is not"),
            (AUTO, vec![("CONSUL_HTTP_SSL", "secret")], "CONSUL_HTTP_SSL: it is neither"),
        ] {
            let error = url_of(given, &env).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn our_keys_go_before_the_variables_of_consuls_tools() {
        let env = [
            ("CONSUL_HTTP_TOKEN", "theirs"),
            ("CONSUL_HTTP_AUTH", "user:pass:w%40rd"),
            ("CONSUL_CACERT", "their-ca"),
            ("CONSUL_CLIENT_CERT", "their-cert"),
            ("CONSUL_CLIENT_KEY", "their-key"),
            ("CONSUL_TLS_SERVER_NAME", "consul.example"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
        ];
        let theirs = AgentKeys { url: secret(AUTO), ..AgentKeys::default() };
        let settings = agent_of(theirs, &env).unwrap();
        assert_eq!(settings.token, Token::Given("theirs".into()));
        let login = Login { user: "user".into(), password: Some("pass:w%40rd".into()) };
        assert_eq!(settings.login, Some(login));
        assert_eq!(settings.ca, Some("their-ca".into()));
        assert_eq!(settings.identity, Some(("their-cert".into(), "their-key".into())));
        assert_eq!(settings.server_name.as_deref(), Some("consul.example"));
        assert!(!settings.verify);

        let ours = AgentKeys {
            url: secret("https://u%40x:p%3A%2F+%@c"),
            token: Some(secret("ours")),
            datacenter: Some("dc2".into()),
            ca: Some("ca".into()),
            cert: Some("cert".into()),
            key: Some("key".into()),
            ..AgentKeys::default()
        };
        let settings = agent_of(ours, &env).unwrap();
        assert_eq!(settings.token, Token::Given("ours".into()));
        let login = Login { user: "u@x".into(), password: Some("p:/+%".into()) };
        assert_eq!(settings.login, Some(login));
        assert_eq!(settings.ca, Some("ca".into()));
        assert_eq!(settings.identity, Some(("cert".into(), "key".into())));
        assert_eq!(settings.datacenter.as_deref(), Some("dc2"));

        let file = AgentKeys {
            url: secret(AUTO),
            token_file: Some("ours".into()),
            ..AgentKeys::default()
        };
        assert_eq!(agent_of(file, &env).unwrap().token, Token::File("ours".into()));
        let both = [("CONSUL_HTTP_TOKEN", "a"), ("CONSUL_HTTP_TOKEN_FILE", "b")];
        let none = AgentKeys { url: secret(AUTO), ..AgentKeys::default() };
        assert_eq!(agent_of(none, &both).unwrap().token, Token::File("b".into()));
    }

    #[test]
    fn keys_that_need_or_exclude_each_other_say_so() {
        let keys = || AgentKeys { url: secret(AUTO), ..AgentKeys::default() };
        let (token, file) = (Some(secret("secret")), Some("f".into()));
        for (keys, expected) in [
            (AgentKeys { token, token_file: file, ..keys() }, "consul_token: give either it or"),
            (AgentKeys { cert: Some("c".into()), ..keys() }, "consul_cert: it needs consul_key"),
            (AgentKeys { key: Some("k".into()), ..keys() }, "consul_key: it needs consul_cert"),
        ] {
            let error = agent_of(keys, &[]).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_instance_has_an_address_with_a_port_or_without() {
        for (given, host, port) in [
            ("ipam-1", "ipam-1", None),
            ("ipam-1:80", "ipam-1", Some(80)),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]", "fd00::1", None),
            ("[fd00::1]:80", "fd00::1", Some(80)),
        ] {
            assert_eq!(own_address(given), Ok((host.to_owned(), port)), "{given}");
        }
        for given in ["", "a:0", "a b", "http://a", "a:b:c"] {
            assert!(own_address(given).is_err(), "{given}");
        }
        let keys = |service: &str, tags: &[&str]| EntryKeys {
            service: service.into(),
            id: None,
            address: None,
            tags: tags.iter().map(ToString::to_string).collect(),
            check_interval: Duration::from_secs(1),
            deregister_after: Duration::from_secs(60),
        };
        assert!(entry(keys("ipam", &["a"])).is_ok());
        for (keys, expected) in [
            (keys("a.b", &[]), "consul_service: the name of a service"),
            (keys("", &[]), "consul_service: the name of a service"),
            (keys("ipam", &[""]), "consul_tags: a tag has"),
            (
                EntryKeys { id: Some(String::new()), ..keys("ipam", &[]) },
                "consul_service_id: an id",
            ),
        ] {
            let error = entry(keys).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn it_is_not_shown_when_it_is_debugged() {
        let keys = AgentKeys {
            url: secret("http://user:secret@c"),
            token: Some(secret("secret")),
            ..AgentKeys::default()
        };
        let settings = agent_of(keys, &[]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
    }
}
