//! Consul's agent in a process of its own, which keeps nothing, on free ports of the loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{PATIENCE, Port, Process};

/// Where `make servers` puts it.
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers/consul-1.8.7/consul");

/// An agent; ended when dropped, or with this process. What it knows is lost with each end.
pub struct Agent {
    /// Dropped before its files.
    process: Option<Process>,
    http: Port,
    others: [Port; 2],
    /// More of its configuration.
    config: String,
    /// What this test shows it, when it asks for one.
    token: Option<String>,
    client: Client,
    root: TempDir,
}

impl Agent {
    pub async fn start() -> Self {
        let mut agent = Self::away();
        agent.restart().await;
        agent
    }

    /// One that is not started yet.
    pub fn away() -> Self {
        Self::configured("", None)
    }

    /// One that is not started yet and lets in who shows a token.
    pub fn with_token(token: &str) -> Self {
        let config = format!(
            r#"acl {{ enabled = true, default_policy = "deny",
                     tokens {{ master = "{token}", agent = "{token}" }} }}"#
        );
        Self::configured(&config, Some(token))
    }

    pub fn configured(config: &str, token: Option<&str>) -> Self {
        Self {
            process: None,
            http: Port::free(),
            others: [Port::free(), Port::free()],
            config: config.to_owned(),
            token: token.map(str::to_owned),
            client: Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
            root: tempfile::tempdir().expect("a temporary directory can be made"),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.http.address()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").end("KILL");
    }

    /// Starts it with nothing known, on the same port.
    pub async fn restart(&mut self) {
        assert!(
            Path::new(AGENT).exists(),
            "consul is not there: `make servers` fetches it (`make test-fast` does without it)"
        );
        assert!(self.process.is_none(), "it runs already");
        let log = self.log();
        let [server, lan] = &self.others;
        let process = Process::start(self.root.path(), &log, |command| {
            command.arg(AGENT).args(["agent", "-dev", "-bind", "127.0.0.1"]);
            command.args(["-client", "127.0.0.1", "-http-port", &self.http.number.to_string()]);
            command.args(["-grpc-port", "-1", "-dns-port", "-1", "-serf-wan-port", "-1"]);
            command.args(["-server-port", &server.number.to_string()]);
            command.args(["-serf-lan-port", &lan.number.to_string()]);
            command.args(["-hcl", &self.config]);
        });
        let deadline = Instant::now() + PATIENCE;
        while !self.leads().await {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "the agent ended: {}", log());
            assert!(Instant::now() < deadline, "the agent does not lead: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.process = Some(process);
    }

    /// Whether it can be asked and told.
    async fn leads(&self) -> bool {
        let nodes = self.ask(Method::GET, "/v1/catalog/nodes", None).await;
        nodes.is_some_and(|(_, nodes)| nodes.as_array().is_some_and(|nodes| !nodes.is_empty()))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url()));
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        let status = response.status();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, None).await.expect("the agent answers").1
    }

    async fn put(&self, path: &str, body: Option<&Value>) {
        let (status, answer) = self.ask(Method::PUT, path, body).await.expect("the agent answers");
        assert!(status.is_success(), "{path}: {status} {answer}");
    }

    /// Registers an instance as it is described.
    pub async fn register(&self, instance: &Value) {
        self.put("/v1/agent/service/register", Some(instance)).await;
    }

    /// Registers a server without a check: it passes.
    pub async fn name(&self, service: &str, id: &str, at: SocketAddr) {
        let (host, port) = (at.ip().to_string(), at.port());
        let body = json!({ "ID": id, "Name": service, "Address": host, "Port": port });
        self.put("/v1/agent/service/register?replace-existing-checks=true", Some(&body)).await;
    }

    /// Registers a server whose check has failed.
    pub async fn name_failing(&self, service: &str, id: &str, at: SocketAddr) {
        let (host, port) = (at.ip().to_string(), at.port());
        let check = json!({ "TTL": "10m", "Status": "critical" });
        let body =
            json!({ "ID": id, "Name": service, "Address": host, "Port": port, "Check": check });
        self.register(&body).await;
    }

    /// Takes one out of the catalogue.
    pub async fn forget(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), None).await;
    }

    /// Each instance of a service with the state of its check.
    pub async fn instances(&self, service: &str) -> Vec<(Value, String)> {
        let all = self.get(&format!("/v1/health/service/{service}")).await;
        let state = |entry: &Value| {
            let checks = entry["Checks"].as_array().expect("an entry has checks");
            let own = checks.iter().find(|check| check["ServiceID"] != "");
            own.map_or_else(String::new, |check| check["Status"].as_str().unwrap().to_owned())
        };
        let all = all.as_array().expect("a list of instances");
        all.iter().map(|entry| (entry["Service"].clone(), state(entry))).collect()
    }

    /// The states of the instances of a service.
    pub async fn states(&self, service: &str) -> Vec<String> {
        self.instances(service).await.into_iter().map(|(_, state)| state).collect()
    }
}
