//! The parts that are started on demand: RabbitMQ and Consul, beside the others.

use serde_json::Value;

use crate::compose::Project;
use crate::engine::{PATIENCE, within};
use crate::judge::{all_published, connect, new_pool};

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_published_to_when_it_is_asked_for() {
    let Some(project) = Project::new("rabbitmq").await else { return };
    let project = project.profile("rabbitmq").with("IPAM_AMQP", "amqp://guest:guest@rabbitmq");
    project.up().await;
    let pool = new_pool(project.address).await;
    let path = format!("/pools/{pool}/reservations");
    connect(project.address).await.post(&path, &serde_json::json!({})).await.id();
    all_published(project.address, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_knows_the_servers_and_ipam() {
    let Some(project) = Project::new("consul").await else { return };
    let project = project.profile("consul").with("IPAM_CONSUL", "http://consul:8500");
    project.up().await;
    let consul = project.container("consul").ip();
    for service in ["mongodb", "nats", "ipam"] {
        passes(&consul, service).await;
    }
    new_pool(project.address).await;
}

/// Waits until an instance passes its checks.
async fn passes(consul: &str, service: &str) {
    let url = format!("http://{consul}:8500/v1/health/service/{service}?passing=true");
    let ask = async || {
        let found: Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
        (!found.as_array()?.is_empty()).then_some(())
    };
    let (took, ()) = within(PATIENCE, &format!("{service} passes"), ask).await;
    println!("{service} passes after {took:.1?}");
}
