//! A hook that lets only machines of known vendors have addresses: each lease of a new reservation
//! must have a `mac` in its metadata that begins with one of the prefixes given.
//!
//! ```text
//! cargo run --example mac_prefix_hook -- nats://127.0.0.1:4222 hooks.mac 3c:ec:ef b8:59:9f
//! ```
//!
//! and in the configuration of ipam
//!
//! ```text
//! [[hooks]]
//! name = "mac-prefix"
//! on = ["reservation.create"]
//! bus = "nats"
//! subject = "hooks.mac"
//! deadline = "500ms"
//! on_silence = "refuse"
//! ```
//!
//! As many of it may run as one likes: each question is answered by one.

use futures_util::StreamExt;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, subject, prefixes @ ..] = &arguments[..] else {
        anyhow::bail!("usage: mac_prefix_hook SERVER SUBJECT PREFIX...");
    };
    answer(server, subject, prefixes).await
}

/// Answers questions until the server closes the connection for good.
pub async fn answer(server: &str, subject: &str, prefixes: &[String]) -> anyhow::Result<()> {
    let client = async_nats::connect(server).await?;
    let group = "mac-prefix".to_owned();
    let mut questions = client.queue_subscribe(subject.to_owned(), group).await?;
    while let Some(question) = questions.next().await {
        let answer = judge(&serde_json::from_slice(&question.payload)?, prefixes);
        if let Some(asker) = question.reply {
            client.publish(asker, answer.to_string().into()).await?;
        }
    }
    Ok(())
}

fn judge(question: &Value, prefixes: &[String]) -> Value {
    let leases = question["proposed"]["leases"].as_array().map_or(&[][..], Vec::as_slice);
    for lease in leases {
        let mac = lease["metadata"]["mac"].as_str().unwrap_or("none");
        let mac = mac.to_lowercase();
        if !prefixes.iter().any(|prefix| mac.starts_with(&prefix.to_lowercase())) {
            let address = &lease["address"];
            return json!({
                "allow": false,
                "reason": format!("the mac for {address} is {mac}, of no vendor that is known"),
            });
        }
    }
    json!({ "allow": true })
}
