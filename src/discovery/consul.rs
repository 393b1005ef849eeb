//! A thin client of Consul's agent: the questions that are asked of it, each with a bound of time and of
//! bytes. No error says a token.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::bus::servers::Place;
use crate::limits::{
    CONSUL_ANSWER_BYTES_MAX, CONSUL_ANSWER_WAIT_MAX, CONSUL_CHANGE_WAIT, CONSUL_CONNECT_WAIT_MAX,
};

use super::answers::{Entry, Known, Registered, places};
use super::settings::{ConsulSettings, Token};

/// Characters of an agent's complaint that are repeated.
const COMPLAINT_CHARS_MAX: usize = 200;

/// Why Consul does not do what it is asked to; one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConsulError(String);

fn failed<T>(why: impl Into<String>) -> Result<T, ConsulError> {
    Err(ConsulError(why.into()))
}

/// Consul's agent. Cheap to clone.
#[derive(Clone)]
pub struct Consul {
    client: Client,
    base: Url,
    settings: Arc<ConsulSettings>,
}

/// Which instances of a service can be used, and the index of that answer.
pub struct Passing {
    pub places: Vec<Place>,
    /// Addresses that are none, as they may be shown.
    pub odd: Vec<String>,
    pub index: Option<u64>,
}

impl Consul {
    /// Makes a client, and connects to nobody yet. Reads the files with certificates.
    ///
    /// # Errors
    /// [`ConsulError`] when one of them cannot be read or used.
    pub fn new(settings: ConsulSettings) -> Result<Self, ConsulError> {
        let Ok(mut base) = settings.url.parse::<Url>() else {
            return failed(format!("{} is not the URL of Consul's agent", settings.url));
        };
        let mut builder = Client::builder()
            .no_proxy()
            .connect_timeout(CONSUL_CONNECT_WAIT_MAX)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(socket) = &settings.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        if base.scheme() == "http" {
            // A machine that trusts nobody will do then.
            builder = builder.tls_certs_only([]);
        } else if let Some(ca) = &settings.ca {
            let bundle = Certificate::from_pem_bundle(&read(ca)?);
            let Some(certificates) = bundle.ok().filter(|certificates| !certificates.is_empty())
            else {
                return failed(format!("{} has no certificates in PEM in it", ca.display()));
            };
            builder = builder.tls_certs_only(certificates);
        }
        if let Some((certificate, key)) = &settings.identity {
            let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
            let Ok(identity) = Identity::from_pem(&pem) else {
                let (certificate, key) = (certificate.display(), key.display());
                return failed(format!(
                    "{certificate} and {key} are no certificate and key in PEM"
                ));
            };
            builder = builder.identity(identity);
        }
        if !settings.verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if let Some(name) = &settings.server_name {
            let host = base.host_str().unwrap_or_default().to_owned();
            builder = builder.dns_resolver(Arc::new(At { host }));
            if base.set_host(Some(name)).is_err() {
                return failed(format!("`{name}` is not the name of a server"));
            }
        }
        let client = builder
            .build()
            .map_err(|error| ConsulError(format!("TLS cannot be used: {}", cause(&error))))?;
        Ok(Self { client, base, settings: Arc::new(settings) })
    }

