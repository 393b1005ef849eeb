//! What the load is put on: a pool and a subnet of the run's own, filled to where the measurement
//! begins, and removed after it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, bail, ensure};
use hyper::Method;
use ipnet::IpNet;
use serde::Deserialize;

use super::ledger::{Given, Ledger, addresses};
use super::load::Target;
use crate::cli::http::{Connection, Server};
use crate::limits::RESERVATION_ADDRESSES_MAX;

/// A pool with one subnet.
pub struct Subject {
    connection: Connection,
    /// The path of the pool.
    pool: String,
    pub target: Arc<Target>,
}

#[derive(Deserialize)]
struct SubnetAnswer {
    usage: Usage,
}

#[derive(Deserialize)]
struct Usage {
    free: u128,
}

impl Subject {
    pub async fn create(server: &Server, net: IpNet, count: usize) -> anyhow::Result<Self> {
        let mut connection = Connection::open(server).await?;
        let pool = create(&mut connection, "/pools", "{\"name\":\"bench\"}".into()).await?;
        let body = format!("{{\"name\":\"bench\",\"cidr\":\"{net}\"}}");
        let subnet = create(&mut connection, &format!("{pool}/subnets"), body).await?;
        let target = Arc::new(Target {
            reservations: format!("{subnet}/reservations").parse()?,
            count,
            ledger: Ledger::new(net.into()),
            sent: AtomicU64::new(0),
        });
        Ok(Self { connection, pool, target })
    }

    /// Takes `percent` of what is free, in reservations as large as may be. `progress` is told how
    /// many addresses are taken, of how many.
    pub async fn fill(&mut self, percent: u8, progress: impl Fn(u128, u128)) -> anyhow::Result<()> {
        let reservations = self.target.reservations.path().to_owned();
        let subnet = reservations.trim_end_matches("/reservations");
        self.connection.demand(Method::GET, subnet, String::new()).await?;
        let answer: SubnetAnswer =
            serde_json::from_slice(self.connection.body()).context("the subnet has no usage")?;
        let wanted = answer.usage.free / 100 * u128::from(percent)
            + answer.usage.free % 100 * u128::from(percent) / 100;
        let mut taken = 0;
        while taken < wanted {
            progress(taken, wanted);
            let count = (wanted - taken).min(RESERVATION_ADDRESSES_MAX as u128);
            let body = format!("{{\"count\":{count}}}");
            self.connection.demand(Method::POST, &reservations, body).await?;
            let given = addresses(self.connection.body())?;
            ensure!(given.len() as u128 == count, "asked for {count}, was given {}", given.len());
            for address in given {
                match self.target.ledger.given(address) {
                    Given::Rightly => {}
                    Given::Twice => bail!("{address} was given twice while the subnet was filled"),
                    Given::Outside => bail!("{address} is not of the subnet"),
                }
            }
            taken += count;
        }
        Ok(())
    }

    /// Deletes the pool and everything in it.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        self.connection.demand(Method::DELETE, &self.pool, String::new()).await.map(drop)
    }
}

/// The path of what was created.
async fn create(
    connection: &mut Connection,
    collection: &str,
    body: String,
) -> anyhow::Result<String> {
    let answer = connection.demand(Method::POST, collection, body).await?;
    let location = answer.location.with_context(|| format!("POST {collection} has no Location"))?;
    Ok(location.to_str().context("the Location is not a path")?.to_owned())
}
