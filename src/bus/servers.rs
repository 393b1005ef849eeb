//! The servers of a bus that a catalogue names, as it does at the moment.

use std::fmt;
use std::net::Ipv6Addr;

use tokio::sync::watch;

/// A server by its host and its port. An IPv6 address stands without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "[{address}]:{port}"),
            Err(_) => write!(f, "{host}:{port}"),
        }
    }
}

impl Place {
    /// Whether the host can be one, so that it may stand in a URL and in a list of servers.
    pub fn is_valid(&self) -> bool {
        self.port > 0 && (self.host.parse::<Ipv6Addr>().is_ok() || is_name(&self.host))
    }
}

/// `HOST` or `HOST:PORT`; an IPv6 address stands in brackets.
pub fn is_server(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) => {
            (address.parse::<Ipv6Addr>().is_ok(), (!rest.is_empty()).then_some(rest))
        }
        None => text.find(':').map_or((is_name(text), None), |at| {
            let (host, port) = text.split_at(at);
            (is_name(host), Some(port))
        }),
    };
    let is_port = |port: &str| {
        let digits = port.strip_prefix(':').filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u16>().ok()).is_some_and(|port| port > 0)
    };
    is_host && port.is_none_or(is_port)
}

/// A name or an IPv4 address: what has no meaning of its own in a URL.
fn is_name(host: &str) -> bool {
    let is_odd =
        |c: char| c.is_whitespace() || c.is_control() || "/\\?#%[]\":,@<>^`{|}".contains(c);
    !host.is_empty() && !host.contains(is_odd)
}

/// What a catalogue says of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The servers, in order; when there are none now, those that there were last.
    pub places: Vec<Place>,
    /// Why there are none, or why nothing newer is known.
    pub trouble: Option<String>,
}

/// The servers of a service, which may be others later. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Followed(watch::Receiver<Seen>);

/// The servers as they were at one moment.
#[derive(Clone, Debug)]
pub struct Moment {
    followed: Followed,
    places: Vec<Place>,
}

impl Followed {
    pub fn new(seen: watch::Receiver<Seen>) -> Self {
        Self(seen)
    }

    /// # Errors
    /// What is waited for, when no server was ever seen.
    pub fn now(&self) -> Result<Moment, String> {
        let seen = self.0.borrow();
        if seen.places.is_empty() {
            return Err(seen.trouble.clone().unwrap_or_else(|| "no server is known".to_owned()));
        }
        Ok(Moment { places: seen.places.clone(), followed: self.clone() })
    }

    /// The first servers that are seen; says each time what it waits for until then.
    pub async fn first(&self, mut waits_for: impl FnMut(&str)) -> Moment {
        let mut seen = self.0.clone();
        loop {
            seen.mark_unchanged();
            match self.now() {
                Ok(moment) => return moment,
                Err(why) => waits_for(&why),
            }
            if seen.changed().await.is_err() {
                // Nobody is left who could see any.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Moment {
    /// One at least, in order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether there are others now. That there are none does not count: those that were there may be
    /// there still.
    pub fn is_past(&self) -> bool {
        self.is_not(&self.followed.0.borrow())
    }

    /// Waits until there are others.
    pub async fn past(&self) {
        let mut seen = self.followed.0.clone();
        if seen.wait_for(|seen| self.is_not(seen)).await.is_err() {
            // Nobody is left who could say so.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a server is named that was not among these, and until then for as long as it takes.
    pub async fn names_others(&self) {
        let mut seen = self.followed.0.clone();
        if seen.wait_for(|seen| self.lacks_one_of(seen)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a server is named that was not among these.
    pub fn is_outgrown(&self) -> bool {
        self.lacks_one_of(&self.followed.0.borrow())
    }

    fn is_not(&self, seen: &Seen) -> bool {
        !seen.places.is_empty() && seen.places != self.places
    }

    fn lacks_one_of(&self, seen: &Seen) -> bool {
        seen.places.iter().any(|place| !self.places.contains(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &[&str]) -> Vec<Place> {
        let place = |text: &&str| {
            let (host, port) = text.rsplit_once(':').unwrap();
            Place { host: host.to_owned(), port: port.parse().unwrap() }
        };
        text.iter().map(place).collect()
    }

    #[test]
    fn a_moment_is_past_when_others_are_named_and_not_when_none_are() {
        let (say, seen) = watch::channel(Seen::default());
        let followed = Followed::new(seen);
        say.send_modify(|seen| seen.trouble = Some("no passing instance".into()));
        assert_eq!(followed.now().unwrap_err(), "no passing instance");
        say.send_replace(Seen { places: places(&["a:1", "b:1"]), trouble: None });
        let moment = followed.now().unwrap();
        assert_eq!(moment.places(), places(&["a:1", "b:1"]));
        for (now, past, outgrown) in [
            (vec!["a:1", "b:1"], false, false),
            (vec![], false, false),
            (vec!["a:1"], true, false),
            (vec!["a:1", "c:1"], true, true),
        ] {
            say.send_replace(Seen { places: places(&now), trouble: None });
            assert_eq!((moment.is_past(), moment.is_outgrown()), (past, outgrown), "{now:?}");
        }
    }

    #[test]
    fn what_would_mean_something_else_in_a_url_is_no_host() {
        for (host, is_valid) in [
            ("db-1.example", true),
            ("10.0.0.1", true),
            ("db_1", true),
            ("fd00::1", true),
            ("", false),
            ("a:b", false),
            ("[fd00::1]", false),
            ("fe80::1%eth0", false),
            ("a b", false),
            ("u@a", false),
            ("a,b", false),
            ("a/?tls=false&", false),
            ("http://a", false),
            ("a<b", false),
        ] {
            assert_eq!(Place { host: host.to_owned(), port: 1 }.is_valid(), is_valid, "{host}");
        }
        assert!(!Place { host: "a".to_owned(), port: 0 }.is_valid());
    }

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        let shown: Vec<_> = places(&["::1:80", "db:1"]).iter().map(Place::to_string).collect();
        assert_eq!(shown, ["[::1]:80", "db:1"]);
    }
}
