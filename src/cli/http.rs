//! One keep-alive HTTP/1.1 connection to a server, lean because `ipam bench` shares the machine with the
//! server it measures: what is sent is prepared before, what is received lies in one buffer.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where a server is: `http://HOST:PORT`.
#[derive(Clone, Debug)]
pub struct Server {
    authority: String,
    host: HeaderValue,
}

impl std::str::FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse().context("not a URL")?;
        let (Some("http"), "/", Some(authority)) = (uri.scheme_str(), uri.path(), uri.authority())
        else {
            bail!("not of the form http://HOST:PORT");
        };
        let port = authority.port_u16().unwrap_or(80);
        let host = HeaderValue::from_str(authority.as_str()).context("not a URL")?;
        Ok(Self { authority: format!("{}:{port}", authority.host()), host })
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        let authority = address.to_string();
        // An address and a port are nothing but visible letters.
        let host = HeaderValue::from_str(&authority);
        let host = host.unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self { authority, host }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// A connection, and the body of its last answer.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// The head of an answer.
pub struct Answer {
    pub status: StatusCode,
    pub location: Option<HeaderValue>,
}

impl Connection {
    pub async fn open(server: &Server) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&server.authority)
            .await
            .with_context(|| format!("cannot connect to {}", server.authority))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends when the sender is dropped; what breaks it, breaks the request too.
        tokio::spawn(connection);
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(HOST, server.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { sender, headers, body: Vec::new() })
    }

    /// Sends a request and reads its answer to the end.
    pub async fn send(
        &mut self,
        method: Method,
        target: Uri,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        self.sender.ready().await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers.clone();
        let (mut head, mut body) = self.sender.send_request(request).await?.into_parts();
        self.body.clear();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                self.body.extend_from_slice(&data);
            }
        }
        Ok(Answer { status: head.status, location: head.headers.remove(LOCATION) })
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// As [`Connection::send`], and fails unless the answer is a success.
    pub async fn demand(
        &mut self,
        method: Method,
        target: &str,
        body: String,
    ) -> anyhow::Result<Answer> {
        let what = format!("{method} {target}");
        let answer = self
            .send(method, target.parse()?, body.into())
            .await
            .with_context(|| format!("{what} was not answered"))?;
        if !answer.status.is_success() {
            let body = String::from_utf8_lossy(&self.body);
            bail!("{what} was answered with {}: {body}", answer.status);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_http_url_without_a_path() {
        let authority = |text: &str| text.parse::<Server>().map(|server| server.authority).ok();
        assert_eq!(authority("http://127.0.0.1:8000").as_deref(), Some("127.0.0.1:8000"));
        assert_eq!(authority("http://[::1]:8000/").as_deref(), Some("[::1]:8000"));
        assert_eq!(authority("http://ipam").as_deref(), Some("ipam:80"));
        for text in ["127.0.0.1:8000", "https://ipam", "http://ipam/pools", "ipam", ""] {
            assert_eq!(authority(text), None, "{text}");
        }
    }
}
