//! The buses against the real servers.

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../bus_servers/mod.rs"]
mod bus_servers;

#[tokio::test]
async fn a_server_that_was_killed_starts_again() {
    let mut nats = bus_servers::Nats::start().await;
    nats.kill();
    nats.restart().await;
    let mut rabbitmq = bus_servers::RabbitMq::start().await;
    rabbitmq.kill();
    rabbitmq.restart().await;
}
