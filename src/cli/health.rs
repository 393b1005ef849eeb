//! `ipam health`: asks a server how it is. It is the health check of a container, whose image has
//! neither a shell nor curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use serde_json::Value;
use tokio::runtime;
use tokio::time::timeout;

use crate::cli::environment::variable;
use crate::cli::http::{Connection, Server};
use crate::limits::HEALTH_WAIT_MAX;

/// Where a server listens that was told nothing else.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server: http://HOST:PORT [default: the one of this machine, on the port of IPAM_LISTEN]
    server: Option<Server>,
    /// Ask whether it lives, and not whether it can serve requests
    #[arg(long)]
    live: bool,
}

/// One sentence, and success when all is well.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let server = match &args.server {
        Some(server) => server.clone(),
        None => of_this_machine()?.into(),
    };
    let (path, well) =
        if args.live { ("/health/live", "lives") } else { ("/health/ready", "is ready") };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let asked = async { timeout(HEALTH_WAIT_MAX, ask(&server, Uri::from_static(path))).await };
    let answer = runtime.block_on(asked);
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    let answer = answer.unwrap_or_else(|_| bail!("no answer within {HEALTH_WAIT_MAX:?}"));
    Ok(match answer {
        Ok(()) => {
            println!("{server} {well}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{server} is not well: {why:#}");
            ExitCode::FAILURE
        }
    })
}

async fn ask(server: &Server, path: Uri) -> anyhow::Result<()> {
    let mut connection = Connection::open(server).await?;
    let answer = connection.send(Method::GET, path, Bytes::new()).await.context("no answer")?;
    if answer.status == StatusCode::OK {
        return Ok(());
    }
    let problem: Value = serde_json::from_slice(connection.body()).unwrap_or_default();
    match problem.get("detail").and_then(Value::as_str) {
        Some(detail) => bail!("{detail}"),
        None => bail!("it answers {}", answer.status),
    }
}

/// Where `ipam serve` listens when it is told by the same environment.
fn of_this_machine() -> anyhow::Result<SocketAddr> {
    let Some(listen) = variable("IPAM_LISTEN") else { return Ok(DEFAULT) };
    let listen = listen.to_string_lossy();
    let address = listen.parse().context("IPAM_LISTEN is not ADDRESS:PORT")?;
    reached(address)
}

/// How one that listens there is reached from the same machine.
fn reached(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let port = listen.port();
    ensure!(
        port != 0,
        "IPAM_LISTEN says port 0, which is a free one: name the server, http://HOST:PORT"
    );
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        let of = |listen: &str| reached(listen.parse().unwrap()).map(|at| at.to_string()).ok();
        assert_eq!(of("0.0.0.0:8000").as_deref(), Some("127.0.0.1:8000"));
        assert_eq!(of("[::]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(of("10.0.0.7:80").as_deref(), Some("10.0.0.7:80"));
        assert_eq!(of("127.0.0.1:0"), None);
    }
}
