//! Every way to be let in by NATS: events are published, others are asked, and the standing connection of
//! those who are asked is made. Whoever is not let in is told so in a sentence, without a secret.

use std::time::Duration;

use futures_util::StreamExt;
use ipam::bus::nats::{NatsAsk, NatsBus, connect_standing};
use ipam::bus::{Ask, Bus};

use crate::bus_servers::Nats;
use crate::credentials::{Gate, Way, by_certificate, by_jwt, by_nkey, by_password, by_token};
use crate::support::{ids, messages, nats_settings, stored_by};

const LONG: Duration = Duration::from_secs(20);

async fn holds(gate: Gate) {
    let nats = Nats::configured(true, &gate.config).await;
    let settings = |way: &Way| way.settings(nats_settings(way.url(nats.address())));

    let own = settings(&gate.lets_in);
    NatsBus::new(own.clone()).publish(&messages(1..10)).await.unwrap();
    let client = gate.lets_in.client(nats.address()).await;
    let stored: Vec<String> = stored_by(&client).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(stored, ids(1..10));
    let mut questions = client.subscribe("hook").await.unwrap();
    client.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        let question = questions.next().await.unwrap();
        client.publish(question.reply.unwrap(), "yes".into()).await.unwrap();
        client.flush().await.unwrap();
    });
    let asked = NatsAsk::new(own.clone());
    assert_eq!(asked.ask("hook", "a".into(), LONG).await.unwrap(), "yes");
    answering.await.unwrap();
    let (standing, _) = connect_standing(&own).await.unwrap();
    standing.flush().await.unwrap();

    for (way, sentence) in &gate.refuses {
        let other = settings(way);
        let published = NatsBus::new(other.clone()).publish(&messages(10..11)).await;
        let asked = NatsAsk::new(other.clone()).ask("hook", "a".into(), LONG).await;
        let errors = [
            published.unwrap_err(),
            asked.unwrap_err(),
            connect_standing(&other).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            let error = error.to_string();
            println!("{error}");
            assert!(error.starts_with("NATS: ") && error.contains(sentence), "{sentence}: {error}");
            assert!(!gate.secrets.iter().any(|secret| error.contains(secret)), "{error}");
        }
    }
    let stored = stored_by(&gate.lets_in.client(nats.address()).await).await;
    assert_eq!(stored.len(), 9, "nothing came in another way");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password() {
    holds(by_password()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token() {
    holds(by_token()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_nkey() {
    holds(by_nkey()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_jwt_of_an_account() {
    holds(by_jwt()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_and_a_password() {
    holds(by_certificate()).await;
}
