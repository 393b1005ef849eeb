//! Keeps a file of host reservations for a Kea DHCPv4 server in step with the leases:
//!
//! ```text
//! cargo run --example kea_hosts -- nats://127.0.0.1:4222 hosts.json
//! ```
//!
//! Kea's configuration includes the file with `"reservations": <?include "hosts.json"?>`. A lease is
//! a host when its metadata have the `mac` of the machine.
//!
//! Nothing is lost and nothing is applied twice: each entry holds the place in the stream that it
//! comes from, and after a crash the events are applied again from the newest entry on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use async_nats::jetstream;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// Every lease of every pool and subnet; with ids in the place of `*` just theirs.
const LEASES: &str = "ipam.events.*.*.lease.*";

/// Events that are applied before the file is written.
const AT_ONCE: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: kea_hosts SERVER FILE");
    };
    follow(&server, Path::new(&file)).await
}

/// Keeps the file in step until something fails.
pub async fn follow(server: &str, file: &Path) -> anyhow::Result<()> {
    let mut hosts = Hosts::read(file)?;
    let deliver_policy = match hosts.newest() {
        Some(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        None => DeliverPolicy::All,
    };
    let client = async_nats::connect(server).await?;
    let stream = jetstream::new(client).get_stream("IPAM").await?;
    let filter_subject = LEASES.to_owned();
    let config = OrderedConfig { filter_subject, deliver_policy, ..OrderedConfig::default() };
    let messages = stream.create_consumer(config).await?.messages().await?;
    let mut ready = messages.ready_chunks(AT_ONCE);
    while let Some(messages) = ready.next().await {
        for message in messages {
            let message = message?;
            let place = message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence;
            hosts.apply(&serde_json::from_slice(&message.payload)?, place);
        }
        hosts.write()?;
    }
    anyhow::bail!("the stream has ended")
}

struct Hosts {
    file: PathBuf,
    /// By the id of the lease.
    entries: BTreeMap<String, Value>,
}

impl Hosts {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let entries: Vec<Value> = match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).context("the file is not ours")?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let by_lease = entries.into_iter().map(|entry| {
            let lease = entry["user-context"]["lease"].as_str().unwrap_or_default().to_owned();
            (lease, entry)
        });
        Ok(Self { file: file.to_owned(), entries: by_lease.collect() })
    }

    /// The place in the stream that the newest entry comes from.
    fn newest(&self) -> Option<u64> {
        self.entries.values().filter_map(|entry| entry["user-context"]["place"].as_u64()).max()
    }

    fn apply(&mut self, event: &Value, place: u64) {
        let lease = &event["data"]["resource"];
        let Some(id) = event["subject"].as_str() else { return };
        let (address, mac) = (lease["address"].as_str(), lease["metadata"]["mac"].as_str());
        match (event["type"].as_str(), address, mac) {
            (Some("ipam.lease.created" | "ipam.lease.updated"), Some(address), Some(mac))
                if !address.contains(':') =>
            {
                let host = json!({
                    "hw-address": mac,
                    "ip-address": address,
                    "hostname": lease["name"],
                    "user-context": { "lease": id, "place": place },
                });
                self.entries.insert(id.to_owned(), host);
            }
            _ => drop(self.entries.remove(id)),
        }
    }

    /// Whoever reads the file meanwhile sees the old or the new one, and so does a crash.
    fn write(&self) -> anyhow::Result<()> {
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        let entries: Vec<&Value> = self.entries.values().collect();
        file.write_all(&serde_json::to_vec_pretty(&entries)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        Ok(())
    }
}
