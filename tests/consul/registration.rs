//! This instance in the catalogue: what is said of it, its check, and how it stays there and leaves.

use serde_json::json;

use crate::agent::Agent;
use crate::mongod::{ReplicaSet, fresh_database};
use crate::process::Port;
use crate::world::{Told, within_at};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_registered_with_its_meta_and_passes_within_5_seconds() {
    let agent = Agent::start().await;
    let told = Told::of(&agent).with("IPAM_CONSUL_TAGS", "lab,rack-7");
    let mut subject = told.with("IPAM_CONSUL_SERVICE", "addresses").on_embedded();
    within_at(&agent, 5, "registered and passing", async || {
        agent.states("addresses").await == ["passing"]
    })
    .await;
    let [(instance, _)] = &agent.instances("addresses").await[..] else { panic!("one instance") };
    let address = subject.address();
    assert_eq!(instance["Address"], address.ip().to_string());
    assert_eq!(instance["Port"], address.port());
    assert_eq!(instance["Tags"], json!(["lab", "rack-7"]));
    assert_eq!(instance["Meta"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(instance["Meta"]["store"], "embedded");
    let id = instance["ID"].as_str().unwrap();
    let (begin, end) = ("addresses-", format!("-{}", address.port()));
    assert!(id.starts_with(begin) && id.ends_with(&end) && id.len() > begin.len() + end.len());
    subject.stop(5, "stopped");
    assert!(agent.instances("addresses").await.is_empty(), "a stop takes it out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_fails_within_15_seconds_of_the_store_and_passes_20_seconds_after_it_is_back() {
    let (agent, mut mongod) = (Agent::start().await, ReplicaSet::start(1).await);
    agent.name("mongodb", "m", mongod.address(0)).await;
    let mut subject = Told::of(&agent).on_found(&fresh_database());
    let is = async |state: &str| agent.states("ipam").await == [state];
    within_at(&agent, 10, "found, registered and passing", async || is("passing").await).await;
    mongod.kill(0);
    within_at(&agent, 15, "critical without its store", async || is("critical").await).await;
    mongod.restart(0).await;
    within_at(&agent, 20, "passing with its store again", async || is("passing").await).await;
    assert_eq!(agent.instances("ipam").await[0].0["Meta"]["store"], "mongodb");
    subject.stop(5, "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_registered_while_its_store_is_away_and_critical_within_5_seconds() {
    let agent = Agent::start().await;
    let mut subject = Told::of(&agent).on_found(&fresh_database());
    within_at(&agent, 5, "registered and critical", async || {
        let found = agent.instances("ipam").await;
        // The output of the check says that it was made.
        found.len() == 1 && found[0].1 == "critical"
    })
    .await;
    subject.until_it_waits_for(5, "no passing instance of the Consul service mongodb").await;
    subject.stop(5, "stopped while it waits");
    assert!(agent.instances("ipam").await.is_empty(), "a stop takes it out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_registered_again_within_10_seconds_by_an_agent_that_forgot_or_lost_it() {
    let mut agent = Agent::start().await;
    let mut subject = Told::of(&agent).with("IPAM_CONSUL_SERVICE_ID", "one").on_embedded();
    let passes = async |agent: &Agent| agent.states("ipam").await == ["passing"];
    within_at(&agent, 5, "registered and passing", async || passes(&agent).await).await;

    agent.forget("one").await;
    assert!(agent.instances("ipam").await.is_empty());
    within_at(&agent, 10, "again after it was lost", async || passes(&agent).await).await;

    agent.kill();
    agent.restart().await;
    within_at(&agent, 10, "again after the agent forgot", async || passes(&agent).await).await;

    // Somebody else's, under its id.
    agent.name("other", "one", "127.0.0.1:9".parse().unwrap()).await;
    within_at(&agent, 10, "again after it was replaced", async || {
        passes(&agent).await && agent.instances("other").await.is_empty()
    })
    .await;
    subject.stop(5, "stopped");
    assert!(agent.instances("ipam").await.is_empty(), "a stop takes it out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_one_is_critical_within_10_seconds_and_gone_within_100() {
    let agent = Agent::start().await;
    let mut subject = Told::of(&agent).on_embedded();
    within_at(&agent, 5, "registered and passing", async || {
        agent.states("ipam").await == ["passing"]
    })
    .await;
    subject.kill();
    within_at(&agent, 10, "critical after kill -9", async || {
        agent.states("ipam").await == ["critical"]
    })
    .await;
    within_at(&agent, 100, "removed after it was critical for a minute", async || {
        agent.instances("ipam").await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_an_earlier_run_is_replaced_within_5_seconds() {
    let (agent, nobody) = (Agent::start().await, Port::free());
    // The same instance in all that the agent tells of it, and checked in another way.
    let address = nobody.address();
    agent
        .register(&json!({
            "ID": "one", "Name": "ipam", "Address": address.ip(), "Port": address.port(),
            "Meta": { "version": env!("CARGO_PKG_VERSION"), "store": "embedded", "nats_api": "false" },
            "Check": { "CheckID": "service:one", "TTL": "10m", "Status": "passing" },
        }))
        .await;
    assert_eq!(agent.states("ipam").await, ["passing"]);
    let told = Told::of(&agent).with("IPAM_CONSUL_SERVICE_ID", "one");
    let mut subject = told.with("IPAM_CONSUL_ADDRESS", &address.to_string()).on_embedded();
    within_at(&agent, 5, "the check of this run is made, where nobody answers", async || {
        agent.states("ipam").await == ["critical"]
    })
    .await;
    subject.stop(5, "stopped");
}
