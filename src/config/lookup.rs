//! What is looked up at Consul, as it is configured: a service, and around its name what a catalogue does
//! not say. No error repeats a secret.

use std::fmt;

use super::bus::Secret;
use super::consul::{ConsulKeyError, check_service, wrong};
use crate::bus::servers::Place;

/// A service that a server is looked up as, and around that what a catalogue does not say.
#[derive(Clone, PartialEq, Eq)]
pub struct Lookup {
    pub service: String,
    /// The scheme, and a user with a password.
    before: String,
    /// The path, and options.
    after: String,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Lookup {
    /// The URL with servers where the name of the service stands.
    pub fn uri(&self, places: &[Place]) -> String {
        let places: Vec<_> = places.iter().map(Place::to_string).collect();
        format!("{}{}{}", self.before, places.join(","), self.after)
    }

    /// The URL as it was written.
    pub fn template(&self) -> Secret {
        Secret::new(format!("{}{}{}", self.before, self.service, self.after))
    }
}

/// What a key says of a look-up: the name of a service, or a URL of one of these schemes whose host it
/// is. `None` when it is empty: then nothing is looked up.
///
/// # Errors
/// [`ConsulKeyError`]
pub fn lookup(
    key: &'static str,
    given: &Secret,
    schemes: &[&str],
) -> Result<Option<Lookup>, ConsulKeyError> {
    let text = given.text().trim();
    if text.is_empty() {
        return Ok(None);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        check_service(key, text)?;
        let scheme = schemes.first().copied().unwrap_or_default();
        let (before, after) = (format!("{scheme}://"), "/".to_owned());
        return Ok(Some(Lookup { service: text.to_owned(), before, after }));
    };
    if !schemes.contains(&scheme) {
        let known: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
        return wrong(key, format!("a URL begins with {}", known.join(" or ")));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let (login, service) = match authority.rsplit_once('@') {
        Some((login, service)) => (format!("{login}@"), service),
        None => (String::new(), authority),
    };
    check_service(key, service)?;
    // Options stand behind a path.
    let slash = if after.starts_with('/') { "" } else { "/" };
    Ok(Some(Lookup {
        service: service.to_owned(),
        before: format!("{scheme}://{login}"),
        after: format!("{slash}{after}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    #[test]
    fn a_look_up_is_a_name_or_a_url_around_it() {
        let places =
            [("10.0.0.1", 1), ("fd00::1", 2)].map(|(host, port)| Place { host: host.into(), port });
        for (given, service, uri) in [
            ("mongodb", "mongodb", "mongodb://10.0.0.1:1,[fd00::1]:2/"),
            (
                "mongodb://u:p%40@db/?replicaSet=rs0",
                "db",
                "mongodb://u:p%40@10.0.0.1:1,[fd00::1]:2/?replicaSet=rs0",
            ),
            ("mongodb://db?tls=true", "db", "mongodb://10.0.0.1:1,[fd00::1]:2/?tls=true"),
        ] {
            let found = lookup("consul_mongo", &secret(given), &["mongodb"]).unwrap().unwrap();
            assert_eq!((found.service.as_str(), found.uri(&places).as_str()), (service, uri));
            assert!(!format!("{found:?}").contains("p%40"));
        }
        assert_eq!(lookup("consul_mongo", &secret(" "), &["mongodb"]), Ok(None));
        for (given, expected) in [
            ("mongodb+srv://u:secret@db", "consul_mongo: a URL begins with mongodb://"),
            ("mongodb://u:secret@db:27017/", "consul_mongo: the name of a service"),
            ("mongodb://u:secret@a,b/", "consul_mongo: the name of a service"),
            ("u:secret@db", "consul_mongo: the name of a service"),
            ("mongodb://u:secret@/", "consul_mongo: the name of a service"),
        ] {
            let error = lookup("consul_mongo", &secret(given), &["mongodb"]).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{given}: {error}");
        }
    }
}
