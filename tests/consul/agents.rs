//! Agents that are away, and agents that do not let us in.

use crate::agent::Agent;
use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::world::{Told, within_at};

const TOKEN: &str = "7e9d6a6e-6e3a-4d7f-9f4b-2f6d8a1c0b11";
const WRONG: &str = "11111111-2222-3333-4444-555555555555";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_to_say_where_mongodb_is_is_waited_for_and_served_10_seconds_later() {
    let (mut agent, mongod) = (Agent::away(), ReplicaSet::shared().await);
    let database = fresh_database();
    let mut subject = Told::of(&agent).on_found(&database);
    let url = agent.url();
    subject.until_it_waits_for(5, &format!("Consul at {url} does not answer: ")).await;
    agent.restart().await;
    agent.name("mongodb", "m", mongod.address(0)).await;
    subject.until_ready(10, "ready after the agent came").await;
    within_at(&agent, 10, "registered and passing after the agent came", async || {
        agent.states("ipam").await == ["passing"]
    })
    .await;
    let told = subject.log().matches("waiting for it to say where mongodb is").count();
    assert_eq!(told, 1, "it is said once: {}", subject.log());
    subject.stop(5, "stopped");
    drop_database(&mongod.uri(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_look_up_it_serves_at_once_and_is_registered_10_seconds_after_the_agent_came() {
    let mut agent = Agent::away();
    let mut subject = Told::of(&agent).on_embedded();
    subject.server().connect().await.new_pool().await;
    subject.until_logged(5, "this instance is registered when it does").await;
    agent.restart().await;
    within_at(&agent, 10, "registered and passing after the agent came", async || {
        agent.states("ipam").await == ["passing"]
    })
    .await;
    subject.stop(5, "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_agent_it_goes_on_and_stops_within_10_seconds() {
    let (mut agent, mongod) = (Agent::start().await, ReplicaSet::shared().await);
    let database = fresh_database();
    agent.name("mongodb", "m", mongod.address(0)).await;
    let mut subject = Told::of(&agent).on_found(&database);
    subject.until_ready(10, "ready").await;
    agent.kill();
    subject.until_logged(5, "going on with what it said of mongodb last").await;
    let mut client = subject.server().connect().await;
    client.new_pool().await;
    assert_eq!(subject.ready(), (200, String::new()));
    // Nothing passes: that takes nothing away either.
    agent.restart().await;
    subject.until_logged(10, "going on with those that were there last").await;
    client.new_pool().await;
    agent.kill();
    subject.stop(10, "stopped without its agent");
    drop_database(&mongod.uri(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_said_within_5_seconds_and_shown_nowhere() {
    let (mut agent, mongod) = (Agent::with_token(TOKEN), ReplicaSet::shared().await);
    agent.restart().await;
    agent.name("mongodb", "m", mongod.address(0)).await;
    let database = fresh_database();
    let mut subject = Told::of(&agent).with("IPAM_CONSUL_TOKEN", WRONG).on_found(&database);
    subject.until_it_waits_for(5, "refuses the token: ACL not found").await;
    subject.until_logged(5, "this instance is registered when it does").await;
    let (_, why) = subject.ready();
    let log = subject.log();
    assert!(!why.contains(WRONG) && !log.contains(WRONG), "{why}\n{log}");
    subject.stop(10, "stopped, though it is not let in");

    // The variable of Consul's own tools, and a file that is replaced.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), WRONG).unwrap();
    let told = Told::of(&agent).with("CONSUL_HTTP_TOKEN_FILE", file.path().to_str().unwrap());
    let mut subject = told.on_found(&database);
    subject.until_it_waits_for(5, "refuses the token: ACL not found").await;
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    subject.until_ready(10, "ready with the token that the file has now").await;
    within_at(&agent, 10, "registered and passing with that token", async || {
        agent.states("ipam").await == ["passing"]
    })
    .await;
    assert!(!subject.log().contains(TOKEN));
    subject.stop(5, "stopped");
    assert!(agent.instances("ipam").await.is_empty());
    drop_database(&mongod.uri(), &database).await;
}