    /// Where the agent is.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// The passing instances of a service; waits until they are others than at `index`, for as long as
    /// one waits for a change. Index 0 does not wait.
    ///
    /// # Errors
    /// [`ConsulError`]
    pub async fn passing(&self, service: &str, index: u64) -> Result<Passing, ConsulError> {
        let mut url = self.url_of(&["v1", "health", "service", service]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("passing", "true");
            if let Some(datacenter) = &self.settings.datacenter {
                query.append_pair("dc", datacenter);
            }
            if index > 0 {
                query.append_pair("index", &index.to_string());
                query.append_pair("wait", &seconds(CONSUL_CHANGE_WAIT));
            }
        }
        // The agent waits up to a sixteenth longer, so that not all are answered at once.
        let wait = CONSUL_CHANGE_WAIT + CONSUL_CHANGE_WAIT / 16 + CONSUL_ANSWER_WAIT_MAX;
        let wait = if index > 0 { wait } else { CONSUL_ANSWER_WAIT_MAX };
        let request = self.client.request(Method::GET, url).timeout(wait);
        let response = self.accepted(self.send(request).await?).await?;
        let index = response.headers().get("x-consul-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        let entries: Vec<Entry> = self.read(response).await?;
        let (places, odd) = places(entries);
        Ok(Passing { places, odd, index })
    }

    /// Registers an instance, also over one of the same id.
    ///
    /// # Errors
    /// [`ConsulError`]
    pub async fn register(&self, registered: &Registered) -> Result<(), ConsulError> {
        let mut url = self.url_of(&["v1", "agent", "service", "register"]);
        url.query_pairs_mut().append_pair("replace-existing-checks", "true");
        let request = self.client.request(Method::PUT, url).json(registered);
        self.accepted(self.send(request.timeout(CONSUL_ANSWER_WAIT_MAX)).await?).await.map(drop)
    }

    /// Takes an instance out of the catalogue. One that is not there is no error.
    ///
    /// # Errors
    /// [`ConsulError`]
    pub async fn deregister(&self, id: &str) -> Result<(), ConsulError> {
        let url = self.url_of(&["v1", "agent", "service", "deregister", id]);
        let request = self.client.request(Method::PUT, url).timeout(CONSUL_ANSWER_WAIT_MAX);
        let response = self.send(request).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.accepted(response).await.map(drop)
    }

    /// Whether the agent knows an instance, as it was registered.
    ///
    /// # Errors
    /// [`ConsulError`]
    pub async fn knows(&self, registered: &Registered) -> Result<bool, ConsulError> {
        let url = self.url_of(&["v1", "agent", "health", "service", "id", registered.id.as_str()]);
        let request = self.client.request(Method::GET, url).timeout(CONSUL_ANSWER_WAIT_MAX);
        let response = self.send(request).await?;
        // The status says how it is; only this one, that it is not there.
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::OK | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let known: Known = self.read(response).await?;
                Ok(known.is(registered))
            }
            _ => self.accepted(response).await.map(|_| false),
        }
    }

    /// The URL of a path. No segment of it can be another one.
    fn url_of(&self, segments: &[&str]) -> Url {
        let mut path = String::new();
        for segment in segments {
            // A string takes everything.
            let _ = write!(path, "/{}", utf8_percent_encode(segment, NON_ALPHANUMERIC));
        }
        let mut url = self.base.clone();
        url.set_path(&path);
        url
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, ConsulError> {
        if let Some(token) = self.token().await? {
            request = request.header("X-Consul-Token", token);
        }
        if let Some(login) = &self.settings.login {
            request = request.basic_auth(&login.user, login.password.as_ref());
        }
        request.send().await.map_err(|error| self.no_answer(&error))
    }

    /// An answer that says that it was done.
    async fn accepted(&self, response: Response) -> Result<Response, ConsulError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = self.url();
        let complaint = bytes(response).await.unwrap_or_default();
        let complaint = shown(&String::from_utf8_lossy(&complaint), &self.secrets().await);
        failed(match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                format!("Consul at {url} refuses the token: {complaint}")
            }
            status => format!("Consul at {url} answers {}: {complaint}", status.as_u16()),
        })
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ConsulError> {
        let url = self.url();
        let bytes = match bytes(response).await {
            Ok(bytes) => bytes,
            Err(why) => return failed(format!("Consul at {url} does not answer: {why}")),
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            ConsulError(format!("Consul at {url} answers what is not understood: {error}"))
        })
    }

    fn no_answer(&self, error: &reqwest::Error) -> ConsulError {
        ConsulError(format!("Consul at {} does not answer: {}", self.url(), cause(error)))
    }

    async fn token(&self) -> Result<Option<HeaderValue>, ConsulError> {
        let text = match &self.settings.token {
            Token::None => return Ok(None),
            Token::Given(token) => token.clone(),
            Token::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => text.trim().to_owned(),
                Err(cause) => return failed(format!("cannot read {}: {cause}", path.display())),
            },
        };
        let Ok(mut value) = HeaderValue::from_str(&text) else {
            return failed("the token of Consul has characters that no token has");
        };
        value.set_sensitive(true);
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// What the agent may repeat and nobody else may see.
    async fn secrets(&self) -> Vec<String> {
        let token = self.token().await.ok().flatten();
        let token = token.map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
        let login = self.settings.login.as_ref();
        let password = login.and_then(|login| login.password.clone());
        let mut secrets: Vec<String> = token.into_iter().chain(password).collect();
        secrets.retain(|secret| !secret.is_empty());
        // One may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

/// A complaint of the agent's as it may be repeated: without secrets, and then cut, so that no part of one
/// is left.
fn shown(complaint: &str, secrets: &[String]) -> String {
    let whole = complaint.trim().to_owned();
    let cleansed = secrets.iter().fold(whole, |text, secret| text.replace(secret, "***"));
    cleansed.chars().take(COMPLAINT_CHARS_MAX).collect()
}

/// Resolves whatever is asked for to one host: TLS is to see another name than the one that is reached.
struct At {
    host: String,
}

impl Resolve for At {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.trim_matches(['[', ']']).to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            let found: Box<dyn Iterator<Item = SocketAddr> + Send> = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// As Consul writes lengths of time.
pub fn seconds(length: Duration) -> String {
    format!("{}s", length.as_secs())
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, ConsulError> {
    let cannot = |cause: io::Error| ConsulError(format!("cannot read {}: {cause}", path.display()));
    std::fs::read(path).map_err(cannot)
}

/// The body, of so many bytes at most.
async fn bytes(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
        if bytes.len() + chunk.len() > CONSUL_ANSWER_BYTES_MAX {
            return Err(format!("the answer has more than {CONSUL_ANSWER_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What is at the bottom of an error; the layers above only say that a request failed.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it takes too long".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use crate::discovery::Login;

    use super::*;

    #[test]
    fn a_complaint_is_cut_after_secrets_are_cut_out() {
        let settings = ConsulSettings {
            url: "http://c:1".into(),
            socket: None,
            token: Token::Given("t0ken".into()),
            login: Some(Login { user: "u".into(), password: Some("with-t0ken-in-it".into()) }),
            datacenter: None,
            ca: None,
            identity: None,
            server_name: None,
            verify: true,
        };
        let consul = Consul::new(settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let secrets = runtime.block_on(consul.secrets());
        assert_eq!(shown(" no: t0ken, with-t0ken-in-it\n", &secrets), "no: ***, ***");
        let at_the_end = format!("{}t0ken", "x".repeat(COMPLAINT_CHARS_MAX - 3));
        let cut = shown(&at_the_end, &secrets);
        assert!(cut.ends_with("x***") && cut.len() == COMPLAINT_CHARS_MAX, "{cut}");
        let login = Some(Login { user: "u".into(), password: Some(String::new()) });
        let settings = ConsulSettings { token: Token::None, login, ..(*consul.settings).clone() };
        let secrets = runtime.block_on(Consul::new(settings).unwrap().secrets());
        assert_eq!(shown("no", &secrets), "no");
    }
}
