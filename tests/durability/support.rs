//! A client that speaks in intentions.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipam::clock::Clock;
use ipam::domain::event::{Event, Kind, Origin, Verb};
use ipam::domain::id::{EventId, PoolId};
use ipam::domain::pool::{NewPool, Pool};
use ipam::domain::resource::{PoolResource, to_raw};
use ipam::store::change::{Change, Effect};
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub use crate::server::{Data, Server, assert_clean};

impl Server {
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await.expect("the server accepts connections")
    }
}

/// A request that takes longer is a stall.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// One keep-alive connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub retry_after: Option<String>,
    pub body: Value,
}

impl Response {
    pub fn id(&self) -> String {
        assert_eq!(self.status, StatusCode::CREATED, "{}", self.body);
        self.body["id"].as_str().expect("a resource has an id").to_owned()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// It says to come again, and whether the change was not made or may have been.
    pub fn refused(&self) -> Option<Refused> {
        if self.status != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert!(self.retry_after.is_some(), "it does not say when to come again: {}", self.body);
        Some(match self.code() {
            "store_unavailable" | "overloaded" | "contended" => Refused::NotMade,
            "outcome_unknown" => Refused::PerhapsMade,
            code => panic!("{code} is no reason to come again: {}", self.body),
        })
    }
}

/// What a 503 says of the change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NotMade,
    PerhapsMade,
}

/// The connection broke before an answer came.
#[derive(Debug)]
pub struct Broken;

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self, Broken> {
        let stream = TcpStream::connect(address).await.map_err(|_| Broken)?;
        stream.set_nodelay(true).map_err(|_| Broken)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Broken)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response, Broken> {
        let answer = self.exchange(method.clone(), path, key, body);
        tokio::time::timeout(ANSWERED_WITHIN, answer)
            .await
            .unwrap_or_else(|_| panic!("{method} {path} has no answer in {ANSWERED_WITHIN:?}"))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response, Broken> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::from(body)).expect("the request is well-formed");
        self.sender.ready().await.map_err(|_| Broken)?;
        let response = self.sender.send_request(request).await.map_err(|_| Broken)?;
        let status = response.status();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.map(|seconds| seconds.to_str().expect("digits").to_owned());
        let bytes = response.into_body().collect().await.map_err(|_| Broken)?.to_bytes();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).expect("the answer is JSON")
        };
        Ok(Response { status, retry_after, body })
    }

    pub async fn get(&mut self, path: &str) -> Response {
        self.try_send(Method::GET, path, None, None).await.expect("an answer")
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Response {
        self.try_send(Method::POST, path, None, Some(body)).await.expect("an answer")
    }

    pub async fn patch(&mut self, path: &str, body: &Value) -> Response {
        self.try_send(Method::PATCH, path, None, Some(body)).await.expect("an answer")
    }

    pub async fn delete(&mut self, path: &str) -> Response {
        self.try_send(Method::DELETE, path, None, None).await.expect("an answer")
    }

    pub async fn new_pool(&mut self) -> String {
        self.post("/pools", &json!({"name": "pool"})).await.id()
    }

    pub async fn new_subnet(&mut self, pool: &str, cidr: &str) -> String {
        self.post(&format!("/pools/{pool}/subnets"), &json!({ "cidr": cidr })).await.id()
    }

    /// Every item of a list, page by page.
    pub async fn list(&mut self, path: &str, name: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let parameter = if path.starts_with("/events") { "after" } else { "cursor" };
        let mut cursor = String::new();
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{joint}limit=1000{cursor}")).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            items.extend(page.body[name].as_array().expect("a list").iter().cloned());
            let Some(next) = page.body["next"].as_str() else { return items };
            let before = std::mem::replace(&mut cursor, format!("&{parameter}={next}"));
            assert_ne!(before, cursor, "{path} does not go on");
        }
    }
}

/// The addresses of a reservation.
pub fn addresses(reservation: &Value) -> Vec<String> {
    let leases = reservation["leases"].as_array().expect("a reservation has leases");
    leases.iter().map(|lease| lease["address"].as_str().expect("an address").to_owned()).collect()
}

/// No address comes twice.
pub fn assert_unique(addresses: &[String]) {
    let mut seen = HashSet::new();
    let twice: Vec<_> = addresses.iter().filter(|address| !seen.insert(*address)).collect();
    assert!(twice.is_empty(), "given twice: {twice:?}");
}

/// The creation of a pool.
pub fn new_pool() -> (PoolId, Change) {
    let pool = Pool::new(PoolId::generate(), NewPool::default(), Clock::System.now());
    let event = Event {
        id: EventId::generate(),
        kind: Kind::Pool,
        verb: Verb::Created,
        pool: pool.id,
        subnet: None,
        resource: pool.id.to_string(),
        origin: Origin::default(),
        data: to_raw(&PoolResource::new(&pool, None)),
        before: None,
    };
    (pool.id, Change::new(Effect::CreatePool(pool), event))
}
